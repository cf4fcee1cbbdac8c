//! What clients saw, held against what they had to see: the short form of `cargo xtask fault reads`.

use testkit::{MustSee, PgClient, Registers};

use crate::proxy::Proxy;
use crate::replicas::two;

/// Reads and writes of all clients.
const OPERATIONS: u64 = 1200;

fn play(proxy: &Proxy) -> Registers {
    let connect = || PgClient::connect(proxy.port, "web", "shop", "");
    Registers::play(&proxy.postgres, &connect, OPERATIONS, MustSee::Everyones).unwrap()
}

#[test]
fn nobody_misses_a_write_or_goes_back() {
    let proxy = two(|params| params.pool.size = 4);
    let found = play(&proxy);
    let view = proxy.database();
    assert_eq!(found.violations(), 0, "{found:?}: {view:?}");
    assert!(view.replica_reads > found.reads / 10, "few reads on replicas: {found:?}: {view:?}");
}

#[test]
fn without_causality_the_checker_finds_what_is_missed() {
    let proxy = two(|params| {
        params.pool.size = 4;
        params.causality.scope = None;
    });
    let found = play(&proxy);
    assert!(found.violations() > 0, "{found:?}");
}
