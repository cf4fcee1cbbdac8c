//! Where entries are kept: shards under short locks, bounded in bytes.
//!
//! What stays is decided by `quick_cache` (a clock with a place for newcomers, close to S3-FIFO), which the cache library keeps its
//! values in too. The crate `store`, under the edge cache, is made for bodies that are fetched once and read along; here values are
//! small, and commands change one by what it was: `INCR`, `SET NX`, `GETSET`. A [`Slot`] holds the key's shard while that happens, so
//! that each command on a key is one step to all others. What a tag invalidated is known by the store's own
//! [`Invalidations`]: a number beside the tag, with which entries compare theirs.
//!
//! **Time** is milliseconds since the engine was made, of a clock that is never set. What has expired is not found, and goes when it is
//! asked for or when room is needed.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Options, OptionsBuilder, Weighter};
use store::{Invalidations, Mark, Token};

/// What an entry takes beside its key, its value and its tags: its place in tables that grow by doubling, and what an allocator
/// adds to two allocations. `cargo xtask bench resp` holds the sum against resident memory.
const ENTRY_BYTES: u64 = 200;
/// The same for the list of tags, and for each of them.
const TAGGED_BYTES: u64 = 64;
const TAG_BYTES: u64 = 8;
/// An allocator leaves holes between what has odd sizes: about that part of the bytes.
const HOLES_SHARE: u64 = 16;
/// What tables take at most for each entry, or key that is remembered without a value, before they are made anew for what is left. They
/// grow by doubling, to less than that, and do not shrink by themselves: they would stay as large as many small values had made them.
const TABLE_BYTES_MAX: usize = 200;
/// Keys that are remembered when their values had to make room, as a share of the entries that are expected.
const GHOST_SHARE: f64 = 0.5;
/// What an entry is expected to take, for the first size of the tables.
const EXPECTED_BYTES: u64 = 1024;
/// Shards have at least this memory, and there are no more of them than this.
const SHARD_BYTES_MIN: u64 = 4 << 20;
const SHARDS_MAX: u64 = 64;
/// Places for what came twice, as against newcomers: with fewer newcomers than the library's 3 %, what was stored a moment ago
/// would be the first to go when room is needed.
const HOT_SHARE: f64 = 0.9;
/// Tags whose invalidation is remembered. Beyond, the oldest is dropped, and all entries with tags from before it are gone.
const MARKS_MAX: usize = 1 << 18;

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

type Shard = Cache<Box<[u8]>, Entry, Weigh, DefaultHashBuilder, Evict>;

/// A value, and until when it is good.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Arc<[u8]>,
    /// When it expires, or [`NEVER`].
    pub(crate) deadline: u64,
    pub(crate) tagged: Option<Box<Tagged>>,
}

/// What an entry can be invalidated by.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    /// The number of the last invalidation before the entry.
    pub(crate) since: Token,
    pub(crate) marks: Box<[Mark]>,
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Box<[u8]>, Entry> for Weigh {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        let tags = entry.tagged.as_ref().map_or(0, |tagged| TAGGED_BYTES + TAG_BYTES * tagged.marks.len() as u64);
        let bytes = key.len() as u64 + entry.value.len() as u64;
        ENTRY_BYTES + bytes + bytes / HOLES_SHARE + tags
    }
}

/// Keeps what makes room until the shard is free again, as to free it takes time.
#[derive(Clone, Debug)]
struct Evict;

impl Lifecycle<Box<[u8]>, Entry> for Evict {
    type RequestState = Vec<(Box<[u8]>, Entry)>;

    fn on_evict(&self, state: &mut Self::RequestState, key: Box<[u8]>, entry: Entry) {
        state.push((key, entry));
    }
}

/// The entries of a cache.
#[derive(Debug)]
pub(crate) struct Engine {
    shards: Box<[Mutex<Shard>]>,
    options: Options,
    hasher: DefaultHashBuilder,
    /// Keys that a shard remembers without their values at most.
    ghosts_max: usize,
    invalidations: Invalidations,
    began: Instant,
}

