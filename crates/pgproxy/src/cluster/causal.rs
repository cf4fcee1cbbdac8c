//! Who has to see what: positions of a database's servers, and what all who share it must see. `pgroute::position` decides; whoever
//! watches a server asks it, on the connection that it has anyway, as long as somebody wants to know.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pgroute::position::{Choice, Floor, Lsn, Progress, Reading, ReplicaId, Timeline, Token, TokenError, choose};
use tokio::sync::Notify;

use super::Cluster;
use crate::params::CausalityScope;
use crate::planted::{Bug, is_planted};

/// Positions of a database's servers.
#[derive(Debug)]
pub(crate) struct Causal {
    state: Mutex<State>,
    /// Something came to be known.
    moved: Notify,
    /// For each server, how many wait for it to come further.
    waiting: Vec<AtomicU32>,
    /// Whether commits are known to be on disk when they are acknowledged: by what the server says, and by what nobody has set otherwise.
    is_synchronous: AtomicBool,
    was_relaxed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    is_known: bool,
    /// What all must see who share the database.
    floor: Floor,
    /// A probe of this number or a later one is wanted; none if it is zero.
    probe_wanted: u64,
}

/// Somebody waits for replicas to come further; as long as this is there they are asked how far they are.
#[derive(Debug)]
pub(crate) struct Sampling {
    cluster: Arc<Cluster>,
    servers: Vec<usize>,
}

