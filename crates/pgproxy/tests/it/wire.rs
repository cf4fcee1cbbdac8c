//! Messages as drivers and strangers send them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pgproxy::ServerAddress;
use testkit::{PgClient, PgMessages};

use crate::proxy::Proxy;

#[test]
fn pipelines_are_answered_in_order() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int PRIMARY KEY)").unwrap();
    // Groups without waiting, one of which fails in its middle.
    let mut messages = PgMessages::default();
    for number in 0..100 {
        let value = if number == 50 { "0".to_owned() } else { number.to_string() };
        messages = messages.parse("", "INSERT INTO t VALUES ($1)").bind("", &[&value]).execute();
        messages = messages.parse("", "SELECT count(*) FROM t").bind("", &[]).execute().sync();
    }
    client.send(&messages.0).unwrap();
    for number in 0..100 {
        let answer = client.answer().unwrap();
        if number == 50 {
            assert_eq!((answer.kinds.as_str(), answer.code()), ("12EZ", "23505"));
        } else {
            assert_eq!(answer.kinds, "12C12DCZ");
            let count = if number < 50 { number + 1 } else { number };
            assert_eq!(answer.value(), count.to_string());
        }
    }
    // Simple queries without waiting.
    let messages = (0..50).fold(PgMessages::default(), |messages, number| messages.query(&format!("SELECT {number}")));
    client.send(&messages.0).unwrap();
    for number in 0..50 {
        assert_eq!(client.answer().unwrap().value(), number.to_string());
    }
    proxy.check_accounts();
}

#[test]
fn a_pipeline_that_nobody_reads_is_not_read_on() {
    let proxy = Proxy::start(|params| params.limits.pipeline_bytes_max = 64 * 1024);
    let mut client = proxy.client();
    // Far more than the bound, without a `Sync` that would have the server answer.
    let text = format!("SELECT '{}'", "x".repeat(1000));
    let mut messages = PgMessages::default().parse("s", &text);
    for _ in 0..3000 {
        messages = messages.raw(b'D', b"Ss\0").bind("s", &[]).execute();
    }
    let messages = messages.sync();
    let answer = std::thread::scope(|scope| {
        let mut writer = client.another_handle().unwrap();
        scope.spawn(move || writer.send(&messages.0).unwrap());
        client.answer().unwrap()
    });
    assert_eq!((answer.rows.len(), answer.code()), (3000, ""));
    proxy.check_accounts();
}

#[test]
fn messages_in_pieces_are_the_same_messages() {
    let proxy = Proxy::start(|_| ());
    let mut client = proxy.client();
    let long = "y".repeat(100_000);
    let messages = PgMessages::default()
        .parse("s", "SELECT length($1), $1")
        .bind("s", &[&long])
        .execute()
        .close("s")
        .sync()
        .query("SELECT 'after'");
    for piece in [1, 3, 1000, 65_537] {
        let end = if piece < 100 { 2000 } else { messages.0.len() };
        for part in messages.0[..end].chunks(piece) {
            client.send(part).unwrap();
        }
        client.send(&messages.0[end..]).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.kinds, "12DC3Z");
        assert_eq!(answer.rows, [[Some("100000".to_owned()), Some(long.clone())]]);
        assert_eq!(client.answer().unwrap().value(), "after");
    }
    proxy.check_accounts();
}

#[test]
fn copying_goes_both_ways_and_fails_well() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.query("CREATE TABLE t (a int)").unwrap();
    let rows = |count: usize| (0..count).map(|at| format!("{at}\n")).collect::<String>();
    let copy = |messages: PgMessages, text: &str| messages.raw(b'd', text.as_bytes());
    let begin = PgMessages::default().query("COPY t FROM STDIN");
    let good = copy(begin.clone(), &rows(10_000)).raw(b'c', b"");
    let answer = client.ask(&good).unwrap();
    assert_eq!((answer.kinds.as_str(), answer.tags), ("GCZ", vec!["COPY 10000".to_owned()]));
    assert_eq!(other.query("SELECT count(*) FROM t").unwrap().value(), "10000");
    let failed = client.ask(&copy(begin.clone(), "1\n").raw(b'f', b"enough\0")).unwrap();
    assert_eq!((failed.kinds.as_str(), failed.code()), ("GEZ", "57014"));
    // A row that is none: what the client still sends belongs to nothing.
    let bad = copy(copy(begin, "1\nnonsense\n"), &rows(1000)).raw(b'c', b"");
    let failed = client.ask(&bad).unwrap();
    assert_eq!((failed.kinds.as_str(), failed.code()), ("GEZ", "22P02"));
    let extended = PgMessages::default().parse("", "COPY t FROM STDIN").bind("", &[]).execute().sync();
    let answer = client.ask(&copy(extended, "7\n8\n").raw(b'c', b"").sync()).unwrap();
    assert_eq!((answer.kinds.as_str(), answer.code()), ("12GCZ", ""));
    assert_eq!(other.query("COPY t TO STDOUT").unwrap().kinds.matches('d').count(), 10_002);
    assert_eq!(client.query("SELECT count(*) FROM t").unwrap().value(), "10002");
    proxy.check_accounts();
}

