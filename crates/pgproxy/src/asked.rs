//! Users whom the server itself is asked about: `auth.query`.
//!
//! One connection asks, one question at a time, so that a flood of names costs the server no more than that; databases that would ask the same
//! in the same place share it, and what it was told. Who is asked for first is the [desk's](desk) to say. The connection goes where the
//! configuration says and never where a stranger says, ends when nothing was asked for a while, and when it is in somebody's way.

mod asker;
mod desk;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pgroute::SqlState;
use pgroute::auth::{Stored, userlist};
use tokio::sync::Notify;
use vocab::Secret;

use crate::client::{Refused, Talk};
use crate::core::Message;
use crate::database::Database;
use crate::failure::Failure;
use crate::params::{AuthQuery, DatabaseName, DatabaseParams, ServerAddress};
use crate::process::Process;

pub(crate) use asker::run;
use desk::{Desk, Reply};

/// The core that the connections are kept by.
const CORE: usize = 0;

/// Bits of an IPv6 address that are a network's: whoever has one of its addresses has them all.
const NETWORK_BITS: u32 = 64;

/// Those who ask, by what they ask and where.
#[derive(Debug, Default)]
pub(crate) struct Askers {
    by_realm: Mutex<HashMap<Realm, Arc<Users>>>,
}

/// What is asked, where, and by whom. Those who would not ask the same server in the same way share no answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Realm {
    /// All servers, any of which may be the one to ask, in order.
    addresses: Vec<ServerAddress>,
    database: String,
    user: String,
    password: Option<Secret>,
    text: String,
}

/// The users of a realm.
#[derive(Debug)]
pub(crate) struct Users {
    realm: Realm,
    state: Mutex<State>,
    /// Wakes who asks.
    nudge: Notify,
}

#[derive(Debug, Default)]
struct State {
    desk: Desk<Arc<Database>>,
    /// Whether somebody asks.
    is_running: bool,
    /// A database on a server that nobody may be connected to.
    in_the_way: Option<(String, ServerAddress)>,
}

impl Realm {
    /// Where users of a database are looked up. A wildcard has to say it: the name that a client asks for is a stranger's.
    fn of(params: &DatabaseParams, name: &str, query: &AuthQuery) -> Option<Self> {
        let named = query.dbname.clone().or_else(|| params.primary.dbname.clone());
        let database = match params.name {
            DatabaseName::Named(_) => named.unwrap_or_else(|| name.to_owned()),
            DatabaseName::Any => named?,
        };
        let replicas = params.replicas.iter().map(|replica| &replica.server);
        let mut addresses: Vec<_> = replicas.chain([&params.primary]).map(|server| server.address.clone()).collect();
        addresses.sort();
        let AuthQuery { user, password, text, .. } = query.clone();
        Some(Self { addresses, database, user, password, text })
    }
}

impl Hash for Realm {
    /// The password is compared, and nothing else is made of it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.addresses, &self.database, &self.user, &self.text).hash(state);
    }
}

impl Askers {
    /// Goes by another configuration: what nobody asks any more is forgotten.
    pub(crate) fn configure(&self, all: &[DatabaseParams]) {
        let realm = |params: &DatabaseParams| Realm::of(params, &params.name.to_string(), params.auth.query.as_ref()?);
        let stays: Vec<_> = all.iter().filter_map(realm).collect();
        lock(&self.by_realm).retain(|realm, _| stays.contains(realm));
    }

    /// The users among whom those of a database are looked up.
    pub(crate) fn users(&self, database: &Database, query: &AuthQuery) -> Option<Arc<Users>> {
        let realm = Realm::of(&database.settings(), &database.name, query)?;
        let mut known = lock(&self.by_realm);
        let users = known.entry(realm).or_insert_with_key(|realm| {
            Arc::new(Users { realm: realm.clone(), state: Mutex::default(), nudge: Notify::new() })
        });
        Some(Arc::clone(users))
    }

