//! Many clients on few backends, each of which sets and checks what is its own: the short form of `cargo xtask fault isolation`.

use std::time::Duration;

use testkit::{Isolation, PgClient};

use crate::proxy::Proxy;

const CLIENTS: usize = 64;
const TIME: Duration = Duration::from_secs(6);

#[test]
fn nobody_sees_what_is_somebody_elses() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 7;
        params.prepared.per_backend_max = 20;
    });
    let connect = |settings: &[(&str, &str)]| {
        let parameters = [&[("user", "web"), ("database", "shop")], settings].concat();
        PgClient::connect_with(proxy.port, &parameters, "")
    };
    let found = Isolation::play(&connect, CLIENTS, TIME).unwrap();
    proxy.check_accounts();
    let database = proxy.database();
    println!("{} steps; {database:?}", found.steps);
    assert!(found.leaks.is_empty(), "{:#?}", found.leaks);
    assert_eq!(database.pinned, 0);
    assert!(database.moves > 0 && database.replays > 0 && database.resets > 0, "{database:?}");
}