impl Engine {
    pub(crate) fn new(memory_bytes: u64, value_bytes_max: u64) -> Self {
        let shard_bytes_min = SHARD_BYTES_MIN.max(2 * value_bytes_max);
        let count = (memory_bytes / shard_bytes_min).clamp(1, SHARDS_MAX);
        // A power of two, so that a part of the hash is the shard's number.
        let count = 1 << count.ilog2();
        let capacity = memory_bytes / count;
        let mut options = OptionsBuilder::new();
        let expected = (capacity / EXPECTED_BYTES).max(1) as usize;
        options.estimated_items_capacity(expected).ghost_allocation(GHOST_SHARE);
        options.weight_capacity(capacity).hot_allocation(HOT_SHARE);
        let ghosts_max = (expected as f64 * GHOST_SHARE) as usize;
        let options = options.build().expect("both capacities are given");
        let hasher = DefaultHashBuilder::default();
        let shards = (0..count).map(|_| Mutex::new(shard(&options, &hasher))).collect();
        // Invalidations are numbered from the time on, so that a token of the process before, or of an engine before, is below them
        // all. In microseconds, which are more than there are invalidations, and fewer than numbers that JavaScript has.
        let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let invalidations = Invalidations::beginning_at(MARKS_MAX, first);
        Self { shards, options, hasher, ghosts_max, invalidations, began: Instant::now() }
    }

    /// The time, in its milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8], now: u64) -> Option<Arc<[u8]>> {
        let mut shard = self.shard(key);
        let (verdict, value) = shard.get(key).map(|entry| (self.judge(entry, now), Arc::clone(&entry.value)))?;
        settle(&mut shard, key, verdict).then_some(value)
    }

    /// The place of a key, which nobody else looks at while this is held.
    pub(crate) fn slot<'e>(&'e self, key: &'e [u8], now: u64) -> Slot<'e> {
        let mut shard = self.shard(key);
        let verdict = shard.peek(key).map(|entry| self.judge(entry, now));
        if let Some(verdict) = verdict {
            settle(&mut shard, key, verdict);
        }
        Slot { engine: self, shard: Some(shard), key, now, evicted: Vec::new() }
    }

    /// The number of the last invalidation: what an entry takes that is made from now on.
    pub(crate) fn token(&self) -> Token {
        self.invalidations.token()
    }

    /// Has whatever carries the tag gone.
    pub(crate) fn invalidate(&self, tag: &[u8]) {
        self.invalidations.invalidate(Mark::tag(tag));
    }

    /// Whether none of the tags was invalidated since. A token that is not known yet was never given.
    fn holds(&self, tagged: &Tagged) -> bool {
        tagged.since <= self.token() && self.invalidations.judge(tagged.since, &tagged.marks).is_some()
    }

    /// Has everything gone. What it was is freed by whoever drops the result, which takes time.
    pub(crate) fn clear(&self) -> impl Send + use<> {
        let fresh = || shard(&self.options, &self.hasher);
        let swap = |place: &Mutex<Shard>| std::mem::replace(&mut *lock(place), fresh());
        self.shards.iter().map(swap).collect::<Vec<_>>()
    }

    /// Makes a shard's tables anew if they are far larger than its entries need. The key that was just stored stays the newest. This takes
    /// as long as to store each of the entries again, once for several times as many that have made room.
    fn fit(&self, tables: &mut Shard, key: &[u8]) {
        if table_bytes(tables) <= TABLE_BYTES_MAX * (tables.len() + self.ghosts_max) {
            return;
        }
        let mut old = std::mem::replace(tables, shard(&self.options, &self.hasher));
        let newest = old.remove(key);
        for (key, entry) in old.drain().chain(newest) {
            tables.insert(key, entry);
        }
    }

    /// Entries, those included that have expired unnoticed; and the bytes that they take.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(entries, bytes), shard| {
            let shard = lock(shard);
            (entries + shard.len() as u64, bytes + shard.weight())
        })
    }

    fn judge(&self, entry: &Entry, now: u64) -> Verdict {
        match &entry.tagged {
            // Within its last millisecond it is there, so that no life is shorter than was said.
            _ if entry.deadline < now => Verdict::Gone,
            None => Verdict::Good,
            Some(tagged) => match self.invalidations.judge(tagged.since, &tagged.marks) {
                None => Verdict::Gone,
                Some(token) if token == tagged.since => Verdict::Good,
                Some(token) => Verdict::GoodSince(token),
            },
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        // The shard's own tables use the lowest and the highest bits.
        let at = (self.hasher.hash_one(key) >> 32) as usize & (self.shards.len() - 1);
        lock(&self.shards[at])
    }
}

