//! Which server a session takes a backend of: the primary, or a replica that has what the session must see.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgroute::SqlState;
use pgroute::classify::{Kind, Plan, Setting};
use pgroute::position::{Choice, Floor, Reading, ReplicaId, Token};

use super::peek::{Group, Want};
use super::{Cut, POSITION, Session};
use crate::cluster::Cluster;
use crate::core::after;
use crate::failure::Failure;
use crate::params::{CausalityScope, NoReplica};
use crate::pool::Local;

/// Between two looks at a primary that is known and does not answer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Bytes of a group of messages that are kept so that it can be done again, at most.
const AGAIN_BYTES_MAX: usize = 64 * 1024;

/// Times that a group of messages is done again.
const AGAIN_MAX: u32 = 3;

/// Where a session is, and what it must see.
#[derive(Default)]
pub(super) struct Place {
    pub(super) cluster: Option<Arc<Cluster>>,
    /// How often the database had been configured when it had that.
    configured: u64,
    /// The server that the backend is of.
    pub(super) server: usize,
    /// Whether it was taken as a replica.
    pub(super) is_replica: bool,
    /// Which life of the replica the read began in.
    reading: Option<Reading>,
    /// What it must see at least.
    pub(super) must_see: Floor,
    /// Pools of its servers that it has used, as far as this core has to do with them.
    locals: Vec<(usize, Rc<Local>)>,
    pub(super) again: Again,
    /// What `SHOW tenfold.position` says.
    pub(super) token: Option<String>,
}

/// What is needed to do a group of messages again.
#[derive(Default)]
pub(super) struct Again {
    /// Its bytes; none if it cannot be.
    pub(super) bytes: Vec<u8>,
    /// How often it has been.
    pub(super) count: u32,
    /// A replica has refused it: what comes up to the end of its answer is for nobody.
    pub(super) is_refused: bool,
}

impl Again {
    /// Nothing can be done again from now on.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Whether somebody else may do what a server could not.
enum Tried {
    Done,
    /// It is away.
    Away(Failure),
    /// Its answer stands.
    Failed(Failure),
}

impl Session {
    /// Has a backend for the message that waits, or has that message fail.
    pub(super) async fn engage(&mut self) -> Result<(), Cut> {
        self.look_at_servers();
        let engaged = self.engage_somewhere().await?.and_then(|()| self.is_not_cancelled());
        if let Err(failure) = engaged {
            self.give_back();
            // It is not asked and nothing is held back: the client hears why.
            self.place.again.forget();
            self.fails = Some(failure);
        }
        Ok(())
    }

    /// Goes by the servers that the database has now.
    fn look_at_servers(&mut self) {
        let configured = self.seat.database.configured();
        if self.place.cluster.is_some() && configured == self.place.configured {
            return;
        }
        self.place.configured = configured;
        let cluster = self.seat.database.cluster();
        if self.place.cluster.as_ref().is_none_or(|known| known.number != cluster.number) {
            self.place.locals.clear();
            self.place.must_see = Floor::default();
            self.place.cluster = Some(cluster);
        }
    }

    async fn engage_somewhere(&mut self) -> Result<Result<(), Failure>, Cut> {
        let Some(cluster) = self.place.cluster.as_ref().filter(|cluster| !cluster.is_alone()).map(Arc::clone) else {
            (self.place.server, self.place.is_replica, self.place.reading) = (0, false, None);
            self.go_to(0);
            return self.engage_here().await;
        };
        let cluster = &cluster;
        let mut group = self.peek();
        if group.want == Want::Position {
            match self.position(cluster).await {
                Ok(token) => self.place.token = Some(token),
                Err(failure) => return Ok(Err(failure)),
            }
            group.want = Want::Primary;
        }
        let engaged = self.engage_among(cluster, &group).await?;
        if engaged.is_ok() {
            self.keep_for_again(&group);
        }
        Ok(engaged)
    }

