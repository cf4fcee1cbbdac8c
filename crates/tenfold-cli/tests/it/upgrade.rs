//! Replacing the process by a new one: nothing that clients do may fail, and whatever goes wrong changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use testkit::{
    Load, LoadParams, Origin, RawConn, RawUpstream, Script, Signal, Step, TempDir, Tenfold, free_port, procfs,
};
use tungstenite::Message;

use crate::l4;
use crate::site::{check_own, command, config, get, health, instance, page, site, start};
use crate::websocket::{connect, echo};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

/// The id of the process that serves.
fn serving(site: &Tenfold) -> u32 {
    u32::try_from(page(site, "/api/status")["pid"].as_u64().unwrap()).unwrap()
}

/// Waits until a process has ended; a zombie has.
fn await_end(site: &Tenfold, pid: u32) {
    let ended = |_: &Tenfold| Ok(procfs::state(pid).is_none_or(|state| state == 'Z'));
    site.wait_until(&format!("process {pid} ends"), ended).unwrap();
}

/// `tenfold upgrade` for this site.
fn upgrade(site: &Tenfold, arguments: &[&str]) -> Output {
    command().arg("upgrade").args(arguments).arg("--config").arg(site.config()).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// A program that does this instead of being Tenfold.
fn impostor(dir: &TempDir, script: &str) -> String {
    let path = dir.write("impostor", format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_command_tells_what_it_does_and_the_old_process_ends() {
    let origin = Origin::start("a").unwrap();
    let mut site = site(&[origin.address()], "");
    let old = site.pid();
    let output = upgrade(&site, &["--wait", "20s"]);
    let new = serving(&site);
    site.succeeded_by(new);
    assert!(output.status.success(), "{}{}", text(&output.stderr), site.output());
    let shown = text(&output.stdout);
    for part in [
        format!("process {old} (0."),
        format!("process {new} (0."),
        format!("process {old} finishes 0 connections"),
        format!("process {old} has ended"),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    assert_ne!(old, new);
    assert_eq!(instance(&site, ""), "a");
    assert_eq!(page(&site, "/api/status")["predecessor"], serde_json::Value::Null);
    let status = site.process().is_running();
    assert!(!status, "{}", site.output());
}

#[test]
fn under_load_no_request_fails_and_no_socket_drops() {
    let (origin, chat) = (Origin::start("a").unwrap(), echo());
    let text = config(&[origin.address()], "");
    let text = format!(
        "{text}[[route]]\nname = \"chat\"\npath = \"/chat\"\nservice = \"chat\"\n[service.chat]\nendpoints = [\"{chat}\"]\n"
    );
    let mut site = start(&text);
    let mut sockets: Vec<_> = (0..10).map(|_| connect(site.address())).collect();
    let load = Load::start(&LoadParams { connections: 16, ..LoadParams::new(site.address()) });
    let first = site.pid();
    let mut last = first;
    for round in 0..3 {
        let before = load.counts().ok;
        site.wait_until("load", |_| Ok(load.counts().ok > before + 200)).unwrap();
        let new = site.upgrade().unwrap_or_else(|error| panic!("{error:#}\n{}", site.output()));
        assert_ne!(new, last);
        last = new;
        for socket in &mut sockets {
            socket.send(Message::text(round.to_string())).unwrap();
            assert_eq!(socket.read().unwrap(), Message::text(round.to_string()));
        }
    }
    let report = load.stop();
    assert_eq!(report.counts.failed_before_head + report.counts.failed_after_head, 0, "{:?}", report.failures);
    assert!(procfs::state(first).is_some_and(|state| state != 'Z'), "it lives on for its sockets");
    drop(sockets);
    await_end(&site, first);
}

#[test]
fn connections_of_tcp_live_on_and_datagrams_find_the_new_process() {
    let (stream_server, datagram_server) = (l4::echo(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let datagrams = datagram_server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((len, from)) = datagram_server.recv_from(&mut bytes) {
            let _gone = datagram_server.send_to(&bytes[..len], from);
        }
    });
    let (raw, dns) = (free_port(), UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n\
         [listener.raw]\nkind = \"tcp\"\nlisten = \"127.0.0.1:{raw}\"\nservice = \"raw\"\n\
         [listener.dns]\nkind = \"udp\"\nlisten = \"{dns}\"\nservice = \"dns\"\n\
         [service.raw]\nendpoints = [\"{stream_server}\"]\n[service.dns]\nendpoints = [\"{datagrams}\"]\n",
        free_port()
    );
    let mut site = start(&text);
    let said = |stream: &mut TcpStream, word: &[u8]| {
        stream.write_all(word).unwrap();
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, word);
    };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(dns).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let answered = |site: &Tenfold| {
        // What is on its way while processes change may be lost; clients of UDP ask again.
        site.wait_until("an answer", |_| Ok(client.send(b"x").is_ok() && client.recv(&mut [0; 8]).is_ok())).unwrap();
    };
    let mut old_stream = l4::connect(SocketAddr::from(([127, 0, 0, 1], raw)));
    said(&mut old_stream, b"before");
    answered(&site);
    let old = site.pid();
    site.upgrade().unwrap();
    said(&mut old_stream, b"after");
    said(&mut l4::connect(SocketAddr::from(([127, 0, 0, 1], raw))), b"new");
    answered(&site);
    drop(old_stream);
    await_end(&site, old);
    answered(&site);
}

#[test]
fn what_waits_in_the_queue_at_that_moment_is_served() {
    let origin = Origin::start("a").unwrap();
    let mut site = site(&[origin.address()], "");
    // A process that is stopped accepts nothing: connections wait in its socket's queue, with their requests.
    let mut waiting: Vec<TcpStream> = Vec::new();
    let pid = site.pid();
    let address = site.address();
    let admin = site.admin().unwrap();
    let mut ask = TcpStream::connect(admin).unwrap();
    ask.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    site.process().signal(Signal::STOP).unwrap();
    let body = "Content-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    ask.write_all(format!("POST /api/upgrade HTTP/1.1\r\nHost: localhost\r\n{body}").as_bytes()).unwrap();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(REQUEST.as_bytes()).unwrap();
        waiting.push(stream);
    }
    site.process().signal(Signal::CONT).unwrap();
    for mut stream in waiting {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    let mut answer = String::new();
    ask.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let new = serving(&site);
    site.succeeded_by(new);
    assert_ne!(new, pid);
}

#[test]
fn a_kept_connection_hears_of_the_end_with_its_answer() {
    let steps = [
        Step::AwaitRequest,
        Step::Pause(Duration::from_millis(500)),
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec()),
        Step::Repeat,
    ];
    let slow = RawUpstream::start(Script::new(steps)).unwrap();
    let mut site = site(&[slow.address()], "");
    let old = site.pid();
    let (mut idle, mut busy) = (RawConn::connect(site.address()).unwrap(), RawConn::connect(site.address()).unwrap());
    let mut silent = RawConn::connect(site.address()).unwrap();
    idle.send(REQUEST).unwrap();
    assert!(!idle.read_response("GET").unwrap().closes());
    busy.send(REQUEST).unwrap();
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 1.0)).unwrap();
    site.upgrade().unwrap();
    let before = page(&site, "/api/status")["predecessor"].clone();
    assert_eq!(before["pid"], old, "{before}");
    assert!(busy.read_response("GET").unwrap().closes());
    for conn in [&mut idle, &mut silent] {
        conn.send(REQUEST).unwrap();
        let response = conn.read_response("GET").unwrap();
        assert_eq!(response.text(), "done");
        assert!(response.closes());
    }
    await_end(&site, old);
}

