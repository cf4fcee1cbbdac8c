//! What all cores share: the databases by name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use net::workers::Cores;
use pgroute::console::Averages;
use tokio::sync::{Semaphore, mpsc};

use crate::asked::Askers;
use crate::clients::Clients;
use crate::control::ReloadAsk;
use crate::core::Message;
use crate::database::Database;
use crate::params::{DatabaseName, DatabaseParams};
use crate::placement::Placement;
use crate::pool::Pool;
use crate::random;
use crate::secrets::Secrets;
use crate::seen::SeenFiles;

/// Databases that a wildcard stands for at once. Names come from clients, so there must be an end to them.
const WILD_MAX: usize = 1000;

/// Passwords that are derived or checked at once, beside the cores: a millisecond each. A flood of logins waits, and statements do not.
const HASHES_MAX: usize = 4;

/// The state of the process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) cores: Cores<Message>,
    pub(crate) placement: Placement,
    /// By which secrets of users who do not exist are made up.
    pub(crate) mock_key: [u8; 32],
    pub(crate) hashes: Semaphore,
    /// Who asks servers about users.
    pub(crate) askers: Askers,
    /// Clients that are logged in.
    pub(crate) clients: Clients,
    /// Secrets of those who may use the console.
    pub(crate) console_secrets: Arc<Secrets>,
    /// What databases do per second.
    pub(crate) averages: Mutex<Averages>,
    /// Who reads the configuration again.
    pub(crate) reloads: ArcSwapOption<mpsc::Sender<ReloadAsk>>,
    /// What was seen of servers, in files.
    pub(crate) seen: Arc<SeenFiles>,
    named: ArcSwap<HashMap<String, Arc<Database>>>,
    /// What any other name is served by.
    any: ArcSwap<Option<DatabaseParams>>,
    /// Databases that it stands for.
    wild: Mutex<HashMap<String, Arc<Database>>>,
    /// Databases lend no connections, those that come later included.
    is_paused: AtomicBool,
    last_session: AtomicU64,
    /// Who was told the number of a server's process: cores, and slots there. Servers on several machines may have the same.
    told: Mutex<HashMap<i32, Vec<(usize, usize)>>>,
}

impl Process {
    pub(crate) fn new(cores: Cores<Message>, together: usize) -> Self {
        Self {
            placement: Placement::new(cores.len(), together),
            cores,
            mock_key: random::bytes(),
            hashes: Semaphore::new(HASHES_MAX),
            askers: Askers::default(),
            clients: Clients::default(),
            console_secrets: Arc::default(),
            averages: Mutex::default(),
            reloads: ArcSwapOption::empty(),
            seen: Arc::default(),
            named: ArcSwap::default(),
            any: ArcSwap::default(),
            wild: Mutex::default(),
            is_paused: AtomicBool::new(false),
            last_session: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// Serves these from now on.
    pub(crate) fn configure(&self, databases: Vec<DatabaseParams>) {
        self.askers.configure(&databases);
        let before = self.named.load_full();
        let (mut named, mut any) = (HashMap::new(), None);
        for params in databases {
            match params.name.clone() {
                DatabaseName::Any => any = Some(params),
                DatabaseName::Named(name) => {
                    let database = match before.get(&name) {
                        Some(database) => {
                            database.configure(params);
                            Arc::clone(database)
                        }
                        None => Arc::new(Database::new(name.clone(), params, self.cores.len(), &self.seen)),
                    };
                    named.insert(name, database);
                }
            }
        }
        for (_, gone) in before.iter().filter(|(name, _)| !named.contains_key(*name)) {
            gone.retire();
        }
        let mut wild = self.wild();
        wild.retain(|name, database| {
            let stays = any.is_some() && !named.contains_key(name);
            match &any {
                Some(params) if stays => database.configure(params.clone()),
                _ => database.retire(),
            }
            stays
        });
        if self.is_paused.load(Ordering::SeqCst) {
            let fresh = named.iter().filter(|(name, _)| !before.contains_key(*name));
            fresh.for_each(|(_, database)| database.pause());
        }
        self.any.store(Arc::new(any));
        self.named.store(Arc::new(named));
    }

    /// The database of this name. One that a wildcard stands for is made when it is first asked for.
    pub(crate) fn database(&self, name: &str) -> Option<Arc<Database>> {
        if let Some(database) = self.named.load().get(name) {
            return Some(Arc::clone(database));
        }
        let any = self.any.load();
        let params = any.as_ref().as_ref()?;
        let mut wild = self.wild();
        if let Some(database) = wild.get(name) {
            return Some(Arc::clone(database));
        }
        let is_paused = self.is_paused.load(Ordering::SeqCst);
        if wild.len() >= WILD_MAX {
            // One that somebody has told something would forget it.
            let is_told = |database: &Database| database.is_disabled() || database.is_paused() != is_paused;
            wild.retain(|_, database| Arc::strong_count(database) > 1 || is_told(database));
        }
        if wild.len() >= WILD_MAX {
            return None;
        }
        let database = Arc::new(Database::new(name.to_owned(), params.clone(), self.cores.len(), &self.seen));
        if is_paused {
            database.pause();
        }
        wild.insert(name.to_owned(), Arc::clone(&database));
        Some(database)
    }

    /// Says whether databases that come later lend connections, and tells those that there are. Whether it was so before.
    pub(crate) fn set_paused(&self, is_paused: bool, tell: impl FnMut(&Arc<Database>)) -> bool {
        // Held, so that none comes in between.
        let wild = self.wild();
        let before = self.is_paused.swap(is_paused, Ordering::SeqCst);
        self.named.load().values().chain(wild.values()).for_each(tell);
        before
    }

    /// All databases that there are.
    pub(crate) fn databases(&self) -> Vec<Arc<Database>> {
        let named = self.named.load();
        let wild = self.wild();
        named.values().chain(wild.values()).map(Arc::clone).collect()
    }

    /// All pools that there are.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        self.databases().iter().flat_map(|database| database.pools()).collect()
    }

    /// A number for a client, which no other one of this process ever has.
    pub(crate) fn next_session(&self) -> u64 {
        self.last_session.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A client is told the number of a server's process.
    pub(crate) fn tell(&self, pid: i32, client: (usize, usize)) {
        self.told_numbers().entry(pid).or_default().push(client);
    }

    /// It has gone.
    pub(crate) fn untell(&self, pid: i32, client: (usize, usize)) {
        let mut told = self.told_numbers();
        if let Some(clients) = told.get_mut(&pid) {
            clients.retain(|other| *other != client);
            if clients.is_empty() {
                told.remove(&pid);
            }
        }
    }

    /// Who was told it.
    pub(crate) fn told(&self, pid: i32) -> Vec<(usize, usize)> {
        self.told_numbers().get(&pid).cloned().unwrap_or_default()
    }

    fn told_numbers(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Vec<(usize, usize)>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wild(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Database>>> {
        self.wild.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
