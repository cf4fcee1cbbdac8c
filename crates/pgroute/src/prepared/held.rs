//! Which statements a backend has.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::{Changes, Number};

/// What has to be sent before a statement can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the backend has it, or will have it when it comes to that.
    Nothing,
    /// A `Parse`, and before that what is to be closed.
    Parse {
        /// Whether it is closed first itself: an older one is there, or may be.
        anew: bool,
        /// What has to go for it.
        close: Option<Number>,
    },
}

/// A `Parse` or a `Close` of a statement that was sent. Another one may have been sent since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    number: Number,
    mark: u64,
}

/// The mark of a `Close` that stands before a `Parse` of the same statement.
const OVERTAKEN: u64 = 0;

/// Statements of a backend, the least used of which go when there are too many.
///
/// A `Parse` that was sent counts as done, because what is sent behind it will find the statement. A `Close` counts as done when it is answered: until
/// then nobody knows, so the statement is closed once more before it is used. An error may drop either on its way, when more that concerns the
/// same statement was sent behind the dropped group: each is taken back only as far as it was the last one. What was sent last is taken back first.
#[derive(Clone, Debug)]
pub struct Held {
    numbers: HashMap<Number, Use, RandomState>,
    /// Those that are not being closed, by when they were used last, as far as that was looked at: a use does not move its statement here. Who looks for
    /// the oldest one puts those right that it finds in front of that.
    order: BTreeSet<(u64, Number)>,
    uses: u64,
    numbers_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    /// When it was used last, as a count.
    at: u64,
    /// By when it stands in the order.
    filed: u64,
    /// When the last `Parse` or `Close` of it was sent, by the same count.
    mark: u64,
    /// How many changes there had been when it was parsed. `None`: nobody knows, or whether it is there at all. It is closed before it is used.
    parsed_at: Option<Changes>,
    /// It is being closed.
    is_closing: bool,
}

impl Use {
    fn is_from(&self, since: Changes) -> bool {
        self.parsed_at.is_some_and(|at| at >= since)
    }
}

impl Held {
    /// At most so many; one at least.
    pub fn new(numbers_max: usize) -> Self {
        Self { numbers: HashMap::default(), order: BTreeSet::new(), uses: 0, numbers_max: numbers_max.max(1) }
    }

    /// How many there are, those left aside that are being closed.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A statement is to be used, by a client that must not see one from before `since`. There have been `now` changes by now.
    pub fn use_of(&mut self, number: Number, since: Changes, now: Changes) -> Need {
        self.uses += 1;
        let at = self.uses;
        let fresh = Use { at, filed: at, mark: at, parsed_at: Some(now), is_closing: false };
        let (mut anew, mut is_counted) = (false, false);
        if let Some(used) = self.numbers.get_mut(&number) {
            if used.is_from(since) {
                used.at = self.uses;
                return Need::Nothing;
            }
            (anew, is_counted) = (true, !used.is_closing);
        }
        let is_full = !is_counted && self.len() >= self.numbers_max;
        let close = is_full.then(|| self.oldest()).flatten();
        if let Some(close) = close {
            self.close(close);
        }
        self.insert(number, fresh);
        Need::Parse { anew, close }
    }

    /// A `Close` of a statement is sent.
    pub fn close(&mut self, number: Number) -> Sent {
        self.uses += 1;
        self.insert(number, Use { at: 0, filed: 0, mark: self.uses, parsed_at: None, is_closing: true });
        Sent { number, mark: self.uses }
    }

    /// What was sent last of a statement.
    pub fn sent(&self, number: Number) -> Sent {
        Sent { number, mark: self.numbers.get(&number).map_or(OVERTAKEN, |used| used.mark) }
    }

    /// A `Close` that stands before the `Parse` of the same statement.
    pub fn overtaken(number: Number) -> Sent {
        Sent { number, mark: OVERTAKEN }
    }

    /// Whether a statement is there that a client may use which must not see one from before `since`.
    pub fn has(&self, number: Number, since: Changes) -> bool {
        self.numbers.get(&number).is_some_and(|used| used.is_from(since))
    }

    /// What is there.
    pub fn numbers(&self) -> Vec<Number> {
        self.numbers.keys().copied().collect()
    }

    /// How many changes there had been when it was parsed, if it is there.
    pub fn parsed_at(&self, number: Number) -> Option<Changes> {
        self.numbers.get(&number)?.parsed_at
    }

    /// A `Parse` was answered: whatever was believed since, it is there.
    pub fn parsed(&mut self, sent: Sent) {
        if !self.numbers.contains_key(&sent.number) {
            self.kept(sent.number);
        }
    }

    /// A `Parse` failed, or an error dropped it.
    pub fn unparsed(&mut self, sent: Sent) {
        if self.is_last(sent) {
            self.remove(sent.number);
        }
    }

    /// A `Close` was answered.
    pub fn closed(&mut self, sent: Sent) {
        if self.is_last(sent) {
            self.remove(sent.number);
        }
    }

    /// An error dropped a `Close`: the backend may still have it, from whatever time.
    pub fn unclosed(&mut self, sent: Sent) {
        if self.is_last(sent) || !self.numbers.contains_key(&sent.number) {
            self.kept(sent.number);
        }
    }

    /// Nobody knows whether the backend has it, or from when.
    pub fn kept(&mut self, number: Number) {
        // It is the first to go again.
        self.insert(number, Use { at: 0, filed: 0, mark: OVERTAKEN, parsed_at: None, is_closing: false });
    }

    fn is_last(&self, sent: Sent) -> bool {
        sent.mark != OVERTAKEN && self.numbers.get(&sent.number).is_some_and(|used| used.mark == sent.mark)
    }

    /// All of them are gone: `DEALLOCATE ALL`, `DISCARD ALL`.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.order.clear();
    }

    fn insert(&mut self, number: Number, used: Use) {
        let before = self.numbers.insert(number, used);
        self.unfile(number, before);
        if !used.is_closing {
            self.order.insert((used.filed, number));
        }
    }

    fn remove(&mut self, number: Number) {
        let before = self.numbers.remove(&number);
        self.unfile(number, before);
    }

    fn unfile(&mut self, number: Number, before: Option<Use>) {
        if let Some(before) = before.filter(|before| !before.is_closing) {
            self.order.remove(&(before.filed, number));
        }
    }

    fn oldest(&mut self) -> Option<Number> {
        loop {
            let &(filed, number) = self.order.first()?;
            let used = self.numbers.get_mut(&number)?;
            if used.at == filed {
                return Some(number);
            }
            // Each use has this done once at most.
            used.filed = used.at;
            self.order.pop_first();
            self.order.insert((used.at, number));
        }
    }
}