#[test]
fn whatever_goes_wrong_the_old_process_goes_on() {
    let origin = Origin::start("a").unwrap();
    let token = "0123456789abcdef";
    let dir = TempDir::new().unwrap();
    let text = config(&[origin.address()], "").replacen("[admin]\n", &format!("[admin]\ntoken = \"{token}\"\n"), 1);
    let site = start(&format!("{text}[upgrade]\nready_timeout = \"1s\"\n"));
    let pid = site.pid();
    let mut kept = RawConn::connect(site.address()).unwrap();
    let check = |arguments: &[&str], part: &str| {
        let output = upgrade(&site, arguments);
        assert_eq!(output.status.code(), Some(1), "{part}");
        let shown = self::text(&output.stderr);
        assert!(shown.contains(part), "{part}: {shown}");
        assert_eq!(instance(&site, ""), "a");
        assert!(site.output().contains("this process goes on as before"), "{}", site.output());
    };
    check(&["--binary", &impostor(&dir, "exit 7")], "exit status: 7");
    check(&["--binary", &impostor(&dir, "exec sleep 100")], "not ready within 1s");
    check(&["--binary", "/no/such/program"], "/no/such/program: No such file");
    check(&["--binary", "/dev/null"], "it is no file");
    let plain = dir.write("plain", "no program").unwrap();
    check(&["--binary", plain.to_str().unwrap()], "cannot be started");
    let good = std::fs::read_to_string(site.config()).unwrap();
    // A listener elsewhere is needed, which cannot be had: it is the new process that finds that.
    let bad = good.replace("[[route]]", "[listener.more]\nlisten = \"192.0.2.1:80\"\n[[route]]\nlistener = \"web\"");
    site.rewrite(&bad).unwrap();
    check(&[], "192.0.2.1:80: cannot listen");
    site.rewrite("not toml").unwrap();
    let admin = site.admin().unwrap();
    let output = command()
        .env("TENFOLD_ADMIN_TOKEN", token)
        .args(["upgrade", "--admin", &format!("http://{admin}")])
        .output()
        .unwrap();
    assert!(self::text(&output.stderr).contains("the new process refused"), "{}", self::text(&output.stderr));
    site.rewrite(&good).unwrap();
    kept.send(REQUEST).unwrap();
    assert_eq!(kept.read_response("GET").unwrap().status, 200, "the connection has seen nothing of it");
    let output = command().arg("status").arg("--config").arg(site.config()).output().unwrap();
    let shown = self::text(&output.stdout);
    assert!(shown.contains(&format!("process {pid}, running")) && shown.contains("upgrade failed"), "{shown}");
    assert_eq!(procfs::with_descendants(pid), [pid], "none of them is left");
}

