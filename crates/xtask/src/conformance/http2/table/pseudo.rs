use testkit::http2::frame::{self, data};
use testkit::http2::hpack::{literal, literals};

use super::super::row::{Act, Row, a_get, get, get_of, get_with, only, post, pseudo};
use crate::conformance::http1::row::Meaning;

const CLASS: &str = "pseudo fields";
const RULE: &str = "9113 8.3.1";

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/x");
const AUTHORITY: (&str, &str) = (":authority", "a.test");

pub(super) fn rows() -> Vec<Row> {
    let mut rows = missing_or_twice();
    rows.extend(places());
    rows.extend(values());
    rows.extend(connects());
    rows
}

fn missing_or_twice() -> Vec<Row> {
    let row = |name| Row::new(CLASS, RULE, name);
    let without = |name, fields: &[(&str, &str)]| row(name).send(only(fields)).refused(1);
    let twice = |name, field| row(name).send(only(&[METHOD, SCHEME, PATH, AUTHORITY, field])).refused(1);
    vec![
        without("no method", &[SCHEME, PATH, AUTHORITY]).both(),
        without("no scheme", &[METHOD, PATH, AUTHORITY]).both(),
        without("no path", &[METHOD, SCHEME, AUTHORITY]).both(),
        without("no pseudo field at all", &[("host", "a.test")]),
        twice("two methods", METHOD).both(),
        twice("two methods that differ", (":method", "POST")),
        twice("two schemes", SCHEME).both(),
        twice("two paths", PATH).both(),
        twice("two paths that differ", (":path", "/y")),
        twice("two authorities", AUTHORITY).both(),
        row("no authority, but a host")
            .both()
            .send(only(&[METHOD, SCHEME, PATH, ("host", "a.test")]))
            .ok(1)
            .reaches(&[a_get()]),
        row("an authority and a host that agree").send(get_with(&[("host", "a.test")])).ok(1).reaches(&[a_get()]),
        row("an authority and a host that differ").both().send(get_with(&[("host", "b.test")])).refused(1),
        row("two hosts").send(get_with(&[("host", "a.test"), ("host", "a.test")])).refused(1),
    ]
}

