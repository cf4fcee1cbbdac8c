use testkit::http2::hpack::{integer, string};

use super::super::row::{Row, a_get, get_block, get_of};
use super::COMPRESSION;

pub(super) fn rows() -> Vec<Row> {
    let row = |name| Row::new("HPACK: integers", "7541 5.1", name);
    let with = |part: &[u8]| get_of([&get_block(&[])[..], part].concat());
    let bad = |name, part: &[u8]| row(name).send(with(part)).ends(COMPRESSION).reaches(&[]);
    let long_name = "n".repeat(300);
    vec![
        bad("an index without an end", &[0xff]).both(),
        bad("an index that goes on without an end", &[0xff, 0x80, 0x80]),
        bad("an index beyond 2^32", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]).both(),
        bad("an index of many octets", &[[0xff].to_vec(), vec![0x80; 60], vec![1]].concat()),
        bad("a length beyond 2^32", &[0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        bad("a name longer than the block", &[&[0x00][..], &integer(0, 7, 100), b"x-a"].concat()).both(),
        bad("a value longer than the block", &[&[0x00][..], &string(b"x-a"), &integer(0, 7, 100), b"1"].concat())
            .both(),
        bad("a name without a value", &[&[0x00][..], &string(b"x-a")].concat()),
        bad("a literal without a name", &[0x00]),
        bad("a size without an end", &[0x3f, 0x80]),
        row("a length of 127, which needs a second octet")
            .send(with(&[&[0x00][..], &string(b"x-long"), &string(&[b'v'; 127])].concat()))
            .ok(1)
            .reaches(&[a_get().has(&[("x-long", "")])]),
        row("a length of several octets")
            .both()
            .send(with(&[&[0x00][..], &string(b"x-long"), &string(&[b'v'; 3000])].concat()))
            .ok(1)
            .reaches(&[a_get().has(&[("x-long", "")])]),
        row("a long name").send(with(&[&[0x00][..], &string(long_name.as_bytes()), &string(b"1")].concat())).ok(1),
        // An index of 15 + 4 = 19, which is `accept`, with more octets than it needs.
        row("an index with zeros that could be left out")
            .send(with(&[&[0x0f, 0x84, 0x80, 0x00][..], &string(b"*/*")].concat()))
            .lives_or_ends(COMPRESSION),
    ]
}
