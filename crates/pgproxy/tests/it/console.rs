//! The console, beside PgBouncer's own.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use pgproxy::*;
use pgroute::auth::{Method, Stored};
use testkit::{PgClient, PgMessages, PostgresOptions, TempDir, free_port};
use vocab::Secret;

use crate::proxy::Proxy;
use crate::replicas::wait_until;

const PASSWORD: &str = "for the console";

fn console(method: Method) -> ConsoleParams {
    let user = |name: &str, is_admin| ConsoleUser {
        name: name.into(),
        stored: Stored::Password(Secret::new(PASSWORD)),
        is_admin,
    };
    ConsoleParams { method, users: vec![user("ops", true), user("monitor", false)] }
}

fn proxy(change: impl FnOnce(&mut DatabaseParams)) -> Proxy {
    Proxy::start_with(&PostgresOptions::default(), |params, listener| {
        // Nobody else has a connection.
        params.catalogue.read = false;
        listener.console = Some(console(Method::Cleartext));
        change(params);
    })
}

fn ops(proxy: &Proxy) -> PgClient {
    PgClient::connect(proxy.port, "ops", "pgbouncer", PASSWORD).unwrap()
}

/// What a column of a table says in the row where another one has a value.
fn cell(client: &mut PgClient, show: &str, key: (&str, &str), column: &str) -> Option<String> {
    let (columns, rows) = shown(client, show);
    let at = |name: &str| columns.iter().position(|(known, _, _)| known == name).unwrap_or_else(|| panic!("{name}"));
    let row = rows.iter().find(|row| row[at(key.0)].as_deref() == Some(key.1));
    row.unwrap_or_else(|| panic!("{show}: {key:?}: {rows:?}"))[at(column)].clone()
}

type Column = (String, u32, i16);

/// A table: names, types and sizes of its columns, and its rows.
fn shown(client: &mut PgClient, show: &str) -> (Vec<Column>, Vec<Vec<Option<String>>>) {
    client.send(&PgMessages::default().query(&format!("SHOW {show}")).0).unwrap();
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    loop {
        let message = client.message().unwrap();
        let body = &message.body;
        match message.tag {
            b'T' => {
                let mut rest = &body[2..];
                while !rest.is_empty() {
                    let end = rest.iter().position(|byte| *byte == 0).unwrap();
                    let name = String::from_utf8(rest[..end].to_vec()).unwrap();
                    let more = &rest[end + 7..];
                    let kind = u32::from_be_bytes(more[..4].try_into().unwrap());
                    columns.push((name, kind, i16::from_be_bytes(more[4..6].try_into().unwrap())));
                    rest = &rest[end + 19..];
                }
            }
            b'D' => {
                let (mut rest, mut row) = (&body[2..], Vec::new());
                while !rest.is_empty() {
                    let len = i32::from_be_bytes(rest[..4].try_into().unwrap());
                    let len = usize::try_from(len).ok();
                    row.push(len.map(|len| String::from_utf8(rest[4..4 + len].to_vec()).unwrap()));
                    rest = &rest[4 + len.unwrap_or(0)..];
                }
                rows.push(row);
            }
            b'Z' => return (columns, rows),
            b'C' => {}
            tag => panic!("{show}: {} {message:?}", char::from(tag)),
        }
    }
}

