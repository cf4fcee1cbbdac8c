//! A database, which outlives configurations.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pgroute::auth::Stored;
use pgroute::classify::Catalogue;
use pgroute::pool::PoolParams;
use pgroute::prepared::{Changes, Key, Shared, Statement};
use pgroute::wire::startup::Replication;
use vocab::Secret;

use crate::cluster::Cluster;
use crate::connect::{Login, Proof};
use crate::metrics::Metrics;
use crate::notify::Hub;
use crate::params::{DatabaseParams, ServerAddress, ServerParams, UserParams};
use crate::pool::{Pool, Target};
use crate::process::Process;
use crate::secrets::Secrets;
use crate::seen::{Seen, SeenFiles};

/// A database by the name that clients ask for.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) metrics: Metrics,
    settings: ArcSwap<DatabaseParams>,
    /// How often it was configured. Whoever looks with each statement looks at this.
    configured: AtomicU64,
    statements: Mutex<Shared>,
    /// Changes of its schema that were seen.
    changes: AtomicU64,
    catalogue: ArcSwap<Known>,
    /// The number of that, as `configured`.
    catalogue_generation: AtomicU64,
    /// When it was read last; `None` when it has to be read.
    catalogue_read: Mutex<Option<Instant>>,
    cluster: ArcSwap<Cluster>,
    /// What was seen of servers, in files.
    seen: Arc<SeenFiles>,
    /// Held by what writes there.
    keeping: Arc<tokio::sync::Mutex<()>>,
    /// What was seen last could not be kept.
    is_unkept: AtomicBool,
    is_retired: AtomicBool,
    /// Who listens to its channels.
    pub(crate) hub: Hub,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    /// By user: the proof that a client has left last.
    proofs: Mutex<HashMap<String, Proof>>,
    /// Secrets that were derived from passwords of its users.
    pub(crate) secrets: Arc<Secrets>,
    /// It lends no connections.
    is_paused: AtomicBool,
    /// It takes no new clients.
    is_disabled: AtomicBool,
    clients: AtomicU32,
    clients_of_users: Mutex<HashMap<String, u32>>,
}

/// What is known of the database's names.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) catalogue: Catalogue,
    /// Its number, which changes with it.
    pub(crate) generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PoolKey {
    user: String,
    /// The server.
    address: ServerAddress,
}

/// A place for a client of a database, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) database: Arc<Database>,
    user: String,
}

impl Database {
    pub(crate) fn new(name: String, params: DatabaseParams, cores: usize, seen: &Arc<SeenFiles>) -> Self {
        let known = params.failover.state.as_deref().and_then(|path| seen.of(path));
        Self {
            name,
            metrics: Metrics::new(cores),
            statements: Mutex::new(Shared::new(params.prepared.bytes_max)),
            cluster: ArcSwap::from_pointee(Cluster::new(&params, known)),
            seen: Arc::clone(seen),
            keeping: Arc::default(),
            is_unkept: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            hub: Hub::default(),
            proofs: Mutex::default(),
            settings: ArcSwap::from_pointee(params),
            configured: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            catalogue: ArcSwap::default(),
            catalogue_generation: AtomicU64::new(0),
            catalogue_read: Mutex::default(),
            pools: Mutex::default(),
            secrets: Arc::default(),
            is_paused: AtomicBool::new(false),
            is_disabled: AtomicBool::new(false),
            clients: AtomicU32::new(0),
            clients_of_users: Mutex::default(),
        }
    }