#[test]
fn another_program_needs_a_token() {
    let site = site(&[crate::site::dead_address()], "");
    let output = upgrade(&site, &["--binary", "/bin/true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("only where the admin listener has a token"), "{}", text(&output.stderr));
}

#[test]
fn a_signal_upgrades_and_the_file_is_read_anew() {
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    let text = config(&[a.address()], "");
    let mut site = start(&text);
    let old = site.pid();
    // Written and signalled at once, so that the new process reads it before this one notices.
    site.rewrite(&text.replace(&a.address().to_string(), &b.address().to_string())).unwrap();
    site.process().signal(Signal::USR2).unwrap();
    site.wait_until("upgraded", |site| Ok(serving(site) != old)).unwrap();
    let new = serving(&site);
    site.succeeded_by(new);
    assert_eq!(instance(&site, ""), "b");
    await_end(&site, old);
}

#[test]
fn what_was_changed_at_run_time_holds_in_the_new_process() {
    let (a, b, c) = (Origin::start("a").unwrap(), Origin::start("b").unwrap(), Origin::start("c").unwrap());
    let mut site = site(&[a.address(), b.address()], "");
    let change = |site: &Tenfold, arguments: &[&str]| {
        let output = command().arg("endpoint").args(arguments).arg("--config").arg(site.config()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let (first, second, third) = (a.address().to_string(), b.address().to_string(), c.address().to_string());
    change(&site, &["drain", "api", &first]);
    change(&site, &["remove", "api", &second]);
    change(&site, &["add", "api", &third, "--weight", "5"]);
    let before = page(&site, "/api/overrides");
    for _ in 0..2 {
        site.upgrade().unwrap();
        assert_eq!(page(&site, "/api/overrides"), before);
        for _ in 0..8 {
            assert_eq!(instance(&site, ""), "c");
        }
    }
}

#[test]
fn breakers_stay_held_and_endpoints_unhealthy() {
    let (sick, well) = (
        RawUpstream::start(Script::answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")).unwrap(),
        Origin::start("well").unwrap(),
    );
    // The new process would need a while to find out by itself.
    let service = "health = { path = \"/\", interval = \"300ms\", fall = 10 }\nbreaker = {}\nretry = \"off\"";
    let mut site = site(&[sick.address(), well.address()], service);
    site.wait_until("checked", |site| Ok(health(site) == ["unhealthy", "healthy"])).unwrap();
    let admin = format!("http://{}", site.admin().unwrap());
    let held = command().args(["breaker", "open", "api", "--admin", &admin]).output().unwrap();
    assert!(held.status.success(), "{}", text(&held.stderr));
    sick.set_script(Script::new([Step::AwaitRequest, Step::Drain]));
    site.upgrade().unwrap();
    assert_eq!(health(&site), ["unhealthy", "healthy"]);
    assert_eq!(page(&site, "/api/services/api")["breaker"]["state"], "forced_open");
    check_own(&get(&site, "/", ""), 503, "breaker_open");
}

#[test]
fn requests_over_http2_go_on_and_new_ones_go_to_the_new_process() {
    let origin = Origin::start("a").unwrap();
    let mut site = site(&[origin.address()], "");
    let old = site.pid();
    let (address, admin) = (site.address(), site.admin().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = |path: &str| http::Request::get(format!("http://{address}{path}")).body(()).unwrap();
        let mut ready = client.clone().ready().await.unwrap();
        let (first, _) = ready.send_request(request("/"), true).unwrap();
        assert_eq!(first.await.unwrap().status(), 200);
        // A request whose body is not over: the old process has to serve it to its end.
        let mut ready = client.clone().ready().await.unwrap();
        let (answer, mut body) = ready.send_request(request("/slow"), false).unwrap();
        body.send_data("part".into(), false).unwrap();
        drop((ready, client));
        let upgraded = tokio::task::spawn_blocking(move || site.upgrade().map(|_| site)).await.unwrap().unwrap();
        body.send_data("rest".into(), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        // It ends by itself, in order.
        connection.await.unwrap().unwrap();
        upgraded
    });
    assert_ne!(serving(&kept), old);
    assert!(get(&kept, "/", "").status == 200 && kept.admin() == Some(admin));
    await_end(&kept, old);
}

#[test]
fn connections_that_do_not_end_are_cut_after_the_limit_or_when_told() {
    let chat = echo();
    let text = format!("{}[upgrade]\ndrain_timeout = \"300ms\"\n", config(&[chat], ""));
    let mut site = start(&text);
    let old = site.pid();
    let mut socket = connect(site.address());
    site.upgrade().unwrap();
    await_end(&site, old);
    assert!(socket.read().is_err());

    let mut site = start(&format!("{}[runtime]\ndrain_timeout = \"100ms\"\n", config(&[chat], "")));
    let old = site.pid();
    let _socket = connect(site.address());
    site.upgrade().unwrap();
    assert!(site.process().is_running());
    site.process().signal(Signal::TERM).unwrap();
    let begun = Instant::now();
    await_end(&site, old);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_old_process_hears_of_rotation_as_well() {
    let (chat, folder) = (echo(), TempDir::new().unwrap());
    let file = folder.path().join("access.log");
    let mut site = start(&format!("[log]\naccess = \"{}\"\n{}", file.display(), config(&[chat], "")));
    let old = site.pid();
    let socket = connect(site.address());
    site.upgrade().unwrap();
    std::fs::rename(&file, folder.path().join("access.log.1")).unwrap();
    // Nobody has anything to write, so only who is told opens a new one.
    site.process().signal(Signal::USR1).unwrap();
    site.wait_until("a new file", |_| Ok(file.exists())).unwrap();
    drop(socket);
    await_end(&site, old);
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), 1, "the old process wrote its last line there: {lines}");
}

#[test]
fn a_service_manager_passes_sockets_and_hears_how_it_goes() {
    let origin = Origin::start("a").unwrap();
    let dir = TempDir::new().unwrap();
    let notify = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let web = testkit::free_port();
    let text = config(&[origin.address()], "");
    let port = text.lines().filter_map(|line| line.strip_prefix("listen = \"127.0.0.1:")).nth(1).unwrap();
    let text = text.replace(port, &format!("{web}\""));
    // Python plays the manager: it listens, and passes the socket as descriptor 3.
    let script = "
import os, socket, sys
web = socket.create_server(('127.0.0.1', int(sys.argv[1])))
os.dup2(web.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='web', NOTIFY_SOCKET=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
";
    let mut wrapped = Command::new("/usr/bin/python3");
    wrapped.arg("-c").arg(script).arg(web.to_string()).arg(&notify).arg(env!("CARGO_BIN_EXE_tenfold"));
    let mut site = Tenfold::start_with(wrapped, &text).unwrap();
    let hear = || {
        let mut bytes = [0; 512];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    assert!(hear().starts_with("READY=1\n"));
    assert_eq!(SocketAddr::from(([127, 0, 0, 1], web)), site.address());
    assert_eq!(instance(&site, ""), "a");
    let new = site.upgrade().unwrap();
    assert!(hear().starts_with("RELOADING=1\n"));
    assert!(hear().starts_with(&format!("MAINPID={new}\nREADY=1\n")));
    assert_eq!(instance(&site, ""), "a");
    assert!(Command::new("kill").args(["-TERM", &new.to_string()]).status().unwrap().success());
    assert!(hear().starts_with("STOPPING=1\n"));
}
