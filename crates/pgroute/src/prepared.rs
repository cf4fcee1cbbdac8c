//! Prepared statements of clients that share backends.
//!
//! A client prepares a statement on one backend and uses it on another. So its names are its own ([`Names`]), and each stands for a
//! [`Statement`]: a text, types, and what the text's names mean to its client. All clients share those ([`Shared`]), and each has
//! a number, by which backends know it as `tf_NUMBER`. What a backend has, and what has to go for what comes, is in [`Held`]. One that was prepared by
//! a text, `PREPARE`, keeps its client's name on backends: [`Texts`].
//!
//! After a change of the schema a statement's answer may have other columns, and PostgreSQL refuses a plan that was made before:
//! "cached plan must not change result type". A client that had prepared it before the change would hear that without a proxy, too. One that
//! has prepared it since would not, and must not: [`Changes`] tells them apart.

mod held;
mod shape;
mod texts;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use thiserror::Error;

use crate::classify::Plan;

pub use held::{Held, Need, Sent};
pub use shape::Shape;
pub use texts::Texts;

/// What a statement is the same by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its text.
    pub text: Box<[u8]>,
    /// Its parameters' types, as they came.
    pub types: Box<[u8]>,
    /// What its names mean: `search_path`, `role` and whatever else of the session decides that, as one text.
    pub reading: Arc<str>,
}

impl Key {
    /// What it takes, about.
    fn bytes(&self) -> usize {
        self.text.len() + self.types.len() + self.reading.len() + 128
    }
}

/// A statement that clients share.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its number, which no other one ever has.
    pub number: Number,
    /// What it is the same by.
    pub key: Key,
}

/// A statement's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

impl Number {
    /// Bytes of the longest name.
    pub const NAME_BYTES_MAX: usize = PREFIX.len() + 20;

    /// Writes the name by which backends know it: how many bytes it has. A `Display` would cost as much as all else that a `Bind` does.
    pub fn write_name(self, out: &mut [u8; Self::NAME_BYTES_MAX]) -> usize {
        let digits = self.0.checked_ilog10().unwrap_or(0) as usize + 1;
        let len = PREFIX.len() + digits;
        out[..PREFIX.len()].copy_from_slice(PREFIX);
        let mut rest = self.0;
        for digit in out[PREFIX.len()..len].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        len
    }
}

/// What names of ours begin with.
const PREFIX: &[u8] = b"tf_";

impl fmt::Display for Number {
    /// The name by which backends know it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tf_{}", self.0)
    }
}

/// A statement that is found by its key.
#[derive(Debug)]
struct ByKey(Arc<Statement>);

impl Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

/// All statements that clients have prepared lately, within bounds. A client keeps what it uses, even after it is dropped here: then another
/// one that prepares the same gets another number.
#[derive(Debug)]
pub struct Shared {
    /// Whether each was asked for lately.
    statements: HashMap<ByKey, bool>,
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Shared {
    /// Keeps texts of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { statements: HashMap::new(), next: 0, bytes: 0, bytes_max }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The statement of a key: the one that is known, or a new one.
    pub fn statement(&mut self, key: Key) -> Arc<Statement> {
        if let Some((ByKey(known), _)) = self.statements.get_key_value(&key) {
            let known = Arc::clone(known);
            self.statements.insert(ByKey(Arc::clone(&known)), true);
            return known;
        }
        let bytes = key.bytes();
        let statement = Arc::new(Statement { number: Number(self.next), key });
        self.next += 1;
        if bytes <= self.bytes_max {
            self.statements.insert(ByKey(Arc::clone(&statement)), true);
            self.bytes += bytes;
            self.shrink();
        }
        statement
    }

    /// Drops what no client has and nobody asked for since the last time, then what no client has, then anything.
    fn shrink(&mut self) {
        for round in 0..3 {
            if self.bytes <= self.bytes_max {
                return;
            }
            // Down to nine tenths, so that not every new statement has to look through all.
            let wanted = self.bytes_max / 10 * 9;
            let left = &mut self.bytes;
            self.statements.retain(|ByKey(statement), is_used| {
                let was_used = std::mem::take(is_used);
                let is_held = Arc::strong_count(statement) > 1;
                let stays = *left <= wanted || is_held && round < 2 || was_used && round < 1;
                if !stays {
                    *left -= statement.key.bytes();
                }
                stays
            });
        }
    }
}

/// The number of changes of a database's schema that were seen.
///
/// ```
/// use pgroute::prepared::Changes;
///
/// let (before, after) = (Changes(3), Changes(4));
/// // The client prepared it before the change: it would hear the error without a proxy as well.
/// assert!(!before.is_stale_by_sharing(after));
/// // It prepared it afterwards, and only the backend's plan is older.
/// assert!(after.is_stale_by_sharing(after));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changes(pub u64);

impl Changes {
    /// One more was seen.
    pub fn advance(&mut self) {
        self.0 += 1;
    }

