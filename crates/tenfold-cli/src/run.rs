//! `tenfold run`: serves what the configuration says until it is told to stop.
//!
//! The control plane runs on one runtime of the main thread: signals, changes of files, reloads, the admin listener,
//! and the gateway's own control plane. Requests are served by the gateway's worker threads.

mod admin_listener;
mod beginning;
mod command;
mod databases;
mod effective;
mod memory;
mod named;
mod notify;
mod reload;
mod state;
mod upgrade;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use cache_server::Caches;
use clap::Args;
use config::Loaded;
use gateway::Gateway;
use pgproxy::Databases;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use telemetry::trace::Tracer;
use telemetry::{AccessLog, LogHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use admin_listener::AdminListener;
use beginning::Beginning;
use notify::Notifier;
use reload::Reloader;
use state::{Ask, Logs, State};
use upgrade::Taken;
use watch::FileWatch;

const EXAMPLES: &str = "\
Examples:
  tenfold run                        Run what ./tenfold.toml says
  tenfold run site.toml              Another file
  kill -HUP PID                      Apply a changed file at once; a change is also noticed by itself
  kill -USR1 PID                     Open the access log's file again, after it was rotated
  kill -USR2 PID                     Upgrade: have the program start anew and take over, as `tenfold upgrade` does
  kill -TERM PID                     Stop: finish the requests under way, then exit

Exit codes:
  0  it was told to stop, and did
  1  it could not start; the reason is on standard error";

/// Time to write what the logs still hold at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for what is under way on connections of caches at the end. Commands take far less, but for clients that stall.
const CACHES_TIMEOUT: Duration = Duration::from_secs(2);

/// Reloads and upgrades that wait at most; whoever asks for more waits to be heard.
const ASKS_MAX: usize = 4;

/// What `tenfold run` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The file
    #[arg(default_value = "./tenfold.toml")]
    file: PathBuf,

    /// Take over from the process that makes an offer at standard input
    #[arg(long, hide = true)]
    take_over: bool,
}

/// Reads a configuration with the variables of this process.
fn load(file: &Path) -> Result<Loaded, config::Diagnostics> {
    config::load(file, &|name| std::env::var(name).ok())
}

/// Runs until a signal ends it, or another process has taken over.
///
/// # Errors
/// When something of the configuration cannot be had: an address, a thread, a log file.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Before anything else, for sockets that were passed are told by their numbers.
    let mut beginning = Beginning::find(args.take_over)?;
    memory::keep_for_bursts();
    let loaded = match load(&args.file) {
        Ok(loaded) => loaded,
        Err(found) => {
            beginning.failed(&found.render(false));
            std::io::stderr().lock().write_all(found.render(crate::check::wants_color()).as_bytes())?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let result = run_loaded(&args.file, loaded, &mut beginning);
    if let Err(error) = &result {
        beginning.failed(&format!("{error:#}"));
    }
    result
}

fn run_loaded(file: &Path, loaded: Loaded, beginning: &mut Beginning) -> anyhow::Result<ExitCode> {
    let log = telemetry::init_logs(&loaded.log)?;
    warn_of(&loaded);
    beginning.warn();
    raise_descriptor_limit();
    let access = AccessLog::start(&loaded.log.access, loaded.gateway.workers().get())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(file, loaded, beginning, (&log, &access)));
    if !access.shutdown(FLUSH_TIMEOUT) {
        tracing::warn!("the access log could not be written to its end");
    }
    let _written = log.flush(FLUSH_TIMEOUT);
    result.map(|()| ExitCode::SUCCESS)
}

fn warn_of(loaded: &Loaded) {
    for warning in loaded.warnings.iter() {
        let place = loaded
            .warnings
            .location(warning)
            .map_or_else(String::new, |place| format!("{}:{}:{}", place.file.display(), place.line, place.column));
        tracing::warn!(place, "{}", warning.message());
    }
}

/// Lets the process have as many descriptors as the system permits it: each connection needs one, its upstream another.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays as it is");
    }
}

