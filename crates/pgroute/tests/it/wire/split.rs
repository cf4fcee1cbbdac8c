use pgroute::wire::{HEAD_BYTES, Look, Piece, Splitter, WireError, write};
use proptest::prelude::*;

/// Reads everything from pieces that end where `cuts` say, as a shell would: what is not consumed stays in the buffer.
/// Gives each message's kind with its bytes, however they came.
fn read(bytes: &[u8], cuts: &[usize], look: impl Fn(u8) -> Look + Copy) -> Result<Vec<(u8, Vec<u8>)>, WireError> {
    let mut splitter = Splitter::default();
    let (mut buffer, mut found) = (Vec::new(), Vec::<(u8, Vec<u8>)>::new());
    let mut begin = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        buffer.extend(&bytes[begin..end]);
        begin = end;
        loop {
            let (run, count) = splitter.run(&buffer, |tag| look(tag) == Look::Pass)?;
            let mut at = 0;
            for _ in 0..count {
                let len = u32::from_be_bytes(buffer[at + 1..at + 5].try_into().unwrap()) as usize + 1;
                found.push((buffer[at], buffer[at..at + len].to_vec()));
                at += len;
            }
            assert_eq!(at, run);
            buffer.drain(..run);
            let piece = splitter.next(&buffer, look)?;
            let taken: Vec<u8> = buffer.drain(..piece.len()).collect();
            match piece {
                Piece::Message { tag, .. } => found.push((tag, taken)),
                Piece::Begin { tag, len, total } => {
                    assert!(len < total && !splitter.is_between_messages());
                    if let Look::Prefix(prefix) = look(tag) {
                        assert!(len >= prefix.min(total), "the beginning that was asked for is there");
                    }
                    found.push((tag, taken));
                }
                Piece::More { is_last, .. } => {
                    assert_eq!(is_last, splitter.is_between_messages());
                    found.last_mut().unwrap().1.extend(taken);
                }
                Piece::Wait { bytes } => {
                    assert!(bytes > buffer.len(), "it waits for what is not there");
                    break;
                }
            }
        }
    }
    assert!(buffer.is_empty() && splitter.is_between_messages(), "something is left");
    Ok(found)
}

fn look(tag: u8) -> Look {
    match tag {
        b'D' | b'd' => Look::Pass,
        b'B' => Look::Prefix(HEAD_BYTES + 3),
        b'?' => Look::Refuse,
        _ => Look::Whole(100),
    }
}

#[test]
fn what_is_wrong_is_refused_at_once() {
    let check = |bytes: &[u8], expected: Result<Piece, WireError>| {
        assert_eq!(Splitter::default().next(bytes, look), expected, "{bytes:?}");
    };
    check(b"", Ok(Piece::Wait { bytes: 5 }));
    check(b"Q\0\0\0", Ok(Piece::Wait { bytes: 5 }));
    check(b"Q\0\0\0\x06", Ok(Piece::Wait { bytes: 7 }));
    check(b"Q\0\0\0\x04rest", Ok(Piece::Message { tag: b'Q', len: 5 }));
    check(b"Q\0\0\0\x03", Err(WireError::Length { tag: b'Q', length: 3 }));
    check(b"D\xff\xff\xff\xff", Err(WireError::Length { tag: b'D', length: u32::MAX }));
    check(b"D\x3f\xff\xff\xff", Ok(Piece::Begin { tag: b'D', len: 5, total: 0x4000_0000 }));
    check(b"D\x40\0\0\0", Err(WireError::Length { tag: b'D', length: 0x4000_0000 }));
    check(b"Q\0\0\0\x64", Err(WireError::TooLong { tag: b'Q', bytes: 101, bytes_max: 100 }));
    check(b"Q\0\0\0\x63", Ok(Piece::Wait { bytes: 100 }));
    check(b"?\0\0\0\x04", Err(WireError::Unexpected { tag: b'?' }));
    check(b"B\0\0\0\x20ab", Ok(Piece::Wait { bytes: 8 }));
    check(b"B\0\0\0\x20abcd", Ok(Piece::Begin { tag: b'B', len: 9, total: 33 }));
    check(b"B\0\0\0\x05a", Ok(Piece::Message { tag: b'B', len: 6 }));
    let text = Splitter::default().next(b"\0\0\0\0\0", look).unwrap_err().to_string();
    assert_eq!(text, r"message \x00: length 0 is invalid");
}

#[test]
fn a_run_ends_with_the_last_whole_message_of_its_kinds() {
    let mut bytes = Vec::new();
    for tag in [b'D', b'd', b'D', b'C', b'D'] {
        write::message(&mut bytes, tag, |out| out.extend(b"12"));
    }
    let run = |bytes: &[u8]| Splitter::default().run(bytes, |tag| tag == b'D' || tag == b'd');
    assert_eq!(run(&bytes), Ok((21, 3)));
    assert_eq!(run(&bytes[..20]), Ok((14, 2)));
    assert_eq!(run(&bytes[21..]), Ok((0, 0)));
    assert_eq!(run(&bytes[28..]), Ok((7, 1)));
    assert_eq!(run(b"D\0\0\0\x01"), Err(WireError::Length { tag: b'D', length: 1 }));
}

fn messages() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let message = prop_oneof![
        (prop::sample::select(b"QZSB".to_vec()), prop::collection::vec(any::<u8>(), 0..40)),
        (prop::sample::select(b"DdB".to_vec()), prop::collection::vec(any::<u8>(), 0..300)),
    ];
    prop::collection::vec(message, 0..12)
}

proptest! {
    #[test]
    fn how_bytes_are_cut_does_not_matter(messages in messages(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (tag, body) in messages {
            let begin = bytes.len();
            write::message(&mut bytes, tag, |out| out.extend(&body));
            expected.push((tag, bytes[begin..].to_vec()));
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read(&bytes, &cuts, look), Ok(expected.clone()));
        let every: Vec<_> = (0..bytes.len()).collect();
        prop_assert_eq!(read(&bytes, &every, look), Ok(expected));
    }

    #[test]
    fn no_bytes_make_it_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut splitter = Splitter::default();
        let mut rest = &bytes[..];
        while let Ok(piece) = splitter.next(rest, look) {
            if piece.is_empty() {
                break;
            }
            rest = &rest[piece.len()..];
        }
    }
}
