//! The servers of a database: what is known of each, and where statements may go. `pgroute::servers` says who is the primary;
//! [`crate::watch`] asks, and sessions read the view that comes of it whenever they take a backend.

mod causal;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use balance::{Availability, Candidate, Loads, Picker, Plan, Request, WEIGHT_UNIT, hash};
use pgroute::position::ReplicaId;
use pgroute::servers::{Lag, Observation, ServerId, Servers, State};
use tokio::sync::Notify;

use crate::lease::Deadline;
use crate::params::{DatabaseParams, LeaseParams, ReplicaPolicy, ServerAddress, ServerParams};
use crate::seen::Seen;

pub(crate) use causal::Causal;

/// What a server has said is good for so many intervals of watching, and the time for an answer.
const GOOD_INTERVALS: u32 = 3;

/// The servers of a database, as long as they stay the same ones.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Its number, which no other one of the process has.
    pub(crate) number: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) causal: Causal,
    /// Who says which of them may be written to, if the newest timeline is not enough.
    pub(crate) lease: Option<LeaseParams>,
    state: Mutex<Known>,
    view: ArcSwap<View>,
    /// The view has changed.
    changed: Notify,
    /// Whether somebody watches them.
    is_watched: AtomicBool,
}

/// A server of a database.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) params: ServerParams,
    weight: u32,
    zone: Option<String>,
    /// Backends of it that sessions use.
    in_flight: AtomicU32,
    /// Wakes who watches it.
    pub(crate) wake: Notify,
    /// Until when it may be written to, where somebody outside says that.
    pub(crate) lease: Option<Arc<Deadline>>,
    /// It has to be asked what it is, at once.
    is_suspect: AtomicBool,
}

#[derive(Debug)]
struct Known {
    servers: Servers,
    lag: Lag,
    is_alarmed: bool,
}

/// Where statements may go.
#[derive(Debug)]
pub(crate) struct View {
    /// Who takes writes.
    pub(crate) primary: Option<usize>,
    /// Several say that they do, and none can be believed.
    pub(crate) is_disputed: bool,
    pub(crate) servers: Vec<(State, Option<Duration>)>,
    /// Bytes of the primary's log that replicas have not replayed.
    pub(crate) lag_bytes: Vec<Option<u64>>,
    /// Replicas that may serve, by the number of their server.
    plan: Arc<Plan>,
}

/// A backend of a server that a session uses; it counts as long as it is there.
#[derive(Debug)]
pub(crate) struct Flight {
    cluster: Arc<Cluster>,
    server: usize,
}

impl Cluster {
    /// The servers of a configuration. What was seen before, of others or by another process, holds for them too.
    pub(crate) fn new(params: &DatabaseParams, seen: Option<Seen>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let member = |server: &ServerParams, weight, zone: Option<String>| Member {
            params: server.clone(),
            weight,
            zone,
            in_flight: AtomicU32::new(0),
            wake: Notify::new(),
            lease: params.failover.lease.as_ref().map(|_| Arc::default()),
            is_suspect: AtomicBool::new(false),
        };
        let mut members = vec![member(&params.primary, 1, None)];
        members.extend(
            params.replicas.iter().map(|replica| member(&replica.server, replica.weight, replica.zone.clone())),
        );
        let failover = &params.failover;
        // A server that is alone is what there is, whatever it says.
        let is_alone = members.len() == 1 && failover.lease.is_none();
        let good_for = failover.watch_interval * GOOD_INTERVALS + failover.watch_timeout;
        let servers = Servers::new(members.len() as u32, good_for);
        let servers = match seen {
            Some(Seen { system, timeline }) if !is_alone => servers.with_seen(system, timeline),
            _ => servers,
        };
        let view = View {
            primary: is_alone.then_some(0),
            is_disputed: false,
            servers: vec![(if is_alone { State::Primary } else { State::Unknown }, None); members.len()],
            lag_bytes: vec![None; members.len()],
            plan: Arc::new(plan(&params.replica, candidates(&members, &params.replica, &[]))),
        };
        Self {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            causal: Causal::new(members.len()),
            lease: failover.lease.clone(),
            members,
            state: Mutex::new(Known { servers, lag: Lag::default(), is_alarmed: false }),
            view: ArcSwap::from_pointee(view),
            changed: Notify::new(),
            is_watched: AtomicBool::new(false),
        }
    }

