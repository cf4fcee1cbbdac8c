//! Whose numbers a backend remembers.
//!
//! `lastval` and `currval` answer from what the backend did before, for whoever it was. A session may ask for its own numbers and never hear
//! another one's. What it does with sequences cannot be seen, since they stand in defaults and triggers. So whatever may write counts, and a
//! backend remembers who did: nobody, one session, or several.

/// Whose numbers a backend remembers. A session is known by a number that no other one ever has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// The one who may have used sequences last.
    last: Option<u64>,
    /// Whether others did before.
    is_mixed: bool,
    /// Whether the last one did since the backend was lent to it.
    is_used: bool,
}

impl Sequences {
    /// The backend is lent to a session.
    pub fn lent(&mut self) {
        self.is_used = false;
    }

    /// A session is about to run something on it that may not only read.
    pub fn used(&mut self, session: u64) {
        self.is_mixed |= self.last.is_some_and(|last| last != session);
        self.last = Some(session);
        self.is_used = true;
    }

    /// A session is about to ask for its numbers. Whether `DISCARD SEQUENCES` has to go first, so that it hears an error (`55000`) instead of
    /// somebody else's. Not so when it has used the backend since it was lent to it: its own numbers would be gone. The session is to keep its
    /// backend from then on.
    pub fn is_foreign(&self, session: u64) -> bool {
        let is_own = self.last == Some(session) && (self.is_used || !self.is_mixed);
        self.last.is_some() && !is_own
    }

    /// What it remembers is gone: by `DISCARD SEQUENCES` or a reset.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
