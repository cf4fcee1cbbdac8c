//! The commands that look at a running process and change it.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use testkit::{Load, LoadParams, Origin, RawConn, RawUpstream, Script, Step, TempDir, Tenfold, free_port};

use crate::site::{apply, command, config, get, instance, site, start};

const TOKEN: &str = "0123456789abcdef";

/// Runs a command against a site, which it finds by the configuration.
fn tell(site: &Tenfold, words: &str) -> Output {
    let mut command = command();
    command.args(words.split(' ')).arg("--config").arg(site.config());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a command prints that does well.
fn told(site: &Tenfold, words: &str) -> String {
    let output = tell(site, words);
    assert_eq!(output.status.code(), Some(0), "{words}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{words}");
    text(&output.stdout)
}

fn told_json(site: &Tenfold, words: &str) -> Value {
    serde_json::from_str(&told(site, words)).unwrap()
}

/// What a command says that fails.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr)
}

#[test]
fn endpoints_are_changed_by_commands() {
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    let site = site(&[a.address()], "");
    let (first, second) = (a.address(), b.address());
    let shown = told(&site, &format!("endpoint add api {second} --weight 4 --drain"));
    let row = shown.lines().find(|line| line.contains(&second.to_string())).unwrap();
    assert!(row.contains("draining") && row.contains(" 4 ") && row.contains("added "), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours where there is no terminal");
    told(&site, &format!("endpoint undrain api {second}"));
    told(&site, &format!("endpoint drain api {first}"));
    assert_eq!(instance(&site, ""), "b");
    let service = told_json(&site, &format!("endpoint weight api {second} 9 --json"));
    assert_eq!(service["endpoints"][1]["weight"], 9);
    let status = told(&site, "status");
    assert!(status.contains("4 settings were changed at run time"), "{status}");
    assert!(status.contains("weight 9 (file: 4)"), "{status}");
    told(&site, &format!("endpoint reset api {first}"));
    told(&site, &format!("endpoint remove api {second}"));
    assert_eq!(instance(&site, ""), "a");
    let service = told_json(&site, &format!("endpoint add api {second} --priority 3 --zone eu-1a --json"));
    let endpoint = &service["endpoints"][1];
    assert_eq!((&endpoint["priority"], &endpoint["zone"]), (&3.into(), &"eu-1a".into()), "{service}");
    told(&site, &format!("endpoint remove api {second}"));
    told(&site, &format!("endpoint add api {second}"));
    told(&site, &format!("endpoint remove api {first}"));
    assert!(told(&site, "status").contains(" removed "));
    assert_eq!(told(&site, "endpoint reset --all"), "2 settings go by the file again\n");
    assert_eq!(told_json(&site, "endpoint reset --all --json")["reset"], 0);
    assert_eq!(instance(&site, ""), "a");
}

#[test]
fn mistakes_name_the_place() {
    let a = Origin::start("a").unwrap();
    let site = site(&[a.address()], "");
    let check =
        |words: &str, expected: &str| assert_eq!(complaint(&tell(&site, words)), format!("error: {expected}\n"));
    check("endpoint drain api 10.0.0.9:80", "service api: no endpoint 10.0.0.9:80");
    check("endpoint drain apii 10.0.0.9:80", "no service is named \"apii\"; there are: api");
    check("endpoint drain api 10.0.0.9", "address \"10.0.0.9\" has no port; write \"10.0.0.9:80\"");
    check("endpoint drain a/b 10.0.0.9:80", "no service is named \"a/b\"; there are: api");
    let first = a.address();
    check(
        "endpoint add api 10.0.0.9:80 --zone a/b",
        "zone \"a/b\": a name holds letters, digits, '_', '-' and '.', not '/'",
    );
    check(&format!("endpoint add api {first}"), &format!("service api: endpoint {first} is there already"));
    check(&format!("endpoint reset api {first}"), &format!("service api: endpoint {first} has no override"));
    for words in
        ["endpoint weight api 10.0.0.1:80 1001", "endpoint reset", "endpoint reset --all api", "top --interval 5"]
    {
        assert_eq!(tell(&site, words).status.code(), Some(2), "{words}");
    }
}

#[test]
fn a_drain_can_be_waited_for() {
    let steps = [
        Step::AwaitRequest,
        Step::Pause(Duration::from_millis(700)),
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_vec()),
        Step::Repeat,
    ];
    let slow = RawUpstream::start(Script::new(steps)).unwrap();
    let site = site(&[slow.address()], "");
    let mut conn = RawConn::connect(site.address()).unwrap();
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    site.wait_until("under way", |site| Ok(site.metric("upstream_in_flight", &[])? == 1.0)).unwrap();
    let on_route = || site.metric("http_requests_in_flight", &["endpoint=\"api\""]).unwrap();
    assert_eq!(on_route(), 1.0);
    let short = complaint(&tell(&site, &format!("endpoint drain api {} --wait 150ms", slow.address())));
    assert!(short.contains("is drained, but 1 request is still under way after 150ms"), "{short}");
    told(&site, &format!("endpoint drain api {} --wait 10s", slow.address()));
    assert_eq!(site.metric("upstream_in_flight", &[]).unwrap(), 0.0);
    assert_eq!(conn.read_response("GET").unwrap().text(), "done");
    // One whose client goes away is over as well.
    conn.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    drop(conn);
    site.wait_until("over", |_| Ok(on_route() == 0.0)).unwrap();
}

