use testkit::http2::frame::{self, setting};
use testkit::http2::hpack::{huffman_string, incremental, indexed, integer, literal, literals, size_update, string};
use testkit::http2::huffman;

use super::super::row::{Act, Row, a_get, get_block, get_of, pseudo};
use super::COMPRESSION;
use crate::conformance::http1::row::Meaning;

const CLASS: &str = "HPACK: tables";

/// Index of the latest entry of the dynamic table.
const LATEST: usize = 62;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = indices();
    rows.extend(tables());
    rows.extend(sizes());
    rows.extend(strings());
    rows
}

fn with(parts: &[Vec<u8>]) -> Vec<u8> {
    [get_block(&[]), parts.concat()].concat()
}

/// A literal whose name stands in a table: the pattern and prefix of its form, the index, the value.
fn named((pattern, prefix): (u8, u32), index: usize, value: &str) -> Vec<u8> {
    [integer(pattern, prefix, index), string(value.as_bytes())].concat()
}

const INCREMENTAL: (u8, u32) = (0x40, 6);
const WITHOUT: (u8, u32) = (0, 4);
const NEVER: (u8, u32) = (0x10, 4);

fn indices() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name);
    let bad = |rule, name, part: Vec<u8>| row(rule, name).send(get_of(with(&[part]))).ends(COMPRESSION).reaches(&[]);
    vec![
        bad("7541 6.1", "a field with index 0", indexed(0)).both(),
        bad("7541 2.3.3", "a field beyond an empty table", indexed(LATEST)).both(),
        bad("7541 2.3.3", "a field far beyond the table", indexed(1000)),
        bad("7541 2.3.3", "a name beyond the table, to be added", named(INCREMENTAL, 70, "x")).both(),
        bad("7541 2.3.3", "a name beyond the table, not to be added", named(WITHOUT, 70, "x")),
        bad("7541 2.3.3", "a name beyond the table, never to be added", named(NEVER, 70, "x")),
        bad("7541 2.3.3", "one beyond what was added", [incremental("x-a", "1"), indexed(LATEST + 1)].concat()),
        row("7541 A", "fields of the static table")
            .both()
            .send(get_of([indexed(2), indexed(6), indexed(4), named(WITHOUT, 1, "a.test")].concat()))
            .ok(1)
            .reaches(&[Meaning::of("GET", "/")]),
        row("7541 A", "the last field of the static table")
            .send(get_of(with(&[named(WITHOUT, 61, "x")])))
            .ok(1)
            .reaches(&[a_get().has(&[("www-authenticate", "x")])]),
        row("7541 6.2.3", "a field never to be added")
            .both()
            .send(get_of(with(&[[vec![0x10], string(b"x-secret"), string(b"1")].concat()])))
            .ok(1)
            .reaches(&[a_get().has(&[("x-secret", "1")])]),
    ]
}

fn tables() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name);
    let all = pseudo("GET").map(|(name, value)| incremental(name, value)).concat();
    let again: Vec<u8> = (0..4).rev().flat_map(|back| indexed(LATEST + back)).collect();
    let third = |block: &[u8]| frame::headers(3, true, block);
    let first = a_get().has(&[("x-a", "1")]);
    vec![
        row("7541 2.3.2", "fields that were added are found by the next request")
            .both()
            .frames(&[get_of(&all), third(&again)])
            .act(Act::End(1))
            .ok(2)
            .reaches_both(a_get(), a_get()),
        row("7541 2.3.2", "a field that was added is found in the same block")
            .send(get_of(with(&[incremental("x-a", "1"), indexed(LATEST)])))
            .ok(1)
            .reaches(&[a_get()]),
        row("7541 2.3.3", "a name that was added stands for another value")
            .send(get_of(with(&[incremental("x-a", "1")])))
            .act(Act::End(1))
            .send(third(&with(&[named(WITHOUT, LATEST, "2")])))
            .ok(2)
            .reaches_both(first.clone(), a_get().has(&[("x-a", "2")])),
        row("9113 4.3", "a request that is refused adds to the table as well")
            .both()
            .send(get_of(with(&[incremental("x-a", "1"), literal("connection", "close")])))
            .send(third(&with(&[indexed(LATEST)])))
            .act(Act::End(3))
            .refused(1)
            .answered(3, 200, 2)
            .reaches(std::slice::from_ref(&first)),
        row("9113 4.3", "a head on a stream that was reset adds to the table as well")
            .silent()
            .send(frame::headers(1, false, &get_block(&[])))
            .send([frame::reset(1, 8), frame::headers(1, true, &incremental("x-a", "1"))].concat())
            .send(third(&with(&[indexed(LATEST)])))
            .lives()
            .ends(&[5, 1]),
        row("9113 4.3", "trailers add to the table as well")
            .both()
            .send(frame::headers(1, false, &literals(&pseudo("POST"))))
            .send(frame::headers(1, true, &incremental("x-a", "1")))
            .act(Act::End(1))
            .send(third(&with(&[indexed(LATEST)])))
            .ok(2)
            .reaches_both(Meaning::post(""), first.clone()),
        row("7541 4.4", "a field larger than the table empties it")
            .send(get_of(with(&[incremental("x-a", "1"), incremental("x-long", "v".repeat(5000))])))
            .act(Act::End(1))
            .send(third(&with(&[indexed(LATEST)])))
            .ends(COMPRESSION),
        row("7541 4.4", "a field larger than the table is no error")
            .both()
            .send(get_of(with(&[incremental("x-long", "v".repeat(5000))])))
            .ok(1)
            .reaches(&[a_get().has(&[("x-long", "")])]),
        row("7541 4.4", "what was added first goes first")
            .send(get_of(with(&[
                incremental("x-a", "1"),
                incremental("x-b", "v".repeat(2000)),
                incremental("x-c", "v".repeat(2000)),
            ])))
            .act(Act::End(1))
            .send(third(&with(&[indexed(LATEST + 2)])))
            .ends(COMPRESSION),
    ]
}

