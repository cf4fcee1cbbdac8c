//! Commands, whole and in pieces, good and bad, against a reader that knows the whole input.

use proptest::prelude::*;
use resp::{Bounds, Decoder, Malformed, Step, Unacceptable};

const BOUNDS: Bounds = Bounds { parts_max: 4, part_bytes_max: 16, command_bytes_max: 64 };

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Command(Vec<Vec<u8>>),
    Refused(Unacceptable),
    Malformed(Malformed),
}

/// Reads all of an input that comes in pieces of these sizes, the last of which is repeated.
fn read(input: &[u8], bounds: &Bounds, pieces: &[usize]) -> Vec<Seen> {
    let (mut decoder, mut seen, mut buffer) = (Decoder::default(), Vec::new(), Vec::new());
    let (mut rest, mut pieces) = (input, pieces.iter().copied().chain(std::iter::repeat(*pieces.last().unwrap_or(&1))));
    loop {
        match decoder.step(&buffer, bounds) {
            Ok(Step::Command { bytes }) => {
                seen.push(Seen::Command(decoder.parts(&buffer).iter().map(<[u8]>::to_vec).collect()));
                decoder.reset();
                buffer.drain(..bytes);
            }
            Ok(Step::Refused { bytes, why }) => {
                seen.push(Seen::Refused(why));
                decoder.reset();
                buffer.drain(..bytes);
            }
            Ok(Step::Discard { bytes }) => {
                assert!(bytes > 0);
                buffer.drain(..bytes);
            }
            Ok(Step::More { bytes }) => {
                assert!(bytes > buffer.len(), "it asks for what it has");
                assert!(buffer.len() <= bounds.command_bytes_max.max(64 * 1024), "it keeps {} bytes", buffer.len());
                if rest.is_empty() {
                    return seen;
                }
                let (piece, after) = rest.split_at(pieces.next().unwrap_or(1).clamp(1, rest.len()));
                buffer.extend_from_slice(piece);
                rest = after;
            }
            Err(malformed) => {
                seen.push(Seen::Malformed(malformed));
                return seen;
            }
        }
    }
}

