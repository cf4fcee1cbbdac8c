//! The task that asks a source again and again.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::lookup::{Found, Lookup};
use crate::params::ResolverParams;
use crate::schedule::{Next, Schedule};
use crate::set::{Outcome, Report, Source};

/// Names that are looked up at once. Those beyond wait their turn.
const LOOKUPS_MAX: usize = 32;

/// Resolves names by one set of rules. One does for a process: what it is asked at once is bounded.
#[derive(Clone, Debug)]
pub struct Resolver {
    params: Arc<ResolverParams>,
    client: Arc<Client>,
    turns: Arc<Semaphore>,
}

/// A source that is being watched, until this is dropped.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Resolver {
    /// A resolver that has asked nobody yet.
    pub fn new(params: ResolverParams) -> Self {
        let (client, turns) = (Arc::new(Client::new(&params)), Arc::new(Semaphore::new(LOOKUPS_MAX)));
        Self { params: Arc::new(params), client, turns }
    }

    /// Its rules.
    pub fn params(&self) -> &ResolverParams {
        &self.params
    }

    /// Asks a source at once, and then again whenever its answer is no longer good. Each result is told by `tell`, which
    /// ends the watch by `false`. `is_known` says that a set is there from before, as if it had come now.
    pub fn watch<F>(&self, source: Source, is_known: bool, mut tell: impl FnMut(Report) -> F + Send + 'static) -> Watch
    where
        F: Future<Output = bool> + Send,
    {
        let good_at = is_known.then(Instant::now);
        let mut schedule = Schedule::new(&self.params, good_at);
        let mut lookup = Lookup::new(Arc::clone(&self.client), Arc::clone(&self.params));
        let turns = Arc::clone(&self.turns);
        Watch(tokio::spawn(async move {
            loop {
                let turn = turns.acquire().await;
                let found = lookup.run(&source).await;
                drop(turn);
                let report = report(&mut schedule, found, fastrand::f64());
                let pause = report.again_in;
                if !tell(report).await {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        }))
    }
}

/// What came of a lookup, as it is told.
fn report(schedule: &mut Schedule, found: Found, chance: f64) -> Report {
    let now = Instant::now();
    let without_set = |next: Next, outcome, trouble| {
        let set = next.removes.then(|| Vec::new().into());
        Report { outcome, set, trouble: Some(trouble), again_in: next.pause }
    };
    match found {
        Found::Members { members, good_for, failed, left_out } => {
            let next = match &failed {
                None => schedule.on_answer(now, good_for, chance),
                Some(_) => schedule.on_part(now, good_for, chance),
            };
            let beyond = (left_out > 0).then(|| format!("{left_out} addresses beyond addresses_max are not used"));
            let trouble = failed.or(beyond);
            let outcome = if trouble.is_some() { Outcome::Partial } else { Outcome::Success };
            Report { outcome, set: Some(members.into()), trouble, again_in: next.pause }
        }
        Found::Nothing { name_exists, good_for } => {
            let next = schedule.on_nothing(now, good_for, chance);
            let (outcome, text) = match name_exists {
                true => (Outcome::NoRecords, "the name has no such records"),
                false => (Outcome::NoName, "there is no such name"),
            };
            without_set(next, outcome, text.to_owned())
        }
        Found::Failed(unanswered) => {
            let next = schedule.on_failure(now, chance);
            let outcome = if unanswered.is_timeout { Outcome::Timeout } else { Outcome::Failure };
            without_set(next, outcome, unanswered.text)
        }
    }
}
