use pgroute::position::{Lsn, Timeline, Token};
use proptest::prelude::*;

#[test]
fn positions_are_read_and_written() {
    let check = |text: &str, expected: Option<u64>| assert_eq!(text.parse().ok(), expected.map(Lsn), "{text}");
    check("0/0", Some(0));
    check("16/b374d848", Some(0x16_b374_d848));
    check("FFFFFFFF/FFFFFFFF", Some(u64::MAX));
    for text in ["", "/", "0", "0/", "/0", "0/+1", "-1/0", "0/0 ", "100000000/0", "0/0/0", "g/0"] {
        check(text, None);
    }
}

#[test]
fn a_position_behind_a_pages_head_is_that_of_the_record_before() {
    const SEGMENT: u64 = 16 << 20;
    let check = |position: u64, expected: u64| {
        assert_eq!(Lsn(position).end_of_last(SEGMENT), Lsn(expected), "{position:#x}");
    };
    check(0x3000_0028, 0x3000_0000);
    check(0x3000_2018, 0x3000_2000);
    // The head of a segment's first page is longer, and that of another page is not.
    check(0x3000_0018, 0x3000_0018);
    check(0x3000_2028, 0x3000_2028);
    check(0x3000_2020, 0x3000_2020);
    check(0x3000_2000, 0x3000_2000);
}

#[test]
fn timelines_are_those_of_files() {
    let check = |name: &str, expected: Option<u32>| assert_eq!(Timeline::of_file(name).ok(), expected.map(Timeline));
    check("000000010000000000000001", Some(1));
    check("0000000A0000000000000001", Some(10));
    for name in ["", "00000001", "000000000000000000000001", "0000000100000000000000011", "+00000010000000000000001"] {
        check(name, None);
    }
    check("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", None);
}

#[test]
fn tokens_are_strict() {
    let text = "7412345678901234567.3.16/B374D848";
    let token: Token = text.parse().unwrap();
    let expected = Token { system: 7_412_345_678_901_234_567, timeline: Timeline(3), position: Lsn(0x16_b374_d848) };
    assert_eq!((token, token.to_string().as_str()), (expected, text));
    for text in ["", "1", "1.2", "1.2.3", "1.+2.0/0", "-1.2.0/0", "1.2.0/0.", ".2.0/0", "99999999999999999999.1.0/0"] {
        assert!(text.parse::<Token>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(system in any::<u64>(), timeline in any::<u32>(), position in any::<u64>()) {
        let token = Token { system, timeline: Timeline(timeline), position: Lsn(position) };
        prop_assert_eq!(token.to_string().parse::<Token>(), Ok(token));
    }
}
