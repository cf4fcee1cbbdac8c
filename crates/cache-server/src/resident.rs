//! What allocators keep of memory that is free.
//!
//! The bound counts what entries take. When values of one size make room for those of another, the C library's heaps keep holes between
//! them, and give back what is free at their ends alone: after values have grown tenfold and shrunk again, 1.4 times the bound was resident,
//! and more with each such turn. So a thread looks once in a while whether far more is resident than is counted, and has the
//! library give whole free pages back (`malloc_trim`). That holds each heap up for the time it takes, some milliseconds for each 10 MiB that are
//! free, so it is done only when there is enough to be had.
//!
//! Pages on which something still stands cannot be given back. Where little could, it is tried again after ever longer pauses. The heaps are those
//! of the whole process, and other parts of it take and free memory beside caches: what they have to spare may be more than a small cache has, so
//! there is a floor below which nothing is done, and some seconds pass in any case.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::named::NamedCache;

/// How often it is looked. Memory grows by what is written in so much time before anything is done.
const LOOK: Duration = Duration::from_millis(250);
/// The share of the bound that may be resident beyond what is counted, and so much in any case: a few thousand connections have as much.
const BEYOND_SHARE: i64 = 16;
const BEYOND_MIN: i64 = 16 << 20;
/// The share of it that is worth the time, and how much is in any case too little.
const GAIN_SHARE: i64 = 64;
const GAIN_MIN: i64 = 4 << 20;
/// Looks that are left out in any case, so that all heaps are held up every three seconds at most.
const PAUSE_MIN: u32 = 12;
/// Most looks that are left out when there was little to be had.
const PAUSE_MAX: u32 = 120;

type Named = ArcSwap<Vec<Arc<NamedCache>>>;

/// When memory is given back.
#[derive(Debug, Default)]
struct Measure {
    /// What was resident beyond what is counted before there were entries.
    empty: Option<i64>,
    /// Looks that are left out from now on, and after the next time that gives little.
    pause: u32,
    next_pause: u32,
}

impl Measure {
    /// Whether so much is resident beyond what is counted, with a bound of so many bytes, that it is to be given back.
    fn is_much(&mut self, beyond: i64, bound: i64) -> bool {
        let empty = *self.empty.get_or_insert(beyond);
        self.pause = self.pause.saturating_sub(1);
        self.pause == 0 && beyond > empty + (bound / BEYOND_SHARE).max(BEYOND_MIN)
    }

    /// So much of it went. What is little is not tried again soon.
    fn went(&mut self, bytes: i64, bound: i64) {
        let is_little = bytes < (bound / GAIN_SHARE).max(GAIN_MIN);
        self.next_pause = if is_little { (2 * self.next_pause).clamp(PAUSE_MIN, PAUSE_MAX) } else { PAUSE_MIN };
        self.pause = self.next_pause;
    }
}

/// Looks after the memory of caches for as long as there are any.
pub(crate) fn watch(named: &Arc<Named>) {
    if !can_give_back() {
        return;
    }
    let named = Arc::downgrade(named);
    let started = std::thread::Builder::new().name("cache-memory".to_owned()).spawn(move || keep(&named));
    if let Err(error) = started {
        tracing::warn!(%error, "free memory of caches is not given back");
    }
}

fn keep(named: &Weak<Named>) {
    let mut measure = Measure::default();
    loop {
        let Some(all) = named.upgrade() else { return };
        if let Some((beyond, bound)) = beyond(&all)
            && measure.is_much(beyond, bound)
        {
            give_back();
            let left = self::beyond(&all).map_or(beyond, |(left, _)| left);
            tracing::debug!(beyond, left, "free memory was given back");
            measure.went(beyond - left, bound);
        }
        drop(all);
        std::thread::sleep(LOOK);
    }
}

/// Bytes of this process's own memory that are resident and not counted as entries', and the bound of all caches.
fn beyond(named: &Named) -> Option<(i64, i64)> {
    let (mut counted, mut bound) = (0, 0);
    for cache in named.load().iter() {
        let settings = cache.settings();
        counted += settings.engine.size().1;
        bound += settings.params.memory_bytes;
    }
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    (bound > 0).then_some((signed(resident()?) - signed(counted), signed(bound)))
}

/// Bytes that are resident and in no file.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split(' ').skip(1).map(|pages| pages.parse::<u64>().ok());
    let (all, shared) = (pages.next()??, pages.next()??);
    Some(all.saturating_sub(shared) * rustix::param::page_size() as u64)
}

