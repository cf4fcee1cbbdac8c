//! `LISTEN` and `NOTIFY` in transaction mode: one connection listens for all.

use std::time::{Duration, Instant};

use testkit::{PgAnswer, PgClient, PgMessage, PgMessages};

use crate::cancels::signal;
use crate::proxy::Proxy;

/// What a notification says: the process, the channel, the payload.
pub(crate) type Heard = (i32, String, String);

fn read(message: &PgMessage) -> Heard {
    assert_eq!(message.tag, b'A', "{message:?}");
    let pid = i32::from_be_bytes(message.body[..4].try_into().unwrap());
    let mut texts = message.body[4..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    (pid, texts.next().unwrap(), texts.next().unwrap())
}

/// The next message, which is a notification.
pub(crate) fn heard(client: &mut PgClient) -> Heard {
    read(&client.message().unwrap())
}

pub(crate) fn run(client: &mut PgClient, text: &str) -> PgAnswer {
    let answer = client.query(text).unwrap();
    assert_eq!(answer.code(), "", "{text}: {answer:?}");
    answer
}

/// Nothing has come: what comes next is the answer to a question.
pub(crate) fn hears_nothing(client: &mut PgClient) {
    assert_eq!(client.query("SELECT 1").unwrap().kinds, "TDCZ");
}

/// Who listens at the server, by what the connections call themselves.
fn listeners(proxy: &Proxy) -> usize {
    let text = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenfold listener'";
    proxy.postgres.sql(0, text).unwrap()[0].parse().unwrap()
}

#[test]
fn clients_hear_what_they_listen_to() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(run(client, "LISTEN news").tags, ["LISTEN"]);
    }
    let mut other = proxy.client();
    assert_eq!(run(&mut other, "NOTIFY news, 'first'").tags, ["NOTIFY"]);
    run(&mut other, "NOTIFY elsewhere, 'for nobody'");
    run(&mut other, "BEGIN; NOTIFY news, 'second'; NOTIFY news, 'second'; NOTIFY news, 'third'; COMMIT");
    for client in &mut clients {
        for text in ["first", "second", "third"] {
            assert_eq!(heard(client), (other.key.0, "news".to_owned(), text.to_owned()));
        }
        hears_nothing(client);
    }
    // Its own, by its own number, whichever way it says it.
    let mut one = clients.pop().unwrap();
    let notify =
        PgMessages::default().parse("", "SELECT pg_notify($1, $2)").bind("", &["news", "mine"]).execute().sync();
    let said = one.ask(&notify).unwrap().kinds + &run(&mut one, "SELECT 'it is told before or after this'").kinds;
    let pid = one.key.0;
    if !said.contains('A') {
        assert_eq!(heard(&mut one), (pid, "news".to_owned(), "mine".to_owned()));
    }
    assert_eq!(heard(&mut clients[0]), (pid, "news".to_owned(), "mine".to_owned()));
    // From somebody who does not come through Tenfold.
    proxy.postgres.sql(0, "NOTIFY news, 'direct'").unwrap();
    assert_eq!(heard(&mut one).2, "direct");
    assert_eq!((proxy.database().pinned, listeners(&proxy)), (0, 1));
    assert!(proxy.backends() <= 2);
    // Names that need quotes, by messages of their own.
    let listen = PgMessages::default().parse("s", "LISTEN \"A \"\" b\"").bind("s", &[]).execute().sync();
    let answer = one.ask(&listen).unwrap();
    assert_eq!((answer.kinds.as_str(), answer.tags), ("12CZ", vec!["LISTEN".to_owned()]));
    run(&mut other, "NOTIFY \"A \"\" b\"");
    assert_eq!(heard(&mut one), (other.key.0, "A \" b".to_owned(), String::new()));
    assert_eq!(run(&mut one, "UNLISTEN news").tags, ["UNLISTEN"]);
    run(&mut other, "NOTIFY news");
    run(&mut other, "NOTIFY \"A \"\" b\", 'still'");
    assert_eq!(heard(&mut one).2, "still");
    run(&mut one, "UNLISTEN *");
    run(&mut other, "NOTIFY \"A \"\" b\"");
    hears_nothing(&mut one);
    drop((clients, one, other));
    proxy.check_accounts();
}