    /// The system, and the newest timeline that was seen of it.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let roles = self.known().servers.roles(Instant::now());
        roles.system.map(|system| Seen { system, timeline: roles.timeline })
    }

    /// Takes what was seen by another process. It holds from the next answer of a server on.
    pub(crate) fn saw(&self, seen: Seen) {
        self.known().servers.saw(seen.system, seen.timeline);
    }

    /// Whether a configuration names the same servers.
    pub(crate) fn is_of(&self, params: &DatabaseParams) -> bool {
        let named = params.replicas.iter().map(|replica| (&replica.server, replica.weight, &replica.zone));
        let named = std::iter::once((&params.primary, 1, &None)).chain(named);
        self.lease == params.failover.lease
            && self.members.iter().map(|member| (&member.params, member.weight, &member.zone)).eq(named)
    }

    /// Whether there is one server only, and nobody else says whether it may be used: then nothing is to be decided.
    pub(crate) fn is_alone(&self) -> bool {
        self.members.len() == 1 && self.lease.is_none()
    }

    /// Whether a server may be written to now, as far as that is said outside.
    pub(crate) fn may_write(&self, server: usize) -> bool {
        self.members[server].lease.as_ref().is_none_or(|lease| lease.holds())
    }

    /// Whether there is a lease, and nobody is known to hold it.
    pub(crate) fn is_without_holder(&self) -> bool {
        self.lease.is_some() && (0..self.members.len()).all(|server| !self.may_write(server))
    }

    /// A server's lease has begun or ended. Servers are named that may not be used any more, but for this one.
    pub(crate) fn lease_changed(&self, params: &DatabaseParams) -> Vec<usize> {
        let known = self.known();
        self.publish(known, params)
    }

    /// Where statements may go now.
    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// Whether somebody has to begin to watch the servers; whoever is told so does it.
    pub(crate) fn is_to_be_watched(&self) -> bool {
        !self.is_alone() && !self.is_watched.swap(true, Ordering::Relaxed)
    }

    /// A server has answered.
    pub(crate) fn observed(
        &self,
        params: &DatabaseParams,
        asked_at: Instant,
        server: usize,
        said: Observation,
    ) -> Vec<usize> {
        let mut known = self.known();
        known.servers.observed(asked_at, ServerId(server as u32), said);
        self.publish(known, params)
    }

    /// A server did not answer, or the connection to it broke. Servers are named that may not be used any more.
    pub(crate) fn broken(&self, params: &DatabaseParams, server: usize) -> Vec<usize> {
        let mut known = self.known();
        known.servers.broken(ServerId(server as u32));
        self.causal.lose(ReplicaId(server as u32));
        self.publish(known, params)
    }

    /// Publishes what follows from what is known. Servers are named that may not be used any more, whatever they say of themselves.
    fn publish(&self, mut known: MutexGuard<'_, Known>, params: &DatabaseParams) -> Vec<usize> {
        let now = Instant::now();
        let roles = known.servers.roles(now);
        let before = self.view.load_full();
        let primary = roles.primary.map(|id| id.0 as usize).filter(|&at| self.may_write(at));
        if let Some(system) = roles.system
            && self.causal.follow(system, roles.timeline)
        {
            known.lag.clear();
        }
        if let Some((_, Some(said))) = roles.primary.and_then(|id| roles.states.get(&id)) {
            known.lag.primary_at(now, said.position);
        }
        let mut servers = Vec::with_capacity(self.members.len());
        let mut lag_bytes = Vec::with_capacity(self.members.len());
        for (id, (state, said)) in &roles.states {
            let replica = ReplicaId(id.0);
            let said = said.filter(|_| *state == State::Replica);
            match said {
                Some(said) => self.causal.join(replica, said.timeline),
                None if before.servers[id.0 as usize].0 == State::Replica => self.causal.lose(replica),
                None => {}
            }
            lag_bytes.push(said.and_then(|said| known.lag.bytes(said.position)));
            let state = if *state == State::Primary && primary.is_none() { State::Unknown } else { *state };
            servers.push((state, said.and_then(|said| known.lag.of(now, said.position))));
        }
        if roles.is_disputed && !known.is_alarmed {
            let servers = roles.states.iter().filter(|(_, (state, _))| *state == State::Old);
            let servers: Vec<_> =
                servers.map(|(id, _)| self.members[id.0 as usize].params.address.to_string()).collect();
            tracing::error!(
                ?servers,
                "several servers say that they are the primary of the same timeline: nothing is written"
            );
        }
        known.is_alarmed = roles.is_disputed;
        for (at, ((old, _), (new, _))) in
            before.servers.iter().zip(&servers).enumerate().filter(|(_, (old, new))| old.0 != new.0)
        {
            let server = &self.members[at].params.address;
            tracing::info!(%server, was = old.as_str(), is = new.as_str(), timeline = roles.timeline.0, "a server has another role");
        }
        let was_out = |at: usize| is_put_out(before.servers[at].0);
        let out = (0..servers.len()).filter(|&at| is_put_out(servers[at].0) && !was_out(at)).collect();
        let candidates = candidates(&self.members, &params.replica, &servers);
        let is_same = before.plan.candidates() == candidates && before.plan.algorithm() == params.replica.balance;
        let plan = if is_same { Arc::clone(&before.plan) } else { Arc::new(plan(&params.replica, candidates)) };
        let view = View { primary, is_disputed: roles.is_disputed, servers, lag_bytes, plan };
        self.view.store(Arc::new(view));
        drop(known);
        self.changed.notify_waiters();
        out
    }

    /// Waits until the view has changed, or so long.
    pub(crate) async fn change(&self, at_most: Duration) {
        let _in_time = tokio::time::timeout(at_most, self.changed.notified()).await;
    }

    /// Something was wrong with a server: it is asked what it is at once.
    pub(crate) fn suspect(&self, server: usize) {
        if let Some(member) = self.members.get(server) {
            member.is_suspect.store(true, Ordering::Relaxed);
            member.wake.notify_one();
        }
    }

    /// Whether a server has to be asked at once; whoever is told so does it.
    pub(crate) fn is_suspect(&self, server: usize) -> bool {
        self.members[server].is_suspect.swap(false, Ordering::Relaxed)
    }

    /// A replica that may serve, from these if any are named, and none of those to avoid.
    pub(crate) fn pick(
        &self,
        picker: &mut Picker,
        key: u64,
        among: Option<&[ReplicaId]>,
        avoid: &[usize],
    ) -> Option<usize> {
        let view = self.view();
        let may = |at: usize| {
            view.is_usable(at)
                && !avoid.contains(&at)
                && among.is_none_or(|among| among.contains(&ReplicaId(at as u32)))
        };
        let others: Vec<u16> = (0..self.members.len()).filter(|&at| !may(at)).map(|at| at as u16).collect();
        if others.len() == self.members.len() {
            return None;
        }
        let key = hash::bytes(&key.to_le_bytes());
        let picked = picker.pick(&view.plan, Request { key, tried: &others }, self).map(usize::from);
        // A picker may prefer one that was tried to a worse one that was not.
        picked.filter(|&at| may(at)).or_else(|| (0..self.members.len()).find(|&at| may(at)))
    }

    /// A session uses a backend of a server.
    pub(crate) fn fly(self: &Arc<Self>, server: usize) -> Flight {
        self.members[server].in_flight.fetch_add(1, Ordering::Relaxed);
        Flight { cluster: Arc::clone(self), server }
    }

    /// Whether the server at an address must not be used as the primary that it was: it is an old one or none of this system, its lease has ended, or it
    /// is none of these servers.
    pub(crate) fn is_out(&self, address: &ServerAddress) -> bool {
        self.at(address).is_none_or(|server| is_put_out(self.view().servers[server].0) || !self.may_write(server))
    }

    /// The server at an address.
    pub(crate) fn at(&self, address: &ServerAddress) -> Option<usize> {
        self.members.iter().position(|member| member.params.address == *address)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Whether a server is a replica that may serve.
    pub(crate) fn is_usable(&self, server: usize) -> bool {
        self.plan.candidates().get(server).is_some_and(|found| found.availability == Availability::Available)
    }
}