const fn can_give_back() -> bool {
    cfg!(all(target_os = "linux", target_env = "gnu"))
}

/// Has the allocator give whole pages that are free back to the system.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time from any thread, takes a number by value, and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::engine::{Entry, NEVER};
    use crate::params::CacheParams;

    /// Large enough that the floor is an eighth of it.
    const BOUND: usize = 128 << 20;
    /// Values grow, and shrink again; of each size are stored four times as many as fit.
    const SIZES: [usize; 3] = [100, 1000, 100];
    const RESIDENT_MAX: f64 = 1.25;
    const SUBJECT: &str = "TENFOLD_RESIDENT_SUBJECT";
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_cannot_be_given_back_is_not_tried_again_soon() {
        const MIB: i64 = 1 << 20;
        let bound = 1024 * MIB;
        let mut measure = Measure::default();
        let mut is_much = |beyond: i64| measure.is_much(beyond * MIB, bound);
        assert!(!is_much(100) && !is_much(164) && is_much(165));
        let looks_until_it_is_tried =
            |measure: &mut Measure| (1..).find(|_| measure.is_much(300 * MIB, bound)).unwrap();
        // However much came back, others are not held up again at once.
        measure.went(100 * MIB, bound);
        assert_eq!(looks_until_it_is_tried(&mut measure), PAUSE_MIN);
        for pause in [2, 4, 8, 10, 10].map(|times| times * PAUSE_MIN) {
            measure.went(15 * MIB, bound);
            assert_eq!(looks_until_it_is_tried(&mut measure), pause);
        }
        measure.went(16 * MIB, bound);
        assert_eq!(looks_until_it_is_tried(&mut measure), PAUSE_MIN);
    }

    #[test]
    fn what_others_take_beside_a_small_cache_is_none_of_its_business() {
        let mut measure = Measure::default();
        let bound = 1 << 20;
        assert!(
            !measure.is_much(0, bound) && !measure.is_much(BEYOND_MIN, bound) && measure.is_much(BEYOND_MIN + 1, bound)
        );
        // Little came back.
        measure.went(GAIN_MIN - 1, bound);
        assert_eq!(measure.pause, PAUSE_MIN);
        measure.went(GAIN_MIN - 1, bound);
        assert_eq!(measure.pause, 2 * PAUSE_MIN);
    }

    /// A process that is measured, as what other tests take would count too. By itself it does nothing.
    #[test]
    fn subject() {
        if std::env::var_os(SUBJECT).is_none() {
            return;
        }
        let params = CacheParams {
            name: "main".parse().unwrap(),
            listen: None,
            http: None,
            memory_bytes: BOUND as u64,
            ttl: None,
            value_bytes_max: 1 << 20,
            connections_max: 1,
            password: None,
            idle_timeout: None,
            stall_timeout: Duration::from_secs(1),
        };
        let cache = Arc::new(NamedCache::new(params, 1));
        let (named, engine) = (Arc::new(ArcSwap::from_pointee(vec![Arc::clone(&cache)])), &cache.settings().engine);
        let empty = resident().unwrap();
        watch(&named);
        // It has seen what there is without entries.
        std::thread::sleep(2 * LOOK);
        let share = || resident().unwrap().saturating_sub(empty) as f64 / BOUND as f64;
        for bytes in SIZES {
            for _ in 0..4 * BOUND / (bytes + 200) {
                let key = format!("key:{:012}", fastrand::usize(..2 * BOUND / (bytes + 200)));
                let mut slot = engine.slot(key.as_bytes(), 0);
                assert!(slot.put(Entry { value: vec![7; bytes].into(), deadline: NEVER, tagged: None }));
                slot.release();
            }
            println!("after values of {bytes}: {:.3}", share());
        }
        let began = Instant::now();
        while share() > RESIDENT_MAX && began.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
        }
        println!("in the end: {:.3}", share());
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_is_resident_is_a_quarter_more_than_the_bound_at_most_after_values_grew_and_shrank() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "resident::tests::subject", "--nocapture"]).env(SUBJECT, "1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{said}");
        let end = said.split_once("in the end: ").and_then(|(_, rest)| rest.lines().next()?.parse::<f64>().ok());
        let end = end.expect("the subject came to its end");
        assert!(end <= RESIDENT_MAX, "{end} of the bound is resident");
    }
}
