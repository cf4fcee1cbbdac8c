//! Who may ask, and what clients say of themselves before they do.

use testkit::{Reply, RespClient};
use vocab::Secret;

use crate::site::{Site, ask, bulk, client, ok, params};

fn error(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn nothing_is_answered_before_the_password() {
    let mut params = params();
    params.password = Some(Secret::new("0123456789abcdef"));
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    for words in ["GET k", "SET k v", "PING", "FLUSHALL", "CLIENT ID", "INFO", "TENFOLD.INVALIDATE t"] {
        assert_eq!(error(&ask(&mut client, words)), "NOAUTH Authentication required.");
    }
    assert!(error(&ask(&mut client, "HELLO 3")).starts_with("NOAUTH HELLO"));
    for words in ["AUTH wrong", "AUTH default wrong", "AUTH other 0123456789abcdef", "HELLO 3 AUTH default wrong"] {
        assert!(error(&ask(&mut client, words)).starts_with("WRONGPASS"), "{words}");
    }
    assert_eq!(ask(&mut client, "AUTH 0123456789abcdef"), ok());
    assert_eq!(ask(&mut client, "SET k v"), ok());
    let mut other = crate::site::client(&params);
    assert!(matches!(ask(&mut other, "HELLO 3 AUTH default 0123456789abcdef SETNAME me"), Reply::Map(_)));
    assert_eq!(ask(&mut other, "CLIENT GETNAME"), bulk("me"));
    assert_eq!(ask(&mut other, "GET nothing"), Reply::Null);
}

#[test]
fn strangers_are_not_listened_to_for_long() {
    let mut params = params();
    params.password = Some(Secret::new("0123456789abcdef"));
    let _site = Site::start(std::slice::from_ref(&params));
    let part = |bytes: usize| format!("${bytes}\r\n{}\r\n", "x".repeat(bytes));
    let cases = [
        // Less comes than was announced, so that an answer tells that nobody waits for the rest.
        ("*2\r\n$4\r\nAUTH\r\n$20000\r\nxxx".to_owned(), "unauthenticated bulk length"),
        (format!("*4\r\n$4\r\nAUTH\r\n{0}{0}$16000\r\n", part(16_000)), "unauthenticated bulk length"),
        ("*11\r\n$4\r\nAUTH\r\n".to_owned(), "unauthenticated multibulk length"),
        ("x".repeat(40_000), "too big inline request"),
    ];
    for (bytes, why) in cases {
        let mut stranger = client(&params);
        stranger.send(bytes.as_bytes()).expect("bytes");
        assert_eq!(error(&stranger.read().expect("an answer")), format!("ERR Protocol error: {why}"));
        stranger.is_closed().expect("the end");
    }
    let mut friend = client(&params);
    assert_eq!(ask(&mut friend, "AUTH 0123456789abcdef"), ok());
    assert_eq!(ask(&mut friend, &format!("SET k {}", "v".repeat(100_000))), ok());
    assert_eq!(ask(&mut friend, &format!("EXISTS {}", "k ".repeat(100).trim())), Reply::Integer(100));
}

#[test]
fn clients_are_told_what_they_ask_before_they_begin() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let mut ask = |words: &str| ask(&mut client, words);
    assert!(matches!(ask("HELLO"), Reply::Array(parts) if parts.len() == 14 && parts[5] == Reply::Integer(2)));
    assert!(matches!(ask("HELLO 3"), Reply::Map(parts) if parts.len() == 14 && parts[5] == Reply::Integer(3)));
    assert_eq!(error(&ask("HELLO 4")), "NOPROTO unsupported protocol version");
    assert_eq!(ask("CLIENT SETNAME worker-1"), ok());
    assert_eq!(ask("CLIENT GETNAME"), bulk("worker-1"));
    assert_eq!(ask("CLIENT SETINFO LIB-NAME redis-py"), ok());
    assert_eq!(ask("CLIENT ID"), Reply::Integer(1));
    assert!(matches!(ask("COMMAND COUNT"), Reply::Integer(30..)));
    assert_eq!(ask("COMMAND DOCS"), Reply::Map(Vec::new()));
    assert!(matches!(ask("COMMAND"), Reply::Array(all) if all.len() > 30));
    assert!(matches!(ask("COMMAND INFO get nothing"), Reply::Array(two) if two[1] == Reply::Null));
    assert_eq!(ask("CONFIG GET save"), Reply::Map(vec![bulk("save"), bulk("")]));
    assert!(matches!(ask("CONFIG GET max* SAV?"), Reply::Map(parts) if parts.len() == 6));
    let many = format!("COMMAND INFO{}", " get".repeat(2000));
    assert!(error(&ask(&many)).contains("at most 1024"));
    assert!(matches!(ask("INFO"), Reply::Bulk(text) if String::from_utf8_lossy(&text).contains("redis_version:7.0.0")));
    for words in ["HSET k f v", "LPUSH k v", "MULTI", "SUBSCRIBE c", "CONFIG SET save x", "CLIENT TRACKING on"] {
        let reply = ask(words);
        let name = words.split(' ').next().expect("a word");
        assert!(error(&reply).starts_with("ERR unknown") && error(&reply).contains(name), "{words}: {reply:?}");
    }
    assert_eq!(ask("QUIT"), ok());
    client.is_closed().expect("the end");
}

#[test]
fn what_a_browser_can_be_made_to_send_is_not_run() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    assert_eq!(ask(&mut client(&params), "SET /page v"), ok());
    // Methods are a page's own choice where its name was made to point here.
    for method in ["POST /", "GET /", "DEL /page", "GETDEL", "SET /k", "MSET /k"] {
        let head = format!("{method} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut browser = client(&params);
        browser.send(format!("{head}SET k v\r\n").as_bytes()).expect("a request");
        while let Ok(reply) = browser.read() {
            assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
        }
    }
    assert_eq!(ask(&mut client(&params), "EXISTS k /k"), Reply::Integer(0));
    assert_eq!(ask(&mut client(&params), "GET /page"), bulk("v"));
    // As data it means nothing.
    assert_eq!(ask(&mut client(&params), "SET protocol HTTP/1.1"), ok());
}

#[test]
fn lines_are_taken_from_people() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut person: RespClient = client(&params);
    person.send(b"SET k v\r\nGET k\n\r\nSET k \"a b\"\r\nPING\r\n").expect("lines");
    let replies: Vec<_> = (0..4).map(|_| person.read().expect("an answer")).collect();
    let quotes = Reply::Error("ERR quotes in a line are not supported".to_owned());
    assert_eq!(replies, [ok(), bulk("v"), quotes, Reply::Simple("PONG".to_owned())]);
}