/// The signals that mean something here.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for one that does not wait for an upgrade under way.
    async fn urgent(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.user_1.recv() => Told::ReopenLogs,
        }
    }

    /// Does some work, and opens the logs again whenever that is asked for meanwhile.
    async fn beside<T>(&mut self, work: impl Future<Output = T>, reopen: impl Fn()) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = work.as_mut() => return done,
                _ = self.user_1.recv() => reopen(),
            }
        }
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reload,
            _ = self.user_1.recv() => Told::ReopenLogs,
            _ = self.user_2.recv() => Told::Upgrade,
        }
    }
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Stop,
    Reload,
    ReopenLogs,
    Upgrade,
}

async fn serve(
    file: &Path,
    loaded: Loaded,
    beginning: &mut Beginning,
    (log, access): (&LogHandle, &AccessLog),
) -> anyhow::Result<()> {
    // First of all: who sees that this process serves may change a file at once.
    let watch = FileWatch::new(&loaded.files, &loaded.named);
    let mut signals = Signals::new().context("signals cannot be received")?;
    let notifier = Notifier::find(&|name| std::env::var(name).ok());
    let mut admin = AdminListener::default();
    let prepared = admin.prepare(loaded.admin.as_ref(), &mut beginning.sockets).await?;
    let (mut caches, parts) = Caches::new(loaded.gateway.workers().get());
    let prepared_caches = caches.prepare(&loaded.caches, &mut beginning.sockets).context("a cache")?;
    let (mut databases, database_parts) = Databases::new(loaded.gateway.workers().get());
    let prepared_databases = databases
        .prepare(&loaded.database_listeners, &loaded.databases, &mut beginning.sockets)
        .context("a database")?;
    let (tracer, exporter) = Tracer::new(loaded.trace.as_ref(), loaded.gateway.workers().get())?;
    let exporter = tokio::spawn(exporter.run());
    let gateway = Gateway::start(loaded.gateway.clone(), beginning.inheritance(), access, &tracer).await?;
    for part in parts {
        gateway.begin_on(part.core(), move || drop(tokio::task::spawn_local(part.run()))).await;
    }
    for part in database_parts {
        gateway.begin_on(part.core(), move || drop(tokio::task::spawn_local(part.run()))).await;
    }
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let view = gateway.view().with_buckets(loaded.buckets.clone());
    let logs = Logs { log: log.clone(), access: access.clone(), tracer: tracer.clone() };
    let views = (caches.view(), databases.view());
    let state = State::new((view, gateway.control()), views, logs, loaded.effective.clone(), asks);
    let state = Arc::new(state);
    caches.commit(prepared_caches).await;
    databases.commit(prepared_databases).await;
    admin.commit(prepared, &state);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = loaded.gateway.workers(),
        listeners = loaded.gateway.listeners().len(),
        services = loaded.gateway.services().len(),
        caches = loaded.caches.len(),
        databases = loaded.databases.len(),
        "running"
    );
    match beginning.ready() {
        // That one tells the service manager, which listens to it still.
        Some((before, draining)) => drop(tokio::spawn(Arc::clone(&state).watch(before, draining))),
        None => notifier.ready(),
    }
    let running = loaded;
    let mut reloader = Reloader {
        file,
        gateway,
        caches,
        databases,
        state: &state,
        admin,
        log,
        access,
        tracer: &tracer,
        running,
        watch,
        notifier,
    };
    let end = run_until_told(&mut reloader, &mut signals, asked).await;
    state.set_draining();
    leave(end, reloader, (signals, access), (&tracer, exporter)).await;
    Ok(())
}

