//! Who has to see what, by positions in the server's log.
//!
//! A client that has written, and then reads on a replica, must find what it wrote. PostgreSQL does not say where in its log a
//! commit lies, so the position is asked for afterwards, on a connection of our own: a **probe** of the primary that began after
//! the commit gives a position that is not before it. A replica that has replayed that far has the commit. How far a replica has
//! come is asked for as well, by **samples**; a sample is a lower bound for as long as the replica is the same one.
//!
//! - [`Progress`] is what is known of a database's servers: which probes and samples there were, and what they gave.
//! - A [`Floor`] is what somebody must see at least: a session, or all who share a database. It goes up and never down.
//! - [`choose`] says where a read may go, given the floors that it is under.
//!
//! Reads must not go back in time either. A session that read on one replica may read on another one only if that one has all that
//! the first had; so a floor remembers where it read last, and a sample of that replica that began after the read bounds what it saw.
//! A read on the primary saw everything, and counts like a write.
//!
//! Numbers take the place of time: whoever needs a probe that begins later asks for one with a higher number.

mod floor;
mod lsn;

use std::collections::BTreeMap;

pub use floor::{Choice, Floor, Reading, TokenError, choose};
pub use lsn::{Lsn, Timeline, Token};

/// A replica, by whatever number the shell gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u32);

/// Questions about a position that are asked one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    started: u64,
    answered: Option<(u64, Lsn)>,
}

impl Questions {
    /// One is sent. Its number goes with it.
    pub fn start(&mut self) -> u64 {
        self.started += 1;
        self.started
    }

    /// The lowest number that a question has which is sent from now on.
    pub fn next(&self) -> u64 {
        self.started + 1
    }

    /// The answer to a question. One that comes after that of a later question says nothing new.
    pub fn answer(&mut self, number: u64, position: Lsn) {
        if self.answered.is_none_or(|(known, _)| known < number) {
            let before = self.answered.map_or(Lsn::default(), |(_, position)| position);
            self.answered = Some((number, position.max(before)));
        }
    }

    /// The latest answer, if it is to a question of this number or a later one.
    pub fn since(&self, number: u64) -> Option<Lsn> {
        self.answered.filter(|(known, _)| *known >= number).map(|(_, position)| position)
    }

    /// Whether a question of this number or a later one is under way.
    pub fn is_asked(&self, number: u64) -> bool {
        self.started >= number && self.since(number).is_none()
    }

    /// Forgets the answers. Those that are under way do not count any more.
    fn forget(&mut self) {
        self.answered = None;
        // Answers that are still to come belong to before.
        self.started += 1;
    }

    /// Whether an answer to this question still counts.
    fn counts(&self, number: u64, since: u64) -> bool {
        number > since && number <= self.started
    }
}

/// What is known of a replica.
#[derive(Clone, Copy, Debug, Default)]
struct Replica {
    samples: Questions,
    /// Samples up to this number are of another time.
    void: u64,
    /// Which life of it this is; no two of any replica's have the same number.
    life: u64,
    timeline: Timeline,
}

/// What is known of the servers of a database.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    system: u64,
    timeline: Timeline,
    /// Where each earlier timeline ended.
    history: Vec<(Timeline, Lsn)>,
    probes: Questions,
    void: u64,
    replicas: BTreeMap<ReplicaId, Replica>,
    /// How many lives of replicas there were.
    lives: u64,
}

impl Progress {
    /// Of a system, on a timeline of it.
    pub fn new(system: u64, timeline: Timeline) -> Self {
        Self { system, timeline, ..Self::default() }
    }

    /// The timeline of the primary.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// A probe is sent to the primary. Gives its number.
    pub fn start_probe(&mut self) -> u64 {
        self.probes.start()
    }

    /// What a probe gave.
    pub fn probed(&mut self, number: u64, position: Lsn) {
        if self.probes.counts(number, self.void) {
            self.probes.answer(number, position);
        }
    }

    /// Whether a probe is under way that serves whoever needs one of this number.
    pub fn is_probing(&self, number: u64) -> bool {
        self.probes.is_asked(number)
    }

    /// A replica is there, on this timeline.
    pub fn join(&mut self, replica: ReplicaId, timeline: Timeline) {
        let lives = &mut self.lives;
        let found = self.replicas.entry(replica).or_insert_with(|| {
            *lives += 1;
            Replica { life: *lives, ..Replica::default() }
        });
        found.timeline = timeline;
    }

    /// A read on a replica is about to begin: the replica may be another one when the read has ended.
    pub fn start_read(&self, replica: ReplicaId) -> Reading {
        Reading { replica, life: self.replicas.get(&replica).map(|found| found.life) }
    }

    /// A sample of a replica is asked for. Gives its number, if there is such a replica.
    pub fn start_sample(&mut self, replica: ReplicaId) -> Option<u64> {
        Some(self.replicas.get_mut(&replica)?.samples.start())
    }

    /// What a sample gave.
    pub fn sampled(&mut self, replica: ReplicaId, number: u64, position: Lsn) {
        if let Some(found) = self.replicas.get_mut(&replica)
            && found.samples.counts(number, found.void)
        {
            found.samples.answer(number, position);
        }
    }

    /// The connection to a replica ended. When it is back it may be another one, older than before.
    pub fn lose(&mut self, replica: ReplicaId) {
        if let Some(found) = self.replicas.get_mut(&replica) {
            self.lives += 1;
            found.life = self.lives;
            found.samples.forget();
            found.void = found.samples.started;
        }
    }

    /// A replica is gone for good.
    pub fn leave(&mut self, replica: ReplicaId) {
        self.replicas.remove(&replica);
    }

    /// There is another primary, on a later timeline; `history` says where each earlier one ended. All positions are unknown again.
    pub fn switch(&mut self, timeline: Timeline, history: Vec<(Timeline, Lsn)>) {
        self.timeline = timeline;
        self.history = history;
        self.probes.forget();
        self.void = self.probes.started;
        let all: Vec<_> = self.replicas.keys().copied().collect();
        all.into_iter().for_each(|replica| self.lose(replica));
    }

    /// How far a replica has come at least, if it is on the primary's timeline.
    pub fn replayed(&self, replica: ReplicaId) -> Option<Lsn> {
        let found = self.replicas.get(&replica).filter(|found| found.timeline == self.timeline)?;
        found.samples.since(0)
    }

    fn ended(&self, timeline: Timeline) -> Option<Lsn> {
        self.history.iter().find(|(known, _)| *known == timeline).map(|(_, end)| *end)
    }
}