#[test]
fn listening_is_a_matter_of_transactions() {
    let proxy = Proxy::start(|params| params.pool.size = 3);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    let mut notify = |channel: &str, text: &str| run(&mut other, &format!("NOTIFY {channel}, '{text}'"));
    run(&mut one, "BEGIN");
    run(&mut one, "LISTEN a");
    notify("a", "too early");
    run(&mut one, "COMMIT");
    notify("a", "heard");
    assert_eq!(heard(&mut one).2, "heard");
    for text in ["BEGIN", "LISTEN b", "UNLISTEN a", "ROLLBACK"] {
        run(&mut one, text);
    }
    notify("b", "not heard");
    notify("a", "heard still");
    assert_eq!(heard(&mut one).2, "heard still");
    for text in ["BEGIN", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO s", "LISTEN c", "SAVEPOINT t", "LISTEN d"] {
        run(&mut one, text);
    }
    for text in ["RELEASE t", "COMMIT"] {
        run(&mut one, text);
    }
    for channel in ["b", "c", "d"] {
        notify(channel, channel);
    }
    assert_eq!((heard(&mut one).2, heard(&mut one).2), ("c".to_owned(), "d".to_owned()));
    // What fails is as if it was not said; what is said within a transaction is not told before its end.
    run(&mut one, "BEGIN");
    run(&mut one, "LISTEN e");
    assert_eq!(one.query("SELECT 1 / 0").unwrap().code(), "22012");
    assert_eq!(one.query("LISTEN e").unwrap().code(), "25P02");
    assert_eq!(run(&mut one, "COMMIT").tags, ["ROLLBACK"]);
    notify("e", "not heard");
    run(&mut one, "BEGIN");
    notify("a", "while it is busy");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(run(&mut one, "SELECT 2").kinds, "TDCZ");
    assert_eq!(run(&mut one, "COMMIT").kinds, "CAZ");
    // A group of messages is a transaction of its own.
    let failing = PgMessages::default().parse("", "LISTEN f").bind("", &[]).execute();
    let failing = failing.parse("", "SELECT 1 / 0").bind("", &[]).execute().sync();
    assert_eq!(one.ask(&failing).unwrap().code(), "22012");
    notify("f", "not heard");
    for text in ["BEGIN", "LISTEN g"] {
        run(&mut one, text);
    }
    assert_eq!(one.query("PREPARE TRANSACTION 'two'").unwrap().code(), "0A000");
    run(&mut one, "ROLLBACK");
    run(&mut one, "DISCARD ALL");
    notify("a", "not heard");
    hears_nothing(&mut one);
    assert_eq!(proxy.database().pinned, 0);
    drop((one, other));
    proxy.check_accounts();
}

#[test]
fn whoever_keeps_its_connection_hears_by_it() {
    let proxy = Proxy::start(|params| params.pool.size = 3);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    run(&mut one, "LISTEN a");
    // A session that is pinned afterwards goes on hearing by the shared connection, while it is idle.
    run(&mut one, "CREATE TEMP TABLE mine (a int)");
    run(&mut other, "NOTIFY a, 'shared'");
    assert_eq!(heard(&mut one).2, "shared");
    // What it listens to from now on is its own connection's business; nothing is told twice.
    run(&mut one, "LISTEN a; LISTEN b");
    run(&mut other, "NOTIFY a, 'own'");
    run(&mut other, "NOTIFY b, 'own, too'");
    assert_eq!((heard(&mut one).2, heard(&mut one).2), ("own".to_owned(), "own, too".to_owned()));
    run(&mut one, "UNLISTEN a");
    run(&mut other, "NOTIFY a, 'not heard'");
    hears_nothing(&mut one);
    // A string of several statements pins.
    let mut two = proxy.client();
    run(&mut two, "SELECT 1; LISTEN a");
    assert!(proxy.database().pins.contains(&("listen", 1)));
    run(&mut other, "NOTIFY a, 'pinned'");
    assert_eq!(heard(&mut two).2, "pinned");
    drop((one, two, other));
    proxy.check_accounts();
}

