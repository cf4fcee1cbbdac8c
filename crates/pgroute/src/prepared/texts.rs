//! Which statements a backend has that were prepared by a text, `PREPARE name AS ...`.
//!
//! Their names are those that clients chose, so that everything that names them says what it would say without a proxy. A name is one client's at
//! a time, then: whoever comes next and means something else by it has it forgotten and prepared anew. Clients of one application mostly mean
//! the same by a name, and find it there.

use std::collections::HashMap;

use super::{Changes, Number};

/// Statements of a backend by clients' names for them, the least used of which go when there are too many.
///
/// As with [`super::Held`], what was sent counts as done. What an error dropped is [in doubt](Texts::doubt): the backend may have anything by that
/// name. So a name is closed before it is prepared, whatever is known of it, and before it is named by a client that means nothing by it.
#[derive(Clone, Debug)]
pub struct Texts {
    names: HashMap<Box<[u8]>, Use>,
    uses: u64,
    names_max: usize,
}

/// No statement has this number.
const UNKNOWN: Number = Number(u64::MAX);

#[derive(Clone, Copy, Debug)]
struct Use {
    number: Number,
    /// When it was used last, as a count.
    at: u64,
    /// How many changes there had been when it was prepared.
    parsed_at: Changes,
}

impl Texts {
    /// At most so many; one at least.
    pub fn new(names_max: usize) -> Self {
        Self { names: HashMap::new(), uses: 0, names_max: names_max.max(1) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a name stands for this statement, as a client may use it that must not see one from before `since`.
    pub fn has(&mut self, name: &[u8], number: Number, since: Changes) -> bool {
        self.uses += 1;
        match self.names.get_mut(name) {
            Some(used) if used.number == number && used.parsed_at >= since => {
                used.at = self.uses;
                true
            }
            _ => false,
        }
    }

    /// A name is about to be prepared, when there have been `now` changes. Another one that has to go for it, if there are too many.
    pub fn prepare(&mut self, name: &[u8], number: Number, now: Changes) -> Option<Box<[u8]>> {
        self.uses += 1;
        self.names.insert(name.into(), Use { number, at: self.uses, parsed_at: now });
        if self.names.len() <= self.names_max {
            return None;
        }
        let oldest = self.names.iter().min_by_key(|(_, used)| used.at).map(|(name, _)| name.clone())?;
        self.names.remove(&oldest);
        Some(oldest)
    }

    /// Nobody knows what is there by a name.
    pub fn doubt(&mut self, name: &[u8]) {
        self.names.insert(name.into(), Use { number: UNKNOWN, at: 0, parsed_at: Changes(0) });
    }

    /// Whether so many are in doubt that the backend is to be closed: each error may add one, and nobody has it forgotten.
    pub fn is_overfull(&self) -> bool {
        self.names.len() > 2 * self.names_max
    }

    /// It is not there any more. Whether it was.
    pub fn forget(&mut self, name: &[u8]) -> bool {
        self.names.remove(name).is_some()
    }

    /// Forgets all but these, and says which they were.
    pub fn keep_only(&mut self, is_kept: impl Fn(&[u8]) -> bool) -> Vec<Box<[u8]>> {
        let gone: Vec<_> = self.names.keys().filter(|name| !is_kept(name)).cloned().collect();
        for name in &gone {
            self.forget(name);
        }
        gone
    }

    /// All of them are gone: `DEALLOCATE ALL`, `DISCARD ALL`.
    pub fn clear(&mut self) {
        self.names.clear();
    }
}
