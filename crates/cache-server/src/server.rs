//! The caches of a process: which there are, and where they listen. A configuration is applied as a difference by name.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use net::inherit::Inherited;
use net::listen::{self, ListenError};
use net::workers::{self, Cores, Inbox};
use tokio::sync::mpsc;

use crate::core::{self, Listener, Message, Waiting};
use crate::named::NamedCache;
use crate::params::{CacheParams, Protocol};
use crate::resident;
use crate::view::CachesView;

/// How often a stop looks whether it is done.
const LOOK: Duration = Duration::from_millis(5);

/// The caches, their listeners, and the cores that serve them. Dropped without [`Caches::stop`], they go on until the cores end.
#[derive(Debug)]
pub struct Caches {
    cores: Cores<Message>,
    named: Arc<ArcSwap<Vec<Arc<NamedCache>>>>,
    open: Vec<Open>,
    /// The core that the next socket goes to.
    next: usize,
    /// Whether somebody looks after what allocators keep of their memory.
    is_watched: bool,
}

/// A socket that is listened on.
#[derive(Debug)]
struct Open {
    listener: Arc<Listener>,
    /// A handle, for the process that takes over, and for another cache at the same address.
    socket: OwnedFd,
}

/// What a core has to run for its part of the caches.
#[derive(Debug)]
pub struct CorePart {
    inbox: Inbox<Message>,
    cores: Cores<Message>,
}

/// What another configuration needs, had before anything is changed.
#[derive(Debug)]
pub struct Prepared {
    caches: Vec<CacheParams>,
    sockets: Vec<(usize, SocketAddr, Protocol, TcpListener)>,
}

impl CorePart {
    /// The number of the core that it is meant for.
    pub fn core(&self) -> usize {
        self.inbox.core
    }

    /// Serves until the caches are stopped. To be run on a core's own runtime, where tasks need not be sent elsewhere.
    pub async fn run(self) {
        core::main(self.inbox, self.cores).await;
    }
}

impl Caches {
    /// No caches yet, and a part for each core to run.
    pub fn new(cores: usize) -> (Self, Vec<CorePart>) {
        let (cores, inboxes) = workers::inboxes(cores.max(1));
        let parts = inboxes.into_iter().map(|inbox| CorePart { inbox, cores: cores.clone() }).collect();
        (Self { cores, named: Arc::default(), open: Vec::new(), next: 0, is_watched: false }, parts)
    }

