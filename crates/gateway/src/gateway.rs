//! The gateway as a whole: starting it, giving it another configuration, stopping it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::listen::ListenError;
use net::workers::{self, Cores, Threads};
use telemetry::AccessLog;
use telemetry::trace::Tracer;
use tokio::sync::{mpsc, oneshot};

use crate::cache::Tiers;
use crate::change::GatewayControl;
use crate::control::{AbortOnDrop, Command, Control};
use crate::data::{self, Job, Message};
use crate::estate::{Estate, Inheritance};
use crate::params::GatewayParams;
use crate::state::Shared;
use crate::view::GatewayView;

/// Reports that wait for the control plane at most. More in the time of one decision tell nothing new.
const REPORTS_MAX: usize = 4096;

/// How often a drain looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// A running gateway. Dropped without [`Gateway::stop`], its threads go on until the process ends.
pub struct Gateway {
    shared: Arc<Shared>,
    cores: Cores<Message>,
    threads: Threads,
    commands: mpsc::Sender<Command>,
    control: AbortOnDrop,
    workers: usize,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A worker thread could not be started.
    #[error("a worker thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// There is nothing to cache in.
    #[error("the cache: {0}")]
    Cache(#[from] store::OpenError),
    /// The configuration could not be served.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Why a configuration could not be served. What was served before goes on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An address cannot be listened on.
    #[error("listener: {0}")]
    Listen(#[from] ListenError),
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut because their requests had not ended in time.
    pub cut: usize,
    /// How long it took.
    pub took: Duration,
}

impl Gateway {
    /// Starts the worker threads, and the control plane on the runtime that this is called from. It begins with what it
    /// inherits, if anything.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start(
        params: GatewayParams,
        inheritance: Inheritance,
        access: &AccessLog,
        tracer: &Tracer,
    ) -> Result<Self, StartError> {
        let workers = params.workers().get();
        let (report_sender, reports) = mpsc::channel(REPORTS_MAX);
        let cache = Tiers::open(params.cache()).await?;
        let shared = Arc::new(Shared::new(workers, report_sender, cache));
        let (cores, inboxes) = workers::inboxes(workers);
        let threads = workers::start(inboxes, {
            let (shared, cores) = (Arc::clone(&shared), cores.clone());
            let (access, tracer) = (access.clone(), tracer.clone());
            move |inbox| {
                let records = data::Records { access: access.for_core(), traces: tracer.for_core() };
                data::main(inbox, Arc::clone(&shared), cores.clone(), records)
            }
        })?;
        let (commands, received) = mpsc::channel(16);
        let control = Control::new(Arc::clone(&shared), cores.clone(), (received, reports), inheritance);
        let control = AbortOnDrop(tokio::spawn(control.run()));
        let gateway = Self { shared, cores, threads, commands, control, workers };
        if let Err(error) = gateway.apply(params).await {
            let _cut = gateway.stop(Duration::ZERO).await;
            return Err(error.into());
        }
        Ok(gateway)
    }

    /// Serves another configuration, as a difference by name: what did not change keeps its connections and its state.
    ///
    /// # Errors
    /// [`ApplyError`]; what was served before goes on then.
    pub async fn apply(&self, params: GatewayParams) -> Result<(), ApplyError> {
        if params.workers().get() != self.workers {
            tracing::warn!(
                running = self.workers,
                configured = params.workers(),
                "the number of workers changes at the next start"
            );
        }
        let (done, applied) = oneshot::channel();
        let command = Command::Apply(Box::new(params), done);
        self.commands.send(command).await.map_err(|_| ApplyError::Stopping)?;
        applied.await.map_err(|_| ApplyError::Stopping)?
    }

    /// How many worker cores there are.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Has a core begin with something beside the gateway's own work: `begin` is called on its thread, within its runtime, and
    /// spawns a local task there. The task ends with the core, if it has not ended before.
    pub async fn begin_on(&self, core: usize, begin: impl FnOnce() + Send + 'static) {
        let _core_ended = self.cores.send(core, Message::Begin(Job(Box::new(begin)))).await;
    }

    /// What changes it while it runs, beside the configuration.
    pub fn control(&self) -> GatewayControl {
        GatewayControl::new(self.commands.clone())
    }

    /// What is served, for metrics and the admin listener.
    pub fn view(&self) -> GatewayView {
        GatewayView::new(Arc::clone(&self.shared))
    }

    /// What the process that takes over needs, to go on where this one is: the sockets, and what was learned and changed
    /// at run time. Nothing changes here.
    ///
    /// # Errors
    /// Those of the system, and when the gateway is stopping.
    pub async fn hand_over(&self) -> io::Result<Estate> {
        let stopping = || io::Error::other("the gateway is stopping");
        let (done, handed) = oneshot::channel();
        self.commands.send(Command::HandOver(done)).await.map_err(|_| stopping())?;
        handed.await.map_err(|_| stopping())?
    }

    /// Leaves the sockets, but for what waits in their queues, the certificates to order and the folder of the cache to the
    /// process that has taken over. Connections end with the
    /// next answer on them, or when they have been idle for `idle_grace`; those of HTTP/2 are told at once.
    pub async fn retire(&self, idle_grace: Duration) {
        self.close(Some(idle_grace)).await;
        self.shared.cache.leave_disk().await;
    }

    async fn close(&self, idle_grace: Option<Duration>) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::CloseSockets(done)).await.is_ok() {
            let _control_ended = closed.await;
        }
        let (heard, mut all_heard) = mpsc::channel(1);
        self.tell(|| Message::Retire { listener: None, idle_grace, heard: Some(heard.clone()) }).await;
        drop(heard);
        // Nobody sends anything: it ends when every core has done it, or has ended itself.
        let _nothing = all_heard.recv().await;
    }

    /// How many connections of clients are open.
    pub fn connections(&self) -> usize {
        (0..self.cores.len()).map(|core| self.cores.load(core)).sum()
    }

    /// Accepts no more, lets the requests under way finish within `drain_timeout`, and stops.
    pub async fn stop(self, drain_timeout: Duration) -> Stopped {
        let begun = Instant::now();
        self.close(None).await;
        let mut open = self.connections();
        while open > 0 && begun.elapsed() < drain_timeout {
            tokio::time::sleep(DRAIN_LOOK).await;
            open = self.connections();
        }
        self.tell(|| Message::Stop).await;
        drop(self.control);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.join()).await;
        if let Err(error) = joined {
            tracing::error!(%error, "the worker threads could not be awaited");
        }
        // Nobody uses it any more: what waits is written.
        self.shared.cache.leave_disk().await;
        Stopped { cut: open, took: begun.elapsed() }
    }

    async fn tell(&self, message: impl Fn() -> Message) {
        for core in 0..self.cores.len() {
            let _core_ended = self.cores.send(core, message()).await;
        }
    }
}
