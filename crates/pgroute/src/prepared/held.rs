//! Which statements a backend has.

use std::collections::HashMap;

use super::{Changes, Number};

/// What has to be sent before a statement can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the backend has it, or will have it when it comes to that.
    Nothing,
    /// A `Parse`, and before that a `Close` of another one, if there is one.
    Parse {
        /// What has to go.
        close: Option<Number>,
    },
}

/// Statements of a backend, the least used of which go when there are too many.
///
/// A `Parse` that was sent counts as done, because what is sent behind it will find the statement. If an error drops it on its way,
/// [`Held::dropped`] says so, and [`Held::kept`] of a `Close`: what was sent last is taken back first.
#[derive(Clone, Debug)]
pub struct Held {
    numbers: HashMap<Number, Use>,
    uses: u64,
    numbers_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    /// When it was used last, as a count.
    at: u64,
    /// How many changes there had been when it was parsed. `None`: nobody knows, or whether it is there at all. It is closed before it is used.
    parsed_at: Option<Changes>,
}

impl Use {
    fn is_from(&self, since: Changes) -> bool {
        self.parsed_at.is_some_and(|at| at >= since)
    }
}

impl Held {
    /// At most so many; one at least.
    pub fn new(numbers_max: usize) -> Self {
        Self { numbers: HashMap::new(), uses: 0, numbers_max: numbers_max.max(1) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// A statement is to be used, by a client that must not see one from before `since`. There have been `now` changes by now.
    pub fn use_of(&mut self, number: Number, since: Changes, now: Changes) -> Need {
        self.uses += 1;
        let fresh = Use { at: self.uses, parsed_at: Some(now) };
        if let Some(used) = self.numbers.get_mut(&number) {
            if used.is_from(since) {
                used.at = self.uses;
                return Need::Nothing;
            }
            *used = fresh;
            return Need::Parse { close: Some(number) };
        }
        let close = (self.numbers.len() >= self.numbers_max).then(|| self.oldest()).flatten();
        if let Some(close) = close {
            self.numbers.remove(&close);
        }
        self.numbers.insert(number, fresh);
        Need::Parse { close }
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

    /// A `Parse` of it failed, or an error dropped it, or it is closed.
    pub fn dropped(&mut self, number: Number) {
        self.numbers.remove(&number);
    }

    /// An error dropped a `Close`, or it cannot be said what an error dropped: the backend may still have it, from whatever time.
    pub fn kept(&mut self, number: Number) {
        // It is the first to go again.
        self.numbers.insert(number, Use { at: 0, parsed_at: None });
    }

    /// All of them are gone: `DEALLOCATE ALL`, `DISCARD ALL`.
    pub fn clear(&mut self) {
        self.numbers.clear();
    }

    fn oldest(&self) -> Option<Number> {
        self.numbers.iter().min_by_key(|&(number, used)| (used.at, *number)).map(|(number, _)| *number)
    }
}
