//! `tenfold run`: serves what the configuration says until it is told to stop.
//!
//! The control plane runs on one runtime of the main thread: signals, changes of files, reloads, the admin listener,
//! and the gateway's own control plane. Requests are served by the gateway's worker threads.

mod admin_listener;
mod command;
mod effective;
mod reload;
mod state;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use config::Loaded;
use gateway::Gateway;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use telemetry::trace::Tracer;
use telemetry::{AccessLog, LogHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use admin_listener::AdminListener;
use reload::Reloader;
use state::{Logs, ReloadRequest, State};
use watch::FileWatch;

const EXAMPLES: &str = "\
Examples:
  tenfold run                        Run what ./tenfold.toml says
  tenfold run site.toml              Another file
  kill -HUP PID                      Apply a changed file at once; a change is also noticed by itself
  kill -USR1 PID                     Open the access log's file again, after it was rotated
  kill -TERM PID                     Stop: finish the requests under way, then exit

Exit codes:
  0  it was told to stop, and did
  1  it could not start; the reason is on standard error";

/// Time to write what the logs still hold at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Reloads that wait at most; whoever asks for more waits to be heard.
const RELOAD_REQUESTS_MAX: usize = 4;

/// What `tenfold run` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The file
    #[arg(default_value = "./tenfold.toml")]
    file: PathBuf,
}

/// Reads a configuration with the variables of this process.
fn load(file: &Path) -> Result<Loaded, config::Diagnostics> {
    config::load(file, &|name| std::env::var(name).ok())
}

/// Runs until a signal ends it.
///
/// # Errors
/// When something of the configuration cannot be had: an address, a thread, a log file.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let loaded = match load(&args.file) {
        Ok(loaded) => loaded,
        Err(found) => {
            std::io::stderr().lock().write_all(found.render(crate::check::wants_color()).as_bytes())?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let log = telemetry::init_logs(&loaded.log)?;
    warn_of(&loaded);
    raise_descriptor_limit();
    let access = AccessLog::start(&loaded.log.access, loaded.gateway.workers().get())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&args.file, loaded, &log, &access));
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
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
        })
    }
}

async fn serve(file: &Path, loaded: Loaded, log: &LogHandle, access: &AccessLog) -> anyhow::Result<()> {
    let signals = Signals::new().context("signals cannot be received")?;
    let mut admin = AdminListener::default();
    let prepared = admin.prepare(loaded.admin.as_ref()).await?;
    let (tracer, exporter) = Tracer::new(loaded.trace.as_ref(), loaded.gateway.workers().get())?;
    let exporter = tokio::spawn(exporter.run());
    let gateway = Gateway::start(loaded.gateway.clone(), access, &tracer).await?;
    let (requests, reload_requests) = mpsc::channel(RELOAD_REQUESTS_MAX);
    let view = gateway.view().with_buckets(loaded.buckets.clone());
    let logs = Logs { log: log.clone(), access: access.clone(), tracer: tracer.clone() };
    let state = State::new((view, gateway.control()), logs, loaded.effective.clone(), requests);
    let state = Arc::new(state);
    admin.commit(prepared, &state);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = loaded.gateway.workers(),
        listeners = loaded.gateway.listeners().len(),
        services = loaded.gateway.services().len(),
        "running"
    );
    let watch = FileWatch::new(&loaded.files, &loaded.named);
    let mut reloader =
        Reloader { file, gateway, state: &state, admin, log, access, tracer: &tracer, running: loaded, watch };
    let drain_timeout = run_until_told(&mut reloader, signals, reload_requests).await;
    state.set_draining();
    let (gateway, admin) = reloader.into_parts();
    let stopped = gateway.stop(drain_timeout).await;
    tracing::info!(cut = stopped.cut, took = ?stopped.took, "stopped");
    finish(&tracer, exporter).await;
    admin.end().await;
    Ok(())
}

/// Exports the spans that are left, for as long as the logs have as well.
async fn finish(tracer: &Tracer, mut exporter: JoinHandle<()>) {
    tracer.stop();
    if tokio::time::timeout(FLUSH_TIMEOUT, &mut exporter).await.is_err() {
        exporter.abort();
        tracing::warn!("the last spans could not be exported in time: {}", tracer.totals());
    }
}

/// Applies changes until a signal ends it; tells how long requests under way may still take.
async fn run_until_told(
    reloader: &mut Reloader<'_>,
    mut signals: Signals,
    mut reload_requests: mpsc::Receiver<ReloadRequest>,
) -> Duration {
    loop {
        // What a reload says is logged and shown by the reloader itself.
        let _told = tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => reloader.reload("SIGHUP").await,
            _ = signals.user_1.recv() => {
                reloader.reopen_logs();
                Ok(())
            }
            () = reloader.changed() => reloader.reload("a file changed").await,
            Some(done) = reload_requests.recv() => {
                let result = reloader.reload("asked for").await;
                let _nobody_waits = done.send(result.map(|()| reloader.state.last_reload()));
                Ok(())
            }
        };
    }
    tracing::info!(drain_timeout = ?reloader.drain_timeout(), "stopping: finishing the requests under way");
    reloader.drain_timeout()
}