    /// Goes by another configuration.
    pub(crate) fn configure(&self, params: DatabaseParams) {
        let params = Arc::new(params);
        let is_other_lease = params.failover.lease.is_some() && params.failover.lease != self.settings().failover.lease;
        self.settings.store(Arc::clone(&params));
        let cluster = self.cluster();
        if !cluster.is_of(&params) {
            self.cluster.store(Arc::new(Cluster::new(&params, cluster.seen())));
        }
        self.configured.fetch_add(1, Ordering::Release);
        let cluster = self.cluster();
        // The file may be another one, or one for the first time.
        if let Some((_, kept)) = self.kept() {
            cluster.saw(kept);
        }
        lock(&self.pools).retain(|key, pool| {
            let Some(server) = cluster.at(&key.address) else {
                pool.reconnect();
                return false;
            };
            let user = find_user(&params, &key.user);
            let proof = pool.target().login.proof.clone();
            let target = self.target(&params, &cluster.members[server].params, &key.user, user, proof);
            pool.configure(target, pool_params(&params, user));
            if is_other_lease {
                // What is lent was taken without it, and would be kept without it.
                pool.fence();
            }
            true
        });
    }

    /// Whether anybody is logged in.
    pub(crate) fn has_clients(&self) -> bool {
        self.clients.load(Ordering::Relaxed) > 0
    }

