//! Lives of entries, of connections and of caches.

use std::time::Duration;

use testkit::{Reply, RespClient, free_port};

use crate::site::{Site, ask, bulk, client, ok, params};

#[test]
fn what_has_expired_is_not_found() {
    let params = params();
    let site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let set = std::time::Instant::now();
    assert_eq!(ask(&mut client, "SET k v PX 60"), ok());
    while ask(&mut client, "GET k") == bulk("v") {
        assert!(set.elapsed() < Duration::from_secs(60), "it does not expire");
    }
    assert!(set.elapsed() >= Duration::from_millis(60));
    assert_eq!(ask(&mut client, "TTL k"), Reply::Integer(-2));
    assert_eq!(site.shown("entries"), 0);
}

#[test]
fn lives_are_those_of_the_cache_where_none_is_said() {
    let mut params = params();
    params.ttl = Some(Duration::from_secs(1000));
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let mut ask = |words: &str| ask(&mut client, words);
    for words in ["SET a v", "SETNX b v", "MSET c v", "GETSET d v", "INCR e", "SET f v KEEPTTL"] {
        ask(words);
        let key = words.split(' ').nth(1).expect("a key");
        assert!(matches!(ask(&format!("TTL {key}")), Reply::Integer(980..=1000)), "{words}");
    }
    assert_eq!(ask("SET a v EX 100"), ok());
    assert_eq!(ask("SET a w KEEPTTL"), ok());
    assert!(matches!(ask("TTL a"), Reply::Integer(80..=100)));
    assert_eq!(ask("PERSIST a"), Reply::Integer(1));
    assert_eq!(ask("TTL a"), Reply::Integer(-1));
}

#[test]
fn a_reload_keeps_what_stays_and_ends_what_goes() {
    let first = params();
    let mut second = params();
    second.name = "second".parse().expect("a name");
    let mut site = Site::start(&[first.clone(), second.clone()]);
    let (mut one, mut two) = (client(&first), client(&second));
    assert_eq!(ask(&mut one, "SET k one"), ok());
    assert_eq!(ask(&mut two, "SET k two"), ok());
    // Other settings, and a listener more: what is kept stays, and so do connections.
    let mut changed = first.clone();
    changed.connections_max = 7;
    changed.ttl = Some(Duration::from_secs(5));
    changed.http = Some(([127, 0, 0, 1], free_port()).into());
    site.apply(&[changed.clone(), second.clone()]);
    assert_eq!(ask(&mut one, "GET k"), bulk("one"));
    assert_eq!(ask(&mut one, "CONFIG GET maxclients"), Reply::Array(vec![bulk("maxclients"), bulk("7")]));
    // One goes.
    site.apply(&[changed.clone()]);
    two.is_closed().expect("the end");
    RespClient::connect(second.listen.expect("an address")).expect_err("nobody listens");
    assert_eq!(ask(&mut one, "GET k"), bulk("one"));
    // Another one takes its address, and a cache moves.
    second.name = "third".parse().expect("a name");
    changed.listen = Some(([127, 0, 0, 1], free_port()).into());
    site.apply(&[changed.clone(), second.clone()]);
    one.is_closed().expect("the end");
    assert_eq!(ask(&mut client(&changed), "GET k"), bulk("one"));
    assert_eq!(ask(&mut client(&second), "GET k"), Reply::Null);
    // Two caches swap their addresses.
    std::mem::swap(&mut changed.listen, &mut second.listen);
    site.apply(&[changed.clone(), second.clone()]);
    assert_eq!(ask(&mut client(&changed), "GET k"), bulk("one"));
    assert_eq!(ask(&mut client(&second), "GET k"), Reply::Null);
    // Another size begins empty.
    changed.memory_bytes *= 2;
    site.apply(&[changed.clone()]);
    assert_eq!(ask(&mut client(&changed), "GET k"), Reply::Null);
}

#[test]
fn a_stop_answers_what_has_come() {
    let params = params();
    let mut site = Site::start(std::slice::from_ref(&params));
    let mut clients: Vec<_> = (0..20).map(|_| client(&params)).collect();
    let many = RespClient::encoded(&["INCR", "k"]).repeat(100);
    for client in &mut clients {
        assert!(matches!(ask(client, "PING"), Reply::Simple(_)));
        client.send(&many).expect("a pipeline");
        assert!(matches!(client.read(), Ok(Reply::Integer(_))));
    }
    assert_eq!(site.stop(Duration::from_secs(20)), 0);
    for client in &mut clients {
        for _ in 1..100 {
            assert!(matches!(client.read(), Ok(Reply::Integer(_))));
        }
        client.is_closed().expect("the end");
    }
}

#[test]
fn by_hand() {
    let params = params();
    let site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    assert_eq!(ask(&mut client, "SET a 1 EX 100"), ok());
    assert_eq!(ask(&mut client, "SET b 2 TAGS 1 t"), ok());
    assert_eq!(ask(&mut client, "SET c 3"), ok());
    let cache = site.view.named("main").expect("the cache");
    assert!(site.view.named("other").is_none());
    let found = cache.get(b"a").expect("a value");
    assert_eq!((&*found.value, found.ttl_millis.is_some_and(|left| left > 90_000)), (&b"1"[..], true));
    assert!(cache.delete(b"a") && !cache.delete(b"a"));
    cache.invalidate(b"t");
    assert_eq!(ask(&mut client, "EXISTS a b c"), Reply::Integer(1));
    site.view.named("main").expect("the cache").clear();
    assert_eq!(ask(&mut client, "DBSIZE"), Reply::Integer(0));
}