#[test]
fn status_and_routes_are_shown() {
    let a = Origin::start("a").unwrap();
    let site = site(&[a.address()], "");
    get(&site, "/", "");
    let shown = told(&site, "status");
    assert!(shown.starts_with("tenfold ") && shown.contains(", ready\n"), "{shown}");
    assert!(shown.contains("LISTENER") && shown.contains("web") && shown.contains("healthy"), "{shown}");
    let json = told_json(&site, "status --json");
    assert_eq!((&json["status"]["ready"], &json["services"][0]["name"]), (&true.into(), &"api".into()));
    assert_eq!(json["status"]["pid"], site.pid());
    let routes = told(&site, "routes");
    let row: Vec<&str> = routes.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["api", "web", "any", "/*", "api"]);
    assert_eq!(told_json(&site, "routes --json")[0]["path"], "/*");
}

#[test]
fn a_reload_is_asked_for_and_answered() {
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    let text = config(&[a.address()], "");
    let site = start(&text);
    let other = text.replace(&a.address().to_string(), &b.address().to_string());
    site.rewrite(&other).unwrap();
    assert_eq!(told(&site, "reload"), "configuration applied\n");
    assert_eq!(instance(&site, ""), "b");
    // The file is wrong, but tells where the listener is.
    site.rewrite(&format!("{text}[nonsense]\n")).unwrap();
    let admin = format!("http://{}", site.admin().unwrap());
    let refused = complaint(&tell(&site, "reload"));
    assert!(refused.contains("unknown key `nonsense`"), "{refused}");
    site.rewrite("not toml").unwrap();
    let broken = complaint(&tell(&site, "status"));
    assert!(broken.contains("mend it, or give --admin URL"), "{broken}");
    let output = command().args(["status", "--admin", &admin]).output().unwrap();
    assert!(text_of(&output).contains(" ago, the one before stays:"), "{output:?}");
}

fn text_of(output: &Output) -> String {
    text(&output.stdout)
}

#[test]
fn nobody_there_is_said_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let file =
        dir.write("tenfold.toml", format!("[admin]\nlisten = \"0.0.0.0:{port}\"\ntoken = \"{TOKEN}\"\n")).unwrap();
    let output = command().args(["status", "--config"]).arg(&file).output().unwrap();
    let shown = complaint(&output);
    let expected =
        format!("nothing answers at http://127.0.0.1:{port} (from {}): is `tenfold run` running?", file.display());
    assert!(shown.contains(&expected), "{shown}");
    // Another server.
    let steps =
        [Step::AwaitRequest, Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec()), Step::Close];
    let other = RawUpstream::start(Script::new(steps)).unwrap();
    let url = format!("http://{}", other.address());
    let shown = complaint(&command().args(["top", "--once", "--admin", &url]).output().unwrap());
    assert!(shown.contains("has no metrics of Tenfold"), "{shown}");
    let shown = complaint(&command().args(["status", "--admin", &url]).output().unwrap());
    assert!(shown.contains("answers, but not as Tenfold's admin listener does"), "{shown}");
}

#[test]
fn a_token_opens_and_is_never_shown() {
    let a = Origin::start("a").unwrap();
    let dir = TempDir::new().unwrap();
    let secret = dir.write("token", format!("{TOKEN}\n")).unwrap();
    let text = config(&[a.address()], "").replacen("127.0.0.1", "0.0.0.0", 1).replacen(
        "[listener",
        &format!("token_file = \"{}\"\n[listener", secret.display()),
        1,
    );
    let site = start(&text);
    assert!(told(&site, "status").contains("ready"));
    let admin = format!("http://{}", site.admin().unwrap());
    let with = |token: Option<&str>| {
        let mut command = command();
        command.args(["endpoint", "drain", "api", &a.address().to_string(), "--admin", &admin]);
        command.env_remove("TENFOLD_ADMIN_TOKEN");
        if let Some(token) = token {
            command.env("TENFOLD_ADMIN_TOKEN", token);
        }
        command.output().unwrap()
    };
    for wrong in [None, Some("0123456789abcdeF"), Some(&TOKEN[1..])] {
        let shown = complaint(&with(wrong));
        assert!(shown.contains("the token is missing or wrong: set TENFOLD_ADMIN_TOKEN"), "{shown}");
    }
    assert_eq!(with(Some(TOKEN)).status.code(), Some(0));
    let open = |path: &str| site.admin_get(path).unwrap().status;
    assert_eq!(["/healthz", "/readyz", "/metrics", "/api/status"].map(open), [200, 503, 401, 401]);
    // Another token in the file is noticed by itself.
    dir.write("token", "fedcba9876543210-again").unwrap();
    site.wait_until("noticed", |_| Ok(with(Some("fedcba9876543210-again")).status.code() == Some(0))).unwrap();
    complaint(&with(Some(TOKEN)));
    assert!(!site.output().contains(TOKEN) && !site.output().contains("fedcba"), "{}", site.output());
}

