//! `tenfold demo`: three instances of a sample server behind `tenfold run`, real traffic, and a few mishaps.
//!
//! Everything it starts is a child process of its own and dies with it. The traffic lasts as long as asked; at a quarter
//! of it one instance is killed, at half it returns, at three quarters the configuration changes under load. A few seconds
//! more show HTTP/2, a canary, a mirror, a drain, and the cache, also while its service is down. Last comes a database with two replicas, where
//! PostgreSQL is installed.

mod certificate;
mod database;
mod http;
pub(crate) mod instance;
mod load;
mod multiplexed;
mod progress;
mod report;
mod stage;
mod tally;
mod tour;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use crate::args::DemoArgs;
use load::Load;
use progress::Progress;
use stage::{INSTANCES, Stage};
use tally::Tally;

/// The instance that is killed and returns, and the one that gets more weight later.
const VICTIM: usize = 1;
const FAVOURITE: usize = 2;
const FAVOURITE_WEIGHT: u32 = 3;

/// Time for the gateway to take a new configuration.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a shell reports for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    // One thread: children are told to die with the thread that started them, so it has to be the one that lasts.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("demo: the runtime cannot be started")?;
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(demo(args)))
}

async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::new()?;
    let played = tokio::select! {
        played = play(Duration::from_secs(args.seconds)) => Some(played?),
        () = interrupts.next() => None,
    };
    let Some((stage, failed)) = played else {
        println!("\ninterrupted");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if !args.once {
        println!("{}", report::next_steps(&stage));
        tokio::select! {
            () = interrupts.next() => println!(),
            error = stage.gateway_ended() => return Err(error),
        }
    }
    stage.stop().await?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sets the stage, plays the scenes under traffic and prints the report. Returns the stage, still up, and the number of
/// failed requests.
async fn play(length: Duration) -> anyhow::Result<(Stage, u64)> {
    let mut stage = Stage::build().await?;
    println!("{}", report::opening(&stage, length));
    let tally = Rc::new(RefCell::new(Tally::new(INSTANCES.len())));
    let progress = Progress::start(Rc::clone(&tally), length);
    let start = Instant::now() + Duration::from_millis(100);
    let load = Load::start(stage.web(), start, length, &tally)?;
    let at = |quarter: u32| sleep_until(start + length * quarter / 4);

    // Whatever goes wrong with the gateway meanwhile ends the demo at once, not at its next scene.
    let watched = stage.watch_gateway();
    let scenes = async {
        at(1).await;
        stage.kill_instance(VICTIM).await?;
        tally.borrow_mut().next_scene();
        progress.event(&format!("{} was killed (SIGKILL)", INSTANCES[VICTIM]));
        at(2).await;
        stage.start_instance(VICTIM)?;
        tally.borrow_mut().next_scene();
        progress.event(&format!("{} was started again", INSTANCES[VICTIM]));
        at(3).await;
        let mut weights = [1; INSTANCES.len()];
        weights[FAVOURITE] = FAVOURITE_WEIGHT;
        stage.reconfigure(&weights, true, RELOAD_TIMEOUT).await?;
        tally.borrow_mut().next_scene();
        progress.event("the configuration changed (SIGHUP): a new route, another weight");
        stage.use_new_route().await
    };
    tokio::select! {
        result = scenes => result?,
        error = watched.ended() => return Err(error),
    }
    load.finish().await;
    progress.finish();

    // The scrape shows what the gateway counted up to its last answer.
    sleep(Duration::from_millis(50)).await;
    let counted = stage.counted().await?;
    print!("{}", report::closing(&tally.borrow(), length, &counted));
    let failed = tally.borrow().failed();
    let watched = stage.watch_gateway();
    let failed_after = tokio::select! {
        result = tour::show(&mut stage) => result?,
        error = watched.ended() => return Err(error),
    };
    let broken = database::show(&stage).await?;
    Ok((stage, failed + failed_after + broken))
}

/// Ctrl-C and the request to end.
struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("demo: signals cannot be received");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
