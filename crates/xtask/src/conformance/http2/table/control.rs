use testkit::http2::frame::{self, code, continuation, data, flag, frame as any, goaway, kind, ping, priority, reset};

use super::super::row::{Act, Row, a_get, begun, get, get_block, post};
use super::{PROTOCOL, SIZE, SIZE_OR_PROTOCOL};
use crate::conformance::http1::row::Meaning;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = data_and_headers();
    rows.extend(priorities());
    rows.extend(resets_and_pushes());
    rows.extend(pings_and_goodbyes());
    rows.extend(continuations());
    rows
}

fn data_and_headers() -> Vec<Row> {
    let row = |rule, name| Row::new("DATA and HEADERS", rule, name);
    let end = flag::END_HEADERS | flag::END_STREAM;
    let padded = |padding: u8, zeros: usize| [&[padding][..], &get_block(&[]), &vec![0; zeros]].concat();
    let with_priority = |on: u32| [&on.to_be_bytes()[..], &[15], &get_block(&[])].concat();
    vec![
        row("9113 6.1", "a body on stream 0").both().send(data(0, true, b"abc")).ends(PROTOCOL),
        row("9113 6.1", "more padding than a body's frame has")
            .both()
            .frames(&[post(1), any(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &[5, 1, 2, 3, 4])])
            .ends(PROTOCOL),
        row("9113 6.1", "as much padding as a body's frame has, and one more")
            .frames(&[post(1), any(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &[1])])
            .ends(PROTOCOL),
        row("9113 6.1", "padding without its length")
            .frames(&[post(1), any(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &[])])
            .ends(SIZE_OR_PROTOCOL),
        row("9113 6.1", "a body with padding")
            .both()
            .frames(&[post(1), frame::padded_data(1, false, b"abc", 200), frame::padded_data(1, true, b"def", 0)])
            .ok(1)
            .reaches(&[Meaning::post("abcdef")]),
        row("9113 6.1", "a body of nothing but padding")
            .frames(&[post(1), frame::padded_data(1, true, &[], 255)])
            .ok(1)
            .reaches(&[Meaning::post("")]),
        row("9113 6.2", "a head with padding")
            .both()
            .send(any(kind::HEADERS, end | flag::PADDED, 1, &padded(40, 40)))
            .ok(1)
            .reaches(&[a_get()]),
        row("9113 6.2", "more padding than a head's frame has")
            .both()
            .send(any(kind::HEADERS, end | flag::PADDED, 1, &padded(255, 0)))
            .ends(PROTOCOL)
            .reaches(&[]),
        row("9113 6.2", "a head with a priority")
            .both()
            .send(any(kind::HEADERS, end | flag::PRIORITY, 1, &with_priority(0)))
            .ok(1)
            .reaches(&[a_get()]),
        row("9113 6.2", "a head with padding and a priority")
            .send(any(
                kind::HEADERS,
                end | flag::PRIORITY | flag::PADDED,
                1,
                &[&[3][..], &with_priority(1 << 31), &[0; 3]].concat(),
            ))
            .ok(1)
            .reaches(&[a_get()]),
        row("9113 6.2", "a head with a priority that is cut off")
            .send(any(kind::HEADERS, end | flag::PRIORITY, 1, &[0, 0, 0]))
            .resets(1, SIZE_OR_PROTOCOL),
        row("9113 6.2", "an empty head").send(frame::headers(1, true, &[])).refused(1),
    ]
}

fn priorities() -> Vec<Row> {
    let row = |rule, name| Row::new("PRIORITY", rule, name);
    let own = [&1_u32.to_be_bytes()[..], &[15], &get_block(&[])].concat();
    vec![
        row("7540 5.3.1", "a head that depends on its own stream")
            .both()
            .send(any(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY, 1, &own))
            .resets(1, PROTOCOL),
        row("7540 5.3.1", "a priority that depends on its own stream")
            .both()
            .send(priority(1, 1, 5))
            .resets(1, PROTOCOL),
        row("9113 6.3", "on stream 0").both().send(priority(0, 1, 5)).ends(PROTOCOL),
        row("9113 6.3", "of 4 octets").both().frames(&[post(1), any(kind::PRIORITY, 0, 1, &[0; 4])]).resets(1, SIZE),
        row("9113 6.3", "of 6 octets").frames(&[post(1), any(kind::PRIORITY, 0, 1, &[0; 6])]).resets(1, SIZE),
        row("9113 6.3", "on idle, open and ended streams")
            .frames(&[priority(7, 5, 255), post(1), priority(1, 1 << 31, 0), data(1, true, b"abc")])
            .act(Act::End(1))
            .frames(&[priority(1, 7, 16), get(3)])
            .ok(2),
    ]
}

