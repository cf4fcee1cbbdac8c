//! Which server of a database is the primary now, and what the others are.
//!
//! Every server is asked over and over what it takes itself for. What they say is not enough: a primary that was cut off comes back
//! and says that it is one, while a replica was promoted meanwhile. PostgreSQL numbers its histories. Each promotion begins a *timeline* with a
//! higher number than all before it, so that of two primaries the one of the newer timeline is right, and the other one is [`State::Old`].
//!
//! - The newest timeline that was ever seen, on any server, is kept: nobody below it is the primary, even if the newest one is away.
//! - Two primaries of the same, newest timeline cannot be told apart. Then there is none, and somebody has to be told.
//! - A server of another system ([`State::Foreign`]: `initdb` was run again, or an address leads elsewhere) gets nothing. The
//!   system is that of the server which the configuration has as the primary, unless that one could not be asked: then that of the first which could.
//! - What a server has said is good for a while only. One that hangs says nothing, and a process that was stopped for a while knows nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::position::{Lsn, Timeline};

/// A server of a database, by whatever number the shell gives it. Number 0 is the one that the configuration has as the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The number of its system.
    pub system: u64,
    /// Its timeline: that of a primary's log, or the one that a replica follows.
    pub timeline: Timeline,
    /// Whether it replays the log of another one.
    pub is_replica: bool,
    /// Where a primary's log ends, or up to where a replica has replayed it.
    pub position: Lsn,
}

/// What a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is known of it, or not any more.
    #[default]
    Unknown,
    /// It takes writes.
    Primary,
    /// It replays the primary's log.
    Replica,
    /// It belongs to another system.
    Foreign,
    /// It says that it is a primary, and is none any more; or it is one of two that cannot be told apart.
    Old,
}

impl State {
    /// How metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Foreign => "foreign",
            Self::Old => "old",
        }
    }
}

/// What is known of the servers of a database.
#[derive(Clone, Debug)]
pub struct Servers {
    good_for: Duration,
    system: Option<u64>,
    newest: Timeline,
    known: BTreeMap<ServerId, Known>,
    /// The configured primary could not be asked, so that others may say which system it is.
    is_expected_away: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    said: Option<(Instant, Observation)>,
}

/// Who is what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Who takes writes; nobody if that is not known, or not certain.
    pub primary: Option<ServerId>,
    /// Several say so, of the newest timeline.
    pub is_disputed: bool,
    /// The system, once it is known.
    pub system: Option<u64>,
    /// The newest timeline that was ever seen.
    pub timeline: Timeline,
    /// All servers.
    pub states: BTreeMap<ServerId, (State, Option<Observation>)>,
}

impl Servers {
    /// So many servers, of which nothing is known. What they say is good for a time.
    pub fn new(count: u32, good_for: Duration) -> Self {
        let known = (0..count).map(|id| (ServerId(id), Known::default())).collect();
        Self { good_for, system: None, newest: Timeline::default(), known, is_expected_away: false }
    }

    /// The same, where a system and a timeline of it were seen before.
    #[must_use]
    pub fn with_seen(self, system: u64, timeline: Timeline) -> Self {
        Self { system: Some(system), newest: timeline, ..self }
    }

    /// The same, learned later. Of another system than the known one it says nothing.
    pub fn saw(&mut self, system: u64, timeline: Timeline) {
        if *self.system.get_or_insert(system) == system {
            self.newest = self.newest.max(timeline);
        }
    }

    /// A server has answered. The time is that of the question.
    pub fn observed(&mut self, asked_at: Instant, id: ServerId, said: Observation) {
        let Some(known) = self.known.get_mut(&id) else { return };
        if known.said.is_some_and(|(before, _)| before > asked_at) {
            return;
        }
        known.said = Some((asked_at, said));
        if self.system.is_none() && (id == ServerId(0) || self.is_expected_away) {
            self.system = Some(said.system);
            // What the others have said before counts from now on.
            let all: Vec<_> = self.known.values().filter_map(|known| known.said).collect();
            all.into_iter().for_each(|(_, said)| self.note(said));
        }
        self.note(said);
    }

    fn note(&mut self, said: Observation) {
        if self.system == Some(said.system) {
            self.newest = self.newest.max(said.timeline);
        }
    }

    /// A server did not answer, or the connection to it broke.
    pub fn broken(&mut self, id: ServerId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.said = None;
        }
        if id == ServerId(0) && self.system.is_none() {
            self.is_expected_away = true;
        }
    }

    /// Who is what at this time.
    pub fn roles(&self, now: Instant) -> Roles {
        let mut states: BTreeMap<_, _> = self.known.iter().map(|(id, known)| (*id, self.state(known, now))).collect();
        let primaries: Vec<_> =
            states.iter().filter(|(_, (state, _))| *state == State::Primary).map(|(id, _)| *id).collect();
        let is_disputed = primaries.len() > 1;
        let primary = match primaries[..] {
            [one] => Some(one),
            _ => None,
        };
        if is_disputed {
            for id in primaries {
                states.entry(id).and_modify(|(state, _)| *state = State::Old);
            }
        }
        Roles { primary, is_disputed, system: self.system, timeline: self.newest, states }
    }

    fn state(&self, known: &Known, now: Instant) -> (State, Option<Observation>) {
        let fresh = known.said.filter(|(at, _)| now.saturating_duration_since(*at) <= self.good_for);
        let Some((_, said)) = fresh else { return (State::Unknown, None) };
        let state = match self.system {
            None => State::Unknown,
            Some(system) if system != said.system => State::Foreign,
            Some(_) if said.is_replica => State::Replica,
            Some(_) if said.timeline < self.newest => State::Old,
            Some(_) => State::Primary,
        };
        (state, Some(said))
    }

    /// When something that was said is not good any more.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.known.values().filter_map(|known| known.said).map(|(at, _)| at + self.good_for).min()
    }
}

/// Marks of where the primary was that are kept. At one a second, ten minutes.
const MARKS_MAX: usize = 600;

/// How far replicas are behind, in time: since when has the primary been further than a replica is now? Clocks of servers play no part, and an idle
/// primary has nobody fall behind.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    marks: VecDeque<(Instant, Lsn)>,
}

impl Lag {
    /// The primary was here.
    pub fn primary_at(&mut self, now: Instant, position: Lsn) {
        if self.marks.back().is_some_and(|(_, last)| *last >= position) {
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((now, position));
    }

    /// How far behind a replica is that has replayed so much: at most this. `None` while nothing is known of the primary.
    pub fn of(&self, now: Instant, replayed: Lsn) -> Option<Duration> {
        self.marks.back()?;
        let missed = self.marks.iter().find(|(_, position)| *position > replayed);
        Some(missed.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at)))
    }

    /// How many bytes of the primary's log a replica has not replayed. `None` while nothing is known of the primary.
    pub fn bytes(&self, replayed: Lsn) -> Option<u64> {
        self.marks.back().map(|(_, position)| position.0.saturating_sub(replayed.0))
    }

    /// There is another primary: its positions are no longer comparable.
    pub fn clear(&mut self) {
        self.marks.clear();
    }
}
