//! Tells, of the bytes of a file, what was written, what was being written when the power went, and what is damaged.
//!
//! The problem: a loss of power may leave any part of what was not synced, and none of that is missed, for nobody was told that it
//! lasts. A byte that is wrong anywhere else is a loss, and has to be told from that. The rule: every record says how much of its file
//! was known to last when it was written. So a bad place is damage if a later record knew it as lasting; if none did, the file
//! ends there. Of a file that was followed by another one, it is known where it ends, and all before that counts.
//!
//! What remains: damage to what was synced last, with nothing written behind it, looks like the end. A journal that was closed in order has
//! its last record behind everything, and has no such place.

use bytes::Bytes;

use super::record::{ALIGNMENT, BEGINNING_BYTES, Bad, Record, decode};
use super::version::Version;

/// What is known of where a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// So many bytes count; what follows never did.
    Known(u64),
    /// It was being written.
    Open,
}

/// A place that is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// What was there, if that can be told.
    pub(super) named: Option<(Bytes, Version)>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) records: Vec<Record>,
    pub(super) damage: Vec<Gap>,
    /// Where what counts ends.
    pub(super) end: u64,
    /// Bytes behind that.
    pub(super) torn_bytes: u64,
}

/// Looks at every record of a file.
pub(super) fn scan(file: &Bytes, secret: u64, end: End) -> Scan {
    let file_bytes = file.len() as u64;
    let known = match end {
        End::Known(bytes) => bytes,
        End::Open => file_bytes,
    };
    let there = file.slice(..known.min(file_bytes) as usize);
    let (found, gaps) = look(&there, secret);
    let synced = found.iter().map(|(_, record)| record.synced).max().unwrap_or(0);
    let mut scan = Scan { end: known, torn_bytes: file_bytes.saturating_sub(known), ..Scan::default() };
    for gap in gaps {
        if end == End::Open && gap.at >= synced {
            scan.torn_bytes = file_bytes - gap.at;
            scan.end = gap.at;
            break;
        }
        scan.damage.push(gap);
    }
    if known > file_bytes {
        scan.damage.push(Gap { at: file_bytes, bytes: known - file_bytes, named: None });
    }
    let end = scan.end;
    scan.records = found.into_iter().filter(|(at, _)| *at < end).map(|(_, record)| record).collect();
    scan
}

fn look(file: &Bytes, secret: u64) -> (Vec<(u64, Record)>, Vec<Gap>) {
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    let mut at = BEGINNING_BYTES;
    while at < file.len() {
        match decode(file, at, secret) {
            Ok((record, bytes)) => {
                found.push((at as u64, record));
                at += bytes;
            }
            Err(bad) => {
                let (next, named) = match bad {
                    Bad::Value { key, version, bytes } => (at + bytes as usize, Some((key, version))),
                    Bad::Unknown => (next_record(file, at, secret), None),
                };
                let next = next.min(file.len());
                gaps.push(Gap { at: at as u64, bytes: (next - at) as u64, named });
                at = next;
            }
        }
    }
    (found, gaps)
}

/// The next place where a record begins.
fn next_record(file: &Bytes, at: usize, secret: u64) -> usize {
    let mut places = (at + ALIGNMENT..file.len()).step_by(ALIGNMENT);
    places.find(|place| decode(file, *place, secret) != Err(Bad::Unknown)).unwrap_or(file.len())
}

#[cfg(test)]
mod tests {
    use super::super::record::{Kind, encode};
    use super::*;

    const SECRET: u64 = 77;

    /// Three groups, each of which knows that those before it last; and where each record begins.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = vec![0; BEGINNING_BYTES];
        let mut places = Vec::new();
        for group in 0..3_u8 {
            let synced = bytes.len() as u64;
            for one in 0..2_u8 {
                places.push(bytes.len());
                let version = Version::from_u128(u128::from(group * 2 + one) + 1);
                let (key, value) = (vec![b'k', group, one].into(), vec![one; 20].into());
                encode(&Record { kind: Kind::Put, version, synced, key, value }, SECRET, &mut bytes);
            }
        }
        (bytes, places)
    }

    fn versions(scan: &Scan) -> Vec<u128> {
        scan.records.iter().map(|record| record.version.as_u128()).collect()
    }

    #[test]
    fn a_flipped_bit_is_damage_where_a_later_record_knew_the_place_as_lasting() {
        let (whole, places) = file();
        for bit in BEGINNING_BYTES * 8..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let hit = places.iter().rposition(|place| *place <= bit / 8).unwrap();
            let open = scan(&bad.clone().into(), SECRET, End::Open);
            let sealed = scan(&bad.into(), SECRET, End::Known(whole.len() as u64));
            let expected: Vec<u128> = (1..=6).filter(|version| *version != hit as u128 + 1).collect();
            assert_eq!((versions(&sealed), sealed.damage.len(), sealed.torn_bytes), (expected, 1, 0), "bit {bit}");
            if hit < 4 {
                assert_eq!((open.damage, open.torn_bytes), (sealed.damage, 0), "bit {bit}");
            } else {
                let before: Vec<u128> = (1..=hit as u128).collect();
                assert_eq!((versions(&open), open.damage.len()), (before, 0), "bit {bit}");
                assert_eq!(open.torn_bytes, (whole.len() - places[hit]) as u64);
            }
        }
    }

    #[test]
    fn a_cut_is_the_end_of_an_open_file_and_damage_of_one_whose_end_is_known() {
        let (whole, places) = file();
        for length in BEGINNING_BYTES..whole.len() {
            let cut: Bytes = whole[..length].to_vec().into();
            let open = scan(&cut, SECRET, End::Open);
            let complete = places.iter().filter(|place| **place + 72 <= length).count() as u128;
            assert_eq!(versions(&open), (1..=complete).collect::<Vec<_>>(), "{length} bytes");
            assert_eq!(open.damage, [], "{length} bytes");
            let sealed = scan(&cut, SECRET, End::Known(whole.len() as u64));
            assert!(!sealed.damage.is_empty(), "{length} bytes");
            let lost: u64 = sealed.damage.iter().map(|gap| gap.bytes).sum();
            assert_eq!(lost, (whole.len() - BEGINNING_BYTES) as u64 - 72 * complete as u64, "{length} bytes");
        }
    }

    #[test]
    fn what_follows_the_known_end_never_counts() {
        let (whole, places) = file();
        let found = scan(&whole.clone().into(), SECRET, End::Known(places[3] as u64));
        assert_eq!((versions(&found), found.damage.len()), (vec![1, 2, 3], 0));
        assert_eq!(found.torn_bytes, (whole.len() - places[3]) as u64);
    }

    #[test]
    fn a_record_within_a_value_is_none() {
        let mut inner = Vec::new();
        let version = Version::from_u128(9);
        let record = |value: Bytes| Record { kind: Kind::Put, version, synced: 0, key: "k".into(), value };
        encode(&record("inner".into()), SECRET + 1, &mut inner);
        let mut bytes = vec![0; BEGINNING_BYTES];
        encode(&record(inner.into()), SECRET, &mut bytes);
        bytes[BEGINNING_BYTES] ^= 1;
        let found = scan(&bytes.into(), SECRET, End::Known(BEGINNING_BYTES as u64));
        assert_eq!(found.records, []);
    }
}
