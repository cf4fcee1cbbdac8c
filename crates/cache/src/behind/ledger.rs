//! What is dirty, what is under way to the sink, and which segments of the journal are still needed.
//!
//! The problem: writes come faster than the sink takes them, some of them for the same key, and the sink fails at times, for all of them or
//! for one. The rules:
//!
//! - **A key has at most one write that waits and one that is under way.** A newer write takes the place of the one that waits, and its
//!   turn; it never overtakes the one that is under way, so the order within a key is kept.
//! - **An older write never takes the place of a newer one**, in whichever order they come back from a journal.
//! - **A batch that failed is halved** until the write that is to blame stands alone. It alone is counted against, and after so many tries it
//!   is a dead letter: one bad write takes none of its neighbours with it, and holds none of them up.
//! - **A sink that is away is nobody's fault**: everything pauses, with backoff and jitter, and no tries are counted, unless it is told to
//!   give up.
//! - **A segment goes when nothing in it is needed and all before it are gone.** In any other order an old write could be found
//!   at a start without the newer one, and be taken for the latest.
//!
//! Here is no clock and no I/O: time and randomness come in.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use breaker::Backoff;
use bytes::Bytes;

use super::record::record_bytes;
use super::sink::{Receipt, SinkError, Write};
use super::version::Version;

/// The bounds and rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) entries_max: usize,
    pub(super) bytes_max: u64,
    pub(super) batch_entries_max: usize,
    pub(super) batch_bytes_max: u64,
    pub(super) linger: Duration,
    pub(super) backoff: Backoff,
    pub(super) tries_max: u32,
    pub(super) outage_tries_max: Option<u32>,
}

/// A write that the sink does not have yet.
#[derive(Clone, Debug)]
struct Live {
    write: Write,
    /// Where it is needed: nowhere once a newer one of its key is in the journal. It must not be moved behind that one, or a start that
    /// finds the older alone would take it for the latest.
    segment: Option<u64>,
    /// The oldest write of the key that this one has replaced, by which its age is told.
    first: Version,
    since: Instant,
    history: History,
    /// It was a dead letter: the sink may have something newer, so that nobody reads it here.
    is_replayed: bool,
}

/// How a write, or the ones before it of its key, fared.
#[derive(Clone, Copy, Debug)]
struct History {
    /// With so many others it may be in a batch.
    company_max: usize,
    failures: u32,
    tries_alone: u32,
    outages: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    None,
    Ready,
    Delayed(Instant, u64),
}

#[derive(Debug)]
struct Slot {
    waiting: Option<Live>,
    flying: Option<Live>,
    turn: Turn,
}

/// A write that the sink will not take, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) write: Write,
    pub(super) reason: String,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Batch(Vec<Write>),
    /// Nothing before that.
    At(Instant),
    /// Nothing before something changes.
    Idle,
}

/// What the end of a batch leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Finished {
    /// Need not be delivered any more.
    pub(super) settled: Vec<Version>,
    pub(super) delivered: usize,
    pub(super) superseded: usize,
    /// To be written down as dead letters; until [`Ledger::buried`] they count as under way.
    pub(super) dead: Vec<Dead>,
}

/// Why a write is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
pub(super) struct Ledger {
    rules: Rules,
    slots: HashMap<Bytes, Slot>,
    ready: VecDeque<Bytes>,
    delayed: BTreeMap<(Instant, u64), Bytes>,
    delays: u64,
    ages: BTreeSet<Version>,
    /// How many records of each segment are needed.
    segments: BTreeMap<u64, u64>,
    entries: usize,
    bytes: u64,
    coalesced: u64,
    outage: u32,
    paused_until: Option<Instant>,
}

