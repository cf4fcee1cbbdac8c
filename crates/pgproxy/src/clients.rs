//! Clients that are logged in, for whoever asks who is there. The list is touched at logins and their ends alone, and a client's own entry when
//! it waits.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use pgroute::wire::startup::Startup;

use crate::client::Talk;

/// Characters of a client's own name that are kept.
const APPLICATION_CHARS_MAX: usize = 64;

/// The clients of a process.
#[derive(Debug)]
pub(crate) struct Clients {
    begun: Instant,
    known: Mutex<HashMap<u64, Arc<Note>>>,
}

/// What is known of a client.
#[derive(Debug)]
pub(crate) struct Note {
    /// Its number, which no other one of the process ever has.
    pub(crate) number: u64,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) since: SystemTime,
    pub(crate) tls: String,
    pub(crate) application: String,
    /// Since when it waits for a connection, in microseconds of the process; 0 while it does not.
    waits_since: AtomicU64,
    begun: Instant,
}

impl Default for Clients {
    fn default() -> Self {
        Self { begun: Instant::now(), known: Mutex::default() }
    }
}

impl Clients {
    /// A client has logged in.
    pub(crate) fn enter(&self, number: u64, startup: &Startup, talk: &Talk) -> Arc<Note> {
        // As PostgreSQL has it. Names of users may have letters of any language; nobody's name moves a cursor.
        let printed = |one: char| if matches!(one, ' '..='~') { one } else { '?' };
        let seen = |one: char| if one.is_control() { '?' } else { one };
        let named = startup.settings.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case("application_name"));
        let note = Arc::new(Note {
            number,
            database: startup.database.clone(),
            user: startup.user.chars().map(seen).collect(),
            peer: talk.socket.peer(),
            local: talk.socket.local(),
            since: SystemTime::now(),
            tls: talk.socket.tls_version(),
            application: named
                .map_or_else(String::new, |(_, name)| name.chars().take(APPLICATION_CHARS_MAX).map(printed).collect()),
            waits_since: AtomicU64::new(0),
            begun: self.begun,
        });
        self.known().insert(number, Arc::clone(&note));
        note
    }

    /// It has gone.
    pub(crate) fn leave(&self, number: u64) {
        self.known().remove(&number);
    }

    /// Whether a client of a database has this number.
    pub(crate) fn is_there(&self, database: &str, number: u64) -> bool {
        self.known().get(&number).is_some_and(|note| note.database == database)
    }

    /// All that are there, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<Note>> {
        let mut all: Vec<_> = self.known().values().map(Arc::clone).collect();
        all.sort_unstable_by_key(|note| note.number);
        all
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Arc<Note>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Note {
    /// It waits for a connection from now on.
    pub(crate) fn wait(&self, now: Instant) {
        self.waits_since.store(self.micros(now).max(1), Ordering::Relaxed);
    }

    /// It waits no more: how long it did, in microseconds.
    pub(crate) fn wait_over(&self) -> u64 {
        match self.waits_since.swap(0, Ordering::Relaxed) {
            0 => 0,
            since => self.micros(Instant::now()).saturating_sub(since),
        }
    }

    /// How long it has waited by now, if it waits.
    pub(crate) fn waits(&self, now: Instant) -> Option<Duration> {
        match self.waits_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_micros(self.micros(now).saturating_sub(since))),
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }
}