/// What became of an entry.
#[derive(Clone, Copy)]
enum Verdict {
    Good,
    /// Its tags were looked at, and need not be until something is invalidated again.
    GoodSince(Token),
    Gone,
}

/// Notes what became of the entry: whether it is good.
fn settle(shard: &mut Shard, key: &[u8], verdict: Verdict) -> bool {
    match verdict {
        Verdict::Good => {}
        Verdict::GoodSince(token) => {
            if let Some(mut entry) = shard.peek_mut(key)
                && let Some(tagged) = &mut entry.tagged
            {
                tagged.since = token;
            }
        }
        Verdict::Gone => {
            shard.remove(key);
            return false;
        }
    }
    true
}

fn shard(options: &Options, hasher: &DefaultHashBuilder) -> Shard {
    Cache::with_options(options.clone(), Weigh, hasher.clone(), Evict)
}

/// Bytes of a shard's tables.
fn table_bytes(shard: &Shard) -> usize {
    let used = shard.memory_used();
    used.entries + used.map
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Each step of a cache leaves something valid, so one whose holder panicked is taken as it is.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a key, for a command that looks and changes in one step.
pub(crate) struct Slot<'e> {
    engine: &'e Engine,
    shard: Option<MutexGuard<'e, Shard>>,
    key: &'e [u8],
    now: u64,
    evicted: Vec<(Box<[u8]>, Entry)>,
}

impl Slot<'_> {
    /// What is there, and good.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.shard.as_ref()?.get(self.key)
    }

    /// Puts an entry in place of what is there: whether its tags were not invalidated since its token. One that is not good, or has
    /// expired already, only takes away what is there.
    pub(crate) fn put(&mut self, entry: Entry) -> bool {
        let is_good = entry.tagged.as_ref().is_none_or(|tagged| self.engine.holds(tagged));
        let Some(shard) = &mut self.shard else { return false };
        if is_good && entry.deadline > self.now {
            shard.insert_with_lifecycle(self.key.into(), entry, &mut self.evicted);
        } else {
            shard.remove(self.key);
        }
        is_good
    }

    /// Gives what is there another deadline. One that has passed removes it.
    pub(crate) fn set_deadline(&mut self, deadline: u64) {
        let Some(shard) = &mut self.shard else { return };
        if deadline <= self.now {
            shard.remove(self.key);
        } else if let Some(mut entry) = shard.get_mut(self.key) {
            entry.deadline = deadline;
        }
    }

    /// Removes what is there: whether there was anything.
    pub(crate) fn remove(&mut self) -> bool {
        self.shard.as_mut().is_some_and(|shard| shard.remove(self.key).is_some())
    }

    /// Lets go of the key: how many entries made room. What was replaced is none of them.
    pub(crate) fn release(mut self) -> u64 {
        if !self.evicted.is_empty()
            && let Some(shard) = &mut self.shard
        {
            self.engine.fit(shard, self.key);
        }
        self.shard = None;
        self.evicted.iter().filter(|(key, _)| **key != *self.key).count() as u64
    }
}