fn sizes() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name);
    let third = |block: &[u8]| frame::headers(3, true, block);
    let before =
        |sizes: &[usize]| [sizes.iter().flat_map(|&size| size_update(size)).collect(), get_block(&[])].concat();
    vec![
        row("7541 4.2", "a change of size at the end of a block")
            .both()
            .send(get_of(with(&[size_update(0)])))
            .ends(COMPRESSION)
            .reaches(&[]),
        row("7541 4.2", "a change of size between fields")
            .send(get_of([indexed(2), size_update(100), indexed(6), indexed(4), named(WITHOUT, 1, "a.test")].concat()))
            .ends(COMPRESSION)
            .reaches(&[]),
        row("7541 6.3", "a size above what is allowed")
            .both()
            .send(get_of(before(&[4097])))
            .ends(COMPRESSION)
            .reaches(&[]),
        row("7541 6.3", "a size far above what is allowed").send(get_of(before(&[1 << 24]))).ends(COMPRESSION),
        row("7541 6.3", "a size as large as allowed").both().send(get_of(before(&[4096]))).ok(1).reaches(&[a_get()]),
        row("7541 4.2", "two changes of size").both().send(get_of(before(&[0, 4096]))).ok(1).reaches(&[a_get()]),
        row("7541 4.3", "a size of 0 empties the table")
            .send(get_of(with(&[incremental("x-a", "1")])))
            .act(Act::End(1))
            .send(third(&[size_update(0), size_update(4096), with(&[indexed(LATEST)])].concat()))
            .ends(COMPRESSION),
        row("7541 4.3", "with a size of 0 nothing is added")
            .send(get_of([size_update(0), with(&[incremental("x-a", "1")])].concat()))
            .act(Act::End(1))
            .send(third(&with(&[indexed(LATEST)])))
            .ends(COMPRESSION),
        row("7541 4.2", "the client's own limit is no limit for its blocks")
            .settings(&[(setting::HEADER_TABLE_SIZE, 0)])
            .send(get_of(with(&[incremental("x-a", "1")])))
            .act(Act::End(1))
            .send(third(&with(&[indexed(LATEST)])))
            .ok(2),
    ]
}

fn strings() -> Vec<Row> {
    let row = |name| Row::new("HPACK: strings", "7541 5.2", name);
    let value = |encoded: Vec<u8>| get_of(with(&[[vec![0], string(b"x-a"), huffman_string(&encoded)].concat()]));
    let name = |encoded: Vec<u8>| get_of(with(&[[vec![0], huffman_string(&encoded), string(b"1")].concat()]));
    let visible: String = (b'!'..=b'~').map(char::from).collect();
    let visible: &'static str = visible.leak();
    vec![
        row("a value in Huffman code")
            .both()
            .send(value(huffman::encode(b"1")))
            .ok(1)
            .reaches(&[a_get().has(&[("x-a", "1")])]),
        row("a name in Huffman code")
            .send(name(huffman::encode(b"x-a")))
            .ok(1)
            .reaches(&[a_get().has(&[("x-a", "1")])]),
        row("every visible character in Huffman code")
            .both()
            .send(value(huffman::encode(visible.as_bytes())))
            .ok(1)
            .reaches(&[a_get().has(vec![("x-a", visible)].leak())]),
        row("an empty value in Huffman code").send(value(Vec::new())).ok(1).reaches(&[a_get()]),
        // `a` has 5 bits, so 3 bits of padding fill its octet.
        row("padding of more than 7 bits")
            .both()
            .send(value(huffman::padded(b"a", 11, true)))
            .ends(COMPRESSION)
            .reaches(&[]),
        row("padding of 8 bits alone").send(value(vec![0xff])).ends(COMPRESSION).reaches(&[]),
        row("padding of zeros").both().send(value(huffman::padded(b"a", 3, false))).ends(COMPRESSION).reaches(&[]),
        row("padding of zeros in a name").send(name(huffman::padded(b"a", 3, false))).ends(COMPRESSION).reaches(&[]),
        row("the end of string").both().send(value(vec![0xff, 0xff, 0xff, 0xff])).ends(COMPRESSION).reaches(&[]),
        row("the end of string behind text")
            .send(value([huffman::encode(b"aaaaaaaa"), vec![0xff, 0xff, 0xff, 0xfc]].concat()))
            .ends(COMPRESSION)
            .reaches(&[]),
        row("a line end in Huffman code").both().send(value(huffman::encode(b"1\r\nx-evil: 1"))).refused(1),
        row("a name in upper case in Huffman code").send(name(huffman::encode(b"X-A"))).refused(1),
    ]
}