    /// Has what these need, from what was inherited if it is there, and uses nothing of it yet.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub fn prepare(&self, caches: &[CacheParams], inherited: &mut Inherited) -> Result<Prepared, ListenError> {
        let mut sockets = Vec::new();
        for (at, params) in caches.iter().enumerate() {
            for (address, protocol) in params.addresses() {
                let there = self.open.iter().find(|open| open.listener.address == address);
                let socket = match there {
                    Some(open) if open.is_of(params, protocol) => continue,
                    // It changes hands: what waits in its queue goes with it.
                    Some(open) => {
                        let socket = open.socket.try_clone().map_err(|cause| ListenError { address, cause })?;
                        TcpListener::from(socket)
                    }
                    None => inherited.take(address).map_or_else(|| listen::tcp(address), Ok)?,
                };
                sockets.push((at, address, protocol, socket));
            }
        }
        Ok(Prepared { caches: caches.to_vec(), sockets })
    }

    /// Serves as prepared from now on. What stays by its name keeps what it has; connections of what goes end after the commands that
    /// are under way.
    pub async fn commit(&mut self, prepared: Prepared) {
        let Prepared { caches, sockets } = prepared;
        let before = self.named.load_full();
        let named: Vec<_> = caches.iter().map(|params| self.take_over(&before, params)).collect();
        let wanted = |open: &Open| caches.iter().any(|params| open.is_wanted_by(params));
        let (kept, gone) = std::mem::take(&mut self.open).into_iter().partition::<Vec<_>, _>(wanted);
        self.open = kept;
        self.named.store(Arc::new(named.clone()));
        if !named.is_empty() && !std::mem::replace(&mut self.is_watched, true) {
            resident::watch(&self.named);
        }
        // Before anybody else accepts from the same queue, so that none of what waits in it reaches the wrong one.
        let gone = gone.into_iter().map(|open| {
            let is_passed_on = sockets.iter().any(|(_, address, ..)| *address == open.listener.address);
            (Some(open.listener), if is_passed_on { Waiting::Left } else { Waiting::Accepted })
        });
        self.retire(&gone.collect::<Vec<_>>()).await;
        for (at, address, protocol, socket) in sockets {
            let Some(cache) = named.get(at) else { continue };
            let handle = match socket.as_fd().try_clone_to_owned() {
                Ok(handle) => handle,
                Err(error) => {
                    tracing::error!(cache = %cache.name, %address, %error, "the cache cannot listen");
                    continue;
                }
            };
            tracing::info!(cache = %cache.name, %address, ?protocol, "the cache listens");
            let is_retired = AtomicBool::new(false);
            let listener = Arc::new(Listener { cache: Arc::clone(cache), protocol, address, is_retired });
            let core = self.next % self.cores.len();
            self.next += 1;
            let _core_ended = self.cores.send(core, Message::Listen(Arc::clone(&listener), socket)).await;
            self.open.push(Open { listener, socket: handle });
        }
    }

    fn take_over(&self, before: &[Arc<NamedCache>], params: &CacheParams) -> Arc<NamedCache> {
        match before.iter().find(|cache| cache.name == params.name) {
            Some(cache) => {
                cache.configure(params.clone());
                Arc::clone(cache)
            }
            None => Arc::new(NamedCache::new(params.clone(), self.cores.len())),
        }
    }

    /// Has listeners, `None` for all of them, accept no more, and returns when that is so.
    async fn retire(&self, listeners: &[(Option<Arc<Listener>>, Waiting)]) {
        for listener in listeners.iter().filter_map(|(listener, _)| listener.as_ref()) {
            listener.is_retired.store(true, Ordering::Relaxed);
        }
        let (done, mut all_done) = mpsc::channel(1);
        for (listener, waiting) in listeners {
            for core in 0..self.cores.len() {
                let _core_ended =
                    self.cores.send(core, Message::Retire(listener.clone(), *waiting, done.clone())).await;
            }
        }
        drop(done);
        // Nobody sends anything: it ends when every core has done it, or has ended itself.
        let _nothing = all_done.recv().await;
    }

    /// Handles of the sockets, with the addresses that they were opened for.
    ///
    /// # Errors
    /// Those of the system.
    pub fn handles(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        self.open.iter().map(|open| Ok((open.listener.address, open.socket.try_clone()?))).collect()
    }

    /// What there is, for metrics and the admin listener.
    pub fn view(&self) -> CachesView {
        CachesView::new(Arc::clone(&self.named))
    }

    /// Accepts no more, closes connections as soon as the commands under way are answered, and cuts what is left after a time: how
    /// many that were.
    pub async fn stop(self, timeout: Duration) -> usize {
        self.end(Waiting::Accepted, timeout).await
    }

    /// The same where another process has the sockets already: connections that nobody has accepted yet are left to that one.
    pub async fn hand_over(self, timeout: Duration) -> usize {
        self.end(Waiting::Left, timeout).await
    }

    async fn end(mut self, waiting: Waiting, timeout: Duration) -> usize {
        let begun = Instant::now();
        self.open.clear();
        self.retire(&[(None, waiting)]).await;
        let open = |cores: &Cores<Message>| (0..cores.len()).map(|core| cores.load(core)).sum::<usize>();
        while open(&self.cores) > 0 && begun.elapsed() < timeout {
            tokio::time::sleep(LOOK).await;
        }
        let cut = open(&self.cores);
        for core in 0..self.cores.len() {
            let _core_ended = self.cores.send(core, Message::End).await;
        }
        cut
    }
}

impl Open {
    fn is_of(&self, params: &CacheParams, protocol: Protocol) -> bool {
        self.listener.cache.name == params.name && self.listener.protocol == protocol
    }

    fn is_wanted_by(&self, params: &CacheParams) -> bool {
        params.addresses().any(|(address, protocol)| address == self.listener.address && self.is_of(params, protocol))
    }
}
