//! Rows of named caches.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::counter;
use crate::family::{self, Family};

/// What a named cache holds and did.
#[derive(Clone, Debug, Default)]
pub struct NamedCacheRow {
    /// Its name.
    pub cache: String,
    /// Commands by name.
    pub commands: Vec<(&'static str, u64)>,
    /// Commands that were answered by an error.
    pub errors: u64,
    /// Hits and misses.
    pub lookups: [u64; 2],
    /// Values that were stored.
    pub stored: u64,
    /// Entries that made room.
    pub evicted: u64,
    /// Tags that were invalidated.
    pub invalidations: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed without being served.
    pub refused: u64,
    /// Connections cut.
    pub cut: u64,
    /// Bytes received and sent.
    pub transferred: [u64; 2],
    /// Entries.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub bytes_max: u64,
}

/// Writes the `named_cache_*` families.
///
/// # Errors
/// Those of the encoder.
pub fn named_caches(rows: &[NamedCacheRow], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::NAMED_COMMANDS.start(encoder)?;
    for row in rows {
        for (command, count) in &row.commands {
            counter(&mut family, &[("cache", row.cache.as_str()), ("command", *command)], *count)?;
        }
    }
    let mut pairs =
        |family: &Family, label: &'static str, names: [&'static str; 2], of: fn(&NamedCacheRow) -> [u64; 2]| {
            let mut family = family.start(encoder)?;
            for row in rows {
                for (name, count) in names.into_iter().zip(of(row)) {
                    counter(&mut family, &[("cache", row.cache.as_str()), (label, name)], count)?;
                }
            }
            Ok(())
        };
    pairs(&family::NAMED_LOOKUPS, "result", ["hit", "miss"], |row| row.lookups)?;
    pairs(&family::NAMED_TRANSFERRED, "direction", ["received", "sent"], |row| row.transferred)?;
    let mut count = |family: &Family, of: fn(&NamedCacheRow) -> u64| {
        let mut family = family.start(encoder)?;
        rows.iter().try_for_each(|row| counter(&mut family, &[("cache", row.cache.as_str())], of(row)))
    };
    count(&family::NAMED_ERRORS, |row| row.errors)?;
    count(&family::NAMED_STORED, |row| row.stored)?;
    count(&family::NAMED_EVICTED, |row| row.evicted)?;
    count(&family::NAMED_INVALIDATIONS, |row| row.invalidations)?;
    count(&family::NAMED_ACCEPTED, |row| row.accepted)?;
    count(&family::NAMED_REFUSED, |row| row.refused)?;
    count(&family::NAMED_CUT, |row| row.cut)?;
    let mut level = |family: &Family, of: fn(&NamedCacheRow) -> u64| {
        let mut family = family.start(encoder)?;
        rows.iter().try_for_each(|row| family.encode_family(&[("cache", row.cache.as_str())])?.encode_gauge(&of(row)))
    };
    level(&family::NAMED_ENTRIES, |row| row.entries)?;
    level(&family::NAMED_MEMORY, |row| row.bytes)?;
    level(&family::NAMED_MEMORY_MAX, |row| row.bytes_max)?;
    level(&family::NAMED_CONNECTIONS, |row| row.connections)
}