/// PgBouncer, for as long as this is there.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    fn start(server: u16) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let users = folder.path().join("users.txt");
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&users, "\"ops\" \"sesame\"\n").unwrap();
        let text = format!(
            "[databases]\nshop = host=127.0.0.1 port={server} dbname=postgres user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             admin_users = ops\npool_mode = transaction\n",
            users.display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg("-q").arg(&file);
        if rustix::process::geteuid().is_root() {
            // It refuses to be root; files and folder stay readable for everybody.
            let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode;
            std::fs::set_permissions(folder.path(), mode(0o755)).unwrap();
            command.uid(65_534).gid(65_534);
        }
        let child = command.spawn().unwrap();
        let found = Self { child, port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while PgClient::begin(port).is_err() {
            assert!(Instant::now() < deadline, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        found
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn columns_are_those_of_pgbouncer() {
    let proxy = proxy(|_| {});
    let bouncer = PgBouncer::start(proxy.postgres.port(0));
    let mut theirs = PgClient::connect(bouncer.port, "ops", "pgbouncer", "").unwrap();
    let mut ours = ops(&proxy);
    // Both have a client that has asked something, so that there are rows.
    let mut clients = [proxy.client(), PgClient::connect(bouncer.port, "ops", "shop", "").unwrap()];
    for client in &mut clients {
        client.query("SELECT 1").unwrap();
    }
    for show in [
        "POOLS",
        "CLIENTS",
        "SERVERS",
        "STATS",
        "STATS_TOTALS",
        "STATS_AVERAGES",
        "DATABASES",
        "LISTS",
        "CONFIG",
        "VERSION",
        "USERS",
    ] {
        let (expected, their_rows) = shown(&mut theirs, show);
        let (found, rows) = shown(&mut ours, show);
        assert_eq!(found, expected, "SHOW {show}");
        assert!(!rows.is_empty() && !their_rows.is_empty(), "SHOW {show}: {rows:?}; theirs: {their_rows:?}");
        assert!(rows.iter().all(|row| row.len() == found.len()), "SHOW {show}: {rows:?}");
    }
    let keys =
        |client: &mut PgClient, show| shown(client, show).1.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(keys(&mut ours, "LISTS"), keys(&mut theirs, "LISTS"));
    // What it says of itself has names of PgBouncer's.
    let known = keys(&mut theirs, "CONFIG");
    assert!(keys(&mut ours, "CONFIG").iter().all(|key| known.contains(key)));
}

#[test]
fn tables_show_what_there_is() {
    let proxy = proxy(|params| params.pool.size = 1);
    let mut console = ops(&proxy);
    let (mut busy, mut waits) = (proxy.client(), proxy.client_of("web"));
    busy.query("BEGIN").unwrap();
    waits.send(&PgMessages::default().query("SELECT 'late'").0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while cell(&mut console, "POOLS", ("user", "web"), "cl_waiting").as_deref() != Some("1") {
        assert!(Instant::now() < deadline, "nobody waits");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut pool = |column| cell(&mut console, "POOLS", ("user", "web"), column).unwrap();
    assert_eq!(["cl_active", "sv_active", "sv_idle", "pool_mode"].map(&mut pool), ["1", "1", "0", "transaction"]);
    let waited = (pool("maxwait").parse::<u64>().unwrap(), pool("maxwait_us").parse::<u64>().unwrap());
    assert!(waited.0 > 0 || waited.1 >= 50_000, "{waited:?}");
    assert_eq!(cell(&mut console, "CLIENTS", ("state", "waiting"), "database").as_deref(), Some("shop"));
    assert_eq!(cell(&mut console, "CLIENTS", ("user", "ops"), "database").as_deref(), Some("pgbouncer"));
    let pid = busy.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    assert_eq!(cell(&mut console, "SERVERS", ("remote_pid", &pid), "state").as_deref(), Some("active"));
    busy.query("END").unwrap();
    assert_eq!(waits.answer().unwrap().value(), "late");
    assert_eq!(cell(&mut console, "SERVERS", ("remote_pid", &pid), "state").as_deref(), Some("idle"));
    let mut total = |column| cell(&mut console, "STATS_TOTALS", ("database", "shop"), column).unwrap();
    let wait: u64 = total("wait_time").parse().unwrap();
    assert!((50_000..20_000_000).contains(&wait), "{wait}");
    assert_eq!((total("query_count"), total("xact_count")), ("4".into(), "2".into()));
    let database = |console: &mut PgClient, column| cell(console, "DATABASES", ("name", "shop"), column).unwrap();
    let port = proxy.postgres.port(0).to_string();
    assert_eq!(
        ["host", "port", "pool_size", "current_connections"].map(|column| database(&mut console, column)),
        ["127.0.0.1", &port, "1", "1"]
    );
    assert_eq!(cell(&mut console, "LISTS", ("list", "used_clients"), "items").as_deref(), Some("3"));
    assert_eq!(cell(&mut console, "REPLICAS", ("database", "shop"), "state").as_deref(), Some("primary"));
    drop(busy);
    let deadline = Instant::now() + Duration::from_secs(20);
    while shown(&mut console, "CLIENTS").1.len() != 2 {
        assert!(Instant::now() < deadline, "a client is still there");
    }
}

#[test]
fn nobody_comes_in_without_a_password() {
    let mut proxy = proxy(|_| {});
    for (user, password) in [("ops", "guessed"), ("ops", ""), ("web", ""), ("nobody", PASSWORD)] {
        let error = format!("{:#}", PgClient::connect(proxy.port, user, "pgbouncer", password).unwrap_err());
        assert!(error.contains("28P01"), "{user}: {error}");
    }
    // Here everybody is trusted; in the console nobody is.
    proxy.client_of("anybody").query("SELECT 1").unwrap();
    for method in [Method::Scram, Method::Md5] {
        proxy.listener.console = Some(console(method));
        proxy.reload();
        let psql = |password: &str| {
            let url = format!("postgresql://monitor@127.0.0.1:{}/tenfold", proxy.port);
            let mut command = Command::new("psql");
            command.env("PGPASSWORD", password).args(["-XAtc", "SHOW VERSION", &url]);
            let output = command.output().unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        assert_eq!(psql(PASSWORD), (true, format!("Tenfold {}\n", env!("CARGO_PKG_VERSION"))), "{method:?}");
        assert_eq!(psql("guessed"), (false, String::new()));
    }
    // Without a console the name is that of a database, which there is none of.
    proxy.listener.console = None;
    proxy.reload();
    let error = format!("{:#}", PgClient::connect(proxy.port, "ops", "pgbouncer", PASSWORD).unwrap_err());
    assert!(error.contains("3D000"), "{error}");
}

#[test]
fn what_is_no_simple_query_is_refused_in_step() {
    let proxy = proxy(|_| {});
    let mut console = ops(&proxy);
    assert_eq!(console.query("").unwrap().kinds, "IZ");
    assert_eq!(console.query("SHOW POOLS").unwrap().tags, ["SHOW"]);
    let messages = PgMessages::default().parse("", "SHOW POOLS").bind("", &[]).describe("").execute().sync();
    // What comes behind in the same breath is answered in its turn.
    console.send(&messages.query("SHOW VERSION").0).unwrap();
    let refused = console.answer().unwrap();
    assert_eq!((refused.kinds.as_str(), refused.code()), ("EZ", "0A000"), "{refused:?}");
    assert!(console.answer().unwrap().value().starts_with("Tenfold "));
    let long = format!("SHOW {}", " ".repeat(100_000));
    console.send(&PgMessages::default().query(&long).0).unwrap();
    assert_eq!(console.message().unwrap().field(b'C'), "54000");
    assert!(console.message().is_err());
    let mut console = ops(&proxy);
    for (text, code) in [
        ("SELECT 1", "42601"),
        ("SHOW MEM", "0A000"),
        ("PAUSE nope", "3D000"),
        ("KILL", "42601"),
        ("SET x = 1", "0A000"),
        // Nobody reads a configuration here.
        ("RELOAD", "22023"),
    ] {
        assert_eq!(console.query(text).unwrap().code(), code, "{text}");
    }
    assert_eq!(console.query("SHOW HELP").unwrap().kinds, "NCZ");
    let mut monitor = PgClient::connect(proxy.port, "monitor", "tenfold", PASSWORD).unwrap();
    for text in ["PAUSE", "RESUME", "RECONNECT", "KILL shop", "DISABLE shop", "ENABLE shop", "RELOAD"] {
        assert_eq!(monitor.query(text).unwrap().code(), "42501", "{text}");
    }
    assert_eq!(monitor.query("SHOW POOLS").unwrap().code(), "");
}

#[test]
fn databases_are_held_and_let_go() {
    let proxy = proxy(|params| params.pool.size = 2);
    let mut console = ops(&proxy);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("BEGIN").unwrap();
    // It is paused once the last transaction has ended.
    console.send(&PgMessages::default().query("PAUSE shop").0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut other = ops(&proxy);
    while cell(&mut other, "DATABASES", ("name", "shop"), "paused").as_deref() != Some("1") {
        assert!(Instant::now() < deadline, "it is not paused");
    }
    two.send(&PgMessages::default().query("SELECT 2").0).unwrap();
    assert_eq!(one.query("SELECT 1").unwrap().value(), "1");
    assert_eq!(one.query("END").unwrap().status, 'I');
    assert_eq!(console.answer().unwrap().tags, ["PAUSE"]);
    // Whoever comes for the first time waits as well.
    let newcomer = std::thread::spawn({
        let port = proxy.port;
        move || PgClient::connect(port, "newcomer", "shop", "").unwrap().query("SELECT 3").unwrap().value().to_owned()
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(!newcomer.is_finished());
    assert_eq!(console.query("RESUME shop").unwrap().tags, ["RESUME"]);
    assert_eq!((two.answer().unwrap().value(), newcomer.join().unwrap().as_str()), ("2", "3"));
    assert_eq!(console.query("DISABLE shop").unwrap().tags, ["DISABLE"]);
    let error = format!("{:#}", PgClient::connect(proxy.port, "web", "shop", "").unwrap_err());
    assert!(error.contains("57P03"), "{error}");
    assert_eq!(two.query("SELECT 4").unwrap().value(), "4");
    assert_eq!(cell(&mut console, "DATABASES", ("name", "shop"), "disabled").as_deref(), Some("1"));
    assert_eq!(console.query("ENABLE shop").unwrap().tags, ["ENABLE"]);
    proxy.client().query("SELECT 5").unwrap();
    // As with PgBouncer, nobody is served after a KILL until RESUME.
    assert_eq!(console.query("KILL shop").unwrap().tags, ["KILL"]);
    assert_eq!(two.message().unwrap().field(b'C'), "57P01");
    assert_eq!(cell(&mut console, "DATABASES", ("name", "shop"), "paused").as_deref(), Some("1"));
    assert_eq!(console.query("RESUME shop").unwrap().tags, ["RESUME"]);
    assert_eq!(proxy.client().query("SELECT 6").unwrap().value(), "6");
    proxy.check_accounts();
}

/// A startup message of a version that nobody knows, with an option that nobody knows.
fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = (3_i32 << 16 | 9999).to_be_bytes().to_vec();
    for text in ["user", user, "database", database, "_pq_.colour", "blue"] {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let len = i32::try_from(body.len() + 4).unwrap();
    [len.to_be_bytes().as_slice(), &body].concat()
}

#[test]
fn newer_versions_are_negotiated_in_the_console_too() {
    let proxy = proxy(|_| {});
    for (user, database) in [("web", "shop"), ("ops", "pgbouncer")] {
        let mut client = PgClient::begin(proxy.port).unwrap();
        client.send(&startup(user, database)).unwrap();
        let first = client.message().unwrap();
        assert_eq!(first.tag, b'v', "{database}: {first:?}");
        assert!(first.body.ends_with(b"_pq_.colour\0"), "{database}: {first:?}");
        assert_eq!(client.message().unwrap().tag, b'R', "{database}");
    }
}

#[test]
fn a_kill_ends_logins_that_wait() {
    let proxy = proxy(|_| {});
    proxy.databases().pause(Some("shop")).unwrap();
    let (port, databases) = (proxy.port, proxy.databases());
    let newcomer = std::thread::spawn(move || PgClient::connect(port, "newcomer", "shop", "").map(drop));
    wait_until("it is there", || databases.view().clients("shop").unwrap().len() == 1);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!newcomer.is_finished());
    proxy.kill(&Whom::All);
    let error = format!("{:#}", newcomer.join().unwrap().unwrap_err());
    assert!(error.contains("57P01"), "{error}");
    databases.resume(Some("shop")).unwrap();
    assert_eq!(proxy.client().query("SELECT 1").unwrap().value(), "1");
    proxy.check_accounts();
}

#[test]
fn a_pause_that_waits_hears_of_its_end() {
    let proxy = proxy(|_| {});
    let (mut console, mut other) = (ops(&proxy), ops(&proxy));
    let mut busy = proxy.client();
    busy.query("BEGIN").unwrap();
    let is_paused = |other: &mut PgClient| cell(other, "DATABASES", ("name", "shop"), "paused").as_deref() == Some("1");
    for text in ["PAUSE shop", "PAUSE"] {
        console.send(&PgMessages::default().query(text).0).unwrap();
        wait_until("it is paused", || is_paused(&mut other));
        assert_eq!(other.query("RESUME").unwrap().tags, ["RESUME"]);
        let ended = console.answer().unwrap();
        assert_eq!((ended.kinds.as_str(), ended.code()), ("EZ", "55000"), "{text}");
        // One that is cancelled was never there.
        console.send(&PgMessages::default().query(text).0).unwrap();
        wait_until("it is paused", || is_paused(&mut other));
        console.cancel().unwrap();
        let ended = console.answer().unwrap();
        assert_eq!((ended.kinds.as_str(), ended.code()), ("EZ", "57014"), "{text}");
        assert!(!is_paused(&mut other));
        assert_eq!(proxy.client().query("SELECT 1").unwrap().value(), "1");
    }
    busy.query("END").unwrap();
    // Nor does a cancel take back what somebody else has paused; one that comes when nothing waits does nothing.
    assert_eq!(other.query("PAUSE").unwrap().tags, ["PAUSE"]);
    console.cancel().unwrap();
    assert_eq!(console.query("PAUSE").unwrap().tags, ["PAUSE"]);
    assert!(is_paused(&mut other));
    assert_eq!(other.query("RESUME").unwrap().tags, ["RESUME"]);
    proxy.check_accounts();
}

#[test]
fn names_that_come_after_a_pause_of_all_are_held() {
    let proxy = proxy(|params| params.name = DatabaseName::Any);
    let mut console = ops(&proxy);
    assert_eq!(proxy.client().query("SELECT 1").unwrap().value(), "1");
    assert_eq!(console.query("PAUSE").unwrap().tags, ["PAUSE"]);
    let port = proxy.port;
    let later = std::thread::spawn(move || {
        PgClient::connect(port, "web", "later", "").unwrap().query("SELECT 2").unwrap().value().to_owned()
    });
    wait_until("it is there", || proxy.databases().view().clients("later").is_some_and(|clients| clients.len() == 1));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!later.is_finished());
    assert_eq!(cell(&mut console, "DATABASES", ("name", "later"), "paused").as_deref(), Some("1"));
    assert_eq!(console.query("RESUME").unwrap().tags, ["RESUME"]);
    assert_eq!(later.join().unwrap(), "2");
    assert_eq!(PgClient::connect(port, "web", "last", "").unwrap().query("SELECT 3").unwrap().value(), "3");
}
