use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::procfs;

/// Time for idle upstream connections to be closed and for memory to be given back.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long nothing may change before a footprint counts as settled.
const QUIET: Duration = Duration::from_secs(2);
/// Descriptors that come and go on their own: health checks, a scrape under way.
const DESCRIPTORS_SPARE: usize = 8;
/// Memory that an allocator may keep from the load: a quarter of the baseline and 8 MiB. A hundred reloads that each
/// leak a connection's buffers, or minutes of load that leak a hundred bytes a request, exceed it by far.
const MEMORY_SPARE_BYTES: u64 = 8 << 20;

/// The name of the check of memory.
pub(super) const MEMORY: &str = "memory";

/// What a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    descriptors: usize,
    threads: usize,
    rss_bytes: u64,
}

impl Footprint {
    /// Waits until the footprint has stopped to change, or is within `baseline`, or the time is up.
    pub(super) fn settled(pid: u32, baseline: Option<&Self>) -> Result<Self> {
        let begun = Instant::now();
        let mut last = Self::of(pid)?;
        let mut unchanged_since = begun;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = Self::of(pid)?;
            if (now.descriptors, now.threads) != (last.descriptors, last.threads) {
                unchanged_since = Instant::now();
            }
            let within =
                baseline.is_some_and(|baseline| now.leaks_beyond(baseline).iter().all(|(_, leak)| leak.is_ok()));
            let quiet = baseline.is_none() && unchanged_since.elapsed() > QUIET;
            if within || quiet || begun.elapsed() > SETTLE_TIMEOUT {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Waits until what was opened for a load is closed again, or the time is up. Memory is not waited for, as an allocator
    /// may keep some.
    pub(super) fn closed(pid: u32, baseline: &Self) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let now = Self::of(pid)?;
            let open = now.leaks_beyond(baseline).iter().any(|(name, leak)| *name != MEMORY && leak.is_err());
            if !open || begun.elapsed() > SETTLE_TIMEOUT {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it holds now.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let (descriptors, threads) = (procfs::descriptors(pid)?, procfs::threads(pid)?);
        Ok(Self { descriptors, threads, rss_bytes: procfs::rss_bytes(pid)? })
    }

    /// With as many descriptors more as a load that goes on may open at any moment.
    pub(super) fn with_descriptors(mut self, more: usize) -> Self {
        self.descriptors += more;
        self
    }

    /// A check for each thing that can leak.
    pub(super) fn leaks_beyond(&self, baseline: &Self) -> Vec<(&'static str, Result<(), String>)> {
        let check = |name, now: u64, before: u64, spare: u64| {
            let fits = now <= before + spare;
            (name, if fits { Ok(()) } else { Err(format!("{now}, and {before} before the load")) })
        };
        let memory_spare = baseline.rss_bytes / 4 + MEMORY_SPARE_BYTES;
        vec![
            check("descriptors", self.descriptors as u64, baseline.descriptors as u64, DESCRIPTORS_SPARE as u64),
            check("threads", self.threads as u64, baseline.threads as u64, 0),
            check(MEMORY, self.rss_bytes, baseline.rss_bytes, memory_spare),
        ]
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.rss_bytes / 1024;
        write!(f, "{} descriptors, {} threads, {kib} KiB resident", self.descriptors, self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_leak_is_found() {
        let baseline = Footprint { descriptors: 20, threads: 4, rss_bytes: 16 << 20 };
        let count = |change: fn(&mut Footprint)| {
            let mut now = baseline.clone();
            change(&mut now);
            now.leaks_beyond(&baseline).iter().filter(|(_, leak)| leak.is_err()).count()
        };
        assert_eq!(count(|_| {}), 0);
        assert_eq!(count(|now| now.descriptors += 64), 1);
        assert_eq!(count(|now| now.threads += 1), 1);
        assert_eq!(count(|now| now.rss_bytes += 13 << 20), 1);
        assert_eq!(count(|now| now.rss_bytes += 11 << 20), 0);
    }
}
