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
//! **Bounded.** When there are too many marks or prefixes, the oldest is dropped, and whatever is as old as that is gone as a whole:
//! the `floor`. Nothing that was purged comes back; some of what was not has to be fetched again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::key::Mark;
use crate::policy::hash::ByHash;
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};

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
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    hard: u64,
    soft: u64,
    /// Of the soft one.
    soft_at: u32,
}

impl Numbers {
    fn note(&mut self, numbered: &Numbered) {
        let Numbered { number, purge: Purge { how, at, .. } } = numbered;
        match how {
            How::Hard => self.hard = self.hard.max(*number),
            How::Soft if *number > self.soft => (self.soft, self.soft_at) = (*number, *at),
            How::Soft => {}
        }
    }

    fn latest(self) -> u64 {
        self.hard.max(self.soft)
    }

    fn judge(self, since: u64) -> Judgement {
        match self {
            _ if self.hard > since => Judgement::Gone,
            _ if self.soft > since => Judgement::Stale(self.soft_at),
            _ => Judgement::Valid,
        }
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
    /// Of `All` and soft, and since when what is below it is stale.
    stale_floor: AtomicU64,
    stale_floor_at: AtomicU64,
    tables: [RwLock<HashMap<u64, Numbers, ByHash>>; TABLES],
    rules: RwLock<Arc<Vec<Rule>>>,
    /// Held by whoever purges.
    order: Mutex<Order>,
    marks_max: usize,
    prefixes_max: usize,
}

/// Marks in the order of their purges. One that was purged again has a later place as well, and the earlier one means nothing.
#[derive(Debug, Default)]
struct Order {
    places: VecDeque<(u64, u64)>,
    /// Marks that are remembered.
    count: usize,
}

impl Purges {
    pub(crate) fn new(marks_max: usize, prefixes_max: usize) -> Self {
        Self {
            latest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            stale_floor: AtomicU64::new(0),
            stale_floor_at: AtomicU64::new(0),
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
                order.count += usize::from(is_new);
                order.places.push_back((*number, mark));
                self.drop_oldest_marks(order);
            }
            What::Prefix(prefix) => self.add_rule(prefix, numbered),
            What::All if *how == How::Hard => {
                self.floor.fetch_max(*number, Ordering::AcqRel);
            }
            What::All => {
                if *number > self.stale_floor.load(Ordering::Acquire) {
                    // Whoever finds the number has to find when.
                    self.stale_floor_at.store(u64::from(*at), Ordering::Release);
                    self.stale_floor.store(*number, Ordering::Release);
                }
            }
        }
        self.latest.fetch_max(*number, Ordering::AcqRel);
    }

    fn drop_oldest_marks(&self, order: &mut Order) {
        let is_last =
            |number: u64, mark: u64| self.table(mark).read().get(&mark).is_some_and(|last| last.latest() <= number);
        while order.count > self.marks_max
            && let Some((number, mark)) = order.places.pop_front()
        {
            if is_last(number, mark) {
                // Whoever does not find the mark has to find the floor.
                self.floor.fetch_max(number, Ordering::AcqRel);
                self.table(mark).write().remove(&mark);
                order.count -= 1;
            }
        }
        // A few marks that are purged again and again leave most places without a meaning.
        if order.places.len() > 2 * self.marks_max {
            order.places.retain(|(number, mark)| is_last(*number, *mark));
        }
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

    fn stale_floor_at(&self) -> u32 {
        // It was given as one of these.
        self.stale_floor_at.load(Ordering::Acquire) as u32
    }

    /// Whether an entry of before is still good, by the number up to which it was checked, its key and its marks. Also gives
    /// the number up to which it is checked now.
    pub(crate) fn judge(&self, since: u64, key: &[u8], marks: &[Mark]) -> (Judgement, u64) {
        let latest = self.latest();
        if since >= latest {
            return (Judgement::Valid, since);
        }
        let mut worst = Judgement::Valid;
        if since < self.stale_floor.load(Ordering::Acquire) {
            worst = Judgement::Stale(self.stale_floor_at());
        }
        for mark in marks {
            let numbers = self.table(mark.number()).read().get(&mark.number()).copied();
            match numbers.map_or(Judgement::Valid, |numbers| numbers.judge(since)) {
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

    /// All that has to be known after a restart, the oldest first.
    pub(crate) fn snapshot(&self) -> Vec<Numbered> {
        let _order = self.order.lock();
        let mut all = Vec::new();
        let mut add = |numbers: Numbers, what: &What| {
            let Numbers { hard, soft, soft_at } = numbers;
            for (how, number, at) in [(How::Hard, hard, 0), (How::Soft, soft, soft_at)] {
                if number > 0 {
                    all.push(Numbered { number, purge: Purge { what: what.clone(), how, at } });
                }
            }
        };
        let (hard, soft) = (self.floor.load(Ordering::Acquire), self.stale_floor.load(Ordering::Acquire));
        let floors = Numbers { hard, soft, soft_at: self.stale_floor_at() };
        add(floors, &What::All);
        for table in &self.tables {
            let table: Vec<_> = table.read().iter().map(|(mark, numbers)| (*mark, *numbers)).collect();
            for (mark, numbers) in table {
                add(numbers, &What::Mark(Mark::from_number(mark)));
            }
        }
        for rule in self.rules.read().iter() {
            add(rule.numbers, &What::Prefix(rule.prefix.clone()));
        }
        // So that the oldest are the first to be dropped after a restart too.
        all.sort_unstable_by_key(|numbered| numbered.number);
        all
    }

    /// Marks and prefixes that are remembered.
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.tables.iter().map(|table| table.read().len()).sum(), self.rules.read().len())
    }

    fn table(&self, mark: u64) -> &RwLock<HashMap<u64, Numbers, ByHash>> {
        &self.tables[(mark >> 60) as usize % TABLES]
    }
}