    /// Whether it is not served any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// It is not served any more: its clients end when they have no transaction open, and what it has is closed as it comes back.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
        for (_, pool) in lock(&self.pools).drain() {
            pool.reconnect();
        }
    }

    /// Lends no connections, those of users who come for the first time included.
    pub(crate) fn pause(&self) {
        // Held, so that all pools are what was said last.
        let pools = lock(&self.pools);
        self.is_paused.store(true, Ordering::SeqCst);
        pools.values().for_each(|pool| pool.pause());
    }

    /// Lends them again.
    pub(crate) fn resume(&self) {
        let pools = lock(&self.pools);
        self.is_paused.store(false, Ordering::SeqCst);
        pools.values().for_each(Pool::resume);
    }

    /// Whether it lends none.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::SeqCst)
    }

    /// Takes new clients, or none from now on.
    pub(crate) fn set_disabled(&self, is_disabled: bool) {
        self.is_disabled.store(is_disabled, Ordering::SeqCst);
    }

    /// Whether it takes none.
    pub(crate) fn is_disabled(&self) -> bool {
        self.is_disabled.load(Ordering::SeqCst)
    }

    /// How its servers are named.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.cluster().members.iter().map(|member| member.params.address.to_string()).collect()
    }

    /// Keeps what was seen of its servers, if the configuration says where, and it is not kept yet. What fails is not waited for again, until
    /// it has been kept.
    pub(crate) async fn keep_seen(&self, seen: Seen) {
        let params = self.settings().failover.clone();
        let Some(path) = params.state else { return };
        if self.seen.is_kept(&path, seen) {
            self.is_unkept.store(false, Ordering::Relaxed);
            return;
        }
        let at_most = if self.is_unkept.load(Ordering::Relaxed) { Duration::ZERO } else { params.watch_timeout };
        let file = path.display().to_string();
        let kept = self.seen.keep_within(&self.keeping, path, seen, at_most).await;
        if let Err(error) = kept
            && !self.is_unkept.swap(true, Ordering::Relaxed)
        {
            tracing::error!(database = %self.name, %file, %error, "the newest timeline is not kept: after a restart it is not known. It is tried again");
        }
    }

    /// The file that keeps what was seen of its servers, and what is in it.
    pub(crate) fn kept(&self) -> Option<(PathBuf, Seen)> {
        let path = self.settings().failover.state.clone()?;
        let kept = self.seen.of(&path)?;
        Some((path, kept))
    }

    /// Its servers.
    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.cluster.load_full()
    }

    /// A server must not be used any more: what is connected to it is cut.
    pub(crate) fn fence(&self, address: &ServerAddress) {
        for (_, pool) in lock(&self.pools).iter().filter(|(key, _)| key.address == *address) {
            pool.fence();
        }
    }

    /// How a server is logged in to by whoever watches it, if somebody is known who can.
    pub(crate) fn watch_login(&self, server: usize) -> Option<Login> {
        let (settings, cluster) = (self.settings(), self.cluster());
        let params = &cluster.members.get(server)?.params;
        let login = |user: &str, proof: Proof| {
            let found = find_user(&settings, user);
            self.target(&settings, params, user, found, proof).login
        };
        if params.user.is_some() {
            return Some(login("", Proof::None));
        }
        let has_own =
            |user: &&UserParams| user.server_login.is_some() || matches!(user.stored, Some(Stored::Password(_)));
        if let Some(user) = settings.users.iter().find(has_own) {
            return Some(login(&user.name, proof_of(user.stored.as_ref())));
        }
        let proofs = lock(&self.proofs);
        let (user, proof) = proofs.iter().next()?;
        Some(login(user, proof.clone()))
    }

    /// What it goes by now.
    pub(crate) fn settings(&self) -> arc_swap::Guard<Arc<DatabaseParams>> {
        self.settings.load()
    }

    /// How often it was configured: what it goes by, and its servers, are the same as long as this is.
    pub(crate) fn configured(&self) -> u64 {
        self.configured.load(Ordering::Acquire)
    }

    /// Has what is known of its names be what is known now.
    pub(crate) fn look_up(&self, known: &mut Arc<Known>) {
        if known.generation != self.catalogue_generation.load(Ordering::Acquire) {
            *known = self.catalogue.load_full();
        }
    }

    /// Takes what was read of its names.
    pub(crate) fn set_catalogue(&self, catalogue: Catalogue) {
        let generation = self.catalogue.load().generation + 1;
        self.catalogue.store(Arc::new(Known { catalogue, generation }));
        self.catalogue_generation.store(generation, Ordering::Release);
    }

    /// Whether they have to be read; whoever is told so does it.
    pub(crate) fn is_catalogue_due(&self, now: Instant) -> bool {
        let params = &self.settings().catalogue;
        let mut read = lock(&self.catalogue_read);
        let is_due = params.read && read.is_none_or(|read| now.saturating_duration_since(read) >= params.interval);
        if is_due {
            *read = Some(now);
        }
        is_due
    }

    /// Changes of its schema that were seen.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.changes.load(Ordering::Relaxed))
    }

    /// One more was seen.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        *lock(&self.catalogue_read) = None;
    }

    /// The statement that all clients share who have prepared the same.
    pub(crate) fn statement(&self, key: Key) -> Arc<Statement> {
        lock(&self.statements).statement(key)
    }

    /// How many statements are shared.
    pub(crate) fn statements(&self) -> usize {
        lock(&self.statements).len()
    }

    /// A place for a client, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, user: &str) -> Option<Seat> {
        let settings = self.settings();
        let limits = &settings.limits;
        let of_user = find_user(&settings, user).and_then(|user| user.clients_max).or(limits.clients_per_user_max);
        let free = |open: u32| (open < limits.clients_max).then_some(open + 1);
        self.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let mut users = lock(&self.clients_of_users);
        let open = users.entry(user.to_owned()).or_default();
        if of_user.is_some_and(|max| *open >= max) {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *open += 1;
        Some(Seat { database: Arc::clone(self), user: user.to_owned() })
    }

    /// The pool of a user on a server, with the proof that a client has left, or that is stored.
    pub(crate) fn pool(&self, process: &Process, user: &str, proof: Option<Proof>, server: &ServerParams) -> Arc<Pool> {
        let settings = self.settings();
        let found = find_user(&settings, user);
        let is_left = proof.is_some();
        let proof = proof.unwrap_or_else(|| lock(&self.proofs).get(user).cloned().unwrap_or(Proof::None));
        if is_left {
            lock(&self.proofs).insert(user.to_owned(), proof.clone());
        }
        let target = self.target(&settings, server, user, found, proof);
        let key = PoolKey { user: user.to_owned(), address: server.address.clone() };
        let mut pools = lock(&self.pools);
        if let Some(pool) = pools.get(&key) {
            let pool = Arc::clone(pool);
            drop(pools);
            // The password may be another one since.
            if is_left && pool.target().login.proof != target.login.proof && target.login.proof != Proof::None {
                pool.configure(target, pool_params(&settings, found));
            }
            return pool;
        }
        let pool = Pool::new(user.to_owned(), target, pool_params(&settings, found));
        if self.is_paused() {
            pool.pause();
        }
        pools.insert(key, Arc::clone(&pool));
        drop(pools);
        let core = usize::try_from(pool.number).unwrap_or_default() % process.cores.len();
        let message = crate::core::Message::Home(Arc::downgrade(&pool));
        if process.cores.try_send(core, message).is_err() {
            // The core is too far behind; whoever waits hears it in time, and the next client makes another pool.
            lock(&self.pools).retain(|_, other| !Arc::ptr_eq(other, &pool));
        }
        pool
    }

    /// A pool of the primary, or any if there is none of it.
    pub(crate) fn any_pool(&self) -> Option<Arc<Pool>> {
        let cluster = self.cluster();
        let primary = cluster.view().primary.map(|at| &cluster.members[at].params.address);
        let pools = lock(&self.pools);
        // One that has connections is of a user that is there still.
        let rank = |key: &PoolKey, pool: &Pool| (Some(&key.address) == primary, pool.has_backends());
        let found = pools.iter().max_by_key(|(key, pool)| rank(key, pool));
        found.map(|(_, pool)| Arc::clone(pool))
    }

    /// All pools that there are.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        lock(&self.pools).values().map(Arc::clone).collect()
    }

    /// How a server is logged in to for a user, with the proof that a client has left.
    pub(crate) fn login_of(&self, user: &str, proof: Proof, server: &ServerParams) -> Login {
        let settings = self.settings();
        self.target(&settings, server, user, find_user(&settings, user), proof).login
    }

    fn target(
        &self,
        params: &DatabaseParams,
        server: &ServerParams,
        user: &str,
        found: Option<&UserParams>,
        proof: Proof,
    ) -> Target {
        let server = server.clone();
        let password = |password: Option<Secret>| password.map_or(Proof::None, Proof::Password);
        let (login_user, proof) = match (found.and_then(|user| user.server_login.clone()), &server.user) {
            (Some((name, secret)), _) => (name, password(secret)),
            (None, Some(name)) => (name.clone(), password(server.password.clone())),
            (None, None) => (user.to_owned(), proof),
        };
        let database = server.dbname.clone().unwrap_or_else(|| self.name.clone());
        Target {
            login: Login { user: login_user, database, proof, replication: Replication::No },
            server,
            connect_timeout: params.timeouts.connect,
            reconnect_pause: params.timeouts.reconnect_pause,
            statements_max: params.prepared.per_backend_max,
        }
    }
}

/// What is said of a user.
pub(crate) fn find_user<'p>(params: &'p DatabaseParams, name: &str) -> Option<&'p UserParams> {
    params.users.iter().find(|user| user.name == name)
}

/// What a server can be told instead of a password that is stored.
pub(crate) fn proof_of(stored: Option<&Stored>) -> Proof {
    match stored {
        Some(Stored::Password(password)) => Proof::Password(password.clone()),
        Some(Stored::Md5(digest)) => Proof::Md5(digest.clone()),
        Some(Stored::Scram(_)) | None => Proof::None,
    }
}

fn pool_params(params: &DatabaseParams, user: Option<&UserParams>) -> PoolParams {
    user.and_then(|user| user.pool.clone()).unwrap_or_else(|| params.pool.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Whose it is.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let database = &self.database;
        database.clients.fetch_sub(1, Ordering::Relaxed);
        let mut users = lock(&database.clients_of_users);
        if let Some(open) = users.get_mut(&self.user) {
            *open -= 1;
            if *open == 0 {
                users.remove(&self.user);
            }
        }
    }
}