/// A life as milliseconds, at most some thousand years.
pub(crate) fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(NEVER).min(NEVER >> 16)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What a naive cache knows of a key: its value, its deadline, and its tags with the number of invalidations before it.
    type Known = (u8, u64, Vec<(u8, usize)>);

    #[test]
    fn with_room_for_all_it_is_a_map_whose_entries_end() {
        for seed in 0..if cfg!(debug_assertions) { 20 } else { 200 } {
            let mut random = fastrand::Rng::with_seed(seed);
            let engine = Engine::new(16 << 20, 1024);
            let (mut model, mut invalidated) = (HashMap::<u8, Known>::new(), [0_usize; 4]);
            let mut now = 0;
            for _ in 0..2000 {
                now += random.u64(..20);
                let (key, value, tag) = (random.u8(..16), random.u8(..), random.u8(..4));
                let deadline = if random.bool() { NEVER } else { now + random.u64(1..200) };
                match random.u8(..5) {
                    0 => {
                        let tags: Vec<u8> = (0..tag).collect();
                        let marks = tags.iter().map(|tag| Mark::tag(&[*tag])).collect();
                        let tagged = (!tags.is_empty()).then(|| Box::new(Tagged { since: engine.token(), marks }));
                        assert!(engine.slot(&[key], now).put(Entry { value: [value][..].into(), deadline, tagged }));
                        let tags = tags.into_iter().map(|tag| (tag, invalidated[usize::from(tag)])).collect();
                        model.insert(key, (value, deadline, tags));
                    }
                    1 => {
                        engine.invalidate(&[tag]);
                        invalidated[usize::from(tag)] += 1;
                    }
                    _ => {}
                }
                model.retain(|_, (_, deadline, tags)| {
                    *deadline >= now && tags.iter().all(|(tag, before)| invalidated[usize::from(*tag)] == *before)
                });
                if let Some(known) = model.get_mut(&key) {
                    match random.u8(..8) {
                        0 => {
                            engine.slot(&[key], now).set_deadline(deadline);
                            known.1 = deadline;
                        }
                        1 => {
                            assert!(engine.slot(&[key], now).remove());
                            model.remove(&key);
                        }
                        _ => {}
                    }
                }
                let expected = model.get(&key).map(|(value, ..)| *value);
                assert_eq!(engine.get(&[key], now).map(|value| value[0]), expected, "seed {seed}, key {key} at {now}");
            }
        }
    }

    #[test]
    fn tables_of_many_small_values_do_not_stay_among_a_few_long_ones() {
        let engine = Engine::new(16 << 20, 1 << 16);
        let tables = || engine.shards.iter().map(|shard| table_bytes(&lock(shard))).sum::<usize>();
        for (round, bytes) in [1, 5000, 50, 40_000].into_iter().enumerate() {
            let mut evicted = 0;
            for number in 0..(48 << 20) / (bytes + 200) {
                let key = format!("{round}:{number}");
                let mut slot = engine.slot(key.as_bytes(), 0);
                assert!(slot.put(Entry { value: vec![0; bytes].into(), deadline: NEVER, tagged: None }));
                evicted += slot.release();
                assert!(engine.get(key.as_bytes(), 0).is_some(), "{key} is not there");
            }
            let (entries, used) = engine.size();
            assert!(evicted > 0 && used > 14 << 20, "{used} bytes of {bytes} each");
            let most = TABLE_BYTES_MAX * (entries as usize + 4 * engine.ghosts_max);
            assert!(tables() <= most, "{} bytes of tables for {entries} entries of {bytes}", tables());
        }
    }

    #[test]
    fn an_entry_that_is_stored_too_late_takes_the_one_before_with_it() {
        let engine = Engine::new(16 << 20, 1024);
        let entry = |tagged| Entry { value: b"v"[..].into(), deadline: NEVER, tagged };
        let tagged = Some(Box::new(Tagged { since: engine.token(), marks: [Mark::tag(b"t")].into() }));
        assert!(engine.slot(b"k", 0).put(entry(None)));
        engine.invalidate(b"t");
        assert!(!engine.slot(b"k", 0).put(entry(tagged)));
        assert_eq!(engine.get(b"k", 0), None);
    }
}