impl Ledger {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            slots: HashMap::new(),
            ready: VecDeque::new(),
            delayed: BTreeMap::new(),
            delays: 0,
            ages: BTreeSet::new(),
            segments: BTreeMap::new(),
            entries: 0,
            bytes: 0,
            coalesced: 0,
            outage: 0,
            paused_until: None,
        }
    }

    /// Takes room for a write that is about to be written down.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), Full> {
        if self.entries >= self.rules.entries_max || self.bytes + bytes > self.rules.bytes_max {
            return Err(Full);
        }
        self.entries += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes room for what is there already, whatever the bounds say.
    pub(super) fn reserve_anyway(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    /// Gives room back that was reserved.
    pub(super) fn release(&mut self, bytes: u64) {
        self.entries -= 1;
        self.bytes -= bytes;
    }

    /// A write, for which room was reserved, is in this segment, and lasts.
    pub(super) fn commit(&mut self, write: Write, segment: u64, now: Instant) {
        let slot =
            self.slots.entry(write.key.clone()).or_insert(Slot { waiting: None, flying: None, turn: Turn::None });
        let newest = slot.waiting.as_ref().or(slot.flying.as_ref()).map(|live| live.write.version);
        if newest.is_some_and(|newest| newest >= write.version) {
            self.release(bytes_of(&write));
            return;
        }
        *self.segments.entry(segment).or_default() += 1;
        let first = write.version;
        let history = History { company_max: self.rules.batch_entries_max, failures: 0, tries_alone: 0, outages: 0 };
        let mut live = Live { write, segment: Some(segment), first, since: now, history, is_replayed: false };
        match slot.waiting.take() {
            Some(old) => {
                (live.first, live.since) = (old.first, old.since);
                // The value may be another one, but the sink that failed is the same.
                live.history = History { tries_alone: 0, ..old.history };
                slot.waiting = Some(live);
                self.coalesced += 1;
                self.forget(&old);
            }
            None => {
                self.ages.insert(first);
                let key = live.write.key.clone();
                slot.waiting = Some(live);
                if let Some(flying) = &mut slot.flying {
                    let segment = flying.segment.take();
                    self.unneed(segment);
                } else {
                    slot.turn = Turn::Ready;
                    self.ready.push_back(key);
                }
            }
        }
    }

    /// The latest write of a key that the sink may not have yet, and that is not from the dead letters.
    pub(super) fn dirty(&self, key: &[u8]) -> Option<&Write> {
        let slot = self.slots.get(key)?;
        let live = slot.waiting.iter().chain(&slot.flying).find(|live| !live.is_replayed)?;
        Some(&live.write)
    }

    /// The latest write of a key that is to be delivered.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Version> {
        let slot = self.slots.get(key)?;
        slot.waiting.as_ref().or(slot.flying.as_ref()).map(|live| live.write.version)
    }

    /// A write that was committed was a dead letter before.
    pub(super) fn replayed(&mut self, key: &[u8], version: Version) {
        let live = self.slots.get_mut(key).and_then(|slot| slot.waiting.as_mut());
        if let Some(live) = live.filter(|live| live.write.version == version) {
            live.is_replayed = true;
        }
    }

    /// What to deliver now. `hurry`: do not wait for more to come.
    pub(super) fn next(&mut self, now: Instant, hurry: bool) -> Next {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Next::At(until);
        }
        while let Some((&(due, number), _)) = self.delayed.first_key_value() {
            if due > now {
                break;
            }
            if let Some(key) = self.delayed.remove(&(due, number)) {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.turn = Turn::Ready;
                }
                self.ready.push_back(key);
            }
        }
        let later = self.delayed.first_key_value().map(|(&(due, _), _)| due);
        let Some(front) = self.ready.front() else { return later.map_or(Next::Idle, Next::At) };
        let since = self.slots.get(front).and_then(|slot| slot.waiting.as_ref()).map(|live| live.since);
        let due = since.map_or(now, |since| since + self.rules.linger);
        if due > now && !hurry && self.ready.len() < self.rules.batch_entries_max {
            return Next::At(later.map_or(due, |later| later.min(due)));
        }
        Next::Batch(self.take_batch())
    }

    fn take_batch(&mut self) -> Vec<Write> {
        let (mut batch, mut bytes, mut company_max) = (Vec::new(), 0, self.rules.batch_entries_max);
        while let Some(key) = self.ready.front() {
            let Some(slot) = self.slots.get_mut(key) else { break };
            let Some(live) = &slot.waiting else { break };
            let more = bytes_of(&live.write);
            let company = company_max.min(live.history.company_max);
            let fits = batch.len() < company && bytes + more <= self.rules.batch_bytes_max;
            if !fits && !batch.is_empty() {
                break;
            }
            (bytes, company_max) = (bytes + more, company);
            batch.push(live.write.clone());
            slot.flying = slot.waiting.take();
            slot.turn = Turn::None;
            self.ready.pop_front();
        }
        batch
    }

    /// A batch is back.
    pub(super) fn finish(
        &mut self,
        batch: &[Write],
        outcome: Result<Receipt, SinkError>,
        now: Instant,
        random: u64,
    ) -> Finished {
        let mut finished = Finished::default();
        match outcome {
            Ok(receipt) => {
                (self.outage, self.paused_until) = (0, None);
                let mut refused: HashMap<_, _> = receipt.refused.into_iter().collect();
                let newer: BTreeSet<_> = receipt.newer.iter().map(|(index, _)| *index).collect();
                for (index, write) in batch.iter().enumerate() {
                    if let Some(reason) = refused.remove(&index) {
                        finished.dead.push(Dead { write: write.clone(), reason });
                        continue;
                    }
                    let count = if newer.contains(&index) { &mut finished.superseded } else { &mut finished.delivered };
                    *count += 1;
                    self.settle(&write.key);
                    finished.settled.push(write.version);
                }
            }
            Err(SinkError::Unavailable(reason)) => {
                self.outage = self.outage.saturating_add(1);
                let pause = self.rules.backoff.pause(self.outage, random);
                self.paused_until = Some(now + pause);
                for write in batch {
                    let outages = self.note(&write.key, |history| {
                        history.outages += 1;
                        history.outages
                    });
                    if self.rules.outage_tries_max.is_some_and(|most| outages >= most) {
                        finished.dead.push(Dead { write: write.clone(), reason: reason.clone() });
                    } else {
                        self.put_back(&write.key, now, &mut finished);
                    }
                }
            }
            Err(SinkError::Failed(reason)) => self.blame(batch, &reason, now, random, &mut finished),
        }
        finished
    }

    fn blame(&mut self, batch: &[Write], reason: &str, now: Instant, random: u64, finished: &mut Finished) {
        let is_alone = batch.len() == 1;
        for write in batch {
            let (tries, failures) = self.note(&write.key, |history| {
                history.failures += 1;
                history.tries_alone += u32::from(is_alone);
                history.company_max = batch.len().div_ceil(2);
                (history.tries_alone, history.failures)
            });
            if tries >= self.rules.tries_max {
                finished.dead.push(Dead { write: write.clone(), reason: reason.to_owned() });
            } else {
                // One number for all of the batch, so that its halves stay together.
                self.put_back(&write.key, now + self.rules.backoff.pause(failures, random), finished);
            }
        }
    }

    /// Dead letters that are on disk.
    pub(super) fn buried(&mut self, dead: &[Dead]) -> Vec<Version> {
        dead.iter().for_each(|dead| self.settle(&dead.write.key));
        dead.iter().map(|dead| dead.write.version).collect()
    }

    /// Dead letters that the disk did not take: they are tried again, for what else.
    pub(super) fn unburied(&mut self, dead: &[Dead], now: Instant) -> Finished {
        let mut finished = Finished::default();
        let pause = self.rules.backoff.bound(u32::MAX);
        dead.iter().for_each(|dead| self.put_back(&dead.write.key, now + pause, &mut finished));
        finished
    }

    fn note<T: Default>(&mut self, key: &Bytes, change: impl FnOnce(&mut History) -> T) -> T {
        let live = self.slots.get_mut(key).and_then(|slot| slot.flying.as_mut());
        live.map(|live| change(&mut live.history)).unwrap_or_default()
    }

    /// What was under way is done with.
    fn settle(&mut self, key: &Bytes) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(done) = slot.flying.take() else { return };
        self.ages.remove(&done.first);
        if slot.waiting.is_some() {
            slot.turn = Turn::Ready;
            self.ready.push_back(key.clone());
        } else {
            self.slots.remove(key);
        }
        self.forget(&done);
    }

    /// What was under way waits again, until then; or what is newer does.
    fn put_back(&mut self, key: &Bytes, until: Instant, finished: &mut Finished) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(back) = slot.flying.take() else { return };
        self.delays += 1;
        slot.turn = Turn::Delayed(until, self.delays);
        self.delayed.insert((until, self.delays), key.clone());
        match &mut slot.waiting {
            Some(newer) => {
                self.ages.remove(&newer.first);
                newer.first = back.first;
                newer.history = History { tries_alone: 0, ..back.history };
                self.coalesced += 1;
                finished.settled.push(back.write.version);
                self.forget(&back);
            }
            None => slot.waiting = Some(back),
        }
    }

    fn forget(&mut self, live: &Live) {
        self.unneed(live.segment);
        self.release(bytes_of(&live.write));
    }

    fn unneed(&mut self, segment: Option<u64>) {
        if let Some(needed) = segment.and_then(|segment| self.segments.get_mut(&segment)) {
            *needed -= 1;
        }
    }

    /// A segment has begun. Those before it go, the oldest first, when nothing in them is needed.
    pub(super) fn opened(&mut self, segment: u64) {
        self.segments.entry(segment).or_default();
    }

    /// The oldest segment, if it is below this one and nothing in it is needed.
    pub(super) fn removable(&self, below: u64) -> Option<u64> {
        let (&number, &needed) = self.segments.first_key_value()?;
        (number < below && needed == 0).then_some(number)
    }

    pub(super) fn removed(&mut self, segment: u64) {
        self.segments.remove(&segment);
    }

    /// What a segment is still needed for.
    pub(super) fn needed_in(&self, segment: u64) -> Vec<Write> {
        let lives = self.slots.values().flat_map(|slot| [&slot.waiting, &slot.flying]).flatten();
        let mut writes: Vec<_> =
            lives.filter(|live| live.segment == Some(segment)).map(|live| live.write.clone()).collect();
        writes.sort_unstable_by_key(|write| write.version);
        writes
    }

    /// Writes are in another segment now as well, and last there.
    pub(super) fn moved(&mut self, writes: &[Write], to: u64) {
        for write in writes {
            let Some(slot) = self.slots.get_mut(&write.key) else { continue };
            let lives = [&mut slot.waiting, &mut slot.flying].into_iter().flatten();
            let live = lives.into_iter().find(|live| live.write.version == write.version && live.segment.is_some());
            let Some(live) = live else { continue };
            let before = live.segment.replace(to);
            self.unneed(before);
            *self.segments.entry(to).or_default() += 1;
        }
    }

    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.segments.first_key_value().map(|(&number, _)| number)
    }

    /// The oldest write that the sink does not have, or one that took its place.
    pub(super) fn oldest(&self) -> Option<Version> {
        self.ages.first().copied()
    }

    /// Whether the sink has everything.
    pub(super) fn is_clean(&self) -> bool {
        self.slots.is_empty()
    }

    /// Writes that take room, and their bytes.
    pub(super) fn size(&self) -> (usize, u64) {
        (self.entries, self.bytes)
    }

    pub(super) fn keys(&self) -> usize {
        self.slots.len()
    }

    /// Writes that were replaced by newer ones before the sink had them.
    pub(super) fn coalesced(&self) -> u64 {
        self.coalesced
    }

    /// Tries in a row that found the sink away.
    pub(super) fn outage(&self) -> u32 {
        self.outage
    }
}

/// What a write takes on disk and is counted as.
pub(super) fn bytes_of(write: &Write) -> u64 {
    record_bytes(write.key.len(), write.value.as_ref().map_or(0, Bytes::len))
}

#[cfg(test)]
mod model;
