//! Which answers give a lease, and for how long.

use std::time::Duration;

use pgroute::lease::{Answer, LINE_BYTES_MAX, Lease, Target, read};

use Answer::{Holds, HoldsNot, Silence};

/// When each was sent, and what came of it.
type Questions = &'static [(u64, Answer)];

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

#[test]
fn a_lease_lasts_from_the_last_good_question_on() {
    // Questions by the time when they were sent, and what came of them; then the time at which the lease ends. It is good for 5 s.
    let table: &[(Questions, Option<u64>)] = &[
        (&[], None),
        (&[(1000, Silence)], None),
        (&[(1000, HoldsNot)], None),
        (&[(1000, Holds)], Some(6000)),
        (&[(1000, Holds), (2000, Holds)], Some(7000)),
        // Silence neither ends it nor makes it last.
        (&[(1000, Holds), (2000, Silence), (3000, Silence)], Some(6000)),
        (&[(1000, Holds), (2000, Silence), (9000, Holds)], Some(14_000)),
        // A no ends it, and another yes gives it again.
        (&[(1000, Holds), (2000, HoldsNot)], None),
        (&[(1000, Holds), (2000, HoldsNot), (2500, Silence)], None),
        (&[(1000, Holds), (2000, HoldsNot), (3000, Holds)], Some(8000)),
        // What was asked before counts for nothing.
        (&[(2000, HoldsNot), (1000, Holds)], None),
        (&[(2000, Holds), (1000, HoldsNot)], Some(7000)),
        (&[(2000, Holds), (1000, Holds)], Some(7000)),
    ];
    for (questions, until) in table {
        let mut lease = Lease::new(ms(5000));
        questions.iter().for_each(|(at, answer)| lease.answered(ms(*at), *answer));
        assert_eq!(lease.until(), until.map(ms), "{questions:?}");
        for now in (0..20_000).step_by(500) {
            assert_eq!(lease.holds(ms(now)), until.is_some_and(|until| now < until), "{questions:?} at {now}");
        }
    }
}

#[test]
fn only_a_whole_line_with_200_is_a_yes() {
    let table: &[(&[u8], Option<Answer>)] = &[
        (b"", None),
        (b"HTTP/1.1 200 OK", None),
        (b"HTTP/1.1 200 OK\r", None),
        (b"HTTP/1.1 200 OK\r\n", Some(Holds)),
        (b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n{}", Some(Holds)),
        (b"HTTP/1.1 200\r\n", Some(Holds)),
        (b"HTTP/1.1 200 \n", Some(Holds)),
        (b"HTTP/1.1 503 Service Unavailable\r\n", Some(HoldsNot)),
        (b"HTTP/1.1 404\r\n", Some(HoldsNot)),
        (b"HTTP/1.1 302 Found\r\nLocation: /200\r\n", Some(HoldsNot)),
        (b"HTTP/1.1 204 No Content\r\n", Some(HoldsNot)),
        (b"HTTP/1.1 2000 OK\r\n", Some(Silence)),
        (b"HTTP/1.1 20\r\n", Some(Silence)),
        (b"HTTP/1.1  200 OK\r\n", Some(Silence)),
        (b"HTTP/2 200\r\n", Some(Silence)),
        (b"200 OK\r\n", Some(Silence)),
        (b"\r\nHTTP/1.1 200 OK\r\n", Some(Silence)),
    ];
    for (bytes, answer) in table {
        assert_eq!(read(bytes), *answer, "{:?}", String::from_utf8_lossy(bytes));
    }
    let long = [&b"HTTP/1.1 200 "[..], &vec![b'x'; LINE_BYTES_MAX], b"\r\n"].concat();
    assert_eq!(read(&long), Some(Silence));
}

#[test]
fn a_url_leads_to_the_server_s_host() {
    let to = |url: &str, host: &str| {
        let target = Target::new(url, host, 5432)?;
        let request = String::from_utf8(target.request()).unwrap();
        assert!(request.ends_with("\r\n\r\n") && request.matches("\r\n\r\n").count() == 1, "{request:?}");
        let mut lines = request.split("\r\n");
        let lines = format!("{} {}", lines.next().unwrap(), lines.next().unwrap());
        Some((format!("{} {}", target.host, target.port), lines))
    };
    let found = |at: &str, asked: &str| Some((at.to_owned(), asked.to_owned()));
    assert_eq!(
        to("http://{host}:8008/primary", "db1.example.com"),
        found("db1.example.com 8008", "GET /primary HTTP/1.1 Host: db1.example.com:8008")
    );
    assert_eq!(
        to("http://{host}:8008/primary", "2001:db8::1"),
        found("2001:db8::1 8008", "GET /primary HTTP/1.1 Host: [2001:db8::1]:8008")
    );
    assert_eq!(to("http://{host}", "2001:db8::1"), found("2001:db8::1 80", "GET / HTTP/1.1 Host: [2001:db8::1]"));
    assert_eq!(
        to("http://keys.example.com?of={host}:{port}", "db1"),
        found("keys.example.com 80", "GET /?of=db1:5432 HTTP/1.1 Host: keys.example.com")
    );
    let wrong =
        ["https://{host}/", "http://", "http:///x", "http://{host}:0/", "http://{host}:99999/", "http://a@{host}/"];
    for url in wrong.iter().chain(&["http://{host}/{role}", "http://{host}/a b", "http://[{host}/", "{host}:8008"]) {
        assert_eq!(to(url, "db1"), None, "{url}");
    }
    assert_eq!(to("http://{host}/", "db1\r\nX: y"), None);
}