fn command(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn what_is_read() {
    let whole = |parts: &[&str]| Seen::Command(parts.iter().map(|part| part.as_bytes().to_vec()).collect());
    let check = |input: &str, expected: &[Seen]| {
        for pieces in [[input.len().max(1)], [1], [3]] {
            assert_eq!(read(input.as_bytes(), &BOUNDS, &pieces), expected, "{input:?} in pieces of {pieces:?}");
        }
    };
    check("", &[]);
    check("*1\r\n$4\r\nPING\r\n", &[whole(&["PING"])]);
    check("PING\r\n", &[whole(&["PING"])]);
    check("  SET  k\tv \n\r\n\nGET k\r\n", &[whole(&["SET", "k", "v"]), whole(&["GET", "k"])]);
    check("*0\r\n*-1\r\n*1\r\n$0\r\n\r\n", &[whole(&[""])]);
    check("*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\nPING\r\n", &[whole(&["GET", "a\r\n"]), whole(&["PING"])]);
    check("*1\r\n$4\r\nPIN", &[]);
}

#[test]
fn what_is_too_large_is_passed_over() {
    let ping = Seen::Command(vec![b"PING".to_vec()]);
    let check = |parts: &[&[u8]], why: Unacceptable| {
        let input = [command(parts), command(&[b"PING"])].concat();
        for pieces in [[input.len()], [1], [7]] {
            assert_eq!(read(&input, &BOUNDS, &pieces), [Seen::Refused(why), ping.clone()], "pieces of {pieces:?}");
        }
    };
    let (long, longer) = ([b'x'; 17], [b'y'; 1000]);
    check(&[b"SET", b"k", &long], Unacceptable::Part { found: 17 });
    check(&[b"SET", &longer, &long], Unacceptable::Part { found: 1000 });
    check(&[b"MGET", b"1", b"2", b"3", b"4"], Unacceptable::Parts { found: 5 });
    check(&[&[b'a'; 16], &[b'b'; 16], &[b'c'; 16]], Unacceptable::Command);
    let line = [b'w'; 17];
    assert_eq!(read(&[&line[..], b"\r\n"].concat(), &BOUNDS, &[4]), [Seen::Refused(Unacceptable::Part { found: 17 })]);
    assert_eq!(read(b"a b c d e\r\n", &BOUNDS, &[64]), [Seen::Refused(Unacceptable::Parts { found: 5 })]);
    assert_eq!(read(b"GET \"a b\"\r\nPING\r\n", &BOUNDS, &[64]), [Seen::Refused(Unacceptable::Quotes), ping.clone()]);
    // A line that is longer than a command may be, and has no end.
    let endless = read(&[b'w'; 64], &BOUNDS, &[16]);
    assert_eq!(endless, [Seen::Malformed(Malformed("too big inline request"))]);
}

#[test]
fn that_it_is_refused_is_known_before_its_end() {
    let mut decoder = Decoder::default();
    let input = b"*2\r\n$4\r\nAUTH\r\n$17\r\nx";
    assert!(matches!(decoder.step(input, &BOUNDS), Ok(Step::Discard { .. })));
    assert_eq!(decoder.refused(), Some(Unacceptable::Part { found: 17 }));
    decoder.reset();
    assert_eq!(decoder.refused(), None);
}

#[test]
fn what_is_not_the_protocol_ends_it() {
    let check = |input: &[u8], part: &str| {
        for pieces in [[input.len()], [1]] {
            match read(input, &BOUNDS, &pieces).as_slice() {
                [Seen::Malformed(found)] => assert!(found.to_string().contains(part), "{found}"),
                other => panic!("{}: {other:?}", input.escape_ascii()),
            }
        }
    };
    check(b"*x\r\n", "multibulk length");
    check(b"*+1\r\n", "multibulk length");
    check(b"*01\r\n", "multibulk length");
    check(b"*-0\r\n", "multibulk length");
    check(b"*1048577\r\n", "multibulk length");
    check(b"*99999999999999999999\r\n", "multibulk length");
    check(&[b"*".as_slice(), &[b'1'; 64]].concat(), "too big mbulk count");
    check(b"*1\r\n+OK\r\n", "expected '$'");
    check(b"*1\r\n$-1\r\n", "bulk length");
    check(b"*1\r\n$536870913\r\n", "bulk length");
    check(b"*1\r\n$4\r\nPING!!", "does not end");
    check(b"GET / HTTP/1.1\r\n", "no HTTP");
    check(b"DEL k HTTP/1.0 \n", "no HTTP");
    check(&vec![b'a'; 70_000], "too big inline");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4096 }))]

    #[test]
    fn pieces_do_not_matter(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 1..6), 0..6),
        pieces in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let parts = |one: &Vec<Vec<u8>>| command(&one.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let input: Vec<u8> = commands.iter().flat_map(parts).collect();
        let seen = read(&input, &BOUNDS, &pieces);
        prop_assert_eq!(&seen, &read(&input, &BOUNDS, &[input.len().max(1)]));
        prop_assert_eq!(seen.len(), commands.len());
        for (seen, sent) in seen.iter().zip(&commands) {
            let fits = sent.len() <= 4 && sent.iter().all(|part| part.len() <= 16) && parts(sent).len() <= 64;
            match seen {
                Seen::Command(found) => prop_assert!(fits && found == sent, "{:?}", found),
                Seen::Refused(_) => prop_assert!(!fits, "{:?}", sent),
                Seen::Malformed(found) => prop_assert!(false, "{}", found),
            }
        }
    }

    #[test]
    fn any_bytes_are_read_alike_in_pieces(
        input in prop::collection::vec(prop::sample::select(b"*$-0123\r\n GETx\"".to_vec()), 0..200),
        pieces in prop::collection::vec(1_usize..20, 1..5),
    ) {
        prop_assert_eq!(read(&input, &BOUNDS, &pieces), read(&input, &BOUNDS, &[input.len().max(1)]));
    }
}
