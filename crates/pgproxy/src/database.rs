//! A database, which outlives configurations.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use pgroute::auth::{Stored, scram};
use pgroute::classify::Catalogue;
use pgroute::pool::PoolParams;
use pgroute::prepared::{Changes, Key, Shared, Statement};
use vocab::Secret;

use crate::connect::{Login, Proof};
use crate::metrics::Metrics;
use crate::params::{DatabaseParams, UserParams};
use crate::pool::{Pool, Target};
use crate::process::Process;
use crate::random;

/// Secrets that were derived from passwords and are remembered.
const SECRETS_MAX: usize = 10_000;

/// A database by the name that clients ask for.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) metrics: Metrics,
    settings: ArcSwap<DatabaseParams>,
    statements: Mutex<Shared>,
    /// Changes of its schema that were seen.
    changes: AtomicU64,
    catalogue: ArcSwap<Known>,
    /// When it was read last; `None` when it has to be read.
    catalogue_read: Mutex<Option<Instant>>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    /// By user: the password, and what was derived from it.
    secrets: Mutex<HashMap<String, (Secret, scram::Secret)>>,
    is_retired: AtomicBool,
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

/// Which server of a database a pool is of. Replicas come with the routing of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Primary,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PoolKey {
    user: String,
    role: Role,
}

/// A place for a client of a database, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) database: Arc<Database>,
    user: String,
}

impl Database {
    pub(crate) fn new(name: String, params: DatabaseParams, cores: usize) -> Self {
        Self {
            name,
            metrics: Metrics::new(cores),
            statements: Mutex::new(Shared::new(params.prepared.bytes_max)),
            settings: ArcSwap::from_pointee(params),
            changes: AtomicU64::new(0),
            catalogue: ArcSwap::default(),
            catalogue_read: Mutex::default(),
            pools: Mutex::default(),
            secrets: Mutex::default(),
            is_retired: AtomicBool::new(false),
            clients: AtomicU32::new(0),
            clients_of_users: Mutex::default(),
        }
    }

    /// Goes by another configuration.
    pub(crate) fn configure(&self, params: DatabaseParams) {
        let params = Arc::new(params);
        self.settings.store(Arc::clone(&params));
        for (key, pool) in &*lock(&self.pools) {
            let user = find_user(&params, &key.user);
            let proof = pool.target().login.proof.clone();
            pool.configure(self.target(&params, &key.user, user, proof), pool_params(&params, user));
        }
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

    /// What it goes by now.
    pub(crate) fn settings(&self) -> arc_swap::Guard<Arc<DatabaseParams>> {
        self.settings.load()
    }

    /// What is known of its names.
    pub(crate) fn catalogue(&self) -> arc_swap::Guard<Arc<Known>> {
        self.catalogue.load()
    }

    /// Takes what was read of its names.
    pub(crate) fn set_catalogue(&self, catalogue: Catalogue) {
        let generation = self.catalogue.load().generation + 1;
        self.catalogue.store(Arc::new(Known { catalogue, generation }));
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

    /// The pool of a user, with the proof that it has left, or that is stored.
    pub(crate) fn pool(&self, process: &Process, user: &str, proof: Proof, role: Role) -> Arc<Pool> {
        let settings = self.settings();
        let found = find_user(&settings, user);
        let target = self.target(&settings, user, found, proof);
        let key = PoolKey { user: user.to_owned(), role };
        let mut pools = lock(&self.pools);
        if let Some(pool) = pools.get(&key) {
            let pool = Arc::clone(pool);
            drop(pools);
            // The password may be another one since.
            if pool.target().login.proof != target.login.proof && target.login.proof != Proof::None {
                pool.configure(target, pool_params(&settings, found));
            }
            return pool;
        }
        let pool = Pool::new(user.to_owned(), target, pool_params(&settings, found));
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

    /// All pools that there are.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        lock(&self.pools).values().map(Arc::clone).collect()
    }

    fn target(&self, params: &DatabaseParams, user: &str, found: Option<&UserParams>, proof: Proof) -> Target {
        let server = params.primary.clone();
        let password = |password: Option<Secret>| password.map_or(Proof::None, Proof::Password);
        let (login_user, proof) = match (found.and_then(|user| user.server_login.clone()), &server.user) {
            (Some((name, secret)), _) => (name, password(secret)),
            (None, Some(name)) => (name.clone(), password(server.password.clone())),
            (None, None) => (user.to_owned(), proof),
        };
        let database = server.dbname.clone().unwrap_or_else(|| self.name.clone());
        Target {
            login: Login { user: login_user, database, proof },
            server,
            connect_timeout: params.timeouts.connect,
            reconnect_pause: params.timeouts.reconnect_pause,
            statements_max: params.prepared.per_backend_max,
        }
    }

    /// What a user's password is checked against by SCRAM, if it has been derived.
    pub(crate) fn derived(&self, user: &str, password: &Secret) -> Option<scram::Secret> {
        let secrets = lock(&self.secrets);
        secrets.get(user).filter(|(of, _)| of == password).map(|(_, secret)| secret.clone())
    }

    /// Derives it. This takes a millisecond, and is not for a core.
    pub(crate) fn derive(&self, user: &str, password: &Secret) -> scram::Secret {
        let salt: [u8; 16] = random::bytes();
        let secret = scram::Secret::from_password(password.expose(), &salt, scram::ITERATIONS);
        let mut secrets = lock(&self.secrets);
        if secrets.len() >= SECRETS_MAX {
            secrets.clear();
        }
        secrets.insert(user.to_owned(), (password.clone(), secret.clone()));
        secret
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