#[test]
fn a_lost_listener_ends_those_who_listen_and_nobody_else() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two, mut other) = (proxy.client(), proxy.client(), proxy.client());
    run(&mut one, "LISTEN a");
    run(&mut two, "LISTEN b");
    let text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenfold listener'";
    assert_eq!(proxy.postgres.sql(0, text).unwrap(), ["t"]);
    for client in [&mut one, &mut two] {
        let told = client.message().unwrap();
        assert_eq!((told.tag, told.field(b'C').as_str(), told.field(b'S').as_str()), (b'E', "57P01", "FATAL"));
        assert!(told.field(b'M').contains("may have been missed"), "{}", told.field(b'M'));
        assert!(client.message().is_err(), "the connection ends");
    }
    hears_nothing(&mut other);
    // Who comes back listens by another connection.
    let mut one = proxy.client();
    run(&mut one, "LISTEN a");
    run(&mut other, "NOTIFY a, 'again'");
    assert_eq!(heard(&mut one).2, "again");
    assert_eq!(listeners(&proxy), 1);
    drop((one, other));
    proxy.check_accounts();
}

#[test]
fn slow_readers_are_cut_and_others_hear_on() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 3;
        params.listen.notifications_max = 50;
    });
    let (mut slow, mut fast, mut other) = (proxy.client(), proxy.client(), proxy.client());
    run(&mut slow, "LISTEN a");
    run(&mut fast, "LISTEN a");
    // Within a transaction it is told nothing.
    run(&mut slow, "BEGIN");
    for number in 0..60 {
        run(&mut other, &format!("NOTIFY a, '{number}'"));
        assert_eq!(heard(&mut fast).2, number.to_string());
    }
    let told = slow.message().unwrap();
    assert_eq!((told.tag, told.field(b'C').as_str()), (b'E', "54000"));
    run(&mut other, "NOTIFY a, 'on'");
    assert_eq!(heard(&mut fast).2, "on");
    drop((slow, fast, other));
    proxy.check_accounts();
}