#[test]
fn beyond_loopback_a_token_is_needed() {
    let text = "[admin]\nlisten = \"0.0.0.0:0\"\n[listener.web]\nlisten = \"127.0.0.1:0\"\n";
    let dir = TempDir::new().unwrap();
    let file = dir.write("tenfold.toml", text).unwrap();
    let output = command().arg("run").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = self::text(&output.stderr);
    assert!(shown.contains("is reachable from outside this machine, so a token is needed"), "{shown}");
}

#[test]
fn the_admin_listener_moves_without_a_restart() {
    let a = Origin::start("a").unwrap();
    let text = config(&[a.address()], "");
    let mut site = start(&text);
    let old = site.admin().unwrap();
    let new = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    // A reload that is asked for over the listener that goes is answered by it.
    site.rewrite(&text.replace(&old.to_string(), &new.to_string())).unwrap();
    let url = format!("http://{old}");
    let output = command().args(["reload", "--admin", &url]).output().unwrap();
    assert_eq!(text_of(&output), "configuration applied\n", "{output:?}");
    let at = |address: std::net::SocketAddr| {
        command().args(["status", "--admin", &format!("http://{address}")]).output().unwrap().status.code()
    };
    assert_eq!(at(new), Some(0));
    site.wait_until("the old one is closed", |_| Ok(at(old) == Some(1))).unwrap();
    assert_eq!(instance(&site, ""), "a");
    // A taken address changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    site.reload(&text.replace(&old.to_string(), &taken.local_addr().unwrap().to_string())).unwrap();
    site.wait_until("refused", |site| Ok(site.output().contains("configuration refused"))).unwrap();
    assert_eq!(at(new), Some(0));
    site.reload(&text).unwrap();
    site.wait_until("it is back", |_| Ok(at(old) == Some(0))).unwrap();
    apply(&mut site, &text);
}

#[test]
fn top_shows_what_is_going_on() {
    let a = Origin::start("a").unwrap();
    let site = site(&[a.address()], "");
    let mut params = LoadParams::new(site.address());
    params.path = "/delay/20".to_owned();
    params.connections = 8;
    let load = Load::start(&params);
    site.wait_until("under load", |_| Ok(load.counts().ok > 20)).unwrap();
    let json = told_json(&site, "top --once --json --interval 500ms");
    let route = &json["routes"][0];
    assert_eq!(route["name"], "api");
    let rate = route["requests_per_sec"].as_f64().unwrap();
    assert!(rate > 20.0 && rate < 500.0, "{json}");
    let p50 = route["p50_secs"].as_f64().unwrap();
    assert!(p50 > 0.01 && p50 < 0.1, "{json}");
    assert_eq!(route["errors_per_sec"], 0.0);
    let endpoint = &json["endpoints"][0];
    assert_eq!((&endpoint["service"], &endpoint["name"]), (&"api".into(), &a.address().to_string().into()));
    assert!(json["services"][0]["in_flight"].as_f64().unwrap() <= 8.0, "{json}");
    let shown = told(&site, "top --once --interval 200ms --sort p99");
    for part in ["ROUTE", "SERVICE", "ENDPOINT", "REQ/S", "P99", &a.address().to_string()] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    load.stop();
}

#[test]
fn top_gives_the_terminal_back() {
    let a = Origin::start("a").unwrap();
    let site = site(&[a.address()], "");
    get(&site, "/", "");
    // `script` gives the command a terminal, and writes down what it shows; Ctrl-C is a byte typed there.
    let dir = TempDir::new().unwrap();
    let record = dir.path().join("record");
    let mut script = std::process::Command::new("script");
    // Without `exec`, some shells stay between and die of the Ctrl-C themselves.
    let words =
        format!("exec {} top --interval 100ms --config {}", env!("CARGO_BIN_EXE_tenfold"), site.config().display());
    script.args(["--quiet", "--flush", "--return", "--command", &words]).arg(&record);
    script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = script.spawn().unwrap();
    let shown = || std::fs::read_to_string(&record).unwrap_or_default();
    site.wait_until("a second picture", |_| Ok(shown().matches("\u{1b}[H").count() >= 2)).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\x03").unwrap();
    let status = child.wait().unwrap();
    let shown = shown();
    assert_eq!(status.code(), Some(0), "{shown:?}");
    let (enter, leave) = (shown.find("\u{1b}[?1049h").unwrap(), shown.find("\u{1b}[?1049l").unwrap());
    assert!(enter < leave && shown[enter..leave].contains("requests/s") && shown.contains("\u{1b}[?25h"), "{shown:?}");
}
