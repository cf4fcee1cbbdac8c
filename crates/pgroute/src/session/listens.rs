//! Which channels a session listens to, where another connection listens for it.
//!
//! `LISTEN` and `UNLISTEN` count when their transaction commits, as PostgreSQL has it: what a rollback takes back, to a savepoint or as a whole,
//! was never said. What has committed is due: somebody has to do it before the client hears of its commit.

use std::collections::BTreeSet;

use crate::classify::Kind;
use crate::wire::backend::TransactionStatus;

/// What a transaction has done, once it has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The session listens to a channel.
    Listen(String),
    /// It does not any more, to one or to all.
    Unlisten(Option<String>),
}

/// What was done since a savepoint, or since the transaction began.
#[derive(Clone, Debug, Default)]
struct Level {
    savepoint: Option<String>,
    changes: Vec<Heard>,
}

/// Channels of a session.
#[derive(Clone, Debug, Default)]
pub struct Listens {
    channels: BTreeSet<String>,
    open: Vec<Level>,
    due: Vec<Heard>,
    has_failed: bool,
}

impl Listens {
    /// How many channels it listens to.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether it listens to none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Whether a transaction is open that has changed them: it cannot be prepared for a commit in two phases.
    pub fn is_changing(&self) -> bool {
        self.open.iter().any(|level| !level.changes.is_empty())
    }

    /// A statement has succeeded, and said `tag` at its end.
    pub fn succeeded(&mut self, kind: &Kind, tag: &[u8]) {
        match kind {
            Kind::Listen(channel) => self.level().push(Heard::Listen(channel.clone())),
            Kind::Unlisten(channel) => self.level().push(Heard::Unlisten(channel.clone())),
            Kind::DiscardAll => self.level().push(Heard::Unlisten(None)),
            // A `COMMIT` of a transaction that has failed says that it was a rollback.
            Kind::Commit { .. } if tag != b"ROLLBACK" => self.commit(),
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::PrepareTransaction => self.open.clear(),
            Kind::Savepoint(name) => self.open.push(Level { savepoint: Some(name.clone()), changes: Vec::new() }),
            Kind::Release(name) => {
                if let Some(at) = self.savepoint(name) {
                    let changes = self.open.drain(at..).flat_map(|level| level.changes).collect::<Vec<_>>();
                    self.level().extend(changes);
                }
            }
            Kind::RollbackTo(name) => {
                self.has_failed = false;
                match self.savepoint(name) {
                    Some(at) => {
                        self.open.truncate(at + 1);
                        self.open[at].changes.clear();
                    }
                    // It is from before the first word that was listened for.
                    None => self.open.clear(),
                }
            }
            _ => {}
        }
    }

    /// A statement has failed.
    pub fn failed(&mut self) {
        self.has_failed = true;
    }

    /// The backend waits for the next query: outside of a transaction, what was said without one counts now, or not at all.
    pub fn ready(&mut self, status: TransactionStatus) {
        if status == TransactionStatus::Idle {
            if self.has_failed {
                self.open.clear();
            } else {
                self.commit();
            }
        }
        self.has_failed = false;
    }

    /// What has committed and was not done yet, in its order.
    pub fn take_due(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.due)
    }

    fn level(&mut self) -> &mut Vec<Heard> {
        if self.open.is_empty() {
            self.open.push(Level::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last].changes
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.open.iter().rposition(|level| level.savepoint.as_deref() == Some(name))
    }

    fn commit(&mut self) {
        for change in self.open.drain(..).flat_map(|level| level.changes) {
            match &change {
                Heard::Listen(channel) => {
                    self.channels.insert(channel.clone());
                }
                Heard::Unlisten(Some(channel)) => {
                    self.channels.remove(channel);
                }
                Heard::Unlisten(None) => self.channels.clear(),
            }
            self.due.push(change);
        }
    }
}