    async fn engage_among(&mut self, cluster: &Arc<Cluster>, group: &Group) -> Result<Result<(), Failure>, Cut> {
        let settings = self.seat.database.settings();
        let (switch_wait, none) = (settings.failover.switch_wait, settings.replica.none);
        drop(settings);
        let mut avoid = Vec::new();
        if matches!(group.want, Want::Read | Want::Replica) && !self.place.again.is_refused {
            while let Some(server) = self.replica(cluster, group.want, &avoid).await {
                match self.try_server(cluster, server, true).await? {
                    Tried::Done => return Ok(Ok(())),
                    Tried::Failed(failure) => return Ok(Err(failure)),
                    Tried::Away(_) => avoid.push(server),
                }
            }
            if group.want == Want::Replica || none == NoReplica::Error && group.want == Want::Read {
                let message = "no replica can serve this statement now";
                return Ok(Err(Failure::new(SqlState::CANNOT_CONNECT_NOW, message)));
            }
        }
        self.place.again.is_refused = false;
        let until = after(switch_wait);
        let mut last = None;
        loop {
            let (primary, is_disputed) = {
                let view = cluster.view();
                (view.primary.filter(|&at| cluster.may_write(at)), view.is_disputed)
            };
            if let Some(server) = primary {
                match self.try_server(cluster, server, false).await? {
                    Tried::Done => return Ok(Ok(())),
                    Tried::Failed(failure) => return Ok(Err(failure)),
                    Tried::Away(failure) => last = Some(failure),
                }
            }
            let now = Instant::now();
            if now >= until {
                return Ok(Err(no_primary(cluster, is_disputed, last)));
            }
            // A primary that is known and does not answer may be about to come back; another one shows by a change.
            let pause = if primary.is_some() { LOOK_AGAIN } else { LOOK_AGAIN * 4 };
            cluster.change(pause.min(until - now)).await;
            if let Err(failure) = self.is_still_wanted()? {
                return Ok(Err(failure));
            }
        }
    }

    /// Takes a backend of a server.
    async fn try_server(&mut self, cluster: &Arc<Cluster>, server: usize, is_replica: bool) -> Result<Tried, Cut> {
        self.go_to(server);
        (self.place.server, self.place.is_replica) = (server, is_replica);
        self.place.reading = is_replica.then(|| cluster.causal.start_read(server));
        if let Err(failure) = self.engage_here().await? {
            let is_away = failure.code.class() == "08"
                || matches!(failure.code, SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN)
                || failure.code.as_str() == "57P02";
            cluster.suspect(server);
            return Ok(if is_away { Tried::Away(failure) } else { Tried::Failed(failure) });
        }
        // It may have become something else while this waited.
        let is_right = {
            let view = cluster.view();
            view.primary == Some(server) || is_replica && view.is_usable(server)
        };
        if let Some(backend) = &mut self.backend {
            backend.lease = if is_replica { None } else { cluster.members[server].lease.clone() };
        }
        if self.backend.as_ref().is_none_or(|backend| backend.is_fenced()) {
            self.backend = None;
        }
        if self.backend.is_none() || !is_right {
            self.give_back();
            return Ok(Tried::Away(Failure::new(SqlState::CANNOT_CONNECT_NOW, "the server has another role now")));
        }
        if let Some(backend) = &mut self.backend {
            backend.flight = Some(cluster.fly(server));
        }
        if is_replica {
            self.cells().replica_reads.increment();
        }
        Ok(Tried::Done)
    }

