//! What somebody must see at least, and where that can be seen.

use thiserror::Error;

use super::{Lsn, Progress, ReplicaId, Timeline, Token};

/// What a session, or all who share a database, must see at least.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    timeline: Timeline,
    position: Lsn,
    /// A probe of this number or a later one will say what must be seen as well.
    probe: Option<u64>,
    /// Where it read last, and what a sample of that replica will say.
    read: Option<LastRead>,
    /// A token asked for a timeline that is not known yet.
    ahead: Option<(Timeline, Lsn)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastRead {
    replica: ReplicaId,
    /// Which life of the replica it was in.
    life: u64,
    /// The sample that bounds what was read.
    sample: u64,
}

/// A read on a replica that is under way, from [`Progress::start_read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub(super) replica: ReplicaId,
    /// Which life of the replica it began in, if there was such a replica.
    pub(super) life: Option<u64>,
}

/// Where a read may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// To any of these replicas.
    Replicas(Vec<ReplicaId>),
    /// A probe of at least this number is needed first. The primary may serve as well.
    Probe(u64),
    /// No replica is known to have come so far. Samples may show that one has.
    Wait {
        /// How far it has to be.
        position: Lsn,
        /// The one replica that it can be, or whose next sample may let others serve.
        last: Option<ReplicaId>,
    },
    /// To the primary.
    Primary,
}

/// Why a token cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is of another database system.
    #[error("the position is of another database system")]
    Foreign,
    /// What it stands for was lost by a failover.
    #[error("the position is on a timeline that ended before it")]
    Lost,
}

impl Floor {
    /// Something may have been committed on the primary, or was read there: a probe that begins now will cover it. To be called when the
    /// server has said that it is ready, and not before.
    pub fn after_primary(&mut self, progress: &Progress) {
        self.probe = Some(progress.probes.next());
        // What was read on a replica before is on the primary too.
        self.read = None;
    }

    /// A read on a replica has ended. If the replica was lost meanwhile, nobody can say any more what it showed: the primary has it in any case.
    pub fn after_replica(&mut self, reading: Reading, progress: &Progress) {
        let Reading { replica, life } = reading;
        match progress.replicas.get(&replica).filter(|found| Some(found.life) == life) {
            Some(found) => self.read = Some(LastRead { replica, life: found.life, sample: found.samples.next() }),
            None => self.after_primary(progress),
        }
    }

    /// Takes what is known by now.
    fn settle(&mut self, progress: &Progress) {
        if self.timeline != progress.timeline {
            // What was needed before the switch was replayed by the new primary, or is lost. The next probe covers what is left.
            if self.timeline != Timeline::default() || self.position > Lsn::default() {
                self.probe = Some(progress.probes.next().min(self.probe.unwrap_or(u64::MAX)).max(progress.void + 1));
            }
            self.timeline = progress.timeline;
            self.position = Lsn::default();
        }
        if let Some((timeline, position)) = self.ahead
            && timeline <= progress.timeline
        {
            self.ahead = None;
            // Lost by another failover since: there is nothing left to wait for.
            if timeline == progress.timeline || progress.ended(timeline).is_some_and(|end| position <= end) {
                self.position = self.position.max(position);
            }
        }
        if let Some(position) = self.probe.and_then(|number| progress.probes.since(number)) {
            self.position = self.position.max(position);
            self.probe = None;
        }
        if let Some(read) = self.read
            && let Some(replica) = progress.replicas.get(&read.replica)
            && replica.life == read.life
            && let Some(position) = replica.samples.since(read.sample)
        {
            self.position = self.position.max(position);
            self.read = None;
        }
    }

    /// What the client may carry away, if everything that it must see has a position by now. Otherwise a probe of this number is needed.
    ///
    /// # Errors
    /// The number of the probe that is needed first.
    pub fn token(&mut self, progress: &Progress) -> Result<Token, u64> {
        self.settle(progress);
        if let Some((timeline, position)) = self.ahead {
            return Ok(Token { system: progress.system, timeline, position });
        }
        // What a replica showed is bounded by what the primary has from now on.
        if self.read.is_some() {
            self.after_primary(progress);
        }
        if let Some(probe) = self.probe {
            return Err(probe);
        }
        Ok(Token { system: progress.system, timeline: self.timeline, position: self.position })
    }

    /// A client brings a token, and must see what it stands for.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn demand(&mut self, token: Token, progress: &Progress) -> Result<(), TokenError> {
        if token.system != progress.system {
            return Err(TokenError::Foreign);
        }
        self.settle(progress);
        if token.timeline > progress.timeline {
            self.ahead = self.ahead.max(Some((token.timeline, token.position)));
            return Ok(());
        }
        let ended = progress.ended(token.timeline);
        if token.timeline < progress.timeline && ended.is_none_or(|end| token.position > end) {
            return Err(TokenError::Lost);
        }
        self.position = self.position.max(token.position);
        Ok(())
    }
}

/// Where a read may go that is under these floors: its session's, and that of whatever it shares with others.
pub fn choose(floors: &mut [&mut Floor], progress: &Progress) -> Choice {
    floors.iter_mut().for_each(|floor| floor.settle(progress));
    if floors.iter().any(|floor| floor.ahead.is_some()) {
        return Choice::Primary;
    }
    // The highest number serves all of them.
    if let Some(probe) = floors.iter().filter_map(|floor| floor.probe).max() {
        return Choice::Probe(probe);
    }
    let position = floors.iter().map(|floor| floor.position).max().unwrap_or_default();
    let last = floors.iter().filter_map(|floor| floor.read).collect::<Vec<_>>();
    // The replica of the last read may have gone, and with it all knowledge of what was seen there.
    let is_gone = |read: &LastRead| progress.replicas.get(&read.replica).is_none_or(|found| found.life != read.life);
    if last.iter().any(is_gone) {
        return Choice::Primary;
    }
    let is_same = |replica: ReplicaId| last.iter().all(|read| read.replica == replica);
    let replayed = |replica: ReplicaId| progress.replayed(replica).is_some_and(|at| at >= position);
    let able: Vec<_> = progress.replicas.keys().copied().filter(|id| is_same(*id) && replayed(*id)).collect();
    if able.is_empty() {
        return Choice::Wait { position, last: last.first().map(|read| read.replica) };
    }
    Choice::Replicas(able)
}
