//! Purges on disk, so that what was purged does not come back with a restart.
//!
//! The journal is a file of records behind a beginning that says its version. It is written by one thread, record after record,
//! and synced before a purge counts as durable. A record that is cut short at the end was being written when the process ended: nobody
//! was told that this purge is done. Anything else that is wrong means that purges may be lost; then nothing on disk can be trusted.
//!
//! | at | a record |
//! |---|---|
//! | 0 | kind: 1 mark, 2 prefix, 3 all, 4 the position in a stream of purges; 1 byte |
//! | 1 | 0 hard, 1 soft; 1 byte, and 2 bytes of the prefix's length |
//! | 4 | checksum of the prefix |
//! | 8 | number of the purge, or the position, 8 bytes |
//! | 16 | mark, 8 bytes |
//! | 24 | of a soft purge since when things are stale, 4 bytes |
//! | 28 | checksum of the record up to here |
//! | 32 | the prefix |

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::key::Mark;
use crate::purges::{How, Numbered, Purge, What};

const NAME: &str = "purges";
const BEGINNING: &[u8; 16] = b"tenfold purges 1";
const RECORD_BYTES: usize = 32;
/// A prefix of a purge is at most so long.
pub(crate) const PREFIX_BYTES_MAX: usize = 4096;
/// The journal is written anew when it has grown beyond that and beyond twice what it was when it was written.
const BYTES_MIN_TO_REWRITE: u64 = 1024 * 1024;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Purge(Numbered),
    Position(u64),
}

/// What the journal of an earlier process holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// There is none.
    None,
    Notes(Vec<Note>),
    /// It cannot be trusted.
    Damaged,
}

#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    bytes: u64,
    bytes_after_rewrite: u64,
}

/// Reads the journal of a folder.
pub(super) fn read(folder: &Path) -> io::Result<Past> {
    match std::fs::read(folder.join(NAME)) {
        Ok(bytes) => Ok(decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Past::None),
        Err(error) => Err(error),
    }
}

impl Journal {
    /// Writes a journal anew, and replaces the one that is there by it.
    pub(super) fn rewrite(folder: &Path, notes: impl Iterator<Item = Note>) -> io::Result<Self> {
        let (path, fresh) = (folder.join(NAME), folder.join("purges.new"));
        let mut bytes = BEGINNING.to_vec();
        notes.for_each(|note| encode(&note, &mut bytes));
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&fresh, &path)?;
        // The name has to last as the content does.
        File::open(folder)?.sync_all()?;
        let length = bytes.len() as u64;
        Ok(Self { file, bytes: length, bytes_after_rewrite: length })
    }

    /// Writes records behind the others, and returns once they will last. After an error the journal is not to be used.
    pub(super) fn append(&mut self, notes: &[Note]) -> io::Result<()> {
        let mut bytes = Vec::new();
        notes.iter().for_each(|note| encode(note, &mut bytes));
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Whether it has become so long that it should be written anew.
    pub(super) fn is_long(&self) -> bool {
        self.bytes > BYTES_MIN_TO_REWRITE.max(2 * self.bytes_after_rewrite)
    }
}

fn encode(note: &Note, out: &mut Vec<u8>) {
    let mut record = [0_u8; RECORD_BYTES];
    let mut prefix: &[u8] = &[];
    match note {
        Note::Purge(Numbered { number, purge: Purge { what, how, at } }) => {
            record[1] = u8::from(*how == How::Soft);
            record[8..16].copy_from_slice(&number.to_le_bytes());
            record[24..28].copy_from_slice(&at.to_le_bytes());
            match what {
                What::Mark(mark) => {
                    record[0] = 1;
                    record[16..24].copy_from_slice(&mark.number().to_le_bytes());
                }
                What::Prefix(text) => {
                    record[0] = 2;
                    prefix = text;
                }
                What::All => record[0] = 3,
            }
        }
        Note::Position(position) => {
            record[0] = 4;
            record[8..16].copy_from_slice(&position.to_le_bytes());
        }
    }
    record[2..4].copy_from_slice(&(prefix.len() as u16).to_le_bytes());
    record[4..8].copy_from_slice(&crc32c::crc32c(prefix).to_le_bytes());
    let checksum = crc32c::crc32c(&record[..28]);
    record[28..].copy_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&record);
    out.extend_from_slice(prefix);
}

fn decode(bytes: &[u8]) -> Past {
    let Some(mut rest) = bytes.strip_prefix(BEGINNING) else { return Past::Damaged };
    let mut notes = Vec::new();
    while let Some((record, after)) = rest.split_first_chunk::<RECORD_BYTES>() {
        let [kind, soft, length @ ..] = *record;
        let long = |at: usize| record[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let short = |at: usize| record[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        if crc32c::crc32c(&record[..28]) != short(28) {
            return Past::Damaged;
        }
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        // Cut short at the end of the file: it was being written.
        let Some((prefix, after)) = after.split_at_checked(length) else { break };
        if crc32c::crc32c(prefix) != short(4) {
            return Past::Damaged;
        }
        let what = match kind {
            1 => What::Mark(Mark::from_number(long(16))),
            2 => What::Prefix(prefix.into()),
            3 => What::All,
            4 => {
                notes.push(Note::Position(long(8)));
                rest = after;
                continue;
            }
            _ => return Past::Damaged,
        };
        let how = if soft == 0 { How::Hard } else { How::Soft };
        notes.push(Note::Purge(Numbered { number: long(8), purge: Purge { what, how, at: short(24) } }));
        rest = after;
    }
    Past::Notes(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Vec<Note> {
        let note = |number, what, how, at| Note::Purge(Numbered { number, purge: Purge { what, how, at } });
        vec![
            note(1, What::Mark(Mark::tag(b"a")), How::Hard, 0),
            note(2, What::Prefix(b"https://example.com/a"[..].into()), How::Soft, 1_700_000_000),
            Note::Position(17),
            note(3, What::All, How::Soft, u32::MAX),
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = BEGINNING.to_vec();
        notes().iter().for_each(|note| encode(note, &mut bytes));
        bytes
    }

    #[test]
    fn what_is_written_is_read_and_a_cut_end_is_no_damage() {
        let bytes = encoded();
        assert_eq!(decode(&bytes), Past::Notes(notes()));
        for length in BEGINNING.len()..bytes.len() {
            let Past::Notes(found) = decode(&bytes[..length]) else { panic!("{length} bytes: damaged") };
            assert!(notes().starts_with(&found) && found.len() < notes().len(), "{length} bytes");
        }
        assert_eq!(decode(b""), Past::Damaged);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encoded();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), Past::Damaged, "bit {bit}");
        }
    }
}
