//! Header fields (RFC 9110, 5; RFC 9112, 5), those for one connection only among them (RFC 9110, 7.6.1).

use super::super::row::{Meaning, Row, SMUGGLED, get, post};
use super::{BAD, BAD_OR_LARGE};

/// Fields with their values.
type Expected = &'static [(&'static str, &'static str)];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = grammar();
    rows.extend(sizes());
    rows.extend(hop_by_hop());
    rows
}

fn grammar() -> Vec<Row> {
    const CLASS: &str = "fields";
    let mut rows = Vec::new();
    let refused: &[(&str, &str)] = &[
        ("folded by a space", "X: y\r\n z\r\n"),
        ("folded by a tab", "X: y\r\n\tz\r\n"),
        ("space before the first", " X: y\r\n"),
        ("space before the colon", "X : y\r\n"),
        ("tab before the colon", "X\t: y\r\n"),
        ("no name", ": y\r\n"),
        ("no colon", "X\r\n"),
        ("space in the name", "X Y: z\r\n"),
        ("parenthesis in the name", "X(Y): z\r\n"),
        ("slash in the name", "X/Y: z\r\n"),
        ("NUL in the name", "X\0: y\r\n"),
        ("letter beyond ASCII in the name", "X\u{e9}: y\r\n"),
        ("delete in the name", "X\u{7f}: y\r\n"),
        ("NUL in the value", "X: y\0z\r\n"),
        ("bell in the value", "X: y\u{7}z\r\n"),
        ("escape in the value", "X: \u{1b}[2J\r\n"),
        ("delete in the value", "X: y\u{7f}z\r\n"),
    ];
    for (name, fields) in refused {
        rows.push(Row::refused(CLASS, name, BAD).send(get(fields)).send(SMUGGLED));
    }
    let forwarded: [(_, _, Expected); 6] = [
        ("empty value", "X-A:\r\n", &[("x-a", "")]),
        ("white space around", "X-A: \t y \t\r\n", &[("x-a", "y")]),
        ("no white space", "X-A:y\r\n", &[("x-a", "y")]),
        ("tab within", "X-A: y\tz\r\n", &[("x-a", "y\tz")]),
        ("every character of a name", "!#$%&'*+-.^_`|~09azAZ: y\r\n", &[]),
        ("colons in the value", "X-A: b:c:d\r\n", &[("x-a", "b:c:d")]),
    ];
    for (name, fields, has) in forwarded {
        rows.push(Row::forwarded(CLASS, name, Meaning::get().has(has)).send(get(fields)));
    }
    let high = b"GET /x HTTP/1.1\r\nHost: a.test\r\nX-A: \xe9\xff\r\n\r\n";
    rows.push(Row::either(CLASS, "bytes beyond ASCII in the value", BAD, Meaning::get()).send(high));
    rows
}

fn sizes() -> Vec<Row> {
    const CLASS: &str = "sizes";
    const LARGE: &[u16] = &[400, 431];
    let many = |count: usize| get(&(0..count).map(|at| format!("X-{at}: y\r\n")).collect::<String>());
    let field = |bytes: usize| get(&format!("X-A: {}\r\n", "y".repeat(bytes)));
    let head_only = |bytes: usize| format!("GET /x HTTP/1.1\r\nHost: a.test\r\nX-A: {}", "y".repeat(bytes));
    vec![
        Row::refused(CLASS, "a field of 100 kB", LARGE).send(field(100_000)),
        Row::refused(CLASS, "a name of 100 kB", LARGE).send(get(&format!("{}: y\r\n", "X".repeat(100_000)))),
        Row::refused(CLASS, "2,000 fields", LARGE).send(many(2000)),
        Row::refused(CLASS, "a head of 100 kB that does not end", LARGE).send(head_only(100_000)),
        Row::refused(CLASS, "100 kB of empty lines", BAD_OR_LARGE).send("\r\n".repeat(50_000)).send(" "),
        Row::forwarded(CLASS, "a field of 6 kB", Meaning::get()).send(field(6000)),
        Row::forwarded(CLASS, "50 fields", Meaning::get()).send(many(50)),
    ]
}

fn hop_by_hop() -> Vec<Row> {
    const CLASS: &str = "hop_by_hop";
    let row = |name, meaning: Meaning, fields: &str| Row::forwarded(CLASS, name, meaning).send(get(fields));
    let body =
        |name, fields: &str, body: &str| Row::either(CLASS, name, BAD, Meaning::post("abc")).send(post(fields, body));
    let chunked = "3\r\nabc\r\n0\r\n\r\n";
    vec![
        row("listed field", Meaning::get().lacks(&["x-a"]), "Connection: X-A\r\nX-A: secret\r\n"),
        row("listed fields", Meaning::get().lacks(&["x-a", "x-b"]), "Connection: x-a , X-B\r\nX-A: 1\r\nX-B: 2\r\n"),
        row(
            "two lists",
            Meaning::get().lacks(&["x-a", "x-b"]),
            "Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2\r\n",
        ),
        row("list after the field", Meaning::get().lacks(&["x-a"]), "X-A: secret\r\nConnection: keep-alive, X-A\r\n"),
        row("Keep-Alive", Meaning::get().lacks(&["keep-alive"]), "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"),
        row("Proxy-Connection", Meaning::get().lacks(&["proxy-connection"]), "Proxy-Connection: keep-alive\r\n"),
        row("TE that is not for the upstream", Meaning::get().lacks_text(&["gzip"]), "Connection: TE\r\nTE: gzip\r\n"),
        Row::either(CLASS, "lists Host", BAD, Meaning::get()).send(get("Connection: Host\r\n")),
        row(
            "lists a field that the gateway sets",
            Meaning::get().has(&[("x-forwarded-for", "")]),
            "Connection: X-Forwarded-For\r\n",
        ),
        body("lists Content-Length", "Connection: Content-Length\r\nContent-Length: 3\r\n", "abc"),
        body("lists Transfer-Encoding", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", chunked),
        row(
            "forged client address",
            Meaning::get().lacks_text(&["6.6.6.6"]),
            "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n",
        ),
        row("forged Forwarded", Meaning::get().lacks_text(&["6.6.6.6"]), "Forwarded: for=6.6.6.6;proto=https\r\n"),
    ]
}
