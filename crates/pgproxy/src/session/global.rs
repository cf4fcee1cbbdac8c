//! Changes of databases and roles, which concern connections that the session does not have.
//!
//! A database cannot be dropped, renamed or copied while anybody is connected to it. Connections that are idle and nobody's are let go then. The
//! server waits some seconds for such ones; those of clients that are logged in stay, and it refuses as it would without a proxy. And
//! what a database or a role gives to sessions, those have that begin from then on: connections that began before are only for whoever owns
//! them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use pgroute::classify::{Global, Kind, Plan};

use super::Session;
use crate::core::Core;
use crate::params::ServerAddress;

/// Time between two looks for connections that are in the way.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks at most: a bit longer than the five seconds that the server waits.
const LOOKS_MAX: u32 = 120;

/// What a session has changed that others have to do with.
#[derive(Default)]
pub(super) struct Changed {
    /// The schema, in the transaction that is under way: that counts again when it ends.
    pub(super) schema: bool,
    /// The schema, at any time. No reset undoes what that leaves behind in a server's process, so nobody else gets its backend.
    pub(super) ever: bool,
    /// A database or a role, in the transaction that is under way.
    pub(super) beginnings: bool,
    /// Ends the search for connections that are in the way of its statement.
    alone: Option<Rc<Cell<bool>>>,
}

impl Session {
    /// A text is about to run: connections that are in its way are let go.
    pub(super) fn makes_way(&mut self, plan: &Plan) {
        let alone = plan.statements.iter().find_map(|statement| match &statement.kind {
            Kind::Global(Global::Alone(name)) => Some(name.clone()),
            _ => None,
        });
        let Some((name, address)) = alone.zip(self.address()) else { return };
        let is_over = Rc::new(Cell::new(false));
        self.changed.alone = Some(Rc::clone(&is_over));
        let core = Rc::clone(&self.held.core);
        let_go(&core, &name, &address);
        tokio::task::spawn_local(async move {
            for _ in 0..LOOKS_MAX {
                tokio::time::sleep(LOOK_AGAIN).await;
                if is_over.get() {
                    break;
                }
                let_go(&core, &name, &address);
            }
        });
    }

    /// What was in the way is not any more, or never was.
    pub(super) fn has_made_way(&mut self) {
        if let Some(is_over) = self.changed.alone.take() {
            is_over.set(true);
        }
    }

    /// The server is ready, outside of a transaction. Where databases or roles have changed, whoever comes from now on gets a new connection.
    pub(super) fn begins_anew(&mut self) {
        if !std::mem::take(&mut self.changed.beginnings) {
            return;
        }
        let Some(address) = self.address() else { return };
        let core = &self.held.core;
        for pool in core.process.pools().iter().filter(|pool| pool.target().server.address == address) {
            pool.renew();
            core.recall_all(pool);
        }
    }

    /// The server that it is on.
    fn address(&self) -> Option<ServerAddress> {
        let members = &self.place.cluster.as_ref()?.members;
        members.get(self.place.server).map(|member| member.params.address.clone())
    }
}

/// Closes connections to a database that are idle and nobody's.
fn let_go(core: &Core, name: &str, address: &ServerAddress) {
    for pool in core.process.pools() {
        let is_there = {
            let target = pool.target();
            target.login.database == name && target.server.address == *address
        };
        if is_there {
            core.recall_all(&pool);
            pool.let_go();
        }
    }
    core.process.askers.let_go(name, address);
}