/// Ends the parts, in an order in which nothing is lost: at once, or when the process that takes over has all it needs.
async fn leave(
    end: End,
    reloader: Reloader<'_>,
    (mut signals, access): (Signals, &AccessLog),
    (tracer, exporter): (&Tracer, JoinHandle<()>),
) {
    let Reloader { gateway, caches, databases, admin, running, notifier, .. } = reloader;
    let reopen = || reload::reopen(access);
    let drain_timeout = running.gateway.drain_timeout();
    match end {
        End::Stop => {
            notifier.stopping();
            tracing::info!(?drain_timeout, "stopping: finishing the requests under way");
            let begun = Instant::now();
            let rest = || drain_timeout.saturating_sub(begun.elapsed());
            let served = async {
                if !running.databases.is_empty() {
                    // Requests under way may need the databases, and both have the same cores: so those of the gateway come first.
                    upgrade::drained(&gateway, drain_timeout).await;
                }
                (databases.stop(rest()).await, gateway.stop(rest()).await)
            };
            // Both at once: neither accepts while the other one finishes.
            let both = async { tokio::join!(caches.stop(drain_timeout.min(CACHES_TIMEOUT)), served) };
            let (cut, (clients, stopped)) = signals.beside(both, reopen).await;
            if cut > 0 {
                tracing::warn!(cut, "connections of caches did not end in time");
            }
            if clients > 0 {
                tracing::warn!(cut = clients, "clients of databases did not end in time");
            }
            tracing::info!(cut = stopped.cut, took = ?stopped.took, "stopped");
            finish(tracer, exporter).await;
            admin.end().await;
        }
        End::Replaced(taken) => {
            // Whoever asks from now on is to reach the other one.
            let limit = running.upgrade.drain_timeout;
            let leave = upgrade::leave((gateway, databases), taken, (limit, drain_timeout), signals, reopen);
            // The other process has caches of its own: what is stored in these would be lost, and what is read old.
            tokio::join!(admin.end(), caches.hand_over(CACHES_TIMEOUT), leave);
            finish(tracer, exporter).await;
        }
    }
}

/// Exports the spans that are left, for as long as the logs have as well.
async fn finish(tracer: &Tracer, mut exporter: JoinHandle<()>) {
    tracer.stop();
    if tokio::time::timeout(FLUSH_TIMEOUT, &mut exporter).await.is_err() {
        exporter.abort();
        tracing::warn!("the last spans could not be exported in time: {}", tracer.totals());
    }
}

/// Why the process ends.
enum End {
    /// It was told to stop.
    Stop,
    /// Another process serves.
    Replaced(Taken),
}

/// Applies changes until something ends it.
async fn run_until_told(reloader: &mut Reloader<'_>, signals: &mut Signals, mut asked: mpsc::Receiver<Ask>) -> End {
    let mut reloads = reloader.databases.reloads();
    loop {
        let (reason, answer) = tokio::select! {
            told = signals.next() => match told {
                Told::Stop => return End::Stop,
                Told::Upgrade => ("SIGUSR2", None),
                Told::ReopenLogs => {
                    reload::reopen(reloader.access);
                    continue;
                }
                // What a reload says is logged and shown by the reloader itself.
                Told::Reload => {
                    let _told = reloader.reload("SIGHUP").await;
                    continue;
                }
            },
            () = reloader.changed() => {
                let _told = reloader.reload("a file changed").await;
                continue;
            }
            Some(ask) = reloads.recv() => {
                ask.answer(reloader.reload("asked for in the console").await);
                continue;
            }
            Some(ask) = asked.recv() => match ask {
                Ask::Database(database, change, answer) => {
                    let _nobody_waits = answer.send(databases::change(&reloader.databases, &database, &change).await);
                    continue;
                }
                Ask::Reload(answer) => {
                    let result = reloader.reload("asked for").await;
                    let _nobody_waits = answer.send(result.map(|()| reloader.state.last_reload()));
                    continue;
                }
                Ask::Upgrade(binary, answer) => ("asked for", Some((binary, answer))),
            },
        };
        let binary = answer.as_ref().and_then(|(binary, _)| binary.as_deref());
        let access = reloader.access;
        let outcome = {
            let mut upgrade = pin!(reloader.upgrade(reason, binary));
            loop {
                tokio::select! {
                    outcome = upgrade.as_mut() => break outcome,
                    told = signals.urgent() => match told {
                        // Whatever was started ends with what is dropped here.
                        Told::Stop => return End::Stop,
                        _ => reload::reopen(access),
                    },
                }
            }
        };
        let told = match &outcome {
            Ok(Taken { successor, version }) => {
                let connections = reloader.gateway.connections();
                Ok(json!({ "pid": successor.pid(), "version": version, "connections": connections }))
            }
            Err(error) => Err(error.clone()),
        };
        if let Some((_, answer)) = answer {
            let _nobody_waits = answer.send(told);
        }
        if let Ok(taken) = outcome {
            return End::Replaced(taken);
        }
    }
}