fn places() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name);
    // The library drops them before anybody can see them, so that nothing of them goes on.
    let dropped = "h2 drops pseudo fields among trailers";
    let trailers = |name, field: (&str, &str)| {
        row("9113 8.1", name)
            .frames(&[post(1), data(1, false, b"abc"), frame::headers(1, true, &literals(&[field]))])
            .refused(1)
    };
    vec![
        row("9113 8.3", "an unknown one")
            .both()
            .send(get_with(&[]))
            .act(Act::End(1))
            .send(unknown())
            .refused(3)
            .ok(1)
            .reaches(&[a_get()]),
        row("9113 8.3", "that of an answer")
            .both()
            .send(only(&[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")]))
            .refused(1),
        row("9113 8.3", "the path behind a field")
            .both()
            .send(only(&[METHOD, SCHEME, AUTHORITY, ("x-a", "1"), PATH]))
            .refused(1),
        row("9113 8.3", "the method behind a field")
            .send(only(&[("x-a", "1"), METHOD, SCHEME, PATH, AUTHORITY]))
            .refused(1),
        row("9113 8.3", "the authority behind a field")
            .send(only(&[METHOD, SCHEME, PATH, ("x-a", "1"), AUTHORITY]))
            .refused(1),
        row("9113 8.3", "in another order").send(only(&[AUTHORITY, PATH, SCHEME, METHOD])).ok(1).reaches(&[a_get()]),
        trailers("a method among trailers", METHOD).both().deviates(dropped),
        trailers("a path among trailers", PATH).deviates(dropped),
        trailers("a status among trailers", (":status", "200")).deviates(dropped),
        trailers("an unknown one among trailers", (":x", "1")),
        row("9113 8.3", "a name that is a colon").send(only(&[METHOD, SCHEME, PATH, AUTHORITY, (":", "x")])).refused(1),
        row("9113 8.3", "in upper case").send(only(&[(":Method", "GET"), SCHEME, PATH, AUTHORITY])).refused(1),
    ]
}

fn unknown() -> Vec<u8> {
    frame::headers(3, true, &literals(&[METHOD, SCHEME, PATH, AUTHORITY, (":test", "1")]))
}

fn values() -> Vec<Row> {
    let row = |name| Row::new(CLASS, RULE, name);
    let path = |name, path: &str| row(name).send(only(&[METHOD, SCHEME, (":path", path), AUTHORITY]));
    let method = |name, method: &str| row(name).send(only(&[(":method", method), SCHEME, PATH, AUTHORITY]));
    let authority = |name, authority: &str| row(name).send(only(&[METHOD, SCHEME, PATH, (":authority", authority)]));
    let scheme = |name, scheme: &str| row(name).send(only(&[METHOD, (":scheme", scheme), PATH, AUTHORITY]));
    vec![
        path("an empty path", "").both().refused(1),
        path("a path without a slash", "x").refused(1),
        path("a path with a space", "/a b").refused(1),
        path("a path with a line end", "/x HTTP/1.1\r\nx-evil: 1\r\n\r\n").both().refused(1),
        path("a path with a NUL", "/\0").refused(1),
        path("a path with a query", "/x?a=1&b=/").ok(1).reaches(&[Meaning::of("GET", "/x?a=1&b=/")]),
        row("the asterisk of OPTIONS")
            .send(only(&[(":method", "OPTIONS"), SCHEME, (":path", "*"), AUTHORITY]))
            .ok(1)
            .reaches(&[Meaning::of("OPTIONS", "*")]),
        path("the asterisk of GET", "*").refused(1),
        method("an empty method", "").refused(1),
        method("a method with a space", "GET /evil").refused(1),
        method("a method with a line end", "GET\r\nx-evil: 1").both().refused(1),
        method("a method of one's own", "BREW").ok(1).reaches(&[Meaning::of("BREW", "/x")]),
        authority("an authority with a line end", "a.test\r\nx-evil: 1").both().refused(1),
        authority("an authority with a user", "user@a.test").refused(1),
        authority("an authority with a slash", "a.test/b").refused(1),
        authority("an authority with a port", "a.test:8080").ok(1).reaches(&[a_get().host(Some("a.test:8080"))]),
        scheme("an empty scheme", "").refused(1),
        scheme("a scheme with a space", "ht tp").refused(1),
        scheme("the scheme https", "https").both().ok(1).reaches(&[a_get()]),
    ]
}

fn connects() -> Vec<Row> {
    let row = |rule, name| Row::new("CONNECT", rule, name);
    let connect = (":method", "CONNECT");
    let websocket = (":protocol", "websocket");
    vec![
        // A gateway may refuse CONNECT, and has to when it contradicts itself.
        row("9113 8.5", "with a path").both().send(only(&[connect, PATH, AUTHORITY])).refused(1),
        row("9113 8.5", "with a scheme").send(only(&[connect, SCHEME, AUTHORITY])).refused(1),
        row("9113 8.5", "without an authority").send(only(&[connect])).refused(1),
        row("9113 8.5", "as it should be, which a gateway does not serve")
            .both()
            .send(only(&[connect, (":authority", "a.test:443")]))
            .send(get(3))
            .act(Act::End(3))
            .refused(1)
            .answered(3, 200, 2)
            .reaches(&[a_get()]),
        row("8441 4", "a protocol beside another method")
            .send(only(&[METHOD, SCHEME, PATH, AUTHORITY, websocket]))
            .refused(1),
        row("8441 4", "a protocol without a path").send(only(&[connect, SCHEME, AUTHORITY, websocket])).refused(1),
        row("8441 4", "a protocol without a scheme").send(only(&[connect, PATH, AUTHORITY, websocket])).refused(1),
        row("8441 4", "an unknown protocol")
            .send(only(&[connect, SCHEME, PATH, AUTHORITY, (":protocol", "carrier-pigeon")]))
            .refused(1),
        row("8441 4", "two protocols").send(only(&[connect, SCHEME, PATH, AUTHORITY, websocket, websocket])).refused(1),
        row("8441 4", "a protocol behind a field")
            .send(get_of([literals(&pseudo("CONNECT")), literal("x-a", "1"), literals(&[websocket])].concat()))
            .refused(1),
    ]
}
