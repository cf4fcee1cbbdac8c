//! What routes did besides sending requests on.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::counter;
use crate::family;

/// Writes `http_requests_mirrored`. Each row is a route's name, how many of its requests were mirrored, and how many should
/// have been.
///
/// # Errors
/// Those of the encoder.
pub fn routes_mirrored(rows: &[(&str, [u64; 2])], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::HTTP_MIRRORED.start(encoder)?;
    for (route, counts) in rows {
        for (result, count) in ["sent", "dropped"].into_iter().zip(counts) {
            counter(&mut family, &[("endpoint", *route), ("result", result)], *count)?;
        }
    }
    Ok(())
}

/// Writes `http_forward_auth`. Each row is a route's name, and how many of its requests were allowed, denied, and neither.
///
/// # Errors
/// Those of the encoder.
pub fn routes_asked(rows: &[(&str, [u64; 3])], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::HTTP_FORWARD_AUTH.start(encoder)?;
    for (route, counts) in rows {
        for (result, count) in ["allowed", "denied", "failed"].into_iter().zip(counts) {
            counter(&mut family, &[("endpoint", *route), ("result", result)], *count)?;
        }
    }
    Ok(())
}

/// Writes `http_files`. Each row is a route's name, and how many of its requests were served from memory, were served from
/// a disk, had no file, were refused, and failed.
///
/// # Errors
/// Those of the encoder.
pub fn routes_files(rows: &[(&str, [u64; 5])], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::HTTP_FILES.start(encoder)?;
    for (route, counts) in rows {
        for (result, count) in ["memory", "disk", "missing", "refused", "failed"].into_iter().zip(counts) {
            counter(&mut family, &[("endpoint", *route), ("result", result)], *count)?;
        }
    }
    Ok(())
}

/// Writes the `http_compress*` families. Each row is a route's name, how many of its responses were compressed by each of
/// the codings, and their bytes before and after.
///
/// # Errors
/// Those of the encoder.
pub fn routes_compressed(
    rows: &[(&str, [u64; 5])],
    codings: [&str; 3],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = family::HTTP_COMPRESSED.start(encoder)?;
    for (route, counts) in rows {
        for (coding, count) in codings.into_iter().zip(counts) {
            counter(&mut family, &[("endpoint", *route), ("coding", coding)], *count)?;
        }
    }
    let mut family = family::HTTP_COMPRESSION_BYTES.start(encoder)?;
    for (route, [.., before, after]) in rows {
        counter(&mut family, &[("endpoint", *route), ("side", "before")], *before)?;
        counter(&mut family, &[("endpoint", *route), ("side", "after")], *after)?;
    }
    Ok(())
}
