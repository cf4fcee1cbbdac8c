//! `LISTEN` amid what else a client says, and at its bounds.

use std::time::{Duration, Instant};

use testkit::PgMessages;

use crate::cancels::signal;
use crate::listen::{heard, hears_nothing, run};
use crate::proxy::Proxy;
use crate::replicas::call;

/// Channels of a session at most.
const CHANNELS_MAX: usize = 10_000;

#[test]
fn a_long_call_of_a_function_goes_through_behind_a_listen() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let mut one = proxy.client();
    run(&mut one, "BEGIN");
    run(&mut one, "LISTEN a");
    assert_eq!(call(&mut one, 256 * 1024), "262144");
    run(&mut one, "COMMIT");
    proxy.postgres.sql(0, "NOTIFY a, 'heard'").unwrap();
    assert_eq!(heard(&mut one).2, "heard");
    drop(one);
    proxy.check_accounts();
}

#[test]
fn whoever_listens_hears_so_before_what_it_has_sent_behind_has_a_backend() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    run(&mut one, "LISTEN a");
    let text = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tenfold listener'";
    let listener: i32 = proxy.postgres.sql(0, text).unwrap()[0].parse().unwrap();
    // While it is not listened to yet, somebody else takes the only backend.
    signal(listener, "-STOP");
    one.send(&PgMessages::default().query("LISTEN b").query("SELECT 2").0).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    run(&mut other, "BEGIN");
    signal(listener, "-CONT");
    let begun = Instant::now();
    assert_eq!(one.answer().unwrap().tags, ["LISTEN"]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    run(&mut other, "COMMIT");
    assert_eq!(one.answer().unwrap().value(), "2");
    drop((one, other));
    proxy.check_accounts();
}

#[test]
fn who_listens_to_as_much_as_may_be_can_say_it_again() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let mut one = proxy.client();
    for hundred in 0..CHANNELS_MAX / 100 {
        let messages = (0..100).fold(PgMessages::default(), |messages, at| {
            messages.parse("", &format!("LISTEN c{hundred}_{at}")).bind("", &[]).execute()
        });
        assert_eq!(one.ask(&messages.sync()).unwrap().code(), "");
    }
    assert_eq!(one.query("LISTEN another").unwrap().code(), "54000");
    assert_eq!(run(&mut one, "LISTEN c0_0").tags, ["LISTEN"]);
    run(&mut one, "UNLISTEN c0_0");
    assert_eq!(run(&mut one, "LISTEN another").tags, ["LISTEN"]);
    assert_eq!(one.query("LISTEN c0_0").unwrap().code(), "54000");
}

#[test]
fn what_is_said_between_savepoints_is_bounded_however_it_is_said() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let mut one = proxy.client();
    run(&mut one, "LISTEN steady");
    for (name, text) in [("s", "SAVEPOINT s"), ("l", "LISTEN a"), ("u", "UNLISTEN a")] {
        assert_eq!(one.ask(&PgMessages::default().parse(name, text).sync()).unwrap().code(), "");
    }
    run(&mut one, "BEGIN");
    let hundred = (0..50).fold(PgMessages::default(), |messages, _| {
        ["s", "l", "s", "u"].iter().fold(messages, |messages, name| messages.bind(name, &[]).execute())
    });
    let hundred = hundred.sync();
    let mut groups = 0;
    let code = loop {
        let answer = one.ask(&hundred).unwrap();
        if !answer.errors.is_empty() || groups > 20 {
            break answer.code().to_owned();
        }
        groups += 1;
    };
    assert_eq!((groups, code.as_str()), (10, "54000"));
    run(&mut one, "ROLLBACK");
    assert_eq!(run(&mut one, "LISTEN a").tags, ["LISTEN"]);
    proxy.postgres.sql(0, "NOTIFY a, 'heard'").unwrap();
    assert_eq!(heard(&mut one).2, "heard");
    drop(one);
    proxy.check_accounts();
}

#[test]
fn who_listens_is_told_what_the_server_says_of_its_words() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let mut one = proxy.client();
    let (long, cut) = ("x".repeat(70), "x".repeat(63));
    for text in [format!("LISTEN {long}"), format!("  listen {long};"), format!("/* listen */ LISTEN {cut}")] {
        let kinds = if text.contains(&long) { "NCZ" } else { "CZ" };
        let answer = run(&mut one, &text);
        assert_eq!((answer.kinds.as_str(), &answer.tags[0][..]), (kinds, "LISTEN"), "{text}");
        let prepared = one.ask(&PgMessages::default().parse("", &text).bind("", &[]).execute().sync()).unwrap();
        assert_eq!((prepared.code(), &prepared.tags[0][..]), ("", "LISTEN"), "{text}");
    }
    run(&mut proxy.client(), &format!("NOTIFY {cut}"));
    assert_eq!(heard(&mut one).1, cut);
    for text in ["LISTEN a b", "LISTEN a.b", "LISTEN 'a'"] {
        assert_eq!(one.query(text).unwrap().code(), "42601", "{text}");
    }
    hears_nothing(&mut one);
    drop(one);
    proxy.check_accounts();
}

#[test]
fn a_listen_that_its_backend_knows_waits_for_nothing_within_its_group() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    // As asyncpg does it: it looks at a statement before it runs it, and the group ends with that.
    let look = |text: &str| PgMessages::default().parse("s", text).describe("s").raw(b'H', &[]);
    let run = || PgMessages::default().bind("s", &[]).execute().sync();
    for round in 0..3 {
        let mut one = proxy.client();
        one.send(&look("LISTEN news").0).unwrap();
        let told: Vec<_> = (0..3).map(|_| char::from(one.message().unwrap().tag)).collect();
        assert_eq!(told, ['1', 't', 'n'], "{round}");
        assert_eq!(one.ask(&run()).unwrap().tags, ["LISTEN"], "{round}");
        let mut other = proxy.client();
        other.query(&format!("NOTIFY news, '{round}'")).unwrap();
        assert_eq!(heard(&mut one), (other.key.0, "news".to_owned(), round.to_string()));
    }
    proxy.check_accounts();
}
