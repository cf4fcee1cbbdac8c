//! Requests to cancel, where something else is late too.

use std::time::{Duration, Instant};

use testkit::PostgresOptions;

use crate::proxy::Proxy;
use crate::replicas::{cluster, value, wait_until};

/// The server's first process, which takes connections and hears of cancels.
fn postmaster(proxy: &Proxy) -> i32 {
    let backend =
        proxy.postgres.sql(0, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", backend[0])).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}

/// Signals a process of a server.
pub(crate) fn signal(pid: i32, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_cancel_that_comes_late_meets_nobody_else() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.timeouts.connect = Duration::from_millis(500);
    });
    let (one, mut two) = (proxy.client(), proxy.client());
    let postmaster = postmaster(&proxy);
    let mut other = one.another_handle().unwrap();
    let slept = std::thread::spawn(move || other.query("SELECT pg_sleep(2)").unwrap());
    wait_until("it sleeps", || proxy.view().iter().any(|pool| pool.lent == 1));
    std::thread::sleep(Duration::from_millis(200));
    // It takes no connection for a while; what is sent to it waits.
    signal(postmaster, "-STOP");
    one.cancel().unwrap();
    let slept = slept.join().unwrap();
    let asked = std::thread::spawn(move || (two.query("SELECT pg_sleep(2)").unwrap(), two));
    std::thread::sleep(Duration::from_millis(200));
    signal(postmaster, "-CONT");
    let (asked, two) = asked.join().unwrap();
    assert_eq!((slept.code(), asked.code()), ("", ""), "{asked:?}");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_waits_for_a_primary_can_be_cancelled() {
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    let mut proxy = cluster(&options, |params| params.failover.switch_wait = Duration::from_secs(20));
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.kill(0);
    wait_until("it is gone", || proxy.database().servers[0].state != "primary");
    let mut other = client.another_handle().unwrap();
    let begun = Instant::now();
    let waits = std::thread::spawn(move || other.query("INSERT INTO t VALUES (1)").unwrap());
    std::thread::sleep(Duration::from_millis(500));
    client.cancel().unwrap();
    assert_eq!(waits.join().unwrap().code(), "57014");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    proxy.postgres.restart(0).unwrap();
    wait_until("it is written again", || client.query("INSERT INTO t VALUES (2)").unwrap().errors.is_empty());
    assert_eq!(client.query("SELECT sum(a) FROM t").unwrap().value(), "2");
}

#[test]
fn a_read_is_cancelled_that_waits_for_a_replica_to_be_made_ready() {
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    let proxy = cluster(&options, |params| {
        params.pool.size = 1;
        params.causality.scope = None;
    });
    let mut client = proxy.client();
    client.query("SET work_mem = '5MB'").unwrap();
    // The one that `cluster` has read by.
    let text = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%cluster_name%' AND pid <> pg_backend_pid()";
    let replica: i32 = proxy.postgres.sql(1, text).unwrap()[0].parse().unwrap();
    // It does not take the setting for a while.
    signal(replica, "-STOP");
    let begun = Instant::now();
    let mut asks = client.another_handle().unwrap();
    let answer = std::thread::scope(|scope| {
        let waits = scope.spawn(move || asks.query("SELECT current_setting('work_mem')"));
        wait_until("it is lent", || proxy.view().iter().any(|pool| pool.lent == 1));
        let cancels = scope.spawn(|| client.cancel().unwrap());
        std::thread::sleep(Duration::from_millis(200));
        signal(replica, "-CONT");
        cancels.join().unwrap();
        waits.join().unwrap()
    });
    assert_eq!(answer.unwrap().code(), "57014");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(value(&mut client, "SELECT current_setting('work_mem')"), "5MB");
}