#[test]
fn nobody_misses_what_came_after_its_listen() {
    let proxy = Proxy::start(|params| params.pool.size = 4);
    let port = proxy.port;
    let until = Instant::now() + Duration::from_secs(3);
    let rounds: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|number| {
                scope.spawn(move || {
                    let mut rounds = 0;
                    while Instant::now() < until {
                        let mut one = PgClient::connect(port, "web", "shop", "").unwrap();
                        let mut other = PgClient::connect(port, "web", "shop", "").unwrap();
                        let channel = format!("c{}", rounds % 3);
                        run(&mut one, &format!("LISTEN {channel}"));
                        let text = format!("{number}:{rounds}");
                        run(&mut other, &format!("NOTIFY {channel}, '{text}'"));
                        while heard(&mut one).2 != text {}
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(rounds > 20, "{rounds}");
    assert_eq!(proxy.database().pinned, 0);
    proxy.check_accounts();
}

#[test]
fn sharing_can_be_turned_off() {
    let proxy = Proxy::start(|params| params.listen.shared = false);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    run(&mut one, "LISTEN a");
    assert_eq!((proxy.database().pinned, listeners(&proxy)), (1, 0));
    run(&mut other, "NOTIFY a, 'own'");
    assert_eq!(heard(&mut one).2, "own");
    drop((one, other));
    proxy.check_accounts();
}

/// Whether a session is told within some time that it has missed something.
fn is_told(client: &mut PgClient) -> Duration {
    let begun = Instant::now();
    let told = client.message().unwrap();
    assert_eq!((told.tag, told.field(b'C').as_str()), (b'E', "57P01"), "{told:?}");
    begun.elapsed()
}

#[test]
fn a_server_that_is_silent_is_asked_whether_it_is_there() {
    let mut proxy = Proxy::start(|params| params.timeouts.connect = Duration::from_secs(1));
    let mut one = proxy.client();
    run(&mut one, "LISTEN a");
    // Nothing says that it is gone: no connection ends.
    proxy.postgres.hang(0).unwrap();
    let time = is_told(&mut one);
    proxy.postgres.go_on(0).unwrap();
    assert!(time < Duration::from_secs(12), "{time:?}");
}

#[test]
fn whatever_else_happens_a_server_that_does_not_answer_is_noticed() {
    let mut proxy = Proxy::start(|params| params.timeouts.connect = Duration::from_secs(1));
    let mut others: Vec<_> = (0..60).map(|_| proxy.client()).collect();
    for (number, other) in others.iter_mut().enumerate() {
        run(other, &format!("LISTEN c{number}"));
    }
    let mut one = proxy.client();
    run(&mut one, "LISTEN a");
    proxy.postgres.hang(0).unwrap();
    // The ends of sessions are things to do for whoever listens, more often than it looks at the time.
    let ends = std::thread::spawn(move || {
        for other in others {
            std::thread::sleep(Duration::from_millis(150));
            drop(other);
        }
    });
    let time = is_told(&mut one);
    proxy.postgres.go_on(0).unwrap();
    assert!(time < Duration::from_secs(5), "{time:?}");
    ends.join().unwrap();
}

#[test]
fn those_who_hear_an_old_primary_all_the_time_are_told_of_the_new_one() {
    let options = testkit::PostgresOptions { replicas: 1, ..testkit::PostgresOptions::default() };
    let proxy = crate::replicas::cluster(&options, |_| ());
    let mut one = proxy.client();
    run(&mut one, "LISTEN a");
    let mut old = PgClient::connect(proxy.postgres.port(0), "postgres", "postgres", "").unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                run(&mut old, "NOTIFY a");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(heard(&mut one).1, "a");
        proxy.postgres.promote(1).unwrap();
        let begun = Instant::now();
        let told = loop {
            let message = one.message().unwrap();
            if message.tag != b'A' || begun.elapsed() > Duration::from_secs(10) {
                break message;
            }
        };
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!((told.tag, told.field(b'C').as_str()), (b'E', "57P01"), "{told:?}");
    });
}

#[test]
fn nothing_that_was_sent_behind_runs_before_it_is_listened_to() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let mut one = proxy.client();
    run(&mut one, "LISTEN a");
    one.ask(&PgMessages::default().parse("s", "LISTEN d").sync()).unwrap();
    let text = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tenfold listener'";
    let listener: i32 = proxy.postgres.sql(0, text).unwrap()[0].parse().unwrap();
    let time = "SELECT extract(epoch FROM clock_timestamp())";
    let ways = [
        (1, PgMessages::default().query("LISTEN b").query(time)),
        (1, PgMessages::default().parse("", "LISTEN c").bind("", &[]).execute().sync().query(time)),
        (1, PgMessages::default().bind("s", &[]).execute().sync().query(time)),
        (3, PgMessages::default().query("BEGIN").query("LISTEN e").query("COMMIT").query(time)),
    ];
    for (answers, messages) in ways {
        // It is listened to a while later.
        signal(listener, "-STOP");
        one.send(&messages.0).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let begins = proxy.postgres.sql(0, time).unwrap()[0].clone();
        signal(listener, "-CONT");
        for _ in 0..answers {
            assert_eq!(one.answer().unwrap().code(), "");
        }
        let ran = one.answer().unwrap();
        assert!(ran.value().parse::<f64>().unwrap() > begins.parse().unwrap(), "{ran:?}: it listens after {begins}");
    }
    drop(one);
    proxy.check_accounts();
}

#[test]
fn what_is_listened_to_again_is_never_missed() {
    let proxy = Proxy::start(|params| params.pool.size = 3);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    run(&mut one, "LISTEN a");
    run(&mut one, "LISTEN b");
    for text in ["BEGIN", "UNLISTEN *", "LISTEN a"] {
        run(&mut one, text);
    }
    run(&mut other, "NOTIFY a, 'before the commit'");
    run(&mut other, "NOTIFY b, 'before the commit'");
    std::thread::sleep(Duration::from_millis(200));
    // Of what is not listened to any more, nothing is told.
    assert_eq!(run(&mut one, "COMMIT").kinds, "CAZ");
    run(&mut other, "NOTIFY b, 'not heard'");
    run(&mut other, "NOTIFY a, 'after it'");
    assert_eq!(heard(&mut one).2, "after it");
    hears_nothing(&mut one);
}

#[test]
fn channels_are_bounded_within_a_transaction_too() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    run(&mut other, "LISTEN steady");
    run(&mut one, "BEGIN");
    for _ in 0..3 {
        run(&mut one, "LISTEN again");
    }
    let mut refused = 0;
    for number in 0..101 {
        let mut messages = PgMessages::default();
        for at in 0..100 {
            messages = messages.parse("", &format!("LISTEN c{number}_{at}")).bind("", &[]).execute();
        }
        let answer = one.ask(&messages.sync()).unwrap();
        refused += usize::from(answer.code() == "54000");
        if refused > 0 {
            break;
        }
    }
    assert_eq!(refused, 1);
    run(&mut one, "ROLLBACK");
    // As many as may be are listened to, and whoever came before hears on.
    run(&mut one, "BEGIN");
    for number in 0..99 {
        let mut messages = PgMessages::default();
        for at in 0..100 {
            messages = messages.parse("", &format!("LISTEN c{number}_{at}")).bind("", &[]).execute();
        }
        assert_eq!(one.ask(&messages.sync()).unwrap().code(), "");
    }
    run(&mut one, "COMMIT");
    proxy.postgres.sql(0, "NOTIFY c98_99, 'the last one'; NOTIFY steady, 'on'").unwrap();
    assert_eq!((heard(&mut one).2, heard(&mut other).2), ("the last one".to_owned(), "on".to_owned()));
}

