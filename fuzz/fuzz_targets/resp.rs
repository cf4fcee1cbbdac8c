//! Commands of Redis' protocol: whatever comes, in whatever pieces, is read alike, and nothing is kept beyond the bounds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resp::{Bounds, Decoder, Step};

const BOUNDS: Bounds = Bounds { parts_max: 8, part_bytes_max: 64, command_bytes_max: 256 };

/// What is read of bytes that come in pieces: commands, and errors as their texts.
fn read(input: &[u8], piece: usize) -> Vec<Vec<Vec<u8>>> {
    let (mut decoder, mut buffer, mut seen) = (Decoder::default(), Vec::new(), Vec::new());
    let mut pieces = input.chunks(piece);
    loop {
        match decoder.step(&buffer, &BOUNDS) {
            Ok(Step::Command { bytes }) => {
                let parts: Vec<_> = decoder.parts(&buffer).iter().map(<[u8]>::to_vec).collect();
                assert!(
                    parts.len() <= BOUNDS.parts_max && parts.iter().all(|part| part.len() <= BOUNDS.part_bytes_max)
                );
                seen.push(parts);
                decoder.reset();
                buffer.drain(..bytes);
            }
            Ok(Step::Refused { bytes, why }) => {
                seen.push(vec![format!("{why:?}").into_bytes()]);
                decoder.reset();
                buffer.drain(..bytes);
            }
            Ok(Step::Discard { bytes }) => {
                assert!(bytes > 0, "it makes no progress");
                buffer.drain(..bytes);
            }
            Ok(Step::More { bytes }) => {
                assert!(bytes > buffer.len(), "it asks for what it has");
                let Some(next) = pieces.next() else { return seen };
                buffer.extend_from_slice(next);
            }
            Err(malformed) => {
                seen.push(vec![malformed.to_string().into_bytes()]);
                return seen;
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, input)) = input.split_first() else { return };
    if !input.is_empty() {
        assert_eq!(read(input, input.len()), read(input, usize::from(piece).max(1)));
    }
});
