//! What was purged, and whether an entry is older than that.
//!
//! Purges are numbered. An entry carries the number of the last purge before its fetch began, and its marks. A purge writes its
//! number beside the mark that it names and does nothing else, however many entries carry the mark; an entry is gone when one of
//! its marks, or a prefix of its key, has a higher number than its own. Since a fetch's number is taken at its beginning, what was
//! fetched across a purge is gone as well, whenever it is stored.
//!
//! A lookup compares the number up to which an entry was checked with the latest, and looks at its marks only when they differ:
//! once per entry and purge at most.
//!
//! What was purged softly several times is stale since the first time that it met. Of a mark a few runs of soft purges are remembered, of which
//! the older ones are the longer: what was stored amid a run is said to be stale since its first purge, which may be some times as long ago as
//! it is. So nothing is used for longer than it may be, and what is purged again and again has most of its time.
//!
//! **Bounded.** When there are too many marks or prefixes, the oldest is dropped, and whatever is as old as that is gone as a whole:
//! the `floor`. Nothing that was purged comes back; some of what was not has to be fetched again.

mod order;
mod soft;

use std::collections::HashMap;
use std::sync::Arc;

use crate::key::Mark;
use crate::policy::hash::ByHash;
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};
use order::{Order, Place};
use soft::Soft;

/// The number of the last purge before something began: what a fetch takes with it, so that nothing is stored that a purge
/// meant while it was under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub(crate) u64);

/// What is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Everything that carries a mark.
    Mark(Mark),
    /// Everything whose key begins so.
    Prefix(Box<[u8]>),
    /// Everything.
    All,
}

/// How entries are purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// They are as if they had never been stored.
    Hard,
    /// They are stale: to be validated before they are used, or used when nothing better can be had.
    Soft,
}

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What is purged.
    pub what: What,
    /// How.
    pub how: How,
    /// Of a soft one, since when entries are stale. What it means is the owner's to say; 0 is not known.
    pub at: u32,
}

/// A purge with its number, as it is applied and written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) purge: Purge,
}

/// What purges made of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Valid,
    /// Since then, as the purge has it.
    Stale(u32),
    Gone,
}

/// The numbers of the latest purges, 0 for none.
#[derive(Clone, Debug, Default)]
struct Numbers {
    hard: u64,
    soft: Soft,
}

impl Numbers {
    fn note(&mut self, numbered: &Numbered) {
        let Numbered { number, purge: Purge { how, at, .. } } = numbered;
        match how {
            How::Hard => {
                self.hard = self.hard.max(*number);
                self.soft.forget(self.hard);
            }
            How::Soft if *number > self.hard => self.soft.note(*number, *at),
            How::Soft => {}
        }
    }

    fn latest(&self) -> u64 {
        self.hard.max(self.soft.latest())
    }

    /// As they are written down, the oldest first.
    fn noted(&self, what: &What) -> Vec<Numbered> {
        let softs = self.soft.runs().iter().map(|run| (How::Soft, run.number, run.at));
        let hard = (self.hard > 0).then_some((How::Hard, self.hard, 0));
        let numbered = |(how, number, at)| Numbered { number, purge: Purge { what: what.clone(), how, at } };
        hard.into_iter().chain(softs).map(numbered).collect()
    }

    fn judge(&self, since: u64) -> Judgement {
        if self.hard > since {
            return Judgement::Gone;
        }
        self.soft.stale_since(since).map_or(Judgement::Valid, Judgement::Stale)
    }
}

impl Judgement {
    /// Since when it is stale, if it is.
    pub(crate) fn stale_since(self) -> Option<u32> {
        if let Self::Stale(at) = self { Some(at) } else { None }
    }

    /// The same, of something that another purge has made stale too: by the first of the two.
    fn and_stale(self, at: u32) -> Self {
        Self::Stale(self.stale_since().map_or(at, |first| first.min(at)))
    }
}

#[derive(Clone, Debug)]
struct Rule {
    prefix: Box<[u8]>,
    numbers: Numbers,
}

