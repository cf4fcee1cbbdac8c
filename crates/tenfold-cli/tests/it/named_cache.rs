//! Named caches of a running process: by hand, through reloads and upgrades, and as clients in other languages see them.

use std::net::SocketAddr;
use std::process::{Command, Output};

use testkit::{Reply, RespClient, Tenfold, free_port};

use crate::site::{apply, command, page, start};

/// A configuration with the cache `sessions` at a port, and `more` in its table.
fn config(port: u16, more: &str) -> String {
    let admin = free_port();
    format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n[cache.sessions]\nlisten = \"127.0.0.1:{port}\"\n{more}\n")
}

fn client(port: u16) -> RespClient {
    RespClient::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap()
}

fn ask(client: &mut RespClient, words: &str) -> Reply {
    client.command(&words.split(' ').collect::<Vec<_>>()).unwrap()
}

fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

/// What `tenfold cache` says of this site.
fn cache(site: &Tenfold, arguments: &[&str]) -> Output {
    command().arg("cache").args(arguments).arg("--config").arg(site.config()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn by_hand_a_cache_is_looked_into_and_purged() {
    let port = free_port();
    let site = start(&config(port, "memory = \"8MiB\""));
    let mut client = client(port);
    assert_eq!(ask(&mut client, "SET user:7/a hello EX 100"), ok());
    assert_eq!(ask(&mut client, "SET page one TAGS 1 t"), ok());
    assert_eq!(client.command(&[&b"SET"[..], b"binary", b"\xff\0"]).unwrap(), ok());
    let list = said(&cache(&site, &["list"]));
    assert!(list.contains("sessions") && list.contains(&format!("127.0.0.1:{port}")), "{list}");
    let listed = page(&site, "/api/caches");
    assert_eq!((&listed[0]["entries"], &listed[0]["memory_bytes_max"]), (&3.into(), &(8 << 20).into()));
    assert_eq!(said(&cache(&site, &["get", "sessions", "user:7/a"])), "hello\n");
    assert!(said(&cache(&site, &["get", "sessions", "binary"])).contains("2 bytes that are no short text"));
    assert!(!cache(&site, &["get", "sessions", "nothing"]).status.success());
    assert_eq!(said(&cache(&site, &["del", "sessions", "user:7/a"])), "removed\n");
    assert_eq!(said(&cache(&site, &["del", "sessions", "user:7/a"])), "it was not there\n");
    assert_eq!(said(&cache(&site, &["del", "sessions", "--tag", "t"])), "removed\n");
    assert_eq!(ask(&mut client, "EXISTS user:7/a page binary"), Reply::Integer(1));
    assert_eq!(said(&cache(&site, &["del", "sessions", "--everything"])), "removed\n");
    assert_eq!(ask(&mut client, "DBSIZE"), Reply::Integer(0));
    assert!(said(&cache(&site, &["del", "nope", "--everything"])).contains("no cache is named \"nope\""));
    let row = ["cache=\"sessions\"", "command=\"set\""];
    assert_eq!(site.metric("named_cache_commands_total", &row).unwrap(), 3.0);
    assert_eq!(site.metric("named_cache_connections", &["cache=\"sessions\""]).unwrap(), 1.0);
}

#[test]
fn a_reload_changes_caches_by_name() {
    let (port, other) = (free_port(), free_port());
    let first = config(port, "");
    let mut site = start(&first);
    let mut kept = client(port);
    assert_eq!(ask(&mut kept, "SET k v"), ok());
    apply(&mut site, &format!("{first}ttl = \"1m\"\n[cache.pages]\nlisten = \"127.0.0.1:{other}\"\n"));
    assert_eq!(ask(&mut client(other), "GET k"), Reply::Null);
    assert_eq!(ask(&mut kept, "GET k"), bulk("v"));
    assert_eq!(ask(&mut kept, "SET l w"), ok());
    assert!(matches!(ask(&mut kept, "TTL l"), Reply::Integer(1..=60)));
    // What cannot be had changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    site.reload(&format!("{first}[cache.more]\nlisten = \"{address}\"\n")).unwrap();
    site.wait_until("refused", |site| Ok(crate::site::reloads(site, "failure") > 0.0)).unwrap();
    assert_eq!(ask(&mut client(other), "PING"), Reply::Simple("PONG".to_owned()));
    apply(&mut site, &first);
    RespClient::connect(SocketAddr::from(([127, 0, 0, 1], other))).unwrap_err();
    assert_eq!(ask(&mut kept, "GET k"), bulk("v"));
}

#[test]
fn an_upgrade_hands_the_socket_on_and_begins_empty() {
    let port = free_port();
    let mut site = start(&config(port, ""));
    let mut before = client(port);
    assert_eq!(ask(&mut before, "SET k v"), ok());
    let output = command().args(["upgrade", "--wait", "20s", "--config"]).arg(site.config()).output().unwrap();
    assert!(output.status.success(), "{}{}", said(&output), site.output());
    site.succeeded_by(u32::try_from(page(&site, "/api/status")["pid"].as_u64().unwrap()).unwrap());
    before.is_closed().unwrap();
    assert_eq!(ask(&mut client(port), "GET k"), Reply::Null);
}

/// Runs a program with the port and what else it is told, and has its complaint if it fails.
fn run(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask install` installs it"));
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

const PYTHON: &str = r#"
import sys, threading, redis
port, password = int(sys.argv[1]), sys.argv[2]
r = redis.Redis(port=port, password=password, client_name="test", decode_responses=True)
assert r.ping() and r.client_getname() == "test"
assert r.set("k", "v", ex=100) and r.get("k") == "v" and 50 < r.ttl("k") <= 100
assert r.set("k", "w", nx=True) is None and r.set("k", "w", xx=True, get=True) == "v"
assert r.mset({"a": 1, "b": 2}) and r.mget("a", "b", "nothing") == ["1", "2", None]
assert r.incr("n") == 1 and r.incrby("n", 5) == 6 and r.decr("n") == 5
assert r.getdel("a") == "1" and r.exists("a", "b") == 1 and r.delete("b", "a") == 1
assert r.expire("n", 50) and r.persist("n") and r.ttl("n") == -1 and r.type("n") == "string"
assert r.setnx("n", 1) is False and r.setex("s", 100, "x") and r.getset("s", "y") == "x"
assert r.getex("s", px=50000) == "y" and 0 < r.pttl("s") <= 50000
with r.pipeline(transaction=False) as p:
    for number in range(1000):
        p.set("p%d" % number, "x" * number)
    assert all(p.execute())
assert r.strlen("p999") == 999
assert redis.Redis(port=port, password=password).get("p3") == b"xxx"
assert r.execute_command("SET", "page", "html", "TAGS", 1, "product:7")
assert r.execute_command("TENFOLD.INVALIDATE", "product:7") and r.get("page") is None
assert r.info()["redis_version"] and r.dbsize() > 900 and r.config_get("maxmemory")["maxmemory"] == str(8 << 20)
try:
    r.hset("h", "f", "v"); raise SystemExit("a hash was taken")
except redis.exceptions.ResponseError as error:
    assert "unknown command 'HSET'" in str(error), error
try:
    redis.Redis(port=port, password="wrong").ping(); raise SystemExit("a stranger was let in")
except redis.exceptions.RedisError as error:
    assert "WRONGPASS" in str(error), error
def count():
    for _ in range(200): r.incr("threads")
threads = [threading.Thread(target=count) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert r.get("threads") == "1600" and r.flushall() and r.dbsize() == 0
"#;

const NODE: &str = r#"
const { createClient } = require("redis");
const assert = require("assert");
(async () => {
  const client = createClient({ url: `redis://:${process.argv[2]}@127.0.0.1:${process.argv[1]}`, name: "test" });
  client.on("error", (error) => { console.error(error); process.exit(1); });
  await client.connect();
  assert.equal(await client.set("k", "v", { EX: 100, NX: true }), "OK");
  assert.equal(await client.set("k", "w", { NX: true }), null);
  assert.equal(await client.get("k"), "v");
  const many = await Promise.all([...Array(1000).keys()].map((n) => client.set(`p${n}`, String(n))));
  assert(many.every((one) => one === "OK"));
  assert.deepEqual(await client.mGet(["p1", "nothing", "p999"]), ["1", null, "999"]);
  assert.equal(await client.incrBy("n", 41), 41);
  assert.equal(await client.expire("n", 100), true);
  const left = await client.ttl("n");
  assert(left > 50 && left <= 100, left);
  assert.equal(await client.sendCommand(["SET", "page", "html", "TAGS", "1", "t"]), "OK");
  assert.equal(await client.sendCommand(["TENFOLD.INVALIDATE", "t"]), "OK");
  assert.equal(await client.exists(["page", "k"]), 1);
  await assert.rejects(client.hSet("h", "f", "v"), /unknown command 'HSET'/);
  assert.equal(await client.del("k"), 1);
  await client.quit();
})();
"#;

const PASSWORD: &str = "0123456789abcdef";

#[test]
fn clients_in_other_languages_find_what_they_know() {
    let port = free_port();
    let site = start(&config(port, &format!("memory = \"8MiB\"\npassword = \"{PASSWORD}\"")));
    let text = port.to_string();
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", PYTHON, &text, PASSWORD]);
    run(&mut python);
    let mut node = Command::new("node");
    node.args(["-e", NODE, &text, PASSWORD]).env("NODE_PATH", "/usr/share/nodejs");
    run(&mut node);
    let cli = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &text]).args(arguments).env("REDISCLI_AUTH", PASSWORD);
        run(&mut command)
    };
    assert_eq!(cli(&["SET", "k", "a b"]), "OK\n");
    assert_eq!(cli(&["-3", "GET", "k"]), "a b\n");
    assert_eq!(cli(&["TTL", "nothing"]), "-2\n");
    assert!(cli(&["INFO"]).contains("tenfold_cache:sessions"));
    let mut bench = Command::new("redis-benchmark");
    bench.args([
        "-p",
        &text,
        "-a",
        PASSWORD,
        "-q",
        "-n",
        "2000",
        "-c",
        "10",
        "-P",
        "8",
        "-t",
        "ping,set,get,incr,mset",
    ]);
    let told = run(&mut bench);
    assert!(told.contains("MSET") && !told.contains("rror"), "{told}");
    assert!(!site.output().contains(PASSWORD), "{}", site.output());
    assert_eq!(page(&site, "/api/config")["effective"]["cache"]["sessions"]["password"], "***");
}