#[test]
fn rows_go_behind_what_discards_in_the_same_query() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    for first in ["RESET ALL", "DEALLOCATE ALL", "DISCARD PLANS"] {
        let begin = PgMessages::default().query(&format!("{first}; COPY t FROM STDIN"));
        let copied = client.ask(&begin.raw(b'd', b"7\n").raw(b'c', b"")).unwrap();
        assert_eq!((copied.kinds.as_str(), copied.status), ("CGCZ", 'I'), "{first}");
    }
    assert_eq!(client.query("SELECT sum(a) FROM t").unwrap().value(), "21");
    proxy.check_accounts();
}

#[test]
fn what_runs_is_cancelled_and_nothing_else() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    // Nothing runs: nothing happens.
    one.cancel().unwrap();
    assert_eq!(one.query("SELECT 1").unwrap().value(), "1");
    for _ in 0..5 {
        one.send(&PgMessages::default().query("SELECT pg_sleep(30)").0).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        one.cancel().unwrap();
        let begun = Instant::now();
        let cancelled = one.answer().unwrap();
        assert_eq!((cancelled.code(), cancelled.status), ("57014", 'I'));
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(two.query("SELECT pg_sleep(0.02)").unwrap().code(), "");
    }
    // With a wrong secret nothing is cancelled.
    let mut wrong = proxy.client();
    wrong.key = (one.key.0, vec![0; 4]);
    one.send(&PgMessages::default().query("SELECT pg_sleep(0.3)").0).unwrap();
    wrong.cancel().unwrap();
    assert_eq!(one.answer().unwrap().code(), "");
    proxy.check_accounts();
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let proxy = Proxy::start(|params| params.pool.size = 3);
    proxy.psql("CREATE TABLE t (a int)");
    let begins: [(&str, PgMessages); 7] = [
        ("in a transaction", PgMessages::default().query("BEGIN; INSERT INTO t VALUES (1)")),
        ("in a failed one", PgMessages::default().query("BEGIN; SELECT 1 / 0")),
        ("in a statement", PgMessages::default().query("INSERT INTO t SELECT 1 FROM pg_sleep(30)")),
        ("in a result", PgMessages::default().query("SELECT repeat('x', 10000) FROM generate_series(1, 100000)")),
        ("in a copy", PgMessages::default().query("COPY t FROM STDIN").raw(b'd', b"1\n2\n")),
        ("in a group", PgMessages::default().parse("", "INSERT INTO t VALUES (1)").bind("", &[]).execute()),
        ("in a message", PgMessages(b"Q\0\0\x10\0SELECT".to_vec())),
    ];
    for round in 0..3 {
        for (what, messages) in &begins {
            let mut client = proxy.client();
            client.send(&messages.0).unwrap();
            if round > 0 {
                std::thread::sleep(Duration::from_millis(30));
            }
            drop(client);
            let mut next = proxy.client();
            assert_eq!(next.query("SELECT 'next'").unwrap().value(), "next", "after a client went {what}");
        }
    }
    proxy.check_accounts();
    assert_eq!(proxy.psql("SELECT count(*) FROM t"), "0");
    assert_eq!(proxy.view()[0].waiting, 0);
}

#[test]
fn what_is_no_message_ends_the_connection_and_harms_nobody() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 2;
        params.limits.statement_bytes_max = 10_000;
    });
    let mut other = proxy.client();
    let code = |mut client: PgClient| loop {
        match client.message() {
            Ok(message) if message.tag == b'E' => break message.field(b'C'),
            Ok(_) => {}
            Err(error) => panic!("no error was told: {error}"),
        }
    };
    let garbage: [(&[u8], &str); 6] = [
        (b"?\0\0\0\x04", "08P01"),
        (b"Q\0\0\0\x01", "08P01"),
        (b"Q\0\0\0\x09abcde", "08P01"),
        (b"p\0\0\0\x08abcd", "08P01"),
        (b"S\0\0\0\x05x", "54000"),
        (b"Q\x7f\0\0\0SELECT", "08P01"),
    ];
    for (bytes, expected) in garbage {
        let mut client = proxy.client();
        client.send(bytes).unwrap();
        assert_eq!(code(client), expected, "{bytes:?}");
        let mut client = proxy.client();
        client.query("BEGIN").unwrap();
        client.send(bytes).unwrap();
        assert_eq!(code(client), expected, "{bytes:?}");
        assert_eq!(other.query("SELECT 1").unwrap().value(), "1");
    }
    let mut client = proxy.client();
    client.send(&PgMessages::default().query(&format!("SELECT '{}'", "x".repeat(20_000))).0).unwrap();
    assert_eq!(code(client), "54000");
    let openings: [&[u8]; 6] = [
        b"\0\0\0\x08\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x03",
        b"\0\0\0\x10\0\x03\0\0user\0\0\0\0",
        b"\0\0\0\x09\0\x03\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in openings {
        let mut client = PgClient::begin(proxy.port).unwrap();
        client.send(bytes).unwrap();
        let code = code(client);
        assert!(["08P01", "0A000"].contains(&code.as_str()), "{bytes:?}: {code}");
    }
    drop(other);
    proxy.check_accounts();
}

