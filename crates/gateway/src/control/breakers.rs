//! Breakers in the control plane: which there are, who holds one open or closed, and what is told of their moves.
//!
//! A breaker decides on the cores, by what the calls there say. The control plane makes it, tells the log of its moves,
//! and for those of endpoints takes whoever is held back out of the plan, so that priorities and shares go by who is left.
//!
//! Holding a breaker is a change at run time like an override: it outlives reloads and upgrades while its service has a
//! breaker.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use breaker::Breaker;
use breaker::circuit::{Change, Force};
use vocab::Name;

use super::service::Service;
use crate::params::{BreakerScope, ServiceBreakerParams, ServiceParams};

/// The breakers of a service that are held, by somebody's wish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forced {
    /// The service.
    pub(crate) service: Name,
    /// What they are held as.
    pub(crate) force: Force,
    /// Since when.
    pub(crate) since: SystemTime,
}

/// What somebody wishes of a service's breakers.
pub(super) fn forced(all: &[Forced], service: &Name) -> Option<Force> {
    all.iter().find(|forced| forced.service == *service).map(|forced| forced.force)
}

/// All wishes after another one, and how many it changed.
pub(super) fn wish(all: &[Forced], service: &Name, force: Option<Force>, now: SystemTime) -> (Vec<Forced>, usize) {
    if forced(all, service) == force {
        return (all.to_vec(), 0);
    }
    let others = all.iter().filter(|forced| forced.service != *service).cloned();
    let new = force.map(|force| Forced { service: service.clone(), force, since: now });
    (others.chain(new).collect(), 1)
}

/// The wishes that still have a breaker in another file.
pub(super) fn adopt(all: &[Forced], file: &[ServiceParams]) -> Vec<Forced> {
    let stays = |forced: &&Forced| file.iter().any(|params| params.name == forced.service && params.breaker.is_some());
    all.iter().filter(stays).cloned().collect()
}

/// Makes a breaker, or keeps one that has these rules already.
pub(super) fn keep(
    known: Option<Arc<Breaker>>,
    params: Option<&ServiceBreakerParams>,
    scope: BreakerScope,
    cores: usize,
) -> Option<Arc<Breaker>> {
    let params = params.filter(|params| params.scope == scope)?;
    let known = known.filter(|breaker| *breaker.params() == params.rules);
    Some(known.unwrap_or_else(|| Arc::new(Breaker::new(params.rules, cores, Instant::now()))))
}

impl Service {
    /// The breakers of its endpoints, with the endpoints' ids and addresses.
    pub(super) fn endpoint_breakers(&self) -> impl Iterator<Item = (u64, &str, &Arc<Breaker>)> {
        self.endpoints.iter().filter_map(|e| Some((e.state.id, e.state.label.as_str(), e.breaker.as_ref()?)))
    }

    /// Goes by who is held back by a breaker now.
    pub(super) fn follow_breakers(&mut self) {
        for endpoint in &mut self.endpoints {
            let tripped = endpoint.breaker.as_ref().is_some_and(|breaker| !breaker.state().is_passable());
            if std::mem::replace(&mut endpoint.tripped, tripped) != tripped {
                self.view = None;
            }
        }
    }

    /// Holds its breakers, or lets them decide by themselves.
    pub(super) fn force(&mut self, force: Option<Force>) {
        self.forced = force;
        self.hold_breakers();
    }

    /// Has all breakers, new ones among them, as somebody wishes.
    pub(super) fn hold_breakers(&mut self) {
        let now = Instant::now();
        let own = self.breaker.iter().map(|breaker| (None, breaker));
        let all = own.chain(self.endpoint_breakers().map(|(_, label, breaker)| (Some(label), breaker)));
        for (endpoint, breaker) in all {
            if let Some(change) = breaker.force(self.forced, now) {
                log_change(self.name(), endpoint, &change);
            }
        }
        self.follow_breakers();
    }

    /// A breaker has moved on a core.
    pub(super) fn on_breaker(&mut self, id: u64, change: &Change) {
        let of_endpoint = |endpoint: &&(u64, &str, &Arc<Breaker>)| endpoint.0 == id;
        let all: Vec<_> = self.endpoint_breakers().collect();
        log_change(self.name(), all.iter().find(of_endpoint).map(|found| found.1), change);
        self.follow_breakers();
    }
}

fn log_change(service: &Name, endpoint: Option<&str>, change: &Change) {
    let (from, to, cause) = (change.from.as_str(), change.to.as_str(), &change.cause);
    if change.to.is_passable() || change.to == breaker::circuit::State::HalfOpen {
        tracing::info!(%service, endpoint, from, to, %cause, "breaker moved");
    } else {
        tracing::warn!(%service, endpoint, from, to, %cause, "breaker moved");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_wish_holds() {
        let (api, shop): (Name, Name) = ("api".parse().unwrap(), "shop".parse().unwrap());
        let now = SystemTime::UNIX_EPOCH;
        let (all, changed) = wish(&[], &api, Some(Force::Open), now);
        assert_eq!((forced(&all, &api), forced(&all, &shop), changed), (Some(Force::Open), None, 1));
        let (all, changed) = wish(&all, &api, Some(Force::Open), now);
        assert_eq!((all.len(), changed), (1, 0));
        let (all, _) = wish(&all, &shop, Some(Force::Closed), now);
        let (all, changed) = wish(&all, &api, Some(Force::Closed), now);
        assert_eq!((forced(&all, &api), all.len(), changed), (Some(Force::Closed), 2, 1));
        let (all, changed) = wish(&all, &api, None, now);
        assert_eq!((forced(&all, &api), forced(&all, &shop), changed), (None, Some(Force::Closed), 1));
        assert_eq!(wish(&all, &api, None, now).1, 0);
        assert_eq!(adopt(&all, &[]), []);
    }
}
