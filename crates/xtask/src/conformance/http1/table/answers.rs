//! Responses of upstreams, which are no more to be trusted than requests.

use testkit::Step;

use super::super::row::{Answer, OK, Row, post};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = refused();
    rows.extend(broken());
    rows.extend(relayed());
    rows.extend(without_body());
    rows.extend(early());
    rows
}

fn refused() -> Vec<Row> {
    const CLASS: &str = "invalid_answers";
    let mut rows = Vec::new();
    let fields: &[(&str, &str)] = &[
        ("two different lengths", "Content-Length: 2\r\nContent-Length: 3\r\n"),
        ("length with a plus sign", "Content-Length: +2\r\n"),
        ("length that is no number", "Content-Length: two\r\n"),
        ("length below zero", "Content-Length: -1\r\n"),
        ("length beyond 64 bits", "Content-Length: 99999999999999999999999\r\n"),
        ("unknown coding", "Transfer-Encoding: xchunked\r\n"),
        ("chunked not last", "Transfer-Encoding: chunked, gzip\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
        ("coding with space before the colon", "Content-Length: 2\r\nTransfer-Encoding : chunked\r\n"),
        ("bare LF", "X: y\nContent-Length: 2\r\n"),
        ("split by a bare CR", "X: y\rSet-Cookie: a=b\r\nContent-Length: 2\r\n"),
        ("folded field", "X: y\r\n z\r\nContent-Length: 2\r\n"),
        ("NUL in a value", "X: y\0\r\nContent-Length: 2\r\n"),
        ("space in a name", "X Y: z\r\nContent-Length: 2\r\n"),
        ("field without colon", "X\r\nContent-Length: 2\r\n"),
        ("field without name", ": y\r\nContent-Length: 2\r\n"),
    ];
    for (name, fields) in fields {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\nok");
        rows.push(Row::answer(CLASS, name, Answer::bad_gateway(), response));
    }
    let lines: &[(&str, &str)] = &[
        ("two digits", "HTTP/1.1 20 OK"),
        ("four digits", "HTTP/1.1 2000 OK"),
        ("no digits", "HTTP/1.1 abc OK"),
        ("no status", "HTTP/1.1"),
        ("status 099", "HTTP/1.1 099 OK"),
        ("two spaces", "HTTP/1.1  200 OK"),
        ("HTTP/2", "HTTP/2 200 OK"),
        ("other protocol", "ICY 200 OK"),
        ("NUL in the reason", "HTTP/1.1 200 O\0K"),
        ("bare CR in the reason", "HTTP/1.1 200 O\rK"),
        ("no HTTP at all", "Welcome"),
    ];
    for (name, line) in lines {
        let response = format!("{line}\r\nContent-Length: 2\r\n\r\nok");
        rows.push(Row::answer(CLASS, name, Answer::bad_gateway(), response));
    }
    rows.push(Row::answer(CLASS, "nothing", Answer::bad_gateway(), ""));
    rows.push(Row::answer(CLASS, "ends within the head", Answer::bad_gateway(), "HTTP/1.1 200 OK\r\nContent-Le"));
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "y".repeat(100_000));
    rows.push(Row::answer(CLASS, "a field of 100 kB", Answer::bad_gateway(), large));
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(100_000));
    rows.push(Row::answer(CLASS, "a head that does not end", Answer::bad_gateway(), endless));
    rows
}

