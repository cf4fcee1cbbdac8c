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
    let large = client.command(&[b"AUTH".to_vec(), vec![b'x'; 20_000]]).expect("an answer");
    assert_eq!(error(&large), "NOAUTH Authentication required.");
    assert_eq!(error(&ask(&mut client, "GET k")), "NOAUTH Authentication required.");
    assert_eq!(ask(&mut client, "AUTH 0123456789abcdef"), ok());
    assert_eq!(ask(&mut client, "SET k v"), ok());
    let mut other = crate::site::client(&params);
    assert!(matches!(ask(&mut other, "HELLO 3 AUTH default 0123456789abcdef SETNAME me"), Reply::Map(_)));
    assert_eq!(ask(&mut other, "CLIENT GETNAME"), bulk("me"));
    assert_eq!(ask(&mut other, "GET nothing"), Reply::Null);
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
    for head in ["POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut browser = client(&params);
        browser.send(format!("{head}SET k v\r\n").as_bytes()).expect("a request");
        while let Ok(reply) = browser.read() {
            assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
        }
    }
    assert_eq!(ask(&mut client(&params), "EXISTS k"), Reply::Integer(0));
}

#[test]
fn lines_are_taken_from_people() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut person: RespClient = client(&params);
    person.send(b"SET k v\r\nGET k\n\r\nPING\r\n").expect("lines");
    let replies: Vec<_> = (0..3).map(|_| person.read().expect("an answer")).collect();
    assert_eq!(replies, [ok(), bulk("v"), Reply::Simple("PONG".to_owned())]);
}
