//! The databases of a process: which there are, and where they listen. A configuration is applied as a difference by name.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::inherit::Inherited;
use net::listen::ListenError;
use net::workers::{self, Inbox};
use tokio::sync::mpsc;

use crate::control::{ControlError, ReloadAsk, Whom};
use crate::core::{self, Message};
use crate::listener::{ListenSocket, Listener};
use crate::params::{DatabaseParams, Listen, PgListenerParams};
use crate::placement::TOGETHER;
use crate::process::Process;
use crate::view::DatabasesView;

/// How often a stop looks whether it is done.
const LOOK: Duration = Duration::from_millis(5);

/// The databases, their listeners, and the cores that serve them. Dropped without [`Databases::stop`], they go on until the cores end.
#[derive(Debug)]
pub struct Databases {
    process: Arc<Process>,
    open: Vec<Open>,
    /// The core that the next socket goes to.
    next: usize,
}

/// A socket that is listened on.
#[derive(Debug)]
struct Open {
    listener: Arc<Listener>,
    /// A handle, for the process that takes over.
    socket: OwnedFd,
}

/// What a core has to run for its part of the databases.
#[derive(Debug)]
pub struct CorePart {
    inbox: Inbox<Message>,
    process: Arc<Process>,
}

/// What another configuration needs, had before anything is changed.
#[derive(Debug)]
pub struct Prepared {
    listeners: Vec<(PgListenerParams, Option<ListenSocket>)>,
    databases: Vec<DatabaseParams>,
}