impl Loads for Cluster {
    fn in_flight(&self, index: usize) -> u32 {
        self.members[index].in_flight.load(Ordering::Relaxed)
    }

    fn latency_micros(&self, _: usize) -> f32 {
        0.0
    }
}

impl Flight {
    /// Ends it, and tells the picker.
    pub(crate) fn land(self, picker: &mut Picker) {
        let (cluster, server) = (Arc::clone(&self.cluster), self.server);
        drop(self);
        picker.touch(&cluster.view().plan, server as u16, &*cluster);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cluster.members[self.server].in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether nothing may be connected to a server of this state.
fn is_put_out(state: State) -> bool {
    matches!(state, State::Old | State::Foreign)
}

fn candidates(members: &[Member], policy: &ReplicaPolicy, servers: &[(State, Option<Duration>)]) -> Vec<Candidate> {
    let candidate = |(at, member): (usize, &Member)| {
        let is_usable = servers.get(at).is_some_and(|(state, lag)| {
            let is_near = policy.lag_max.is_none_or(|max| lag.is_some_and(|lag| lag <= max));
            *state == State::Replica && is_near
        });
        Candidate {
            id: hash::endpoint_id(&member.params.address.to_string()),
            weight: member.weight.saturating_mul(WEIGHT_UNIT),
            priority: 0,
            away: policy.zone.is_some() && member.zone != policy.zone,
            backup: false,
            availability: if is_usable { Availability::Available } else { Availability::Unavailable },
        }
    };
    members.iter().enumerate().map(candidate).collect()
}

fn plan(policy: &ReplicaPolicy, candidates: Vec<Candidate>) -> Plan {
    Plan::new(policy.balance, candidates).expect("the configuration names fewer servers than candidates fit")
}
