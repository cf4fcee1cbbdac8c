//! Which channels a session listens to, where another connection listens for it.
//!
//! `LISTEN` and `UNLISTEN` count when their transaction commits, as PostgreSQL has it: what a rollback takes back, to a savepoint or as a whole,
//! was never said. What has committed is due: somebody has to do it before the client hears of its commit.
//!
//! Only what a commit changes is due. Who takes a channel back and listens to it again within a transaction goes on listening, and misses
//! nothing. For the same reason nothing is kept of words that change nothing, however often they are said.

use std::collections::{BTreeMap, BTreeSet};

use crate::classify::Kind;
use crate::wire::backend::TransactionStatus;

/// What has committed and is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Channels that are listened to from now on.
    pub listens: Vec<String>,
    /// Channels that are not any more.
    pub unlistens: Vec<String>,
}

/// What was done since a savepoint, or since the transaction began.
#[derive(Clone, Debug, Default)]
struct Level {
    savepoint: Option<String>,
    /// Something was said, whether it changed anything or not.
    is_said: bool,
    /// Nothing of before is listened to.
    is_cleared: bool,
    /// Channels for which it is otherwise than before, and how it is.
    changes: BTreeMap<String, bool>,
    /// How many more channels there are by these.
    more: isize,
}

/// Channels of a session.
#[derive(Clone, Debug, Default)]
pub struct Listens {
    channels: BTreeSet<String>,
    open: Vec<Level>,
    /// For which it is otherwise than those know who do it, and how it is.
    due: BTreeMap<String, bool>,
    has_failed: bool,
}

impl Level {
    fn set(&mut self, channel: &str, is_heard: bool, was_heard: bool) {
        let before = if is_heard == was_heard {
            self.changes.remove(channel)
        } else {
            self.changes.insert(channel.to_owned(), is_heard)
        };
        let worth = |change: Option<bool>| change.map_or(0, |is_heard| if is_heard { 1 } else { -1 });
        self.more += worth((is_heard != was_heard).then_some(is_heard)) - worth(before);
    }
}

impl Listens {
    /// How many channels it listens to, once the transaction that is open has committed.
    pub fn len(&self) -> usize {
        let mut len = 0;
        for level in self.open.iter().rev() {
            len += level.more;
            if level.is_cleared {
                return len.unsigned_abs();
            }
        }
        self.channels.len().saturating_add_signed(len)
    }

    /// Whether it listens to none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has committed.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    /// Whether a transaction is open that has said something of them: it cannot be prepared for a commit in two phases.
    pub fn is_changing(&self) -> bool {
        self.open.iter().any(|level| level.is_said)
    }

    /// A statement has succeeded, and said `tag` at its end.
    pub fn succeeded(&mut self, kind: &Kind, tag: &[u8]) {
        match kind {
            Kind::Listen(channel) => self.set(channel, true),
            Kind::Unlisten(Some(channel)) => self.set(channel, false),
            Kind::Unlisten(None) | Kind::DiscardAll => self.clear(),
            // A `COMMIT` of a transaction that has failed says that it was a rollback.
            Kind::Commit { .. } if tag != b"ROLLBACK" => self.commit(),
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::PrepareTransaction => self.open.clear(),
            Kind::Savepoint(name) => self.open.push(Level { savepoint: Some(name.clone()), ..Level::default() }),
            Kind::Release(name) => {
                if let Some(at) = self.savepoint(name) {
                    self.open.split_off(at).iter().for_each(|level| self.take_in(level));
                }
            }
            Kind::RollbackTo(name) => {
                self.has_failed = false;
                match self.savepoint(name) {
                    Some(at) => {
                        self.open.truncate(at);
                        self.open.push(Level { savepoint: Some(name.clone()), ..Level::default() });
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

    /// What has committed and was not done yet.
    pub fn take_due(&mut self) -> Heard {
        let mut heard = Heard::default();
        for (channel, is_heard) in std::mem::take(&mut self.due) {
            if is_heard { &mut heard.listens } else { &mut heard.unlistens }.push(channel);
        }
        heard
    }

    fn set(&mut self, channel: &str, is_heard: bool) {
        self.level().is_said = true;
        let (last, before) = self.open.split_last_mut().expect("there is a level");
        let was_heard = !last.is_cleared && is_heard_by(before, &self.channels, channel);
        last.set(channel, is_heard, was_heard);
    }

    fn clear(&mut self) {
        let level = self.level();
        let savepoint = level.savepoint.take();
        *level = Level { savepoint, is_said: true, is_cleared: true, ..Level::default() };
    }

    /// What was done since a savepoint counts as done before it.
    fn take_in(&mut self, level: &Level) {
        if level.is_cleared {
            self.clear();
        }
        level.changes.iter().for_each(|(channel, is_heard)| self.set(channel, *is_heard));
        self.level().is_said |= level.is_said;
    }

    fn level(&mut self) -> &mut Level {
        if self.open.is_empty() {
            self.open.push(Level::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.open.iter().rposition(|level| level.savepoint.as_deref() == Some(name))
    }

    fn commit(&mut self) {
        for level in std::mem::take(&mut self.open) {
            if level.is_cleared {
                std::mem::take(&mut self.channels).into_iter().for_each(|channel| self.is_due(channel, false));
            }
            for (channel, is_heard) in level.changes {
                if is_heard {
                    self.channels.insert(channel.clone());
                } else {
                    self.channels.remove(&channel);
                }
                self.is_due(channel, is_heard);
            }
        }
    }

    /// It has changed for a channel. What is changed back before anybody knew of it need not be done.
    fn is_due(&mut self, channel: String, is_heard: bool) {
        if self.due.remove(&channel).is_none() {
            self.due.insert(channel, is_heard);
        }
    }
}

/// Whether a channel is listened to by what was done before.
fn is_heard_by(levels: &[Level], channels: &BTreeSet<String>, channel: &str) -> bool {
    for level in levels.iter().rev() {
        if let Some(is_heard) = level.changes.get(channel) {
            return *is_heard;
        }
        if level.is_cleared {
            return false;
        }
    }
    channels.contains(channel)
}
