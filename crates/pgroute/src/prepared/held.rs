//! Which statements a backend has.

use std::collections::HashMap;

use super::Number;

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
/// [`Held::dropped`] says so.
#[derive(Clone, Debug)]
pub struct Held {
    /// When each was used last, as a count.
    numbers: HashMap<Number, u64>,
    uses: u64,
    numbers_max: usize,
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

    /// A statement is to be used.
    pub fn use_of(&mut self, number: Number) -> Need {
        self.uses += 1;
        if let Some(used) = self.numbers.get_mut(&number) {
            *used = self.uses;
            return Need::Nothing;
        }
        let close = (self.numbers.len() >= self.numbers_max).then(|| self.oldest()).flatten();
        if let Some(close) = close {
            self.numbers.remove(&close);
        }
        self.numbers.insert(number, self.uses);
        Need::Parse { close }
    }

    /// A `Parse` of it failed, or an error dropped it, or it is closed.
    pub fn dropped(&mut self, number: Number) {
        self.numbers.remove(&number);
    }

    /// An error dropped a `Close`: the backend still has it.
    pub fn kept(&mut self, number: Number) {
        // It is the first to go again.
        self.numbers.insert(number, 0);
    }

    /// All of them are gone: `DEALLOCATE ALL`, `DISCARD ALL`.
    pub fn clear(&mut self) {
        self.numbers.clear();
    }

    fn oldest(&self) -> Option<Number> {
        self.numbers.iter().min_by_key(|&(number, used)| (*used, *number)).map(|(number, _)| *number)
    }
}
