//! The rows, by what they concern.

mod answers;
mod bodies;
mod control;
mod fields;
mod frames;
mod hpack;
mod integers;
mod preface;
mod pseudo;
mod settings;
mod streams;
mod windows;

use testkit::http2::frame::code;

use super::row::Row;

/// Codes for what breaks the protocol.
const PROTOCOL: &[u32] = &[code::PROTOCOL_ERROR];
/// Codes for a frame with a wrong length.
const SIZE: &[u32] = &[code::FRAME_SIZE_ERROR];
/// The same where the length is wrong because something within is missing.
const SIZE_OR_PROTOCOL: &[u32] = &[code::FRAME_SIZE_ERROR, code::PROTOCOL_ERROR];
/// Codes for a frame on a stream that has ended.
const CLOSED: &[u32] = &[code::STREAM_CLOSED];
/// The same where the frame is also out of place.
const CLOSED_OR_PROTOCOL: &[u32] = &[code::STREAM_CLOSED, code::PROTOCOL_ERROR];
/// Codes for windows that overflow.
const FLOW: &[u32] = &[code::FLOW_CONTROL_ERROR];
/// Codes for fields that cannot be read.
const COMPRESSION: &[u32] = &[code::COMPRESSION_ERROR];

pub(super) fn rows() -> Vec<Row> {
    let parts = [
        preface::rows(),
        frames::rows(),
        streams::rows(),
        control::rows(),
        settings::rows(),
        windows::rows(),
        pseudo::rows(),
        fields::rows(),
        bodies::rows(),
        answers::rows(),
        hpack::rows(),
        integers::rows(),
    ];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_rows_and_each_has_its_own_name() {
        let rows = rows();
        assert!(rows.len() >= 200, "{} rows", rows.len());
        let mut names: Vec<_> = rows.iter().map(|row| (row.class, row.name)).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        for row in &rows {
            let may = &row.may;
            let can_end = !may.end.is_empty() || may.live.is_some();
            assert!(can_end, "{}: nothing may come of it", row.name);
        }
    }
}
