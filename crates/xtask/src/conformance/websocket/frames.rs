use testkit::Step;

use super::row::{Act, Row};

/// A client's masking key.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame: the octet of flags and opcode, whether it is masked, its payload (RFC 6455 section 5.2).
pub(super) fn frame(first: u8, is_masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ ..=125 => out.push(mask | len as u8),
        len @ ..=65_535 => {
            out.push(mask | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(mask | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if is_masked {
        out.extend(KEY);
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(octet, key)| octet ^ key));
    } else {
        out.extend(payload);
    }
    out
}

/// The same as a client and as a server has to send it.
fn both(first: u8, payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (frame(first, true, payload), frame(first, false, payload))
}

/// Octets in which every value comes in every place.
fn octets(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 % 251) as u8 ^ (at >> 8) as u8).collect()
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = lengths();
    rows.extend(opcodes());
    rows.extend(messages());
    rows.extend(timing());
    rows
}

fn lengths() -> Vec<Row> {
    let lengths = [0, 1, 2, 125, 126, 127, 128, 255, 256, 16_384, 65_535, 65_536, 65_537, 300_000, 1 << 20, 16 << 20];
    let row = |len: usize| {
        let (up, down) = both(0x82, &octets(len));
        Row::new("lengths", format!("{len} octets each way")).exchange(&up, &down).stays()
    };
    lengths.into_iter().map(row).collect()
}

fn opcodes() -> Vec<Row> {
    let opcode = |opcode: u8| {
        let (up, down) = both(0x80 | opcode, b"abc");
        Row::new("opcodes", format!("opcode {opcode:#x}")).exchange(&up, &down).stays()
    };
    let reserved = |bits: u8| {
        let (up, down) = both(0x81 | bits << 4, b"abc");
        Row::new("opcodes", format!("reserved bits {bits:03b}")).exchange(&up, &down).stays()
    };
    (0..16).map(opcode).chain((1..8).map(reserved)).collect()
}

fn messages() -> Vec<Row> {
    let row = |name: &str| Row::new("messages", name);
    let exchange = |name: &str, parts: &[(u8, &[u8])]| {
        let sent =
            |is_masked| parts.iter().flat_map(|(first, payload)| frame(*first, is_masked, payload)).collect::<Vec<_>>();
        row(name).exchange(&sent(true), &sent(false)).stays()
    };
    let huge = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &KEY, b"abc"].concat();
    vec![
        exchange("a text in three parts", &[(0x01, b"Hel"), (0x00, b"lo "), (0x80, b"there")]),
        exchange("a ping and a pong between parts", &[(0x01, b"Hel"), (0x89, b"?"), (0x8a, b"!"), (0x80, b"lo")]),
        exchange("empty parts", &[(0x01, b""), (0x00, b""), (0x80, b"")]),
        exchange("a part of nothing", &[(0x80, b"never begun")]),
        exchange("a second message before the first has ended", &[(0x01, b"Hel"), (0x81, b"lo")]),
        exchange("a ping in parts", &[(0x09, b"?"), (0x80, b"?")]),
        exchange("a ping of 126 octets", &[(0x89, &[b'?'; 126])]),
        exchange("a text that is no UTF-8", &[(0x81, &[0xff, 0xfe, 0xc0, 0x80])]),
        exchange("a character cut by parts", &[(0x01, &[0xe2, 0x82]), (0x80, &[0xac])]),
        exchange("a close without a code", &[(0x88, b"")]),
        exchange("a close with a code and a reason", &[(0x88, b"\x03\xe8bye")]),
        exchange("a close with half a code", &[(0x88, b"\x03")]),
        exchange("a close with a code that nobody may send", &[(0x88, b"\x03\xed")]),
        exchange("a message behind a close", &[(0x88, b"\x03\xe8"), (0x81, b"still here")]),
        row("a client's frame without a mask, a server's with one")
            .exchange(&frame(0x81, false, b"abc"), &frame(0x81, true, b"abc"))
            .stays(),
        row("a length of 2^64 - 1").exchange(&huge, &huge).stays(),
        row("a short length in the long form")
            .exchange(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5], &[0x81, 126, 0, 1, b'a'])
            .stays(),
        row("octets that are no frames").exchange(&octets(1000), b"HTTP/1.1 400 Bad Request\r\n\r\n").stays(),
        row("another request of HTTP/1.1")
            .exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0\r\n\r\n")
            .stays(),
        row("what begins as HTTP/2 does")
            .exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\x04\0\0\0\0\0")
            .stays(),
    ]
}

fn timing() -> Vec<Row> {
    let row = |name: &str| Row::new("timing", name);
    let (up, down) = both(0x81, b"Hello");
    let (ping, pong) = (frame(0x89, true, b"?"), frame(0x8a, false, b"?"));
    let turns = (0..64).fold(row("4 MiB each way, in turns"), |row, _| {
        let (up, down) = both(0x82, &octets(65_536));
        row.exchange(&up, &down)
    });
    let many = (0..200).fold(row("200 pings and pongs"), |row, _| row.exchange(&ping, &pong));
    let mut with_answer = row("a server's frame at once behind its answer");
    with_answer.with_answer.clone_from(&down);
    let received = Act::Receive(down.len());
    let mut with_request = row("a client's frame at once behind its handshake");
    with_request.with_request.clone_from(&up);
    vec![
        with_answer.acts([received]).exchange(&up, &down).stays(),
        with_request.steps([Step::AwaitBytes(up.len())]).exchange(&[], &down).stays(),
        row("octet by octet")
            .acts([Act::Dribble(up.clone())])
            .steps([Step::AwaitBytes(up.len())])
            .exchange(&[], &down)
            .stays(),
        row("a server that speaks alone").exchange(&[], &down.repeat(1000)).stays(),
        row("a client that speaks alone").exchange(&up.repeat(1000), &[]).stays(),
        many.stays(),
        turns.stays(),
    ]
}
