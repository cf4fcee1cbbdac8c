//! Brings batches to the sink: one task that starts them, as many at a time as there are lanes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::{JoinError, JoinSet};

use super::ledger::{Dead, Next};
use super::shared::{Shared, now_millis};
use super::sink::{Receipt, Sink, SinkError, Write};

/// What has come to an end.
enum Returned {
    /// A batch, and what became of it.
    Batch(Vec<Write>, Result<Receipt, SinkError>),
    /// The sink knows that it is told nothing more of these.
    GivenUp(Vec<Dead>),
}

/// Delivers until it is aborted, or the writer is told to end.
pub(super) async fn deliver<S: Sink>(shared: Arc<Shared>, sink: Arc<S>, lanes: usize, timeout: Duration) {
    let mut under_way: JoinSet<Returned> = JoinSet::new();
    loop {
        let mut wake_at = None;
        while under_way.len() < lanes {
            let next = {
                let mut state = shared.state();
                if state.ending {
                    return;
                }
                let hurry = state.hurry > 0;
                state.ledger.next(Instant::now(), hurry)
            };
            match next {
                Next::Batch(batch) => {
                    let sink = Arc::clone(&sink);
                    under_way.spawn(deliver_one(sink, batch, timeout));
                }
                Next::At(time) => {
                    wake_at = Some(time);
                    break;
                }
                Next::Idle => break,
            }
        }
        tokio::select! {
            Some(returned) = under_way.join_next(), if !under_way.is_empty() => {
                let dead = finish(&shared, returned);
                if !dead.is_empty() {
                    under_way.spawn(give_up(Arc::clone(&sink), dead, timeout));
                }
            }
            () = shared.due.notified() => {}
            () = sleep_until(wake_at) => {}
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// A sink that panics has failed with this batch; the panic must not take the batch with it.
async fn deliver_one<S: Sink>(sink: Arc<S>, batch: Vec<Write>, timeout: Duration) -> Returned {
    let batch = Arc::new(batch);
    let given = Arc::clone(&batch);
    // A task of its own keeps a panic; it ends with this one, which only whoever shuts down aborts.
    let mut task = JoinSet::new();
    task.spawn(async move { sink.deliver(&given).await });
    let outcome = match tokio::time::timeout(timeout, task.join_next()).await {
        Ok(Some(Ok(outcome))) => outcome,
        Ok(_) => Err(SinkError::Failed("it panicked".to_owned())),
        Err(_) => Err(SinkError::Unavailable(format!("no answer within {timeout:?}"))),
    };
    task.shutdown().await;
    Returned::Batch(Arc::unwrap_or_clone(batch), outcome)
}

/// Tells the sink of what it will hear no more, however it takes that.
async fn give_up<S: Sink>(sink: Arc<S>, dead: Vec<Dead>, timeout: Duration) -> Returned {
    let writes: Vec<_> = dead.iter().map(|dead| dead.write.clone()).collect();
    let told = AssertUnwindSafe(async { sink.given_up(&writes).await }).catch_unwind();
    let _told_or_not = tokio::time::timeout(timeout, told).await;
    Returned::GivenUp(dead)
}

/// What is to be given up.
fn finish(shared: &Shared, returned: Result<Returned, JoinError>) -> Vec<Dead> {
    let (batch, outcome) = match returned {
        Ok(Returned::Batch(batch, outcome)) => (batch, outcome),
        Ok(Returned::GivenUp(dead)) => {
            shared.bury(dead);
            return Vec::new();
        }
        // Only what is aborted has none, and then everything ends.
        Err(_) => return Vec::new(),
    };
    if let Err(error) = &outcome {
        tracing::debug!(%error, writes = batch.len(), "write-behind: a batch failed");
    }
    shared.finish(&batch, outcome, Instant::now(), fastrand::u64(..), now_millis())
}
