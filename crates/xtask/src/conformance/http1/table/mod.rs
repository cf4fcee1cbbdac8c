//! The rows, by what they concern.

mod answers;
mod chunks;
mod connection;
mod fields;
mod framing;
mod lines;

use super::row::Row;

/// Statuses that refuse a request which breaks the grammar or is ambiguous.
const BAD: &[u16] = &[400];
/// The same where something may also be called unimplemented.
const BAD_OR_UNKNOWN: &[u16] = &[400, 501];
/// The same where something may also be called too large.
const BAD_OR_LARGE: &[u16] = &[400, 413, 414, 431];

pub(super) fn rows() -> Vec<Row> {
    let parts = [framing::rows(), chunks::rows(), lines::rows(), fields::rows(), connection::rows(), answers::rows()];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_rows_and_each_has_its_own_name() {
        let rows = rows();
        assert!(rows.len() >= 110, "{} rows", rows.len());
        let mut names: Vec<_> = rows.iter().map(|row| (row.class, row.name)).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        assert!(rows.iter().all(|row| !row.sends.is_empty()));
    }
}
