//! The memory tier: shards of entries, each under a lock of its own that is held for some hundred instructions.
//!
//! A hit takes its shard's lock, finds the entry, tells the policy, and clones a reference. Nobody holds such a lock while it
//! allocates or frees what is large, waits, or copies a body: entries that go are freed afterwards, and no more than a few of them
//! are taken out at a time. With more shards than cores two seldom meet; a lock that is free costs two atomics. What holds a shard
//! up longest is the growth of its tables, which happens when a cache is filled for the first time.
//!
//! What is whole and has yet to be written, to be found on disk then, stands beside the fetches: a fetch of its key begins and ends while it
//! can be found, and neither hides the other. What is being read from disk meanwhile is older.
//!
//! Keys are told apart by 64 bits of a keyed hash, and then compared. Should two in use share them, one pushes the other out.

use std::collections::HashMap;
use std::sync::Arc;

use crate::key::Key;
use crate::object::{Identity, Object};
use crate::pending::{Joined, Past, Pending, Source, Stage};
use crate::policy::Policy;
use crate::policy::hash::ByHash;
use crate::purges::{Judgement, Purges, Token};
use crate::stats::MemoryStats;
use crate::sync::{Mutex, MutexGuard};
use crate::top::{Top, TopKey};

/// A shard has at least so many bytes, so that what it may hold of one entry is worth having.
const SHARD_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// More shards than that do not make meetings rarer on the machines there are.
const SHARDS_MAX: u64 = 64;
/// An entry in memory has at most this part of its shard.
const SHARE_OF_SHARD: u64 = 8;
/// Entries that are taken out while a lock is held once.
const EVICTED_AT_ONCE: usize = 32;
/// Bytes of the tables of a shard, before there are entries in them, with the shadows' at their largest: 6 of 2,048 entries.
const SHARD_OVERHEAD_BYTES: u64 = 1024 * 1024;

/// What a lookup in memory finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// Since when it is stale, if a soft purge made it so.
    Whole(Arc<Object>, Option<u32>),
    Pending(Joined),
    Nothing,
}

/// What became of an entry that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is there; the policy may drop it all the same.
    Kept,
    /// It is too large, and what it replaces is gone.
    TooLarge,
    /// Something newer is there.
    Outdated,
}

/// Who fetches, or reads from disk.
#[derive(Debug)]
pub(crate) enum Joining {
    /// Whoever asked.
    First(Arc<Pending>),
    /// Somebody else.
    Joined(Joined),
}

#[derive(Debug)]
struct Entry {
    object: Arc<Object>,
    /// The number of the last purge that it was checked against.
    checked: Token,
    stale: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Shard {
    slots: HashMap<u64, u32, ByHash>,
    entries: Vec<Option<Entry>>,
    policy: Policy,
    /// Fetches, and reads from disk.
    pending: ByKey,
    /// What is known, and not yet to be found where it will stand.
    known: ByKey,
    top: Top,
    stats: MemoryStats,
}

#[derive(Debug)]
pub(crate) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    object_bytes_max: u64,
}

impl Memory {
    /// Shards for so many bytes in all.
    pub(crate) fn new(bytes: u64) -> Self {
        let count = (bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        // A power of two, so that a few bits of the hash choose.
        let count = 1_u64 << count.ilog2();
        let each = shard_bytes(bytes, count);
        let shards = (0..count).map(|_| Mutex::new(Shard::new(each))).collect();
        Self { shards, object_bytes_max: each / SHARE_OF_SHARD }
    }

    /// The largest entry that is kept in memory.
    pub(crate) fn object_bytes_max(&self) -> u64 {
        self.object_bytes_max
    }

    /// Changes the bound for all shards together.
    pub(crate) fn resize(&self, bytes: u64) {
        let each = shard_bytes(bytes, self.shards.len() as u64);
        for shard in &self.shards {
            let mut guard = shard.lock();
            if guard.policy.capacity() != each {
                guard.policy.resize(each);
                drop(guard);
                evict(shard);
            }
        }
    }

    pub(crate) fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The lowest bits choose the place in the table.
        &self.shards[(hash >> 48) as usize & (self.shards.len() - 1)]
    }

