//! Rows of the edge cache.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};

use super::counter;
use crate::family::{self, Family};

/// What the cache holds and did.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheRow {
    /// Entries in memory.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub bytes_max: u64,
    /// Responses that were stored.
    pub stored: u64,
    /// Responses that made room for others.
    pub evicted: u64,
    /// Fetches under way.
    pub fetches: u64,
    /// Purges.
    pub purges: u64,
    /// Clients that were cut since they took nothing.
    pub readers_cut: u64,
    /// Its disk, if it has one.
    pub disk: Option<CacheDiskRow>,
}

/// What the cache's disk holds and did.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheDiskRow {
    /// Whether it takes what is written.
    pub is_up: bool,
    /// Entries on it.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that they may have.
    pub bytes_max: u64,
    /// Entries that were read.
    pub hits: u64,
    /// Entries that were written.
    pub writes: u64,
    /// Bytes that were read and written.
    pub transferred: [u64; 2],
    /// Reads and writes that were not made.
    pub dropped: [u64; 2],
    /// Reads and writes that were refused.
    pub errors: u64,
    /// Records that were damaged.
    pub corrupt: u64,
}

/// For each result its label, how many requests had it, and how many bytes of bodies these got.
pub type CacheCounts<const N: usize> = [(&'static str, [u64; 2]); N];

/// Writes the families of caches by route. Each row is a route's name, and its counts.
///
/// # Errors
/// Those of the encoder.
pub fn routes_cached<const N: usize>(
    rows: &[(&str, CacheCounts<N>)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    for (family, at) in [(&family::CACHE_REQUESTS, 0), (&family::CACHE_SENT, 1)] {
        let mut family = family.start(encoder)?;
        for (route, results) in rows {
            for (result, counts) in results {
                counter(&mut family, &[("endpoint", *route), ("result", *result)], counts[at])?;
            }
        }
    }
    Ok(())
}

/// Writes the families of what all routes cache in; nothing if no route caches.
///
/// # Errors
/// Those of the encoder.
pub fn cache(row: Option<&CacheRow>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut gauge = |family: &Family, value: fn(&CacheRow) -> u64| {
        let mut family = family.start(encoder)?;
        match row {
            Some(row) => family.encode_gauge(&value(row)),
            None => Ok(()),
        }
    };
    gauge(&family::CACHE_ENTRIES, |row| row.entries)?;
    gauge(&family::CACHE_MEMORY, |row| row.bytes)?;
    gauge(&family::CACHE_MEMORY_MAX, |row| row.bytes_max)?;
    gauge(&family::CACHE_FETCHES, |row| row.fetches)?;
    let mut counter = |family: &Family, value: fn(&CacheRow) -> u64| {
        let mut family = family.start(encoder)?;
        match row.map(value) {
            Some(count) if count > 0 => family.encode_counter::<NoLabelSet, _, u64>(&count, None),
            _ => Ok(()),
        }
    };
    counter(&family::CACHE_STORED, |row| row.stored)?;
    counter(&family::CACHE_EVICTED, |row| row.evicted)?;
    counter(&family::CACHE_PURGES, |row| row.purges)?;
    counter(&family::CACHE_READERS_CUT, |row| row.readers_cut)?;
    disk(row.and_then(|row| row.disk.as_ref()), encoder)
}

fn disk(row: Option<&CacheDiskRow>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut gauge = |family: &Family, value: fn(&CacheDiskRow) -> u64| {
        let mut family = family.start(encoder)?;
        row.map_or(Ok(()), |row| family.encode_gauge(&value(row)))
    };
    gauge(&family::CACHE_DISK_UP, |row| row.is_up.into())?;
    gauge(&family::CACHE_DISK_ENTRIES, |row| row.entries)?;
    gauge(&family::CACHE_DISK, |row| row.bytes)?;
    gauge(&family::CACHE_DISK_MAX, |row| row.bytes_max)?;
    let mut count = |family: &Family, value: fn(&CacheDiskRow) -> u64| {
        let mut family = family.start(encoder)?;
        match row.map(value) {
            Some(count) if count > 0 => family.encode_counter::<NoLabelSet, _, u64>(&count, None),
            _ => Ok(()),
        }
    };
    count(&family::CACHE_DISK_HITS, |row| row.hits)?;
    count(&family::CACHE_DISK_WRITES, |row| row.writes)?;
    count(&family::CACHE_DISK_ERRORS, |row| row.errors)?;
    count(&family::CACHE_DISK_CORRUPT, |row| row.corrupt)?;
    let mut both = |family: &Family, value: fn(&CacheDiskRow) -> [u64; 2]| {
        let mut family = family.start(encoder)?;
        let counts = row.map(value).unwrap_or_default();
        let mut directions = ["read", "written"].into_iter().zip(counts);
        directions.try_for_each(|(direction, count)| counter(&mut family, &[("direction", direction)], count))
    };
    both(&family::CACHE_DISK_TRANSFERRED, |row| row.transferred)?;
    both(&family::CACHE_DISK_DROPPED, |row| row.dropped)
}