    /// A replica that has what the session must see; none if the primary has to serve.
    async fn replica(&mut self, cluster: &Arc<Cluster>, want: Want, avoid: &[usize]) -> Option<usize> {
        let causality = self.seat.database.settings().causality.clone();
        let (Some(scope), true) = (causality.scope, want == Want::Read || want == Want::Replica) else {
            return self.pick(cluster, None, avoid);
        };
        let until = after(causality.wait_max);
        // What others write from now on need not be seen, or the wait might never end.
        let shared = cluster.causal.shared(scope);
        let (mut sampling, mut has_waited) = (None, false);
        loop {
            let choice = cluster.causal.choose(&mut self.place.must_see, shared);
            match &choice {
                Choice::Replicas(able) => {
                    if let Some(server) = self.pick(cluster, Some(able), avoid) {
                        return Some(server);
                    }
                    // Those that can are not to be used.
                    return None;
                }
                Choice::Primary => return None,
                Choice::Probe(number) => cluster.want_probe(*number),
                Choice::Wait { .. } => {}
            }
            if !has_waited {
                has_waited = true;
                self.cells().causal_waits.increment();
            }
            if !matches!(choice, Choice::Probe(_)) && sampling.is_none() {
                let last = match choice {
                    Choice::Wait { last, .. } => last,
                    _ => None,
                };
                let servers = (0..cluster.members.len())
                    .filter(|&at| cluster.view().is_usable(at) && last.is_none_or(|last| last == ReplicaId(at as u32)));
                let servers: Vec<_> = servers.collect();
                if servers.is_empty() {
                    return None;
                }
                sampling = Some(cluster.sample(servers));
            }
            let must_see = &mut self.place.must_see;
            cluster.causal.moved(until, || cluster.causal.choose(must_see, shared) != choice).await;
            if Instant::now() >= until {
                self.cells().causal_misses.increment();
                return None;
            }
        }
    }

    fn pick(&self, cluster: &Cluster, among: Option<&[ReplicaId]>, avoid: &[usize]) -> Option<usize> {
        self.held.core.with_picker(cluster.number, |picker| cluster.pick(picker, self.number, among, avoid))
    }

    /// What `SHOW tenfold.position` says.
    async fn position(&mut self, cluster: &Arc<Cluster>) -> Result<String, Failure> {
        let wait = self.seat.database.settings().failover.watch_timeout;
        let until = after(wait);
        loop {
            match cluster.causal.token(&mut self.place.must_see) {
                Ok(token) => return Ok(token.to_string()),
                Err(number) => {
                    cluster.want_probe(number);
                    let must_see = &mut self.place.must_see;
                    cluster.causal.moved(until, || cluster.causal.token(must_see).is_ok()).await;
                }
            }
            if Instant::now() >= until {
                let message = "the primary's position is not known now";
                return Err(Failure::new(SqlState::CANNOT_CONNECT_NOW, message));
            }
        }
    }

    /// Keeps a group of messages that may be done again.
    fn keep_for_again(&mut self, group: &Group) {
        let again = &mut self.place.again;
        again.bytes.clear();
        let Some(len) = group.len.filter(|len| group.want == Want::Read && *len <= AGAIN_BYTES_MAX) else {
            again.count = 0;
            return;
        };
        let is_first = self.to_client.is_empty() && self.server_pass == 0 && again.count < AGAIN_MAX;
        if let Some(input) = self.client.input.as_ref().filter(|_| is_first) {
            again.bytes.extend_from_slice(&input.filled()[self.client.pass..][..len]);
        }
    }

    /// Has to do with a server's pool from now on, as far as that is on this core.
    fn go_to(&mut self, server: usize) {
        if let Some((_, local)) = self.place.locals.iter().find(|(known, _)| *known == server) {
            if !Rc::ptr_eq(local, &self.local) {
                self.local = Rc::clone(local);
            }
            return;
        }
        let Some(cluster) = &self.place.cluster else { return };
        let (core, database) = (&self.held.core, &self.seat.database);
        let pool = database.pool(&core.process, &self.user, None, &cluster.members[server].params);
        self.local = core.local(&pool);
        self.place.locals.push((server, Rc::clone(&self.local)));
    }

    /// The scope of what is seen at once, where that is kept account of.
    fn scope(&self) -> Option<(Arc<Cluster>, CausalityScope)> {
        let cluster = self.place.cluster.as_ref().filter(|cluster| !cluster.is_alone())?;
        let scope = self.seat.database.settings().causality.scope?;
        Some((Arc::clone(cluster), scope))
    }