    /// Finds a key, and counts a hit if it is there and good.
    pub(crate) fn lookup(&self, key: Key<'_>, purges: &Purges) -> Found {
        let mut shard = self.shard(key.hash()).lock();
        let mut gone = None;
        let found = match shard.find(key, purges, &mut gone) {
            Some((object, stale)) => Found::Whole(object, stale),
            None => shard.coming(key, purges).map_or(Found::Nothing, Found::Pending),
        };
        match &found {
            Found::Whole(..) => shard.stats.hits += 1,
            Found::Pending(_) => shard.stats.joined += 1,
            Found::Nothing => shard.stats.misses += 1,
        }
        drop(shard);
        drop(gone);
        found
    }

    /// Joins whoever is fetching a key, or has what is newer than what is past for whoever asks, or begins to fetch. Where only fetches
    /// do, nothing is joined that was there before.
    pub(crate) fn join_or_begin(
        &self,
        key: Key<'_>,
        purges: &Purges,
        (past, fetches_only): (Past<'_>, bool),
        begin: impl FnOnce() -> Pending,
    ) -> Joining {
        let mut shard = self.shard(key.hash()).lock();
        let known = shard.known.get(&key.hash());
        let pending = shard.pending.get(&key.hash());
        let pending = pending.filter(|pending| pending.is_fetch() || known.is_none() && !fetches_only);
        let there = [pending, known.filter(|_| !fetches_only)];
        let there = there.into_iter().flatten().filter(|pending| !pending.is_past(past));
        let joined = there.filter_map(|pending| pending.join(key, purges)).next();
        if let Some(joined) = joined {
            shard.stats.joined += 1;
            return Joining::Joined(joined);
        }
        let pending = Arc::new(begin());
        let before = shard.pending.insert(key.hash(), Arc::clone(&pending));
        drop(shard);
        drop(before);
        Joining::First(pending)
    }

    /// Shows a fetch under another key too, unless somebody else is fetching that. What is read there meanwhile is older.
    pub(crate) fn show(&self, hash: u64, pending: &Arc<Pending>) {
        let mut shard = self.shard(hash).lock();
        let before = match shard.pending.get(&hash) {
            Some(before) if before.is_fetching() => return,
            _ => shard.pending.insert(hash, Arc::clone(pending)),
        };
        drop(shard);
        drop(before);
    }

    /// Shows something that is known, whoever fetches or reads the key meanwhile, unless something newer is there.
    pub(crate) fn show_known(&self, identity: &Identity, pending: &Arc<Pending>) {
        let mut shard = self.shard(identity.hash).lock();
        if shard.has_newer(identity) {
            return;
        }
        let before = shard.known.insert(identity.hash, Arc::clone(pending));
        drop(shard);
        drop(before);
    }

    /// Hides a fetch that has ended.
    pub(crate) fn hide(&self, hash: u64, pending: &Arc<Pending>) {
        take_if(&mut self.shard(hash).lock().pending, hash, |found| Arc::ptr_eq(found, pending));
    }

    /// Hides what can be found where it stands.
    pub(crate) fn hide_known(&self, hash: u64, pending: &Arc<Pending>) {
        take_if(&mut self.shard(hash).lock().known, hash, |found| Arc::ptr_eq(found, pending));
    }

    /// Ends a read from disk.
    pub(crate) fn end_of(&self, hash: u64, pending: &Arc<Pending>, source: Option<Source>) {
        // Whoever wakes up has to find the key free.
        self.hide(hash, pending);
        pending.set(source.map_or(Stage::Nothing, Stage::Started));
    }

    /// Whether something newer is there: one that comes late is not to take its place on disk either.
    pub(crate) fn has_newer(&self, identity: &Identity) -> bool {
        self.shard(identity.hash).lock().has_newer(identity)
    }

    /// Whether something newer with another body is there.
    pub(crate) fn has_newer_body(&self, kept: &Source) -> bool {
        let (identity, body_version) = (kept.identity(), kept.body_version());
        let shard = self.shard(identity.hash).lock();
        let entry = shard.slots.get(&identity.hash).and_then(|slot| shard.entry(*slot)).map(|entry| &entry.object);
        let is_other = |object: &Arc<Object>| object.body_version != body_version;
        let known = shard.known.get(&identity.hash);
        entry.is_some_and(|object| is_newer(&object.identity, identity) && is_other(object))
            || known
                .is_some_and(|known| known.age() > Some(identity.age()) && known.body_version() != Some(body_version))
    }

    /// Adds an entry, in place of an older one of its key.
    pub(crate) fn insert(&self, object: Arc<Object>, checked: Token, stale: Option<u32>) -> Inserted {
        let (hash, weight) = (object.identity.hash, object.weight());
        if u64::from(weight) > self.object_bytes_max {
            // What it replaces is older and must not be found instead.
            self.remove_older(&object.identity);
            return Inserted::TooLarge;
        }
        let shard = self.shard(hash);
        let mut guard = shard.lock();
        let inner = &mut *guard;
        let before = inner.slots.get(&hash).copied();
        if before.is_some_and(|slot| {
            inner.entry(slot).is_some_and(|entry| is_newer(&entry.object.identity, &object.identity))
        }) {
            return Inserted::Outdated;
        }
        let before = before.and_then(|slot| inner.take(slot));
        let known = inner.take_known(&object.identity);
        let slot = inner.policy.insert(hash, weight);
        if inner.entries.len() <= slot as usize {
            inner.entries.resize_with(slot as usize + 1, || None);
        }
        inner.entries[slot as usize] = Some(Entry { object, checked, stale });
        inner.slots.insert(hash, slot);
        inner.stats.inserts += 1;
        drop(guard);
        drop((before, known));
        evict(shard);
        Inserted::Kept
    }

    /// Takes out what is older than a version that is not kept in memory.
    pub(crate) fn remove_older(&self, newer: &Identity) {
        let mut shard = self.shard(newer.hash).lock();
        let slot = shard.slots.get(&newer.hash).copied();
        let is_older = |entry: &Entry| !is_newer(&entry.object.identity, newer);
        let slot = slot.filter(|slot| shard.entry(*slot).is_some_and(is_older));
        let entry = slot.and_then(|slot| shard.take(slot));
        let known = shard.take_known(newer);
        drop(shard);
        drop((entry, known));
    }

    /// Takes a key out, also where it has yet to be written.
    pub(crate) fn remove(&self, key: Key<'_>) {
        let mut shard = self.shard(key.hash()).lock();
        let slot = shard.slots.get(&key.hash()).copied();
        let is_meant = |entry: &Entry| *entry.object.identity.key == *key.bytes();
        let slot = slot.filter(|slot| shard.entry(*slot).is_some_and(is_meant));
        let entry = slot.and_then(|slot| shard.take(slot));
        let Shard { pending, known, .. } = &mut *shard;
        let known = [pending, known].map(|map| take_if(map, key.hash(), |found| found.is_known_as(key.bytes())));
        drop(shard);
        drop((entry, known));
    }

    /// The hashes of all that is there, with their versions.
    pub(crate) fn versions(&self) -> Vec<(u64, u64)> {
        let of = |entry: &Entry| (entry.object.identity.hash, entry.object.identity.version);
        let all = self.shards.iter().map(|shard| shard.lock().entries.iter().flatten().map(of).collect::<Vec<_>>());
        all.flatten().collect()
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let mut sum = MemoryStats::default();
        for shard in &self.shards {
            let shard = shard.lock();
            let mut stats = shard.stats;
            stats.entries = shard.slots.len() as u64;
            stats.bytes = shard.policy.weight();
            stats.bytes_max = shard.policy.capacity();
            stats.fetching = shard.pending.len() as u64;
            sum.add(&stats);
        }
        sum
    }

    /// The keys with the most hits, the first one first.
    pub(crate) fn top(&self, count: usize) -> Vec<TopKey> {
        let mut keys: Vec<_> =
            self.shards.iter().flat_map(|shard| shard.lock().top.keys().collect::<Vec<_>>()).collect();
        keys.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.key.cmp(&b.key)));
        keys.truncate(count);
        keys
    }
}