/// Marks lie in so many tables, so that growing one of them stops a purge for little.
const TABLES: usize = 16;

#[derive(Debug)]
pub(crate) struct Purges {
    /// The number of the last purge. Written last, so that whoever reads it finds what it stands for.
    latest: AtomicU64,
    /// What began with a lower number is gone.
    floor: AtomicU64,
    /// Of `All` and soft.
    stale_floor: RwLock<Soft>,
    tables: [RwLock<HashMap<u64, Numbers, ByHash>>; TABLES],
    rules: RwLock<Arc<Vec<Rule>>>,
    /// Held by whoever purges.
    order: Mutex<Order>,
    marks_max: usize,
    prefixes_max: usize,
}

impl Purges {
    pub(crate) fn new(marks_max: usize, prefixes_max: usize) -> Self {
        Self {
            latest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            stale_floor: RwLock::new(Soft::default()),
            tables: std::array::from_fn(|_| RwLock::new(HashMap::default())),
            rules: RwLock::new(Arc::default()),
            order: Mutex::new(Order::default()),
            marks_max: marks_max.max(1),
            prefixes_max: prefixes_max.max(1),
        }
    }

    /// The number of the last purge.
    pub(crate) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// Purges, and says under which number.
    pub(crate) fn purge(&self, purge: Purge) -> Numbered {
        let mut order = self.order.lock();
        let numbered = Numbered { number: self.latest.load(Ordering::Acquire) + 1, purge };
        self.apply(&mut order, &numbered);
        numbered
    }

    /// Applies what was written down before, in any order.
    pub(crate) fn restore(&self, numbered: &Numbered) {
        let mut order = self.order.lock();
        self.apply(&mut order, numbered);
    }

    fn apply(&self, order: &mut Order, numbered: &Numbered) {
        let Numbered { number, purge: Purge { what, how, at } } = numbered;
        match what {
            What::Mark(mark) => {
                let mark = mark.number();
                let is_new = {
                    let mut table = self.table(mark).write();
                    let before = table.len();
                    table.entry(mark).or_default().note(numbered);
                    table.len() > before
                };
                order.push((*number, mark), is_new);
                self.drop_oldest_marks(order);
            }
            What::Prefix(prefix) => self.add_rule(prefix, numbered),
            What::All if *how == How::Hard => {
                self.floor.fetch_max(*number, Ordering::AcqRel);
                self.stale_floor.write().forget(*number);
            }
            What::All if *number > self.floor.load(Ordering::Acquire) => self.stale_floor.write().note(*number, *at),
            What::All => {}
        }
        self.latest.fetch_max(*number, Ordering::AcqRel);
    }

    fn drop_oldest_marks(&self, order: &mut Order) {
        let is_last =
            |(number, mark): Place| self.table(mark).read().get(&mark).is_some_and(|last| last.latest() <= number);
        order.forget(self.marks_max, |(number, mark)| {
            let is_last = is_last((number, mark));
            if is_last {
                // Whoever does not find the mark has to find the floor.
                self.floor.fetch_max(number, Ordering::AcqRel);
                self.table(mark).write().remove(&mark);
            }
            is_last
        });
        order.tidy(is_last);
    }

    fn add_rule(&self, prefix: &[u8], numbered: &Numbered) {
        let mut rules = self.rules.write();
        let mut changed: Vec<Rule> = rules.as_ref().clone();
        match changed.iter_mut().find(|rule| *rule.prefix == *prefix) {
            Some(rule) => rule.numbers.note(numbered),
            None => {
                let mut numbers = Numbers::default();
                numbers.note(numbered);
                changed.push(Rule { prefix: prefix.into(), numbers });
            }
        }
        changed.sort_unstable_by_key(|rule| rule.numbers.latest());
        while changed.len() > self.prefixes_max {
            let dropped = changed.remove(0);
            self.floor.fetch_max(dropped.numbers.latest(), Ordering::AcqRel);
        }
        *rules = Arc::new(changed);
    }