    /// Whether a refused plan, of a client that prepared it when there had been `self`, is stale only because others share it:
    /// whether nothing has changed since. `now` counts them at the refusal.
    pub fn is_stale_by_sharing(self, now: Self) -> bool {
        self >= now
    }
}

/// What a client's name stands for.
#[derive(Clone, Debug)]
pub struct Named {
    /// The statement.
    pub statement: Arc<Statement>,
    /// How many changes there had been when the client prepared it.
    pub prepared_at: Changes,
    /// What its text is.
    pub plan: Arc<Plan>,
    /// Whether it was prepared by a text, which is the statement's then. Backends know it by its client's name.
    pub by_text: bool,
    /// Which of its client's statements it is: another one may have its name since. [`Names::number`] counts them.
    pub taken: u64,
}

/// Why a client's name cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// It stands for a statement already. Only the empty one may be taken again.
    #[error("prepared statement already exists")]
    Taken,
    /// The client has as many as it may.
    #[error("more than {0} prepared statements")]
    TooMany(usize),
    /// Their texts and names take as much as they may.
    #[error("more than {0} bytes of prepared statements")]
    TooLarge(usize),
}

/// A client's names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    named: HashMap<Box<[u8]>, Named, RandomState>,
    unnamed: Option<Named>,
    names_max: usize,
    bytes: usize,
    taken: u64,
}

/// Most bytes of a client's names and their texts. Texts that clients share are counted for each, since any of them may be the last that has it.
const NAMES_BYTES_MAX: usize = 64 << 20;

impl Names {
    /// At most so many.
    pub fn new(names_max: usize) -> Self {
        Self { names_max, ..Self::default() }
    }

    /// How many there are, that without a name left aside.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// All of them, in no order, that without a name left aside.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Named)> {
        self.named.iter().map(|(name, named)| (&**name, named))
    }

    /// What a name stands for.
    pub fn find(&self, name: &[u8]) -> Option<&Named> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// Those that were prepared by a text.
    pub fn by_text(&self) -> impl Iterator<Item = &[u8]> {
        self.named.iter().filter(|(_, named)| named.by_text).map(|(name, _)| &**name)
    }

    /// A number for one that is about to take a name.
    pub fn number(&mut self) -> u64 {
        self.taken += 1;
        self.taken
    }

    /// Takes a name.
    ///
    /// # Errors
    /// When it is taken, or there are too many. The client has to hear it from the server, in whose transaction it is an error.
    pub fn take(&mut self, name: &[u8], named: Named) -> Result<(), NameError> {
        if name.is_empty() {
            self.unnamed = Some(named);
            return Ok(());
        }
        if self.named.contains_key(name) {
            return Err(NameError::Taken);
        }
        if self.named.len() >= self.names_max {
            return Err(NameError::TooMany(self.names_max));
        }
        let bytes = name.len() + named.statement.key.bytes();
        if self.bytes + bytes > NAMES_BYTES_MAX {
            return Err(NameError::TooLarge(NAMES_BYTES_MAX));
        }
        self.bytes += bytes;
        self.named.insert(name.into(), named);
        Ok(())
    }

    /// A name stands for the same text with another reading from now on.
    pub fn read_as(&mut self, name: &[u8], statement: Arc<Statement>) {
        if let Some(named) = self.named.get_mut(name) {
            let before = std::mem::replace(&mut named.statement, statement);
            self.bytes = self.bytes + named.statement.key.bytes() - before.key.bytes();
        }
    }

    /// A name stands for a statement as if its client had prepared it when there had been so many changes.
    pub fn renew(&mut self, name: &[u8], statement: Arc<Statement>, at: Changes) {
        if let Some(named) = self.named.get_mut(name) {
            self.bytes = self.bytes - named.statement.key.bytes() + statement.key.bytes();
            (named.statement, named.prepared_at) = (statement, at);
        }
    }

    /// Forgets a name. It is no error if it stands for nothing.
    pub fn close(&mut self, name: &[u8]) -> Option<Named> {
        if name.is_empty() {
            return self.unnamed.take();
        }
        let named = self.named.remove(name)?;
        self.bytes -= name.len() + named.statement.key.bytes();
        Some(named)
    }

    /// What took a name took no effect: the name is forgotten if it still stands for that. Whether it did.
    pub fn untake(&mut self, name: &[u8], taken: u64) -> bool {
        let is_it = self.find(name).is_some_and(|named| named.taken == taken);
        if is_it {
            self.close(name);
        }
        is_it
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.named.clear();
        self.bytes = 0;
        self.unnamed = None;
    }
}
