//! Starting, reloading and stopping.

use std::net::TcpListener;
use std::time::Duration;

use testkit::{Origin, RawConn, RawUpstream, Script, Signal, Step, TempDir, free_port, is_listening};

use crate::site::{apply, command, config, get, instance, page, reloads, site, start};

#[test]
fn a_wrong_configuration_does_not_start_half() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let text = format!("[listener.web]\nlisten = \"127.0.0.1:{port}\"\nidle_timeuot = \"1s\"\n");
    let file = dir.write("tenfold.toml", text).unwrap();
    let output = command().arg("run").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("idle_timeuot") && shown.contains("idle_timeout"), "{shown}");
}

#[test]
fn a_taken_address_is_named_and_nothing_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, other, admin) = (taken.local_addr().unwrap(), free_port(), free_port());
    let dir = TempDir::new().unwrap();
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.a]\nlisten = \"127.0.0.1:{other}\"\n\
         [listener.b]\nlisten = \"{address}\"\n"
    );
    let file = dir.write("tenfold.toml", text).unwrap();
    let output = command().arg("run").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains(&address.to_string()), "{shown}");
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let steps = [
        Step::AwaitRequest,
        Step::Pause(Duration::from_millis(700)),
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec()),
        Step::Repeat,
    ];
    let slow = RawUpstream::start(Script::new(steps)).unwrap();
    let mut site = site(&[slow.address()], "");
    let (address, admin) = (site.address(), site.admin().unwrap());
    let mut idle = RawConn::connect(address).unwrap();
    let mut busy = RawConn::connect(address).unwrap();
    idle.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    idle.read_response("GET").unwrap();
    busy.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 1.0)).unwrap();
    site.process().signal(Signal::TERM).unwrap();
    assert_eq!(idle.read_to_end().unwrap(), b"", "an idle connection is closed at once");
    assert!(!is_listening(address.port()), "nothing new is accepted");
    // The admin listener tells that the process is stopping for as long as it drains.
    let mut conn = RawConn::connect(admin).unwrap();
    conn.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().status, 503);
    let response = busy.read_response("GET").unwrap();
    assert_eq!(response.text(), "done");
    assert!(response.closes(), "the client hears that the connection ends");
    let status = site.process().wait(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", site.output());
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let silent = RawUpstream::start(Script::new([Step::AwaitHead, Step::Drain])).unwrap();
    let mut site = start(&format!("{}\n[runtime]\ndrain_timeout = \"300ms\"\n", config(&[silent.address()], "")));
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 1.0)).unwrap();
    let status = site.process().stop(Duration::from_secs(5)).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(site.output().contains("cut=1"), "{}", site.output());
}

#[test]
fn a_reload_changes_what_changed_and_keeps_the_rest() {
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    let text = config(&[a.address()], "");
    let mut site = start(&text);
    let mut kept = RawConn::connect(site.address()).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    kept.send(request).unwrap();
    assert_eq!(kept.read_response("GET").unwrap().fields.get("x-instance"), Some("a"));
    apply(&mut site, &text.replace(&a.address().to_string(), &b.address().to_string()));
    kept.send(request).unwrap();
    assert_eq!(kept.read_response("GET").unwrap().fields.get("x-instance"), Some("b"), "the same connection");
    // A request is counted when it has ended, which its client may see a moment earlier.
    site.wait_until("counts go on", |site| Ok(site.metric("http_requests_total", &["endpoint=\"api\""])? == 2.0))
        .unwrap();
    assert_eq!(site.metric("listener_connections_accepted_total", &[]).unwrap(), 1.0);
}

#[test]
fn a_change_of_the_file_is_noticed() {
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    let text = config(&[a.address()], "");
    let site = start(&text);
    assert_eq!(instance(&site, ""), "a");
    site.rewrite(&text.replace(&a.address().to_string(), &b.address().to_string())).unwrap();
    site.wait_until("noticed", |site| Ok(instance(site, "") == "b")).unwrap();
}