fn resets_and_pushes() -> Vec<Row> {
    let row = |rule, name| Row::new("RST_STREAM and PUSH_PROMISE", rule, name);
    let push =
        |stream| any(kind::PUSH_PROMISE, flag::END_HEADERS, stream, &[&[0, 0, 0, 2], &get_block(&[])[..]].concat());
    vec![
        row("9113 6.4", "a reset of stream 0").both().send(reset(0, code::CANCEL)).ends(PROTOCOL),
        row("9113 6.4", "a reset of 3 octets")
            .both()
            .frames(&[post(1), any(kind::RST_STREAM, 0, 1, &[0; 3])])
            .ends(SIZE),
        row("9113 6.4", "a reset of 5 octets").frames(&[post(1), any(kind::RST_STREAM, 0, 1, &[0; 5])]).ends(SIZE),
        row("9113 7", "a reset with an unknown code").silent().frames(&[post(1), reset(1, 0xdead_beef)]).lives(),
        row("9113 6.4", "other streams go on behind a reset")
            .frames(&[post(1), reset(1, code::CANCEL), get(3)])
            .answered(3, 200, 2),
        row("9113 6.6", "a push by a client, on a stream").both().frames(&[post(1), push(1)]).ends(PROTOCOL),
        row("9113 6.6", "a push by a client, on an idle stream").send(push(1)).ends(PROTOCOL),
        row("9113 6.6", "a push by a client, on stream 0").send(push(0)).ends(PROTOCOL),
        row("9113 8.4", "a push by a client, of 3 octets")
            .frames(&[post(1), any(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 3])])
            .ends(SIZE_OR_PROTOCOL),
    ]
}

fn pings_and_goodbyes() -> Vec<Row> {
    let row = |rule, name| Row::new("PING and GOAWAY", rule, name);
    vec![
        row("9113 6.7", "a ping is answered").both().frames(&[ping([7; 8]), ping([9; 8])]).lives(),
        row("9113 6.7", "an answer to no ping is no ping")
            .both()
            .send(any(kind::PING, flag::ACK, 0, b"unasked!"))
            .lives(),
        row("9113 6.7", "a ping on a stream").both().send(any(kind::PING, 0, 1, &[0; 8])).ends(PROTOCOL),
        row("9113 6.7", "a ping of 6 octets").both().send(any(kind::PING, 0, 0, &[0; 6])).ends(SIZE),
        row("9113 6.7", "a ping of 9 octets").send(any(kind::PING, 0, 0, &[0; 9])).ends(SIZE),
        row("9113 6.7", "an answer of no octets").send(any(kind::PING, flag::ACK, 0, &[])).ends(SIZE),
        row("9113 6.8", "a goodbye on a stream").both().send(any(kind::GOAWAY, 0, 1, &[0; 8])).ends(PROTOCOL),
        row("9113 6.8", "a goodbye of 7 octets").send(any(kind::GOAWAY, 0, 0, &[0; 7])).ends(SIZE_OR_PROTOCOL),
        row("9113 6.8", "a goodbye with words")
            .frames(&[get(1), any(kind::GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0good night")])
            .ok_to_the_end(1),
        row("9113 7", "a goodbye with an unknown code").send(goaway(0, 0xdead_beef)).lives().ends(&[code::NO_ERROR]),
    ]
}

fn continuations() -> Vec<Row> {
    let row = |name| Row::new("CONTINUATION", "9113 6.10", name);
    let block = get_block(&[("x-a", "1")]);
    let trailers = testkit::http2::hpack::literal("x-sum", "6");
    vec![
        row("a head in two parts")
            .both()
            .frames(&[begun(1, true, &block[..20]), continuation(1, true, &block[20..])])
            .ok(1)
            .reaches(&[a_get().has(&[("x-a", "1")])]),
        row("trailers in two parts")
            .frames(&[
                post(1),
                data(1, false, b"abc"),
                begun(1, true, &trailers[..4]),
                continuation(1, true, &trailers[4..]),
            ])
            .ok(1)
            .reaches(&[Meaning::post("abc")]),
        row("on stream 0")
            .both()
            .frames(&[begun(1, true, &block), continuation(0, true, &[])])
            .ends(PROTOCOL)
            .reaches(&[]),
        row("behind a head that is whole").both().frames(&[post(1), continuation(1, true, &block)]).ends(PROTOCOL),
        row("behind a continuation that was the last")
            .frames(&[begun(1, false, &block), continuation(1, true, &[]), continuation(1, true, &[])])
            .ends(PROTOCOL),
        row("behind a body").frames(&[post(1), data(1, false, b"abc"), continuation(1, true, &block)]).ends(PROTOCOL),
    ]
}