/// What a configuration needs and could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What was seen of servers.
    #[error("{}: what was seen of servers cannot be read: {cause}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said, or what is wrong with it.
        #[source]
        cause: io::Error,
    },
    /// A Unix socket.
    #[error("{}: cannot listen: {cause}", path.display())]
    Unix {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl CorePart {
    /// The number of the core that it is meant for.
    pub fn core(&self) -> usize {
        self.inbox.core
    }

    /// Serves until the databases are stopped. To be run on a core's own runtime, where tasks need not be sent elsewhere.
    pub async fn run(self) {
        core::main(self.inbox, self.process).await;
    }
}

impl Databases {
    /// No databases yet, and a part for each core to run.
    pub fn new(cores: usize) -> (Self, Vec<CorePart>) {
        Self::with_gathering(cores, TOGETHER)
    }

    /// The same, where a core is given so many clients before the next one gets any. With one of them a few clients cross cores as much as many
    /// do otherwise.
    pub fn with_gathering(cores: usize, together: usize) -> (Self, Vec<CorePart>) {
        let (cores, inboxes) = workers::inboxes(cores.max(1));
        let process = Arc::new(Process::new(cores, together));
        let parts = inboxes.into_iter().map(|inbox| CorePart { inbox, process: Arc::clone(&process) }).collect();
        (Self { process, open: Vec::new(), next: 0 }, parts)
    }

    /// Has what these need, from what was inherited if it is there, and uses nothing of it yet.
    ///
    /// # Errors
    /// When an address or a Unix socket cannot be had, or the file of `failover.state` cannot be read.
    pub fn prepare(
        &self,
        listeners: &[PgListenerParams],
        databases: &[DatabaseParams],
        inherited: &mut Inherited,
    ) -> Result<Prepared, PrepareError> {
        for path in databases.iter().filter_map(|database| database.failover.state.as_deref()) {
            let failed = |cause| PrepareError::State { path: path.to_owned(), cause };
            self.process.seen.load(path).map_err(failed)?;
        }
        let mut sockets = Vec::new();
        for params in listeners {
            let is_open = self.open.iter().any(|open| open.listener.listen == params.listen);
            let socket = if is_open { None } else { Some(ListenSocket::open(&params.listen, inherited)?) };
            sockets.push((params.clone(), socket));
        }
        Ok(Prepared { listeners: sockets, databases: databases.to_vec() })
    }

    /// Serves as prepared from now on. Databases that stay keep their pools, and make connections anew where servers have changed. Clients of
    /// what goes end when no transaction of theirs is open.
    pub async fn commit(&mut self, prepared: Prepared) {
        let Prepared { listeners, databases } = prepared;
        self.process.configure(databases);
        let is_wanted = |open: &Open| listeners.iter().any(|(params, _)| params.listen == open.listener.listen);
        let (kept, gone) = std::mem::take(&mut self.open).into_iter().partition::<Vec<_>, _>(is_wanted);
        self.open = kept;
        for (params, socket) in listeners {
            match socket {
                Some(socket) => self.listen(params, socket).await,
                None => {
                    let open = self.open.iter().find(|open| open.listener.listen == params.listen);
                    open.into_iter().for_each(|open| open.listener.configure(params.clone()));
                }
            }
        }
        for open in gone {
            self.retire(Some(&open.listener)).await;
        }
        self.tell_all(|| Message::Configured).await;
    }

    async fn listen(&mut self, params: PgListenerParams, socket: ListenSocket) {
        let (name, listen) = (params.name.clone(), params.listen.clone());
        let handle = match socket.handle() {
            Ok(handle) => handle,
            Err(error) => {
                tracing::error!(listener = %name, %listen, %error, "the listener cannot listen");
                return;
            }
        };
        tracing::info!(listener = %name, %listen, "the listener takes clients of databases");
        let listener = Arc::new(Listener::new(params));
        let core = self.next % self.process.cores.len();
        self.next += 1;
        let _core_ended = self.process.cores.send(core, Message::Listen(Arc::clone(&listener), socket)).await;
        self.open.push(Open { listener, socket: handle });
    }

    async fn tell_all(&self, message: impl Fn() -> Message) {
        for core in 0..self.process.cores.len() {
            let _core_ended = self.process.cores.send(core, message()).await;
        }
    }

    /// Has a listener, or all, accept no more, and returns when that is so.
    async fn retire(&self, listener: Option<&Arc<Listener>>) {
        let (done, mut all_done) = mpsc::channel(1);
        self.tell_all(|| Message::Retire(listener.cloned(), done.clone())).await;
        drop(done);
        // Nobody sends anything: it ends when every core has done it, or has ended itself.
        let _nothing = all_done.recv().await;
    }

    /// Handles of the sockets, with what they were opened for.
    ///
    /// # Errors
    /// Those of the system.
    pub fn handles(&self) -> io::Result<Vec<(Listen, OwnedFd)>> {
        let of = |open: &Open| open.socket.try_clone().map(|handle| (open.listener.listen.clone(), handle));
        self.open.iter().map(of).collect()
    }

    /// What there is, for metrics and the admin listener.
    pub fn view(&self) -> DatabasesView {
        DatabasesView::new(Arc::clone(&self.process))
    }

    /// Lends no connections of a database, or of all, from now on; those that are lent come back as their transactions end. Of all means those,
    /// too, that come later.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn pause(&self, database: Option<&str>) -> Result<(), ControlError> {
        self.process.pause(database).map(drop)
    }

    /// Lends them again.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn resume(&self, database: Option<&str>) -> Result<(), ControlError> {
        self.process.resume(database)
    }

    /// Has all connections of a database, or of all, made anew: those that nobody has at once, the others as they come back.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn reconnect(&self, database: Option<&str>) -> Result<(), ControlError> {
        self.process.reconnect(database)
    }

    /// Takes no new clients of a database (`57P03`) from now on, or takes them again. Those that are there stay.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn set_disabled(&self, database: &str, is_disabled: bool) -> Result<(), ControlError> {
        self.process.set_disabled(database, is_disabled)
    }

    /// Closes clients' connections, with what they have under way: they hear `57P01`. New ones may come at once, unless they are to be refused
    /// from then on, as by [`Self::set_disabled`].
    ///
    /// # Errors
    /// When there is no such database, client or server; then nothing is done.
    pub async fn kill(&self, database: &str, whom: &Whom, refuse: bool) -> Result<(), ControlError> {
        self.process.kill(database, whom, refuse).await
    }

    /// Reloads that somebody in the console asks for, from now on.
    pub fn reloads(&self) -> mpsc::Receiver<ReloadAsk> {
        self.process.hear_reloads()
    }

    /// Accepts no more, ends clients as soon as they have no transaction open (`57P01`), and cuts what is left after a time: how many
    /// that were. Backends are closed.
    pub async fn stop(mut self, timeout: Duration) -> usize {
        let begun = Instant::now();
        self.open.clear();
        self.retire(None).await;
        let cores = self.process.cores.clone();
        let open = || (0..cores.len()).map(|core| cores.load(core)).sum::<usize>();
        while open() > 0 && begun.elapsed() < timeout {
            tokio::time::sleep(LOOK).await;
        }
        let cut = open();
        self.tell_all(|| Message::End).await;
        cut
    }
}