fn shard_bytes(bytes: u64, count: u64) -> u64 {
    let each = bytes / count;
    // A small cache has small tables.
    each.saturating_sub(SHARD_OVERHEAD_BYTES.min(each / 8))
}

/// Whether the first is to stay when the second comes.
fn is_newer(first: &Identity, second: &Identity) -> bool {
    first.age() > second.age()
}

type ByKey = HashMap<u64, Arc<Pending>, ByHash>;

/// Takes what stands under a hash, if it is what is meant: to be freed beside the lock.
fn take_if(map: &mut ByKey, hash: u64, is_meant: impl FnOnce(&Arc<Pending>) -> bool) -> Option<Arc<Pending>> {
    map.get(&hash).is_some_and(is_meant).then(|| map.remove(&hash)).flatten()
}

/// Takes out what has no place any more, a few entries at a time, and frees them beside the lock.
fn evict(shard: &Mutex<Shard>) {
    let mut taken: Vec<Entry> = Vec::new();
    loop {
        let mut guard: MutexGuard<'_, Shard> = shard.lock();
        let inner = &mut *guard;
        while taken.len() < EVICTED_AT_ONCE
            && let Some(slot) = inner.policy.evict()
        {
            inner.slots.remove(&inner.policy.hash(slot));
            taken.extend(inner.entries[slot as usize].take());
        }
        inner.stats.evictions += taken.len() as u64;
        drop(guard);
        if taken.len() < EVICTED_AT_ONCE {
            return;
        }
        taken.clear();
    }
}