#[test]
fn errors_leave_the_session_as_it_was() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    for _ in 0..3 {
        assert_eq!(one.query("SELECT nothing").unwrap().code(), "42703");
        assert_eq!(two.query("SELECT 1").unwrap().value(), "1");
        let failed =
            one.ask(&PgMessages::default().parse("s", "SELECT nothing").bind("s", &[]).execute().sync()).unwrap();
        assert_eq!((failed.kinds.as_str(), failed.code()), ("EZ", "42703"));
        // The name was not taken.
        let good = one.ask(&PgMessages::default().parse("s", "SELECT 2").bind("s", &[]).execute().close("s").sync());
        assert_eq!(good.unwrap().kinds, "12DC3Z");
    }
    // A group that fails keeps the names that it would have closed.
    one.ask(&PgMessages::default().parse("kept", "SELECT 3").sync()).unwrap();
    let failed = one.ask(&PgMessages::default().parse("", "nonsense").close("kept").sync()).unwrap();
    assert_eq!(failed.kinds, "EZ");
    assert_eq!(one.ask(&PgMessages::default().bind("kept", &[]).execute().sync()).unwrap().value(), "3");
    proxy.check_accounts();
}

#[test]
fn statements_and_transactions_have_their_times() {
    let proxy = Proxy::start(|params| {
        params.timeouts.statement = Some(Duration::from_millis(200));
        params.timeouts.idle_in_transaction = Some(Duration::from_millis(200));
    });
    let mut client = proxy.client();
    assert_eq!(client.query("SELECT pg_sleep(30)").unwrap().code(), "57014");
    assert_eq!(client.query("SELECT 1").unwrap().value(), "1");
    client.query("BEGIN").unwrap();
    let cut = client.message().unwrap();
    assert_eq!(cut.field(b'C'), "25P03");
    assert!(client.message().is_err());
    proxy.check_accounts();
}

/// What a server may say at any time.
const NOTICE: &[u8] = b"N\0\0\0\x1dSNOTICE\0C00000\0Mat last\0\0";

/// Copies what a server says. Behind an answer with a certain word it says something else, the beginning of it at once.
fn copy_with_pauses(mut server: TcpStream, mut proxy: TcpStream) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = server.read(&mut bytes)?;
        if count == 0 {
            return proxy.shutdown(std::net::Shutdown::Both);
        }
        if bytes[..count].windows(8).any(|word| word == b"cut here") {
            proxy.write_all(&[&bytes[..count], &NOTICE[..3]].concat())?;
            std::thread::sleep(Duration::from_millis(300));
            proxy.write_all(&NOTICE[3..])?;
        } else {
            proxy.write_all(&bytes[..count])?;
        }
    }
}

#[test]
fn a_backend_goes_on_to_nobody_in_the_middle_of_a_message() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        let ServerAddress::Tcp { port: server, .. } = &params.primary.address else { unreachable!() };
        let server = *server;
        // It ends with the test's process.
        std::thread::spawn(move || {
            while let Ok((mut proxy, _)) = listener.accept() {
                let mut server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (from, to) = (server.try_clone().unwrap(), proxy.try_clone().unwrap());
                std::thread::spawn(move || copy_with_pauses(from, to));
                std::thread::spawn(move || {
                    let copied = std::io::copy(&mut proxy, &mut server);
                    server.shutdown(std::net::Shutdown::Both).and(copied)
                });
            }
        });
        params.primary.address = ServerAddress::Tcp { host: "127.0.0.1".into(), port };
    });
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let pid = two.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    assert_eq!(one.query("SELECT 'cut here'").unwrap().value(), "cut here");
    assert_eq!(two.query("SELECT 2").unwrap().value(), "2");
    assert_eq!(one.message().unwrap().tag, b'N', "it came while the first one had it");
    assert_eq!(two.query("SELECT pg_backend_pid()").unwrap().value(), pid);
    // Who goes meanwhile takes it along.
    assert_eq!(one.query("SELECT 'cut here'").unwrap().value(), "cut here");
    drop(one);
    assert_eq!(two.query("SELECT 2").unwrap().value(), "2");
    drop(two);
    proxy.check_accounts();
}
