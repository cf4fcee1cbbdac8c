use std::time::Duration;

use testkit::Step;
use testkit::http2::frame::{self, code, data, reset};

use super::super::row::{Act, Row, a_get, get, get_with, only, post};
use crate::conformance::http1::row::OK;

const CLASS: &str = "answers";

/// The strict reader judges the form of every answer; the rows make the upstream answer in ways that tempt to a wrong one.
pub(super) fn rows() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name);
    let by = |rule, name, answer: &str| row(rule, name).answered_by(answer).send(get(1));
    let head = only(&[(":method", "HEAD"), (":scheme", "http"), (":path", "/x"), (":authority", "a.test")]);
    let mut rows = vec![
        by("9113 8.2.2", "fields about the connection are left out", LOCAL).both().ok(1),
        by("9113 8.2", "names come in lower case", "HTTP/1.1 200 OK\r\nX-UPPER: 1\r\nContent-LENGTH: 2\r\n\r\nok")
            .ok(1),
        by("9113 8.1", "a body in chunks", CHUNKED).both().answered(1, 200, 5),
        by("9113 8.1", "trailers", TRAILERS).both().answered(1, 200, 3),
        by("9113 8.1", "interim answers", INTERIM).both().ok(1),
        by("9113 8.1", "no body with 204", "HTTP/1.1 204 No Content\r\n\r\n").answered(1, 204, 0),
        by("9113 8.1", "no body with 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
            .answered(1, 304, 0),
        row("9110 9.3.2", "no body for HEAD")
            .both()
            .answered_by("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            .send(head)
            .answered(1, 200, 0),
        by("9113 8.1", "an empty body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").answered(1, 200, 0),
        by("9113 8.1", "many fields", &many_fields()).ok(1),
        by("9113 8.4", "nothing is pushed for a link", LINK).both().settings(&[(2, 1)]).ok(1),
        row("9113 8.1", "a body that ends with its connection")
            .script([
                Step::AwaitRequest,
                Step::Send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_vec()),
                Step::Close,
            ])
            .send(get(1))
            .answered(1, 200, 13),
    ];
    rows.extend(early_ends());
    rows
}

fn early_ends() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name);
    let cut = |answer: &str| [Step::AwaitRequest, Step::Send(answer.into()), Step::Close];
    let broken: &[u32] = &[code::INTERNAL_ERROR, code::PROTOCOL_ERROR, code::CANCEL];
    vec![
        row("9113 8.1", "a body that breaks off is a reset")
            .both()
            .script(cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"))
            .send(get(1))
            .resets(1, broken),
        row("9113 8.1", "a body in chunks that breaks off is a reset")
            .script(cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"))
            .send(get(1))
            .resets(1, broken),
        row("9110 15.6.3", "an upstream that closes is a bad gateway")
            .both()
            .script([Step::AwaitRequest, Step::Close])
            .send(get(1))
            .answered(1, 502, None),
        row("9113 8.1", "an answer before the body has come")
            .script([Step::AwaitHead, Step::Send(OK.into()), Step::Drain])
            .send(post(1))
            .act(Act::End(1))
            .send(reset(1, code::NO_ERROR))
            .ok(1),
        row("9113 8.1", "a reset of an answer that is under way leaves others")
            .both()
            .answers_with(60_000)
            .settings(&[(4, 10)])
            .frames(&[get(1)])
            .act(Act::Exactly(1, 10))
            .frames(&[reset(1, code::CANCEL), get(3), frame::window(3, 100_000)])
            .answered(3, 200, 60_000),
        row("9113 8.1", "answers come as they are ready")
            .script([
                Step::AwaitRequest,
                Step::SendFor("/slow".into(), Vec::new()),
                Step::SendFor("/x".into(), OK.into()),
                Step::Repeat,
            ])
            .send(frame::headers(1, true, &slow()))
            .send(get(3))
            .act(Act::End(3))
            .answered(3, 200, 2),
        row("9113 8.1", "Expect: 100-continue is answered before the body comes")
            .script([
                Step::AwaitHead,
                Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
                Step::AwaitBytes(1),
                Step::Send(OK.into()),
                Step::Drain,
            ])
            .send(super::super::row::post_with(1, &[("content-length", "3"), ("expect", "100-continue")]))
            .act(Act::Pause(Duration::from_millis(100)))
            .send(data(1, true, b"abc"))
            .ok(1),
        row("9110 7.6.1", "fields of a request go on")
            .both()
            .send(get_with(&[("x-a", "1"), ("accept", "*/*")]))
            .ok(1)
            .reaches(&[a_get().has(&[("x-a", "1"), ("accept", "*/*")])]),
    ]
}

fn slow() -> Vec<u8> {
    testkit::http2::hpack::literals(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/slow"),
        (":authority", "a.test"),
    ])
}

fn many_fields() -> String {
    let fields: String = (0..60).map(|n| format!("X-Field-{n}: {}\r\n", "v".repeat(100))).collect();
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")
}

const LOCAL: &str = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
                     Content-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
const TRAILERS: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n";
const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n\
                       HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LINK: &str = "HTTP/1.1 200 OK\r\nLink: </a.css>; rel=preload; as=style\r\nContent-Length: 2\r\n\r\nok";