impl Causal {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            state: Mutex::default(),
            moved: Notify::new(),
            waiting: (0..servers).map(|_| AtomicU32::new(0)).collect(),
            is_synchronous: AtomicBool::new(false),
            was_relaxed: AtomicBool::new(false),
        }
    }

    /// The system and the newest timeline are these. Whether they are others than before: then all positions are unknown.
    pub(super) fn follow(&self, system: u64, timeline: Timeline) -> bool {
        let mut state = self.state();
        if !state.is_known {
            state.progress = Progress::new(system, timeline);
            state.is_known = true;
            return true;
        }
        if state.progress.timeline() == timeline {
            return false;
        }
        state.progress.switch(timeline, Vec::new());
        // Probes that were under way do not count any more.
        if state.probe_wanted > 0 {
            state.probe_wanted = u64::MAX;
        }
        drop(state);
        self.moved.notify_waiters();
        true
    }

    /// A replica is there.
    pub(super) fn join(&self, replica: ReplicaId, timeline: Timeline) {
        self.state().progress.join(replica, timeline);
    }

    /// The connection to a replica ended, or it is none any more.
    pub(super) fn lose(&self, replica: ReplicaId) {
        self.state().progress.lose(replica);
        self.moved.notify_waiters();
    }

    /// Something may have been written, or was read on the primary. The server has said that it is ready, and the client has not heard of it.
    pub(crate) fn wrote(&self, own: &mut Floor, scope: CausalityScope) {
        let mut state = self.state();
        let State { progress, floor, .. } = &mut *state;
        if !is_planted(Bug::WriteForgotten) {
            own.after_primary(progress);
        }
        if scope == CausalityScope::Database && !is_planted(Bug::WriteNotShared) {
            floor.after_primary(progress);
        }
    }

    /// A session has set, or may have set, that its commits need not be on disk.
    pub(crate) fn relax(&self) {
        self.was_relaxed.store(true, Ordering::Relaxed);
    }

    /// A read on a replica is about to begin.
    pub(crate) fn start_read(&self, server: usize) -> Reading {
        self.state().progress.start_read(ReplicaId(server as u32))
    }

    /// A read on a replica has ended.
    pub(crate) fn read_on(&self, own: &mut Floor, reading: Reading) {
        if !is_planted(Bug::ReadForgotten) {
            own.after_replica(reading, &self.state().progress);
        }
    }

    /// Where a read may go.
    pub(crate) fn choose(&self, own: &mut Floor, shared: Option<Floor>) -> Choice {
        let state = self.state();
        match shared {
            Some(mut shared) => choose(&mut [own, &mut shared], &state.progress),
            None => choose(&mut [own], &state.progress),
        }
    }

    /// What all must see by now who share the database, if they share that.
    pub(crate) fn shared(&self, scope: CausalityScope) -> Option<Floor> {
        (scope == CausalityScope::Database).then(|| self.state().floor)
    }

    /// What a session may carry away.
    ///
    /// # Errors
    /// The number of the probe that is needed first.
    pub(crate) fn token(&self, own: &mut Floor) -> Result<Token, u64> {
        own.token(&self.state().progress)
    }

    /// A session must see what a token stands for.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn demand(&self, own: &mut Floor, token: Token) -> Result<(), TokenError> {
        own.demand(token, &self.state().progress)
    }

    /// Whether somebody needs a probe.
    pub(crate) fn is_probe_wanted(&self) -> bool {
        self.state().probe_wanted > 0
    }

    /// A probe is begun, if one is wanted: its number.
    pub(crate) fn begin_probe(&self) -> Option<u64> {
        let mut state = self.state();
        (state.probe_wanted > 0).then(|| state.progress.start_probe())
    }

    /// What it gave: the position up to which the log is on disk, and where it ends.
    pub(crate) fn probed(&self, number: u64, timeline: Timeline, flushed: Lsn, inserted: Lsn) {
        let is_synchronous = self.is_synchronous.load(Ordering::Relaxed) && !self.was_relaxed.load(Ordering::Relaxed);
        let mut state = self.state();
        if state.progress.timeline() != timeline {
            return;
        }
        let number = if is_planted(Bug::ProbeFromAnswer) { state.progress.start_probe() } else { number };
        state.progress.probed(number, if is_synchronous { flushed } else { inserted });
        if number >= state.probe_wanted || state.probe_wanted == u64::MAX {
            state.probe_wanted = 0;
        }
        drop(state);
        self.moved.notify_waiters();
    }

    /// What the primary says of the durability of commits.
    pub(crate) fn set_synchronous(&self, is_synchronous: bool) {
        self.is_synchronous.store(is_synchronous, Ordering::Relaxed);
    }

    /// A sample of a replica is begun: its number.
    pub(crate) fn begin_sample(&self, server: usize) -> Option<u64> {
        self.state().progress.start_sample(ReplicaId(server as u32))
    }

    /// What it gave.
    pub(crate) fn sampled(&self, server: usize, number: u64, position: Lsn) {
        self.state().progress.sampled(ReplicaId(server as u32), number, position);
        self.moved.notify_waiters();
    }

    /// Whether somebody waits for a replica to come further.
    pub(crate) fn is_awaited(&self, server: usize) -> bool {
        self.waiting[server].load(Ordering::Relaxed) > 0
    }

    /// Waits until something came to be known, unless `is_done` says that it has already; at most until then.
    pub(crate) async fn moved(&self, until: Instant, is_done: impl FnOnce() -> bool) {
        let moved = self.moved.notified();
        let mut moved = std::pin::pin!(moved);
        moved.as_mut().enable();
        if !is_done() {
            let _in_time = tokio::time::timeout_at(until.into(), moved).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Has the primary probed for whoever needs a probe of this number or a later one.
    pub(crate) fn want_probe(&self, number: u64) {
        let mut state = self.causal.state();
        if state.probe_wanted != u64::MAX {
            state.probe_wanted = state.probe_wanted.max(number);
        }
        drop(state);
        if let Some(primary) = self.view().primary {
            self.members[primary].wake.notify_one();
        }
    }

    /// Has replicas sampled as long as what is given is there.
    pub(crate) fn sample(self: &Arc<Self>, servers: Vec<usize>) -> Sampling {
        for &server in &servers {
            self.causal.waiting[server].fetch_add(1, Ordering::Relaxed);
            self.members[server].wake.notify_one();
        }
        Sampling { cluster: Arc::clone(self), servers }
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        for &server in &self.servers {
            self.cluster.causal.waiting[server].fetch_sub(1, Ordering::Relaxed);
        }
    }
}
