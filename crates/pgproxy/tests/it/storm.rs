//! Everything at once: more clients than connections, which vanish at any byte, servers' processes that are ended, pauses, reloads and kills. The short
//! form of `cargo xtask fault storm`.

use std::time::{Duration, Instant};

use pgproxy::*;
use pgroute::auth::{Method, Stored};
use testkit::{Blow, PostgresOptions, Storm, StormParams};
use vocab::Secret;

use crate::proxy::Proxy;

const PASSWORD: &str = "a-password-of-the-fixture";

/// As few as the server lets in; the pool wants more at times.
const CONNECTIONS_MAX: usize = 9;

/// What decides who does what.
const SEED: u64 = 7;

const TIME: Duration = Duration::from_secs(5);

/// What the pool has before and after.
const SIZE: usize = 5;

/// Does something that may happen to a pool.
fn strike(proxy: &mut Proxy, blow: Blow) {
    match blow {
        Blow::Pause(time) => {
            proxy.databases().pause([None, Some("shop")][time.subsec_millis() as usize % 2]).unwrap();
            std::thread::sleep(time);
            proxy.databases().resume(None).unwrap();
        }
        Blow::Size(size, min) => {
            (proxy.params.pool.size, proxy.params.pool.min) = (size, min);
            proxy.reload();
        }
        Blow::WorkMem(kilobytes) => {
            proxy.params.primary.settings = vec![("work_mem".into(), format!("{kilobytes}kB"))];
            proxy.reload();
        }
        Blow::Reconnect => proxy.databases().reconnect(None).unwrap(),
        Blow::KillAll => proxy.kill(&Whom::All),
        Blow::KillServer => proxy.kill(&Whom::Server(proxy.params.primary.address.to_string())),
        Blow::KillClient(number) => {
            let clients = proxy.databases().view().clients("shop").unwrap();
            let one = clients.get(number % clients.len().max(1));
            // It may have gone meanwhile.
            let _gone = one.map(|client| proxy.try_kill(&Whom::Client(client.number)));
        }
        Blow::Terminate(text) => {
            // The server may let nobody in who would do it.
            let _full = proxy.postgres.sql(0, &text);
        }
    }
}

#[test]
fn nothing_is_lost_or_mixed_up_in_a_storm() {
    println!("seed {SEED}");
    let options = PostgresOptions {
        settings: vec![format!("max_connections = {CONNECTIONS_MAX}"), "superuser_reserved_connections = 0".into()],
        ..PostgresOptions::default()
    };
    let mut proxy = Proxy::start_with(&options, |params, _| {
        params.auth.method = AuthMethod::Password(Method::Cleartext);
        params.users = vec![UserParams::new("web", Some(Stored::Password(Secret::new(PASSWORD))))];
        params.pool.size = SIZE;
        params.pool.acquire_timeout = Duration::from_secs(4);
        params.timeouts.reconnect_pause = Duration::from_millis(20);
    });
    proxy.postgres.sql(0, Storm::MAKE).unwrap();
    let params = StormParams {
        port: proxy.port,
        password: PASSWORD,
        seed: SEED,
        clients: 24,
        time: TIME,
        connections_max: CONNECTIONS_MAX,
    };
    let found = Storm::play(&params, |blow| strike(&mut proxy, blow));
    let Storm { lives, cuts, vanished, right, failures, ref wrong, .. } = found;
    let rows = found.acknowledged();
    println!("{lives} lives, {cuts} cut, {vanished} vanished, {rows} rows, {right} right answers, {failures} failures");
    println!("{:?}", proxy.database());
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:#?}");
    assert_eq!(found.is_worth(), Ok(()), "seed {SEED}");
    assert!(lives > 100 && cuts > 0 && vanished > 50, "{lives} lives, {cuts} cut, {vanished} vanished");

    proxy.params.pool.size = SIZE;
    proxy.params.pool.min = 0;
    proxy.reload();
    let deadline = Instant::now() + Duration::from_secs(10);
    while proxy.database().clients > 0 || proxy.backends() > SIZE {
        assert!(Instant::now() < deadline, "seed {SEED}: {:?} {:?}", proxy.database(), proxy.view());
        std::thread::sleep(Duration::from_millis(10));
    }
    proxy.check_accounts();
    let database = proxy.database();
    assert_eq!((database.pinned, database.subscribers), (0, 0), "{database:?}");
    let there = proxy.databases().view().clients("shop").unwrap();
    assert!(there.is_empty(), "{there:?}");
    assert_eq!(found.judge(&proxy.postgres.sql(0, Storm::ROWS).unwrap()), Vec::<String>::new(), "seed {SEED}");
    let mut one = testkit::PgClient::connect(proxy.port, "web", "shop", PASSWORD).unwrap();
    assert_eq!(one.query("SELECT 'still'").unwrap().value(), "still");
}