    /// Whether an entry of before is still good, by the number up to which it was checked, its key and its marks. Also gives
    /// the number up to which it is checked now.
    pub(crate) fn judge(&self, since: u64, key: &[u8], marks: &[Mark]) -> (Judgement, u64) {
        let latest = self.latest();
        if since >= latest {
            return (Judgement::Valid, since);
        }
        let stale_since = self.stale_floor.read().stale_since(since);
        let mut worst = stale_since.map_or(Judgement::Valid, Judgement::Stale);
        for mark in marks {
            let table = self.table(mark.number()).read();
            let judgement = table.get(&mark.number()).map_or(Judgement::Valid, |numbers| numbers.judge(since));
            drop(table);
            match judgement {
                Judgement::Gone => return (Judgement::Gone, latest),
                Judgement::Stale(at) => worst = worst.and_stale(at),
                Judgement::Valid => {}
            }
        }
        let rules = Arc::clone(&self.rules.read());
        // The latest come last; what is older than the entry cannot concern it.
        for rule in rules.iter().rev().take_while(|rule| rule.numbers.latest() > since) {
            if key.starts_with(&rule.prefix) {
                match rule.numbers.judge(since) {
                    Judgement::Gone => return (Judgement::Gone, latest),
                    Judgement::Stale(at) => worst = worst.and_stale(at),
                    Judgement::Valid => {}
                }
            }
        }
        // At last, for a mark or a rule that was not there may have been dropped just now.
        if since < self.floor.load(Ordering::Acquire) { (Judgement::Gone, latest) } else { (worst, latest) }
    }

