//! What happens on a connection over time: pipelining, halves of requests, Expect, upgrades.

use testkit::Step;

use super::super::row::{Answer, Meaning, OK, Row, SMUGGLED, get, post};
use super::{BAD, BAD_OR_UNKNOWN};

const LENGTH_3: &str = "Content-Length: 3\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = pipelining();
    rows.extend(halves());
    rows.extend(expect());
    rows.extend(upgrades());
    rows
}

fn pipelining() -> Vec<Row> {
    const CLASS: &str = "pipelining";
    let second = "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let chunked = post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n");
    let both = |first| vec![first, Meaning::of("GET", "/second")];
    let bodies = format!("{}{}", post(LENGTH_3, "abc"), post(LENGTH_3, "def"));
    vec![
        Row::all_forwarded(CLASS, "two in one write", both(Meaning::get())).send(get("") + second),
        Row::all_forwarded(CLASS, "after a body", both(Meaning::post("abc"))).send(post(LENGTH_3, "abc") + second),
        Row::all_forwarded(CLASS, "after chunks", both(Meaning::post("abc"))).send(chunked.clone() + second),
        Row::all_forwarded(CLASS, "two bodies", vec![Meaning::post("abc"), Meaning::post("def")]).send(bodies),
        Row::all_forwarded(CLASS, "cut within the second", both(Meaning::get()))
            .send(get("") + &second[..20])
            .pause(50)
            .send(&second[20..]),
        Row::all_forwarded(CLASS, "a body that is a request", both(Meaning::post(SMUGGLED)))
            .send(post(&format!("Content-Length: {}\r\n", SMUGGLED.len()), SMUGGLED) + second),
        Row::then(CLASS, "malformed second", Meaning::get(), BAD).send(get("") + "GET  / HTTP/1.1\r\n\r\n" + SMUGGLED),
        Row::then(CLASS, "garbage after chunks", Meaning::post("abc"), BAD).send(chunked + "GARBAGE\r\n\r\n"),
        Row::then(CLASS, "longer than its length", Meaning::post("abc"), BAD).send(post(LENGTH_3, "abcdef\r\n\r\n")),
        Row::then(CLASS, "after Connection: close", Meaning::get(), &[]).send(get("Connection: close\r\n") + SMUGGLED),
        Row::then(CLASS, "after close in a list", Meaning::get(), &[]).send(get("Connection: x, Close\r\n") + SMUGGLED),
        Row::then(CLASS, "after HTTP/1.0", Meaning::get(), &[])
            .send("GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n".to_owned() + SMUGGLED),
    ]
}

fn halves() -> Vec<Row> {
    const CLASS: &str = "halves";
    let mut bytewise = Row::forwarded(CLASS, "head byte by byte", Meaning::get());
    for byte in get("").bytes() {
        bytewise = bytewise.send([byte]).pause(1);
    }
    vec![
        bytewise,
        Row::forwarded(CLASS, "cut within CRLF CRLF", Meaning::post("abc"))
            .send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r")
            .pause(50)
            .send("\na")
            .pause(50)
            .send("bc"),
        Row::forwarded(CLASS, "client finishes after its request", Meaning::get()).send(get("")).finish(),
        Row::dropped(CLASS, "silent within the head").send("GET /x HTTP/1.1\r\nHost: a"),
        Row::dropped(CLASS, "silent within the body").send(post("Content-Length: 10\r\n", "abc")),
        Row::dropped(CLASS, "ends within the head").send("GET /x HTTP/1.1\r\nHost: a.test\r\n").finish(),
        Row::dropped(CLASS, "ends within the body").send(post("Content-Length: 10\r\n", "abc")).finish(),
        Row::dropped(CLASS, "one letter").send("G").finish(),
    ]
}

fn expect() -> Vec<Row> {
    const CLASS: &str = "expect";
    let head = |fields: &str| post(&format!("{fields}{LENGTH_3}"), "");
    let refusal = "HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    vec![
        Row::forwarded(CLASS, "body later", Meaning::post("abc"))
            .send(head("Expect: 100-continue\r\n"))
            .pause(200)
            .send("abc"),
        Row::forwarded(CLASS, "body at once", Meaning::post("abc")).send(head("Expect: 100-continue\r\n") + "abc"),
        Row::forwarded(CLASS, "other case", Meaning::post("abc")).send(head("expect: 100-Continue\r\n") + "abc"),
        Row::forwarded(CLASS, "without a body", Meaning::get()).send(get("Expect: 100-continue\r\n")),
        Row::either(CLASS, "another expectation", &[400, 417], Meaning::post("abc"))
            .send(head("Expect: tea\r\n") + "abc"),
        Row::answers(CLASS, "refused by the upstream", vec![Answer::of("POST", &[413], Some("no"))])
            .send(head("Expect: 100-continue\r\n"))
            .script([Step::AwaitHead, Step::Send(refusal.into()), Step::Close]),
        Row::all_forwarded(CLASS, "then another", vec![Meaning::post("abc"), Meaning::of("GET", "/second")])
            .send(head("Expect: 100-continue\r\n"))
            .pause(200)
            .send("abcGET /second HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ]
}

fn upgrades() -> Vec<Row> {
    const CLASS: &str = "upgrades";
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    vec![
        Row::answers(CLASS, "websocket", vec![Answer::of("GET", &[101], None)]).send(get(websocket)).script([
            Step::AwaitHead,
            Step::Send(switching.into()),
            Step::Close,
        ]),
        Row::either(CLASS, "with a body", BAD_OR_UNKNOWN, Meaning::post("abc"))
            .send(post(&format!("{websocket}{LENGTH_3}"), "abc")),
        Row::either(CLASS, "with chunks", BAD_OR_UNKNOWN, Meaning::post("abc"))
            .send(post(&format!("{websocket}Transfer-Encoding: chunked\r\n"), "3\r\nabc\r\n0\r\n\r\n")),
        Row::either(CLASS, "to HTTP/2", BAD_OR_UNKNOWN, Meaning::get().lacks(&["http2-settings"]).lacks_text(&["h2c"]))
            .send(get(h2c)),
        Row::forwarded(CLASS, "not listed in Connection", Meaning::get().lacks(&["upgrade"]))
            .send(get("Upgrade: websocket\r\n")),
        Row::forwarded(CLASS, "HTTP/1.0", Meaning::get().lacks(&["upgrade"]))
            .send("GET /x HTTP/1.0\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        // A request behind one that asks for an upgrade is HTTP unless the upgrade was granted.
        Row::isolated(CLASS, "not granted, with a request behind", 200, &["/x", "/second"])
            .send(get(websocket) + "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .script([Step::AwaitRequest, Step::Send(OK.into()), Step::Repeat]),
        Row::answer(CLASS, "granted though nobody asked", Answer::bad_gateway(), switching),
    ]
}
