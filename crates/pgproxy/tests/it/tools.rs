//! PostgreSQL's own programs through the proxy.

use pgproxy::Mode;

use crate::proxy::Proxy;

#[test]
fn psql_sees_a_server() {
    let proxy = Proxy::start(|_| ());
    assert_eq!(proxy.psql("SELECT 1 + 1"), "2");
    assert_eq!(
        proxy.psql("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000); SELECT sum(a) FROM t"),
        "500500"
    );
    assert_eq!(proxy.psql("SHOW application_name"), "psql");
    assert!(proxy.psql("\\d t").contains("integer"));
    // A result that is larger than any buffer.
    let long = proxy.psql("SELECT repeat('x', 100000) FROM generate_series(1, 100)");
    assert_eq!(long.len(), 100 * 100_001 - 1);
    assert_eq!(proxy.psql("COPY (SELECT * FROM generate_series(1, 100000)) TO STDOUT").lines().count(), 100_000);
    proxy.check_accounts();
}

#[test]
fn pgbench_runs_in_every_mode_and_protocol() {
    for mode in [Mode::Transaction, Mode::Session] {
        let proxy = Proxy::start(|params| {
            params.mode = mode;
            params.pool.size = 4;
        });
        let made = proxy.tool("pgbench", &["-i", "-q", "-s", "1"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for protocol in ["simple", "extended", "prepared"] {
            // It prepares without looking after its other clients meanwhile, whose transactions then wait for it.
            let clients = if mode == Mode::Session || protocol == "prepared" { "4" } else { "16" };
            let ran = proxy.tool("pgbench", &["-n", "-M", protocol, "-c", clients, "-j", "2", "-t", "50"]);
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success(), "{mode:?} {protocol}: {}", String::from_utf8_lossy(&ran.stderr));
            assert!(said.contains("number of failed transactions: 0"), "{said}");
        }
        assert_eq!(
            proxy.psql("SELECT sum(abalance) = (SELECT sum(bbalance) FROM pgbench_branches) FROM pgbench_accounts"),
            "t"
        );
        proxy.check_accounts();
        assert!(proxy.backends() <= 4, "{:?}", proxy.view());
        let pins = proxy.database().pins;
        assert!(pins.iter().all(|(_, sessions)| *sessions == 0), "{pins:?}");
    }
}

#[test]
fn psql_with_a_pipe_copies_in() {
    let proxy = Proxy::start(|_| ());
    proxy.psql("CREATE TABLE rows (a int, b text)");
    let file = testkit::TempDir::new().unwrap();
    let path = file.path().join("rows.tsv");
    let rows: String = (0..50_000).map(|at| format!("{at}\tthis is row {at}\n")).collect();
    std::fs::write(&path, rows).unwrap();
    proxy.psql(&format!("\\copy rows FROM '{}'", path.display()));
    assert_eq!(proxy.psql("SELECT count(*), sum(a) FROM rows"), "50000|1249975000");
    proxy.check_accounts();
}