fn broken() -> Vec<Row> {
    const CLASS: &str = "broken_answers";
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let reset = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    vec![
        Row::broken(CLASS, "shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
        Row::broken(CLASS, "no last chunk", chunked("3\r\nabc\r\n")),
        Row::broken(CLASS, "ends within a chunk", chunked("5\r\nabc")),
        Row::broken(CLASS, "bad chunk size", chunked("3\r\nabc\r\nxyz\r\n")),
        Row::broken(CLASS, "chunk size beyond 64 bits", chunked("3\r\nabc\r\nFFFFFFFFFFFFFFFFF\r\nabc")),
        Row::broken(CLASS, "bare LF after a chunk size", chunked("3\r\nabc\r\n3\nabc\r\n0\r\n\r\n")),
        Row::broken(CLASS, "no CRLF after the data", chunked("3\r\nabcd\r\n0\r\n\r\n")),
        Row::broken(CLASS, "bare LF in a trailer", chunked("3\r\nabc\r\n0\r\nX: y\nZ: z\r\n\r\n")),
        Row::broken(CLASS, "reset within the body", reset).script([
            Step::AwaitRequest,
            Step::Send(reset.into()),
            Step::Pause(std::time::Duration::from_millis(50)),
            Step::Reset,
        ]),
    ]
}

fn relayed() -> Vec<Row> {
    const CLASS: &str = "answers";
    let row = |name, answer: Answer, response: &str| Row::answer(CLASS, name, answer, response);
    let ok = |body| Answer::get(&[200], body);
    vec![
        row("length", ok("ok"), OK),
        row("until close", ok("until close"), "HTTP/1.1 200 OK\r\n\r\nuntil close"),
        row("HTTP/1.0", ok("old"), "HTTP/1.0 200 OK\r\n\r\nold"),
        row(
            "chunks",
            ok("abcde"),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        ),
        row(
            "trailers",
            ok("abc"),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
        row(
            "chunk extensions",
            ok("abc"),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
        ),
        row("no reason", ok("ok"), "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"),
        row("unknown status", Answer::get(&[599], "ok"), "HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nok"),
        row("interim before", ok("ok"), &format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}")),
        row("continue that nobody asked for", ok("ok"), &format!("HTTP/1.1 100 Continue\r\n\r\n{OK}")),
        row("several interim", ok("ok"), &format!("{}{OK}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(3))),
        row(
            "fields for the connection",
            ok("ok").lacks(&["keep-alive", "x-a", "proxy-connection"]),
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-A\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
             X-A: secret\r\nContent-Length: 2\r\n\r\nok",
        ),
        row(
            "length and chunks",
            Answer::of("GET", &[200, 502], None),
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        row(
            "two equal lengths",
            Answer::of("GET", &[200, 502], None),
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        ),
        row(
            "chunks in HTTP/1.0",
            Answer::of("GET", &[200, 502], None),
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
    ]
}

/// Answers without a body, and bytes behind answers: what an upstream sends too much belongs to nobody, least of all to
/// the next request on its connection.
fn without_body() -> Vec<Row> {
    const CLASS: &str = "surplus";
    let stolen = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
    let second = "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let surplus = |name, method, statuses, response: &str| {
        let answers = vec![Answer::of(method, statuses, None), Answer::get(&[200], "ok")];
        let first = format!("{method} /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
        Row::answers(CLASS, name, answers).send(first).pause(100).send(second).script([
            Step::AwaitRequest,
            Step::SendFor("/x".into(), format!("{response}{stolen}").into_bytes()),
            Step::SendFor("/second".into(), OK.into()),
            Step::Repeat,
        ])
    };
    let alone = |name, answer: Answer, response: &str| Row::answer(CLASS, name, answer, response);
    vec![
        surplus("HEAD with a body", "HEAD", &[200], "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"),
        surplus("HEAD with chunks", "HEAD", &[200], "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        surplus("304 with a body", "GET", &[304], "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n"),
        surplus("204 with a body", "GET", &[204], "HTTP/1.1 204 No Content\r\n\r\n"),
        surplus("longer than its length", "GET", &[200], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
        surplus(
            "after the last chunk",
            "GET",
            &[200],
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        alone(
            "HEAD with a length",
            Answer::of("HEAD", &[200], Some("")),
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        ),
        alone("HEAD until close", Answer::of("HEAD", &[200], Some("")), "HTTP/1.1 200 OK\r\n\r\n"),
        alone("304 with a length", Answer::get(&[304], ""), "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        alone(
            "204 with a length",
            Answer::of("GET", &[204, 502], None),
            "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
        ),
    ]
}

/// Answers that come while the request's body is still on its way.
fn early() -> Vec<Row> {
    const CLASS: &str = "early_answers";
    let refusal = "HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    let keeps = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let rest = format!("{smuggled}{}", "x".repeat(100 - smuggled.len() - 10));
    vec![
        Row::answers(CLASS, "refused before the body", vec![Answer::of("POST", &[413], Some("no"))])
            .send(post("Content-Length: 100000\r\n", "abc"))
            .script([Step::AwaitHead, Step::Send(refusal.into()), Step::Close]),
        Row::answers(CLASS, "refused within the body", vec![Answer::of("POST", &[413], Some("no"))])
            .send(post("Content-Length: 200000\r\n", &"x".repeat(50_000)))
            .script([Step::AwaitBytes(20_000), Step::Send(refusal.into()), Step::Close]),
        Row::isolated(CLASS, "answered before the rest of the body", 200, &["/x", "/second"])
            .send(post("Content-Length: 100\r\n", "0123456789"))
            .pause(100)
            .send(format!("{rest}GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .script([Step::AwaitHead, Step::Send(keeps.into()), Step::Repeat]),
    ]
}
