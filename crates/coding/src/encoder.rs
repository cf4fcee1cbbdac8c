//! Encoding a body piece by piece: bytes in, bytes out, nothing else.
//!
//! This is the one place that knows the encoders. Whoever has a body gives it in pieces of any size, has what was held
//! back written out where a reader waits for it ([`Encoder::flush`]), and ends it. Memory is bounded by the coding and
//! the level, however long the body is: windows are kept to 256 KiB for Brotli and 512 KiB for Zstandard, where the
//! formats would allow megabytes, for the gain of more is small on what the web sends and every body under way has its
//! own.

use std::io::{self, Write as _};

use zstd::zstd_safe::CParameter;

use crate::Coding;

/// Base-two logarithm of Brotli's window.
const BROTLI_WINDOW_LOG: u32 = 18;

/// The same for Zstandard. RFC 9659 lets receivers refuse more than 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 19;

/// The same for its tables, which the higher levels would make four times as large as the window needs.
const ZSTD_TABLE_LOG: u32 = 17;

/// Bytes that Brotli writes at once.
const BROTLI_OUTPUT_BYTES: usize = 4096;

/// How much work is put into making a body small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As little as is worth it.
    Low,
    /// What pays for answers that are made for each request.
    #[default]
    Medium,
    /// What pays for answers that are sent many times.
    High,
}

/// A body that is being encoded.
pub struct Encoder(State);

// Each writes into memory of its own, which is emptied after each step. Boxed, for the largest would make all large.
enum State {
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Encoder").field(&self.coding()).finish()
    }
}

impl Encoder {
    /// An encoder that has taken nothing yet.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(coding: Coding, effort: Effort) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(by(effort, [1, 5, 9]));
                State::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
            Coding::Brotli => {
                let quality = by(effort, [1, 4, 6]);
                let writer = brotli::CompressorWriter::new(Vec::new(), BROTLI_OUTPUT_BYTES, quality, BROTLI_WINDOW_LOG);
                State::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut writer = zstd::stream::write::Encoder::new(Vec::new(), by(effort, [1, 3, 8]))?;
                writer.window_log(ZSTD_WINDOW_LOG)?;
                for table in [CParameter::HashLog(ZSTD_TABLE_LOG), CParameter::ChainLog(ZSTD_TABLE_LOG)] {
                    writer.set_parameter(table)?;
                }
                State::Zstd(Box::new(writer))
            }
        }))
    }

    /// The coding.
    pub fn coding(&self) -> Coding {
        match self.0 {
            State::Gzip(_) => Coding::Gzip,
            State::Brotli(_) => Coding::Brotli,
            State::Zstd(_) => Coding::Zstd,
        }
    }

    /// Takes a piece, and adds to `out` what comes of it so far, which may be nothing.
    ///
    /// # Errors
    /// When there is no memory left.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            State::Gzip(writer) => writer.write_all(piece)?,
            State::Brotli(writer) => writer.write_all(piece)?,
            State::Zstd(writer) => writer.write_all(piece)?,
        }
        self.take(out);
        Ok(())
    }

    /// Adds to `out` what was held back, so that a reader can have all that was taken.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            State::Gzip(writer) => writer.flush()?,
            State::Brotli(writer) => writer.flush()?,
            State::Zstd(writer) => writer.flush()?,
        }
        self.take(out);
        Ok(())
    }

    /// Adds to `out` the end of the body.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(self, out: &mut Vec<u8>) -> io::Result<()> {
        let rest = match self.0 {
            State::Gzip(writer) => writer.finish()?,
            State::Brotli(writer) => writer.into_inner(),
            State::Zstd(writer) => writer.finish()?,
        };
        out.extend_from_slice(&rest);
        Ok(())
    }

    /// Moves what was written into `out`.
    fn take(&mut self, out: &mut Vec<u8>) {
        let written = match &mut self.0 {
            State::Gzip(writer) => writer.get_mut(),
            State::Brotli(writer) => writer.get_mut(),
            State::Zstd(writer) => writer.get_mut(),
        };
        out.extend_from_slice(written);
        written.clear();
    }
}

/// The level for an effort, in a coding's own numbers.
fn by<T: Copy>(effort: Effort, [low, medium, high]: [T; 3]) -> T {
    match effort {
        Effort::Low => low,
        Effort::Medium => medium,
        Effort::High => high,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    const EFFORTS: [Effort; 3] = [Effort::Low, Effort::Medium, Effort::High];

    /// What a reader makes of it, who may have a part only.
    fn decoded(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut text = Vec::new();
        let read = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text),
        };
        (text, read.is_ok())
    }

    #[test]
    fn what_goes_in_comes_out() {
        let text = "all work and no play ".repeat(5000);
        for (coding, effort) in Coding::ALL.into_iter().flat_map(|coding| EFFORTS.map(|effort| (coding, effort))) {
            let mut encoder = Encoder::new(coding, effort).unwrap();
            assert_eq!(encoder.coding(), coding);
            let mut out = Vec::new();
            encoder.push(text.as_bytes(), &mut out).unwrap();
            encoder.finish(&mut out).unwrap();
            assert!(out.len() < text.len() / 20, "{coding} {effort:?}: {}", out.len());
            assert_eq!(decoded(coding, &out), (text.clone().into_bytes(), true), "{coding} {effort:?}");
        }
    }

    #[test]
    fn nothing_is_something_too() {
        for coding in Coding::ALL {
            let mut out = Vec::new();
            Encoder::new(coding, Effort::Medium).unwrap().finish(&mut out).unwrap();
            assert!(!out.is_empty(), "{coding}");
            assert_eq!(decoded(coding, &out), (Vec::new(), true), "{coding}");
        }
    }

    #[test]
    fn a_flush_shows_all_that_was_taken() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, Effort::Medium).unwrap();
            let (mut out, mut taken) = (Vec::new(), String::new());
            for n in 0..50 {
                let event = format!("data: {n}\n\n");
                encoder.push(event.as_bytes(), &mut out).unwrap();
                encoder.flush(&mut out).unwrap();
                taken.push_str(&event);
                assert_eq!(String::from_utf8(decoded(coding, &out).0).unwrap(), taken, "{coding}");
            }
        }
    }

    #[test]
    fn little_is_held_back() {
        // Of what cannot be made smaller, however long it is.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, Effort::Medium).unwrap();
            let mut out = Vec::new();
            let mut taken = 0;
            for _ in 0..256 {
                let piece: Vec<u8> = (0..16 * 1024).map(|_| noise()).collect();
                encoder.push(&piece, &mut out).unwrap();
                taken += piece.len();
                assert!(taken.saturating_sub(out.len()) <= 1 << 20, "{coding}: {taken} in, {} out", out.len());
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_and_flushes_make_no_difference(
            pieces in proptest::collection::vec((proptest::collection::vec(0_u8..8, 0..3000), any::<bool>()), 0..8),
            which in 0_usize..3,
        ) {
            let coding = Coding::ALL[which];
            let mut encoder = Encoder::new(coding, Effort::Low).unwrap();
            let (mut out, mut whole) = (Vec::new(), Vec::new());
            for (piece, flush) in &pieces {
                encoder.push(piece, &mut out).unwrap();
                if *flush {
                    encoder.flush(&mut out).unwrap();
                }
                whole.extend_from_slice(piece);
            }
            encoder.finish(&mut out).unwrap();
            prop_assert_eq!(decoded(coding, &out), (whole, true));
        }
    }
}