#[test]
fn a_bad_file_leaves_the_old_one_running_and_says_why() {
    let origin = Origin::start("a").unwrap();
    let text = config(&[origin.address()], "");
    let mut site = start(&text);
    for (bad, word) in [
        (text.replace("[service.api]", "[service.ap]"), "api"),
        ("not toml".to_owned(), "tenfold.toml"),
        (
            text.replace("[[route]]", "[listener.more]\nlisten = \"192.0.2.1:80\"\n[[route]]\nlistener = \"web\""),
            "192.0.2.1:80",
        ),
    ] {
        let before = reloads(&site, "failure");
        site.reload(&bad).unwrap();
        site.wait_until("refused", |site| Ok(reloads(site, "failure") > before)).unwrap();
        assert_eq!(instance(&site, ""), "a");
        let last = page(&site, "/config")["last_reload"].clone();
        assert_eq!(last["result"], "failure");
        assert!(last["error"].as_str().unwrap().contains(word), "{last}");
        assert!(site.output().contains("configuration refused"), "{}", site.output());
    }
    apply(&mut site, &text);
    assert_eq!(page(&site, "/config")["last_reload"]["result"], "success");
}

#[test]
fn listeners_come_go_and_change_their_names() {
    let origin = Origin::start("a").unwrap();
    let text = config(&[origin.address()], "");
    let mut site = start(&text);
    let web = site.address().port();
    let extra = free_port();
    let more = text.replace(
        "[[route]]\n",
        &format!("[listener.extra]\nlisten = \"127.0.0.1:{extra}\"\n[[route]]\nname = \"extra\"\nlistener = \"extra\"\nservice = \"api\"\n[[route]]\nlistener = \"web\"\n"),
    );
    apply(&mut site, &more);
    let mut conn = RawConn::connect(([127, 0, 0, 1], extra)).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().status, 200);
    apply(&mut site, &text);
    assert_eq!(conn.read_to_end().unwrap(), b"", "an idle connection of a listener that went is closed");
    site.wait_until("closed", |_| Ok(!is_listening(extra))).unwrap();
    // Another name for the same address: the socket is handed over, and never refuses a connection.
    apply(&mut site, &text.replace("[listener.web]", "[listener.renamed]"));
    assert!(is_listening(web));
    assert_eq!(get(&site, "/", "").status, 200);
    assert_eq!(page(&site, "/listeners")[0]["name"], "renamed");
}

#[test]
fn an_address_of_a_listener_can_go() {
    let origin = Origin::start("a").unwrap();
    let (stays, goes) = (free_port(), free_port());
    let text = config(&[origin.address()], "");
    let web = text.lines().find(|line| line.starts_with("listen") && *line != text.lines().nth(1).unwrap()).unwrap();
    let both = text.replace(web, &format!("listen = [\"127.0.0.1:{stays}\", \"127.0.0.1:{goes}\"]"));
    let mut site = start(&both);
    let mut kept = RawConn::connect(([127, 0, 0, 1], goes)).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    kept.send(request).unwrap();
    kept.read_response("GET").unwrap();
    apply(&mut site, &text.replace(web, &format!("listen = \"127.0.0.1:{stays}\"")));
    site.wait_until("closed", |_| Ok(!is_listening(goes))).unwrap();
    assert!(is_listening(stays));
    kept.send(request).unwrap();
    assert_eq!(kept.read_response("GET").unwrap().status, 200, "its listener is still there");
}

#[test]
fn every_request_leaves_a_line_in_the_access_log() {
    let origin = Origin::start("a").unwrap();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("access.log");
    let log = format!("[log]\naccess = \"{}\"\n", file.display());
    let mut site = start(&format!("{log}{}", config(&[origin.address()], "")));
    get(&site, "/path?secret=1", "X-Request-Id: order-17\r\n");
    get(&site, "/%", "");
    site.process().stop(Duration::from_secs(10)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    let line = lines.iter().find(|line| line["path"] == "/path").unwrap();
    assert_eq!((&line["method"], &line["status"]), (&"GET".into(), &200.into()));
    assert_eq!((&line["route"], &line["request_id"]), (&"api".into(), &"order-17".into()));
    assert_eq!(line["upstream"], origin.address().to_string());
    let refused = lines.iter().find(|line| line["status"] == 400).unwrap();
    assert_eq!(refused["error"], "bad_request");
}

#[test]
fn ipv6_is_served() {
    let origin =
        Origin::start_at(std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, free_port())), "six").unwrap();
    let (admin, port) = (free_port(), free_port());
    let site = start(&format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = [\"127.0.0.1:{port}\", \"[::1]:{port}\"]\n\
         [[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"{}\"]\n",
        origin.address()
    ));
    assert_eq!(instance(&site, ""), "six");
    let mut conn = RawConn::connect((std::net::Ipv6Addr::LOCALHOST, port)).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n").unwrap();
    assert_eq!(conn.read_response("GET").unwrap().fields.get("x-instance"), Some("six"));
}
