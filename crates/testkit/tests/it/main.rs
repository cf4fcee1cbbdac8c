//! The kit against itself and against nginx and HAProxy: what it says about a server has to be true of a known one.

use std::net::Ipv4Addr;
use std::time::Duration;

use testkit::{
    CacheOrigin, Curl, Load, LoadParams, Origin, Postgres, PostgresOptions, RawConn, RawUpstream, Script, Step,
    free_port, haproxy, nginx, varnish,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn an_upstream_records_what_arrived_and_answers_from_its_script() {
    let upstream = RawUpstream::start(Script::ok("first")).unwrap();
    let mut client = RawConn::connect(upstream.address()).unwrap();
    client.send(GET).unwrap();
    assert_eq!(client.read_response("GET").unwrap().text(), "first");
    upstream.set_script(Script::answer_once("HTTP/1.1 200 OK\r\n\r\nuntil close"));
    let mut client = RawConn::connect(upstream.address()).unwrap();
    client.send("GET /last HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    assert_eq!(client.read_response("GET").unwrap().text(), "until close");
    assert!(client.ends_within(Duration::from_secs(5)).unwrap());
    let requests = upstream.requests().unwrap();
    assert_eq!(requests.iter().map(|request| request.target.as_str()).collect::<Vec<_>>(), ["/", "/last"]);

    let mut client = RawConn::connect(upstream.address()).unwrap();
    client.send("GET / HTTP/1.1\nHost: a\n\n").unwrap();
    client.read_response("GET").unwrap();
    assert!(upstream.requests().is_err(), "a bare line feed is on record");
    upstream.clear();
    assert_eq!(upstream.received(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_reset_is_told_from_an_answer_and_a_silent_server_from_a_closed_one() {
    let upstream = RawUpstream::start(Script::new([Step::AwaitHead, Step::Reset])).unwrap();
    let mut client = RawConn::connect(upstream.address()).unwrap();
    client.send(GET).unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert_eq!(upstream.requests().unwrap().len(), 1, "what came before the reset stays on record");

    upstream.set_script(Script::new([Step::AwaitHead, Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Drain]));
    let mut client = RawConn::connect(upstream.address()).unwrap().timeout(Duration::from_millis(50));
    client.send(GET).unwrap();
    let error = client.read_response("GET").unwrap_err().to_string();
    assert!(error.contains("no whole response") && error.contains("200 OK"), "{error}");
    assert!(!client.ends_within(Duration::from_millis(20)).unwrap());
}

#[test]
fn load_is_counted_by_outcome_and_instance() {
    let origin = Origin::start("a").unwrap();
    let address = origin.address();
    let mut params = LoadParams::new(address);
    params.connections = 8;
    let load = Load::start(&params);
    let wait_for_more = |than: u64, count: &dyn Fn() -> u64| {
        let start = std::time::Instant::now();
        while count() <= than {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    wait_for_more(100, &|| load.counts().ok);
    assert_eq!(load.counts().failed_before_head, 0);
    origin.stop();
    wait_for_more(20, &|| load.counts().failed_before_head);
    let origin = Origin::start_at(address, "b").unwrap();
    wait_for_more(20, &|| origin.requests());
    let report = load.stop();
    assert!(report.instances["a"] > 100 && report.instances["b"] > 10, "{:?}", report.instances);
    assert_eq!(report.latency.count(), report.counts.ok);
    assert!(report.counts.failed_before_head > 20);
    assert!(!report.failures.is_empty());
    assert!(report.connections > 8, "connections were lost and made anew");
}

#[test]
fn an_answer_that_breaks_off_is_counted_apart() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc";
    let upstream = RawUpstream::start(Script::answer_once(cut)).unwrap();
    let mut params = LoadParams::new(upstream.address());
    params.connections = 1;
    let load = Load::start(&params);
    while load.counts().failed_after_head < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let counts = load.stop().counts;
    assert_eq!((counts.ok, counts.failed_before_head), (0, 0));
}

#[test]
fn peers_run_on_a_given_configuration() {
    let origin = Origin::start("a").unwrap();
    let (nginx_port, haproxy_port) = (free_port(), free_port());
    let conf = format!(
        "events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{nginx_port}; \
         location / {{ proxy_pass http://{}; }} }} }}",
        origin.address()
    );
    let (mut nginx, _dir) = nginx(&conf, nginx_port).unwrap();
    let conf = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         listen web\n bind 127.0.0.1:{haproxy_port}\n server a {}\n",
        origin.address()
    );
    let (mut haproxy, _dir) = haproxy(&conf, haproxy_port).unwrap();
    for port in [nginx_port, haproxy_port] {
        let mut client = RawConn::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        client.send(GET).unwrap();
        assert_eq!(client.read_response("GET").unwrap().fields.get("x-instance"), Some("a"));
    }
    assert!(nginx.pids().len() > 1, "nginx has workers");
    nginx.stop(Duration::from_secs(5)).unwrap();
    haproxy.stop(Duration::from_secs(5)).unwrap();
    assert!(!testkit::is_listening(nginx_port) && !testkit::is_listening(haproxy_port));

    let error = testkit::nginx("nonsense;", nginx_port).unwrap_err().to_string();
    assert!(error.contains("nonsense"), "{error}");
}

#[test]
fn a_cache_spares_its_origin_what_may_be_kept_and_nothing_else() {
    let (origin, port) = (CacheOrigin::start().unwrap(), free_port());
    let address = origin.address();
    let vcl = format!("vcl 4.1; backend a {{ .host = \"{}\"; .port = \"{}\"; }}", address.ip(), address.port());
    // By itself it would ask for gzip alone and unpack it for others.
    let options = ["-p", "http_gzip_support=off"].map(str::to_owned);
    let (mut varnish, _dir) = varnish(&vcl, &options, port).unwrap();
    let check = |path: &str, gzip: bool, requests: u64| {
        let curl = if gzip { Curl::default().flag("--compressed") } else { Curl::default() };
        let answer = curl.get(&format!("http://127.0.0.1:{port}{path}")).unwrap();
        assert_eq!((answer.status, answer.code), (200, 0), "{path}: {}", answer.error);
        assert_eq!(origin.requests(), requests, "{path}");
        answer.text()
    };
    check("/1024/0/60/plain/a", false, 1);
    check("/1024/0/60/plain/a", true, 1);
    check("/1024/0/60/plain/b", false, 2);
    assert_eq!(check("/1024/0/60/vary/a", false, 3), "x".repeat(1024));
    assert_eq!(check("/1024/0/60/vary/a", true, 4), "z".repeat(1024 - 23), "unpacked by curl");
    check("/1024/0/60/vary/a", true, 4);
    check("/102400/0/60/vary/a", true, 5);
    check("/1024/0/60/private/a", false, 6);
    check("/1024/0/60/private/a", false, 7);
    varnish.stop(Duration::from_secs(5)).unwrap();

    let error = testkit::varnish("nonsense;", &[], free_port()).unwrap_err().to_string();
    assert!(error.contains("nonsense"), "{error}");
}

#[test]
fn a_postgresql_with_replicas_is_killed_promoted_and_paused() {
    let options = PostgresOptions { replicas: 2, ..PostgresOptions::default() };
    let mut cluster = Postgres::start(&options).unwrap();
    cluster.sql(0, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let count = |cluster: &Postgres, server: usize| cluster.sql(server, "SELECT count(*) FROM t").unwrap().concat();
    cluster.wait_for_replay(1).unwrap();
    cluster.wait_for_replay(2).unwrap();
    assert_eq!((count(&cluster, 1), count(&cluster, 2)), ("1".to_owned(), "1".to_owned()));
    let refused = cluster.sql(1, "INSERT INTO t VALUES (2)").unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    cluster.pause_replay(2).unwrap();
    cluster.sql(0, "INSERT INTO t VALUES (2)").unwrap();
    cluster.wait_for_replay(1).unwrap();
    assert_eq!((count(&cluster, 1), count(&cluster, 2)), ("2".to_owned(), "1".to_owned()));
    cluster.resume_replay(2).unwrap();
    cluster.wait_for_replay(2).unwrap();
    assert_eq!(count(&cluster, 2), "2");
    cluster.hang(1).unwrap();
    cluster.go_on(1).unwrap();
    assert_eq!(count(&cluster, 1), "2");
    cluster.kill(0);
    assert!(cluster.sql(0, "SELECT 1").is_err());
    cluster.promote(1).unwrap();
    cluster.sql(1, "INSERT INTO t VALUES (3)").unwrap();
    cluster.restart(0).unwrap();
    assert_eq!((count(&cluster, 0), count(&cluster, 1)), ("2".to_owned(), "3".to_owned()));
}