#[test]
fn rows_are_copied_in_by_who_has_begun_to_listen() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    proxy.postgres.sql(0, "CREATE TABLE t (a int)").unwrap();
    let mut one = proxy.client();
    let messages = PgMessages::default().query("BEGIN").query("LISTEN a").query("COPY t FROM STDIN");
    let messages = messages.raw(b'd', b"1\n2\n").raw(b'c', &[]).query("COMMIT").query("SELECT sum(a) FROM t");
    one.send(&messages.0).unwrap();
    let tags: Vec<_> = (0..4).flat_map(|_| one.answer().unwrap().tags).collect();
    assert_eq!(tags, ["BEGIN", "LISTEN", "COPY 2", "COMMIT"]);
    assert_eq!(one.answer().unwrap().value(), "3");
    proxy.postgres.sql(0, "NOTIFY a, 'heard'").unwrap();
    assert_eq!(heard(&mut one).2, "heard");
}

#[test]
fn what_comes_while_something_of_ours_is_asked_is_told() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 4;
        params.mode = pgproxy::Mode::Session;
    });
    // What it began with is set again after each reset, by a question of ours.
    let parameters = [("user", "web"), ("database", "shop"), ("options", "-c work_mem=5MB -c extra_float_digits=2")];
    let mut one = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
    let mut other = proxy.client();
    run(&mut one, "LISTEN news");
    const COUNT: usize = 1000;
    let texts = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                run(&mut other, &format!("NOTIFY news, '{number}'"));
            }
            run(&mut other, "NOTIFY news, 'end'");
        });
        let mut texts = Vec::new();
        while texts.last().is_none_or(|text| text != "end") {
            one.send(&PgMessages::default().query("RESET ALL").0).unwrap();
            loop {
                let message = one.message().unwrap();
                match message.tag {
                    b'A' => texts.push(read(&message).2),
                    b'Z' => break,
                    _ => {}
                }
            }
        }
        texts
    });
    let all: Vec<_> = (0..COUNT).map(|number| number.to_string()).chain(["end".to_owned()]).collect();
    assert!(texts == all, "{} of {} came, or in another order", texts.len(), all.len());
    assert_eq!(one.query("SHOW work_mem").unwrap().value(), "5MB");
    drop((one, other));
    proxy.check_accounts();
}