    /// The server is ready, outside of a transaction: what was done must be seen from now on.
    pub(super) fn has_ended(&mut self) {
        let Some((cluster, scope)) = self.scope() else { return };
        if let Some(reading) = self.place.reading {
            cluster.causal.read_on(&mut self.place.must_see, reading);
            return;
        }
        if self.is_opaque || self.settings.value("synchronous_commit").is_some() {
            cluster.causal.relax();
        }
        cluster.causal.wrote(&mut self.place.must_see, scope);
    }

    /// Whether the next group of messages waits until this one is over: on a replica, where the next one may have to go elsewhere, and behind what
    /// has to be listened to first. A message that has begun to pass is not of the next one, however long it is.
    pub(super) fn stalls(&self) -> bool {
        let on_replica = || {
            self.place.is_replica
                && self.is_used
                && !self.is_group_open
                && self.keeps().is_none()
                && self.backend.as_ref().is_some_and(|backend| backend.is_clean() || !backend.ledger.is_empty())
        };
        self.client.splitter.is_between_messages() && (self.begins_to_listen() || on_replica())
    }
}

fn no_primary(cluster: &Cluster, is_disputed: bool, last: Option<Failure>) -> Failure {
    if cluster.is_without_holder() {
        let message = "no server is known to hold the lease: nothing is written until one does";
        let hint =
            "Look at what the URL of failover.lease answers for each server: 200 at the one that may be written to.";
        return Failure::new(SqlState::CANNOT_CONNECT_NOW, message).with_hint(hint);
    }
    let message = if is_disputed {
        "several servers say that they are the primary: nothing is written until there is one"
    } else {
        "there is no primary now"
    };
    let failure = Failure::new(SqlState::CANNOT_CONNECT_NOW, message);
    match last {
        Some(last) => failure.with_detail(&last.message),
        None => failure,
    }
}

/// `SHOW` and `SET` of what a session must see.
impl Session {
    /// The statement that answers, if a text asks for the position.
    pub(super) fn told_position(&mut self, plan: &Plan) -> Option<String> {
        let Kind::Show(name) = &plan.single()?.kind else { return None };
        let token = if name == POSITION { self.place.token.take() } else { None };
        // It has digits, points and a slash: nothing that would have to be quoted.
        token.map(|token| format!("SELECT '{token}'::text AS \"{POSITION}\""))
    }

    /// Why a position cannot be demanded, if a text does.
    pub(super) fn refused_position(&self, plan: &Plan) -> Option<Failure> {
        let (cluster, _) = self.scope()?;
        let settings = plan.statements.iter().filter_map(|statement| match &statement.kind {
            Kind::Set(settings) => Some(settings),
            _ => None,
        });
        let mut texts = settings
            .flatten()
            .filter(|setting| setting.name == POSITION)
            .filter_map(|setting| setting.value.as_deref());
        texts.find_map(|text| {
            let mut floor = self.place.must_see;
            let error = match token_of(text) {
                Ok(token) => cluster.causal.demand(&mut floor, token).err()?.to_string(),
                Err(error) => error,
            };
            Some(Failure::new(SqlState::INVALID_VALUE, error))
        })
    }

    /// Positions that were set are demanded from now on.
    pub(super) fn demand_position(&mut self, settings: &[Setting]) {
        let Some((cluster, _)) = self.scope() else { return };
        for text in
            settings.iter().filter(|setting| setting.name == POSITION).filter_map(|setting| setting.value.as_deref())
        {
            if let Ok(token) = token_of(text) {
                // It was looked at before; what was lost meanwhile cannot be had any more.
                let _lost = cluster.causal.demand(&mut self.place.must_see, token);
            }
        }
    }

    /// Whether a message takes a transaction back, and does nothing else.
    pub(super) fn is_rollback(&mut self, kind: u8, message: &[u8]) -> bool {
        if kind != pgroute::wire::frontend::tag::QUERY {
            return false;
        }
        let plan = pgroute::wire::frontend::query(message).ok().map(|text| self.plan(text));
        plan.is_some_and(|plan| matches!(plan.single().map(|one| &one.kind), Some(Kind::Rollback { .. })))
    }
}

fn token_of(text: &str) -> Result<Token, String> {
    pgroute::session::written_text(text).parse::<Token>().map_err(|error| error.to_string())
}