    /// All that has to be known after a restart, what was purged the longest ago first. Whoever purges meanwhile waits for no more than a copy of
    /// one table, and what he purges is in it or not.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Numbered> {
        let mut all: Vec<(What, Numbers)> = Vec::new();
        for table in &self.tables {
            let copy: Vec<_> = table.read().iter().map(|(mark, numbers)| (*mark, numbers.clone())).collect();
            all.extend(copy.into_iter().map(|(mark, numbers)| (What::Mark(Mark::from_number(mark)), numbers)));
        }
        let rules = Arc::clone(&self.rules.read());
        all.extend(rules.iter().map(|rule| (What::Prefix(rule.prefix.clone()), rule.numbers.clone())));
        // So that the oldest are the first to be dropped after a restart too.
        all.sort_unstable_by_key(|(_, numbers)| numbers.latest());
        // At last, for what is not in the copies may have been dropped since, and a hard one takes the soft ones with it.
        let soft = self.stale_floor.read().clone();
        let floors = (What::All, Numbers { hard: self.floor.load(Ordering::Acquire), soft });
        std::iter::once(floors).chain(all).flat_map(|(what, numbers)| numbers.noted(&what))
    }

    /// Marks and prefixes that are remembered.
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.tables.iter().map(|table| table.read().len()).sum(), self.rules.read().len())
    }

    fn table(&self, mark: u64) -> &RwLock<HashMap<u64, Numbers, ByHash>> {
        &self.tables[(mark >> 60) as usize % TABLES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soft(what: &What, at: u32) -> Purge {
        Purge { what: what.clone(), how: How::Soft, at }
    }

    #[test]
    fn what_was_purged_softly_is_stale_since_the_first_time_that_it_met() {
        // The library's own tests run by the model checker, whose locks these are.
        loom::model(|| {
            let mark = Mark::tag(b"a");
            [What::Mark(mark), What::Prefix((*b"k").into()), What::All].iter().for_each(|what| check(what, mark));
        });
    }

    fn check(what: &What, mark: Mark) {
        let purges = Purges::new(10, 10);
        let judge = |purges: &Purges, since: u64| purges.judge(since, b"key", &[mark]).0;
        let first = purges.purge(soft(what, 100)).number;
        let second = purges.purge(soft(what, 3700)).number;
        assert_eq!(judge(&purges, 0), Judgement::Stale(100), "{what:?}");
        assert_eq!(judge(&purges, first), Judgement::Stale(3700), "{what:?}");
        assert_eq!(judge(&purges, second), Judgement::Valid, "{what:?}");
        let third = purges.purge(soft(what, 7300)).number;
        let found = [0, first, second, third].map(|since| judge(&purges, since));
        let expected = [Judgement::Stale(100), Judgement::Stale(3700), Judgement::Stale(7300), Judgement::Valid];
        assert_eq!(found, expected, "{what:?}");
        // It is the same after a restart, in whatever order it is found, and however often.
        let restored = Purges::new(10, 10);
        let mut all: Vec<_> = purges.snapshot().collect();
        all.extend(all.clone());
        all.iter().rev().for_each(|numbered| restored.restore(numbered));
        assert_eq!([0, first, second, third].map(|since| judge(&restored, since)), expected, "{what:?}");
        // What was from before a hard one is gone, and says nothing of what came after it.
        let hard = purges.purge(Purge { what: what.clone(), how: How::Hard, at: 0 }).number;
        let fourth = purges.purge(soft(what, 8000)).number;
        purges.purge(soft(what, 9000));
        let found = [third, hard, fourth].map(|since| judge(&purges, since));
        assert_eq!(found, [Judgement::Gone, Judgement::Stale(8000), Judgement::Stale(9000)], "{what:?}");
    }

    #[test]
    fn whatever_is_purged_softly_nothing_is_said_to_be_stale_later_than_it_is() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let (mut numbers, mut all): (Numbers, Vec<Numbered>) = (Numbers::default(), Vec::new());
            let (mut at, pause) = (1000, 1 << random.u32(0..16));
            for number in 1..=random.u64(1..200) {
                at += random.u32(0..pause);
                let how = if random.u8(0..100) == 0 { How::Hard } else { How::Soft };
                // A clock may be put back.
                let at = if random.u8(0..20) == 0 { at - random.u32(0..1000) } else { at };
                let numbered = Numbered { number, purge: Purge { what: What::All, how, at } };
                numbers.note(&numbered);
                all.push(numbered);
            }
            assert!(numbers.soft.runs().len() <= soft::RUNS_MAX);
            // All purges that something met are looked at one by one.
            let mut kinds = std::collections::BTreeSet::new();
            for since in 0..=all.len() {
                let met = &all[since..];
                let first = met.iter().map(|one| one.purge.at).min();
                let is_gone = met.iter().any(|one| one.purge.how == How::Hard);
                match (numbers.judge(since as u64), first) {
                    (Judgement::Gone, _) => assert!(is_gone, "{round}: {since}"),
                    (Judgement::Stale(at), Some(first)) => {
                        assert!(at <= first && !is_gone, "{round}: {since}: {at}, {first}");
                        kinds.insert(at);
                    }
                    (Judgement::Stale(at), None) => panic!("{round}: {since}: {at}"),
                    (Judgement::Valid, first) => assert_eq!(first, None, "{round}: {since}"),
                }
            }
            // It is told exactly where the runs suffice, and of what came last.
            let last = numbers.hard as usize..all.len();
            let first = |since: usize| all[since..].iter().map(|one| one.purge.at).min();
            let seconds: std::collections::BTreeSet<_> = last.clone().filter_map(first).collect();
            assert!(kinds.is_subset(&seconds));
            assert!(kinds == seconds || all.len() > soft::RUNS_MAX, "{round}: {kinds:?}, {seconds:?}");
            assert_eq!(kinds.last(), seconds.last(), "{round}");
            // What was written down says the same, in whatever order it is read.
            let mut restored = Numbers::default();
            let runs = numbers.soft.runs();
            let mut notes: Vec<_> = runs.iter().map(|run| (How::Soft, run.number, run.at)).collect();
            notes.push((How::Hard, numbers.hard, 0));
            random.shuffle(&mut notes);
            for (how, number, at) in notes {
                restored.note(&Numbered { number, purge: Purge { what: What::All, how, at } });
            }
            assert_eq!(restored.soft.runs(), runs, "{round}");
        }
    }
}
