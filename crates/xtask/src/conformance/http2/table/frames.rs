use testkit::http2::frame::{
    self, code, continuation, data, flag, frame as any, kind, ping, priority, settings, window,
};

use super::super::row::{Act, Row, a_get, begun, get, get_block, post};
use super::{COMPRESSION, PROTOCOL, SIZE};
use crate::conformance::http1::row::Meaning;

const CLASS: &str = "frames";

/// A frame of no known type.
const UNKNOWN: u8 = 0x16;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = sizes();
    rows.extend(blocks());
    rows.extend(extensions());
    rows
}

fn sizes() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 4.2", name);
    let long = |count: usize| vec![b'd'; count];
    vec![
        row("a body in a frame of 16384")
            .both()
            .frames(&[post(1), data(1, true, &long(16_384))])
            .ok(1)
            .reaches(&[Meaning::post(long(16_384))]),
        row("a body in a frame of 16385")
            .both()
            .frames(&[post(1), data(1, true, &long(16_385))])
            .resets(1, SIZE)
            .too_long(),
        row("a head in a frame of 16385")
            .both()
            .send(frame::headers(1, true, &get_block(&[("x-long", &"h".repeat(16_400))])))
            .ends(SIZE)
            .too_long(),
        row("settings in a frame of 16386")
            .send(any(kind::SETTINGS, 0, 0, &[0, 99, 0, 0, 0, 0].repeat(2731)))
            .ends(SIZE)
            .too_long(),
        row("an unknown frame of 16385").send(any(UNKNOWN, 0, 0, &long(16_385))).ends(SIZE).too_long(),
        row("a length of 16777215")
            .send(frame::with_length(0xff_ffff, kind::DATA, 0, 1, &[0; 64]))
            .ends(SIZE)
            .too_long(),
        row("a frame octet by octet").both().act(Act::Dribble(get(1))).ok(1).reaches(&[a_get()]),
        row("many frames in one write")
            .frames(&[ping([1; 8]), settings(&[]), window(0, 1), priority(3, 0, 1), get(1), get(3), get(5)])
            .ok(3),
        row("an empty body in many empty frames")
            .frames(&[post(1), data(1, false, &[]), data(1, false, &[]), data(1, false, &[]), data(1, true, &[])])
            .ok(1)
            .reaches(&[Meaning::post("")]),
    ]
}

fn blocks() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 4.3", name);
    let block = get_block(&[("x-a", "1")]);
    let cut = |octets: usize| -> Vec<u8> {
        let last = (block.len() - 1) / octets;
        let part = |(at, part): (usize, &[u8])| match at {
            0 => begun(1, true, part),
            _ => continuation(1, at == last, part),
        };
        block.chunks(octets).enumerate().flat_map(part).collect()
    };
    let between = |name, between: Vec<u8>| {
        let block = get_block(&[]);
        row(name)
            .frames(&[post(1), begun(3, true, &block[..9]), between, continuation(3, true, &block[9..])])
            .ends(PROTOCOL)
    };
    vec![
        row("a block in four parts")
            .both()
            .send(cut(block.len() / 4 + 1))
            .ok(1)
            .reaches(&[a_get().has(&[("x-a", "1")])]),
        // A server may hold so many small frames for a flood.
        row("a block cut at every octet")
            .both()
            .send(cut(1))
            .ok(1)
            .ends(&[code::ENHANCE_YOUR_CALM])
            .reaches(&[a_get().has(&[("x-a", "1")])]),
        row("a block whose first frame is empty")
            .frames(&[begun(1, true, &[]), continuation(1, true, &block)])
            .ok(1)
            .reaches(&[a_get()]),
        row("a block whose last frame is empty")
            .frames(&[begun(1, true, &block), continuation(1, false, &[]), continuation(1, true, &[])])
            .ok(1)
            .reaches(&[a_get()]),
        row("a block that cannot be read")
            .both()
            .send(frame::headers(1, true, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))
            .ends(COMPRESSION)
            .reaches(&[]),
        row("trailers that cannot be read")
            .frames(&[post(1), data(1, false, b"abc"), frame::headers(1, true, &[0x80])])
            .ends(COMPRESSION)
            .reaches(&[]),
        between("a priority within a block", priority(1, 0, 5)),
        between("a body within a block", data(1, false, b"abc")),
        between("another head within a block", get(5)),
        between("a ping within a block", ping([0; 8])),
        between("settings within a block", settings(&[])),
        between("a window within a block", window(0, 1)),
        between("a reset within a block", frame::reset(3, 8)),
        between("an unknown frame within a block", any(UNKNOWN, 0, 3, b"abc")),
        between("a continuation of another stream within a block", continuation(1, true, &get_block(&[]))),
    ]
}

fn extensions() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name);
    let reserved = 1 << 31;
    vec![
        row("9113 4.1", "an unknown frame on the connection").both().send(any(UNKNOWN, 0xff, 0, b"abc")).lives(),
        row("9113 4.1", "an unknown frame on an open stream")
            .both()
            .frames(&[post(1), any(UNKNOWN, 0, 1, b"abc"), data(1, true, b"d")])
            .ok(1)
            .reaches(&[Meaning::post("d")]),
        row("9113 4.1", "an unknown frame on a stream that is over")
            .send(get(1))
            .act(Act::End(1))
            .send(any(UNKNOWN, 0, 1, b"abc"))
            .ok(1),
        row("9113 5.5", "an unknown frame without a payload").send(any(0xff, 0, 0, &[])).lives(),
        row("9113 5.5", "an unknown frame between two heads")
            .frames(&[get(1), any(0xee, 0xff, 3, &[7; 100]), get(3)])
            .ok(2),
        row("9113 4.1", "unknown flags of a ping").both().send(any(kind::PING, 0xfe, 0, b"abcdefgh")).lives(),
        row("9113 4.1", "unknown flags of a head")
            .send(any(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM | 0xd2, 1, &get_block(&[])))
            .ok(1),
        row("9113 4.1", "unknown flags of settings").send(any(kind::SETTINGS, 0xfe, 0, &[])).act(Act::Acks(2)).lives(),
        row("9113 4.1", "unknown flags of a window").send(any(kind::WINDOW_UPDATE, 0xff, 0, &[0, 0, 0, 1])).lives(),
        row("9113 4.1", "the reserved bit of a ping's stream").send(any(kind::PING, 0, reserved, b"abcdefgh")).lives(),
        row("9113 4.1", "the reserved bit of a head's stream")
            .both()
            .send(frame::headers(1 | reserved, true, &get_block(&[])))
            .ok(1),
        row("9113 6.9", "the reserved bit of an increment").send(window(0, 1 | reserved)).lives(),
    ]
}
