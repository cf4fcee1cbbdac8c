//! Which channels a session listens to, where another connection listens for it.
//!
//! `LISTEN` and `UNLISTEN` count when their transaction commits, as PostgreSQL has it: what a rollback takes back, to a savepoint or as a whole,
//! was never said. What has committed is due: somebody has to do it before the client hears of its commit.
//!
//! Only what a commit changes is due. Who takes a channel back and listens to it again within a transaction goes on listening, and misses
//! nothing. For the same reason nothing is kept of words that change nothing, however often they are said. What is kept of an open transaction is
//! bounded by whoever asks [`Listens::is_full`] before more is said.

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

/// Savepoints at most between which something was said. Each word is looked for in what was done since each of them.
const LEVELS_MAX: usize = 1000;

/// Changes at most that are kept of a transaction, of all its savepoints.
const CHANGES_MAX: usize = 50_000;

/// What was done since some savepoint, or since the transaction began. There is none before something was said.
#[derive(Clone, Debug, Default)]
struct Level {
    /// Nothing of before is listened to.
    is_cleared: bool,
    /// Channels for which it is otherwise than before, and how it is.
    changes: BTreeMap<String, bool>,
    /// How many channels are listened to after these.
    len: usize,
}

/// Channels of a session.
#[derive(Clone, Debug, Default)]
pub struct Listens {
    channels: BTreeSet<String>,
    open: Vec<Level>,
    /// Savepoints, and how many levels were there when each was made.
    savepoints: Vec<(String, usize)>,
    /// Changes of all levels.
    changes: usize,
    /// For which it is otherwise than those know who do it, and how it is.
    due: BTreeMap<String, bool>,
    has_failed: bool,
}

impl Level {
    /// What was done after this counts as done here.
    fn take_in(&mut self, next: Self) {
        if next.is_cleared {
            *self = next;
            return;
        }
        self.len = next.len;
        for (channel, is_heard) in next.changes {
            // What is otherwise than it was here is, if it was changed here, as it was before.
            if self.changes.remove(&channel).is_none() {
                self.changes.insert(channel, is_heard);
            }
        }
    }
}

impl Listens {
    /// How many channels it listens to, once the transaction that is open has committed.
    pub fn len(&self) -> usize {
        self.open.last().map_or(self.channels.len(), |level| level.len)
    }

    /// Whether it listens to none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has committed.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    /// Whether it listens to a channel, once the transaction that is open has committed.
    pub fn is_heard(&self, channel: &str) -> bool {
        is_heard_by(&self.open, &self.channels, channel)
    }

    /// Whether so much was said in the transaction that is open that nothing more may be.
    pub fn is_full(&self) -> bool {
        self.open.len() >= LEVELS_MAX || self.changes >= CHANGES_MAX
    }

    /// Whether a transaction is open that has said something of them: it cannot be prepared for a commit in two phases.
    pub fn is_changing(&self) -> bool {
        !self.open.is_empty()
    }

    /// A statement has succeeded, and said `tag` at its end.
    pub fn succeeded(&mut self, kind: &Kind, tag: &[u8]) {
        match kind {
            Kind::Listen(channel) => self.set(channel, true),
            Kind::Unlisten(Some(channel)) => self.set(channel, false),
            Kind::Unlisten(None) | Kind::DiscardAll => self.clear(),
            // A `COMMIT` of a transaction that has failed says that it was a rollback.
            Kind::Commit { .. } if tag != b"ROLLBACK" => self.commit(),
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::PrepareTransaction => self.forget(),
            Kind::Savepoint(name) => self.savepoints.push((name.clone(), self.open.len())),
            Kind::Release(name) => {
                if let Some(at) = self.savepoint(name) {
                    self.release(at);
                }
            }
            Kind::RollbackTo(name) => {
                self.has_failed = false;
                match self.savepoint(name) {
                    Some(at) => {
                        self.savepoints.truncate(at + 1);
                        let kept = self.savepoints[at].1;
                        self.changes -= self.open.drain(kept..).map(|level| level.changes.len()).sum::<usize>();
                    }
                    // It is from before the first word that was listened for.
                    None => self.forget(),
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
                self.forget();
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
        self.level();
        let (last, before) = self.open.split_last_mut().expect("there is a level");
        let was_heard = !last.is_cleared && is_heard_by(before, &self.channels, channel);
        let kept = last.changes.len();
        let now = last.changes.get(channel).copied().unwrap_or(was_heard);
        if is_heard == was_heard {
            last.changes.remove(channel);
        } else {
            last.changes.insert(channel.to_owned(), is_heard);
        }
        last.len = last.len + usize::from(is_heard) - usize::from(now);
        self.changes = self.changes + last.changes.len() - kept;
    }

    fn clear(&mut self) {
        let level = self.level();
        let kept = level.changes.len();
        *level = Level { is_cleared: true, ..Level::default() };
        self.changes -= kept;
    }

    /// What was done since a savepoint counts as done before it.
    fn release(&mut self, at: usize) {
        let kept = self.savepoints[at].1;
        self.savepoints.truncate(at);
        let levels: Vec<_> = self.open.drain(kept..).collect();
        let before = self.savepoints.last().map_or(0, |(_, levels)| *levels);
        for level in levels {
            match self.open.get_mut(before..).and_then(<[Level]>::last_mut) {
                Some(last) => {
                    self.changes -= last.changes.len() + level.changes.len();
                    last.take_in(level);
                    self.changes += last.changes.len();
                }
                None => self.open.push(level),
            }
        }
    }

    /// What was done since the last savepoint.
    fn level(&mut self) -> &mut Level {
        if self.open.len() == self.savepoints.last().map_or(0, |(_, levels)| *levels) {
            self.open.push(Level { len: self.len(), ..Level::default() });
        }
        self.open.last_mut().expect("there is one since the last savepoint")
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(known, _)| known == name)
    }

    /// Nothing was said in a transaction that is open.
    fn forget(&mut self) {
        self.open.clear();
        self.savepoints.clear();
        self.changes = 0;
    }

    fn commit(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.forget();
        for level in open {
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
