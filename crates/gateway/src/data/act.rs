//! What a route does before its service hears of a request.

use std::rc::Rc;
use std::time::Instant;

use http1::Request;
use telemetry::trace::RequestTrace;
use vocab::ErrorCode;

use super::authorize;
use super::connection::Link;
use super::core::Core;
use super::exchange::hash_of;
use super::files;
use super::local::Local;
use super::reply;
use crate::action::{self, Prepared, Way};
use crate::files::Serving;
use crate::forwarded::{self, Origin};
use crate::identity::RequestId;
use crate::limits::{Asking, Halt, Held, Limits};
use crate::router::{Asked, Route, Target};
use crate::state::ListenerView;

/// A request that a route has taken.
pub(crate) struct Act<'a, 's> {
    pub(crate) link: &'a Link<'s>,
    pub(crate) local: &'a Rc<Local>,
    pub(crate) listener: &'a ListenerView,
    pub(crate) route: &'a Route,
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) origin: Origin,
    pub(crate) id: &'a RequestId,
    /// When its head was complete.
    pub(crate) started: Instant,
    /// Where it stands in its trace, and the trace to begin if there is none.
    pub(crate) trace: (Option<RequestTrace>, u128),
    /// Whether its body is larger than the listener allows.
    pub(crate) too_large: bool,
}

/// What is filled in for the request, and for whatever answers it.
pub(crate) struct Room<'a> {
    /// Path and query that the service is asked for, if they are not the request's.
    pub(crate) target: &'a mut Vec<u8>,
    /// Lines that the request gets by leave of another service.
    pub(crate) granted: &'a mut Vec<u8>,
    /// Lines that the response gets.
    pub(crate) added: &'a mut Vec<u8>,
    /// What the request holds until its end.
    pub(crate) held: &'a mut Vec<Held>,
}

/// Where a request goes.
pub(crate) enum Goes {
    /// To the service at a position, which is asked for another target if this is true.
    On(usize, bool),
    /// To a file, which is its answer.
    File(Box<Serving>),
}

impl Act<'_, '_> {
    /// Where the request goes.
    ///
    /// # Errors
    /// The answer, if it does not go on.
    pub(crate) async fn run(&self, room: Room<'_>) -> Result<Goes, Box<Prepared>> {
        let Self { link, listener, route, asked, origin, .. } = *self;
        let (core, actions) = (link.core, route.actions.as_deref());
        if let Some(actions) = actions {
            actions.push_response(room.added, asked);
        }
        if self.too_large {
            return Err(Box::new(Prepared::error(ErrorCode::BodyTooLarge, reply::message(ErrorCode::BodyTooLarge))));
        }
        if let Some(limits) = &route.limits {
            let admitted = limits.admit(0, &self.asking(self.started), room.added, room.held);
            match admitted {
                Ok(()) => {}
                Err(Halt::Refused(answer)) => return Err(answer),
                // Apart, so that other requests do not carry the memory of one that waits.
                Err(Halt::Waits(at)) => Box::pin(self.wait_for_lease(limits, at, room.added, room.held)).await?,
            }
        }
        if let Some(actions) = actions {
            let secure = link.peer.tls || origin.trusted && forwarded::says_https(asked.request, asked.head);
            action::admit(actions, &core.checks, asked, secure).await?;
        }
        if let Some(auth) = &route.auth {
            // Apart, so that requests of other routes do not carry the memory of another exchange.
            Box::pin(authorize::ask(self, auth, room.granted, room.added)).await?;
        }
        let way = action::goal(route, asked)?;
        let rewritten = match actions {
            Some(actions) => actions.rewrite(room.target, asked, listener.limits.bytes_max)?,
            None => false,
        };
        match way {
            Way::Service(target) => Ok(Goes::On(choose(core, target, asked.request, asked.head, origin), rewritten)),
            Way::Files(files) => {
                let target = rewritten.then_some(&**room.target);
                // Apart, so that requests for services do not carry the memory of a look for files.
                Box::pin(files::find(self, files, target)).await.map(Goes::File)
            }
        }
    }

    /// What limits are asked.
    fn asking(&self, now: Instant) -> Asking<'_> {
        let core = self.link.core;
        Asking {
            asked: self.asked,
            client: self.origin.client,
            route: &self.route.state.name,
            seed: core.shared.limit_seed,
            epoch: core.shared.epoch,
            now,
            spread: core.random.borrow_mut().f64(),
            leases: self.local.leases(),
        }
    }

    async fn wait_for_lease(
        &self,
        limits: &Limits,
        at: usize,
        added: &mut Vec<u8>,
        held: &mut Vec<Held>,
    ) -> Result<(), Box<Prepared>> {
        limits.admit_late(at, &mut self.asking(Instant::now()), added, held).await
    }
}

/// The service that a request goes to, by its position.
fn choose(core: &Core, target: &Target, request: &Request, head: &[u8], origin: Origin) -> usize {
    match target {
        Target::Service(index) => *index,
        Target::Split(split) => match split.by() {
            Some(by) => split.of_key(hash_of(by, request, head, origin)),
            None => split.at_random(core.random.borrow_mut().u64(..)),
        },
    }
}