impl Shard {
    fn new(bytes: u64) -> Self {
        Self {
            slots: HashMap::default(),
            entries: Vec::new(),
            policy: Policy::new(bytes),
            pending: ByKey::default(),
            known: ByKey::default(),
            top: Top::new(),
            stats: MemoryStats::default(),
        }
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize).and_then(Option::as_ref)
    }

    /// The entry of a key, unless purges took it; then it comes out by `gone`, to be freed beside the lock.
    fn find(&mut self, key: Key<'_>, purges: &Purges, gone: &mut Option<Entry>) -> Option<(Arc<Object>, Option<u32>)> {
        let slot = *self.slots.get(&key.hash())?;
        let entry = self.entries.get_mut(slot as usize)?.as_mut()?;
        let identity = &entry.object.identity;
        if *identity.key != *key.bytes() {
            return None;
        }
        if entry.checked.0 != purges.latest() {
            let (judgement, checked) = purges.judge(entry.checked.0, key.bytes(), &identity.marks);
            if judgement == Judgement::Gone {
                *gone = self.take(slot);
                self.stats.purged += 1;
                return None;
            }
            entry.checked = Token(checked);
            // By the first of several purges.
            entry.stale = entry.stale.or(judgement.stale_since());
        }
        let found = (Arc::clone(&entry.object), entry.stale);
        if self.top.samples() {
            self.top.count(key.hash(), key.bytes(), found.0.body_bytes);
        }
        self.policy.hit(slot);
        Some(found)
    }

    /// What is not in memory as an entry: the newest that is known, or comes. What is known is found while it is fetched again, or read.
    fn coming(&self, key: Key<'_>, purges: &Purges) -> Option<Joined> {
        let pending = self.pending.get(&key.hash());
        let Some(known) = self.known.get(&key.hash()) else { return pending?.join(key, purges) };
        match pending.filter(|pending| pending.age() > known.age()) {
            Some(newer) => newer.join(key, purges).or_else(|| known.join_known(purges)),
            None => known.join_known(purges).or_else(|| pending?.join(key, purges)),
        }
    }

    /// Whether something newer of a key is there, or has yet to be written.
    fn has_newer(&self, identity: &Identity) -> bool {
        let entry = self.slots.get(&identity.hash).and_then(|slot| self.entry(*slot));
        let known = self.known.get(&identity.hash).and_then(|known| known.age());
        entry.is_some_and(|entry| is_newer(&entry.object.identity, identity)) || known > Some(identity.age())
    }

    /// Takes out what is known of a key and older than this.
    fn take_known(&mut self, newer: &Identity) -> Option<Arc<Pending>> {
        take_if(&mut self.known, newer.hash, |known| known.age() < Some(newer.age()))
    }

    fn take(&mut self, slot: u32) -> Option<Entry> {
        self.policy.remove(slot);
        let entry = self.entries[slot as usize].take();
        if let Some(entry) = &entry {
            self.slots.remove(&entry.object.identity.hash);
        }
        entry
    }
}