    /// Nobody may be connected to a database on a server: whoever asks there, and is not asking, parts.
    pub(crate) fn let_go(&self, database: &str, address: &ServerAddress) {
        for users in lock(&self.by_realm).values().filter(|users| users.realm.database == database) {
            users.state().in_the_way = Some((database.to_owned(), address.clone()));
            users.nudge.notify_one();
        }
    }
}

impl Users {
    /// What is known of a user, from the server if nobody has asked lately. Whoever goes meanwhile leaves the queue.
    ///
    /// # Errors
    /// When the server cannot be asked, or the client has gone.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        process: &Process,
        database: &Arc<Database>,
        query: &AuthQuery,
        user: &str,
        talk: &mut Talk,
    ) -> Result<Option<Stored>, Refused> {
        if user.len() > userlist::NAME_BYTES_MAX {
            return Ok(None);
        }
        let place = talk.socket.peer().map(|peer| place_of(peer.ip()));
        let reply = {
            let mut state = self.state();
            let reply = state.desk.ask(Instant::now(), user, query.ttl, place, database);
            if matches!(reply, Reply::Wait(_)) && !state.is_running {
                let message = Message::Users(Arc::clone(self));
                state.is_running = process.cores.try_send(CORE, message).is_ok();
                if !state.is_running {
                    // The core is too far behind; whoever waits hears that nobody asks.
                    state.desk.give_up();
                }
            }
            reply
        };
        let told = match reply {
            Reply::Known(stored) => return Ok(stored),
            Reply::Failed => Err(()),
            Reply::Wait(told) => {
                self.nudge.notify_one();
                tokio::select! {
                    told = told => told.unwrap_or(Err(())),
                    () = talk.gone() => return Err(Refused::Gone),
                }
            }
        };
        told.map_err(|()| Failure::new(SqlState::CANNOT_CONNECT_NOW, "users cannot be looked up now").into())
    }

    /// Somebody has not proved to be this user: its password may be another one since.
    pub(crate) fn doubt(&self, user: &str) {
        self.state().desk.doubt(Instant::now(), user);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Whom an address counts as.
fn place_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> NETWORK_BITS << NETWORK_BITS).into(),
        address => address,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{BackendTls, ReplicaParams, ServerParams};

    fn server(host: &str) -> ServerParams {
        let address = ServerAddress::Tcp { host: host.into(), port: 5432 };
        ServerParams { address, dbname: None, user: None, password: None, tls: BackendTls::Off, settings: Vec::new() }
    }

    /// A database `shop` on servers, the first of which is expected to be the primary.
    fn realm(hosts: &[&str], password: &str) -> Realm {
        let mut params = DatabaseParams::new(DatabaseName::Named("shop".into()), server(hosts[0]));
        let replica = |host: &&str| ReplicaParams { server: server(host), weight: 1, zone: None };
        params.replicas = hosts[1..].iter().map(replica).collect();
        let query = AuthQuery {
            text: "SELECT 1".into(),
            user: "asker".into(),
            password: Some(Secret::new(password)),
            dbname: None,
            ttl: std::time::Duration::from_secs(1),
        };
        Realm::of(&params, "shop", &query).unwrap()
    }

    #[test]
    fn answers_are_shared_by_those_who_ask_the_same_servers_in_the_same_way() {
        let one = realm(&["a.example.com", "b.example.com"], "sesame");
        assert_eq!(one, realm(&["b.example.com", "a.example.com"], "sesame"));
        // With other servers, another one may be the primary.
        assert_ne!(one, realm(&["a.example.com"], "sesame"));
        assert_ne!(one, realm(&["a.example.com", "c.example.com"], "sesame"));
        // Whoever has no right to ask hears nothing of what others were told.
        assert_ne!(one, realm(&["a.example.com", "b.example.com"], "other"));
        assert!(!format!("{one:?}").contains("sesame"));
    }
}
