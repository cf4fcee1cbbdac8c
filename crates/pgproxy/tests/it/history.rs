//! What clients saw, held against what they had to see.
//!
//! A register per key, each written by one client with numbers that go up. Every read notes what it had to show at least when it began: the last
//! number that was acknowledged to anybody (among all who share the database), and the last that its own session has read. Replicas stop and go on
//! replaying meanwhile. Less than that is a violation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use testkit::PgClient;

use crate::proxy::Proxy;
use crate::replicas::two;

const KEYS: usize = 4;

/// Reads of all clients, and those that showed too little.
fn play(proxy: &Proxy, operations: u64) -> (u64, u64) {
    let mut client = proxy.client();
    client.query("CREATE TABLE registers (key int PRIMARY KEY, value bigint)").unwrap();
    client.query(&format!("INSERT INTO registers SELECT key, 0 FROM generate_series(0, {}) key", KEYS - 1)).unwrap();
    for replica in [1, 2] {
        proxy.postgres.wait_for_replay(replica).unwrap();
    }
    let acknowledged: Arc<[AtomicU64; KEYS]> = Arc::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2 * KEYS)
        .map(|number| {
            let (acknowledged, client) = (Arc::clone(&acknowledged), proxy.client());
            std::thread::spawn(move || run(client, number, operations, &acknowledged))
        })
        .collect();
    let disturbed = std::thread::scope(|scope| {
        let disturb = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let replica = 1 + count % 2;
                proxy.postgres.pause_replay(replica).unwrap();
                std::thread::sleep(Duration::from_millis(30));
                proxy.postgres.resume_replay(replica).unwrap();
                count += 1;
            }
            count
        });
        let sums = threads.into_iter().map(|thread| thread.join().unwrap());
        let sum = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        is_over.store(true, Ordering::Relaxed);
        assert!(disturb.join().unwrap() > 0);
        sum
    });
    disturbed
}

fn run(mut client: PgClient, number: usize, operations: u64, acknowledged: &[AtomicU64; KEYS]) -> (u64, u64) {
    let (mut reads, mut violations) = (0, 0);
    let mut seen = [0; KEYS];
    let own = number % KEYS;
    for operation in 0..operations {
        // The first half writes, each its own register.
        if number < KEYS && operation % 3 == 0 {
            let value = acknowledged[own].load(Ordering::SeqCst) + 1;
            let written = client.query(&format!("UPDATE registers SET value = {value} WHERE key = {own}")).unwrap();
            assert_eq!(written.tags, ["UPDATE 1"]);
            acknowledged[own].store(value, Ordering::SeqCst);
        } else {
            let key = (own + operation as usize) % KEYS;
            let least = acknowledged[key].load(Ordering::SeqCst).max(seen[key]);
            let found = client.query(&format!("SELECT value FROM registers WHERE key = {key}")).unwrap();
            let found: u64 = found.value().parse().unwrap();
            reads += 1;
            violations += u64::from(found < least);
            seen[key] = found.max(seen[key]);
        }
    }
    (reads, violations)
}

#[test]
fn nobody_misses_a_write_or_goes_back() {
    let proxy = two(|params| params.pool.size = 4);
    let (reads, violations) = play(&proxy, 150);
    let view = proxy.database();
    assert_eq!(violations, 0, "of {reads}: {view:?}");
    assert!(view.replica_reads > reads / 10, "{reads} reads, but few on replicas: {view:?}");
}

#[test]
fn without_causality_the_checker_finds_what_is_missed() {
    let proxy = two(|params| {
        params.pool.size = 4;
        params.causality.scope = None;
    });
    let (reads, violations) = play(&proxy, 150);
    assert!(violations > 0, "of {reads}");
}
