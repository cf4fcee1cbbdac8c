//! A bulkhead against a naive model: lists of who runs and who waits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use tenfold::resilience::{Bulkhead, BulkheadParams, BulkheadPermit, Refusal};
use tenfold::testing::ManualClock;

use crate::poll;

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive,
    /// One of those that run ends.
    End(usize),
    /// One of those that wait gives up.
    GiveUp(usize),
    Advance(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Arrive),
        2 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::GiveUp),
        2 => (1_u64..60).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 1..80)
}

/// Callers by number.
#[derive(Default)]
struct Model {
    running: Vec<usize>,
    /// With the moment until which they wait.
    waiting: VecDeque<(usize, u64)>,
    refused: Vec<usize>,
    now: u64,
}

impl Model {
    fn arrive(&mut self, number: usize, params: BulkheadParams) {
        if self.running.len() < params.concurrency_max {
            self.running.push(number);
        } else if self.waiting.len() < params.queue_max {
            self.waiting.push_back((number, self.now + params.wait_max.as_millis() as u64));
        } else {
            self.refused.push(number);
        }
    }

    fn settle(&mut self, params: BulkheadParams) {
        while self.running.len() < params.concurrency_max {
            let Some((number, _)) = self.waiting.pop_front() else { break };
            self.running.push(number);
        }
        let now = self.now;
        self.refused.extend(self.waiting.iter().filter(|(_, until)| *until <= now).map(|(number, _)| *number));
        self.waiting.retain(|(_, until)| *until > now);
    }
}

type Acquiring<'a> = Pin<Box<dyn Future<Output = Result<BulkheadPermit<'a>, Refusal>> + 'a>>;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_admits_refuses_and_forgets_as_lists_do(concurrency_max in 1_usize..4, queue_max in 0_usize..5, steps in steps()) {
        let params = BulkheadParams { concurrency_max, queue_max, wait_max: Duration::from_millis(100) };
        let clock = ManualClock::new();
        let bulkhead = Bulkhead::with_clock("model", params, &clock);
        let mut model = Model::default();
        let mut running: Vec<(usize, BulkheadPermit<'_>)> = Vec::new();
        let mut waiting: Vec<(usize, Acquiring<'_>)> = Vec::new();
        let mut refused = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Arrive => {
                    model.arrive(number, params);
                    waiting.push((number, Box::pin(bulkhead.acquire())));
                }
                Step::End(index) if !running.is_empty() => {
                    let (ended, _place) = running.swap_remove(index % running.len());
                    model.running.retain(|running| *running != ended);
                }
                Step::GiveUp(index) if !waiting.is_empty() => {
                    let (gone, _acquiring) = waiting.swap_remove(index % waiting.len());
                    model.waiting.retain(|(waiting, _)| *waiting != gone);
                }
                Step::Advance(millis) => {
                    clock.advance(Duration::from_millis(millis));
                    model.now += millis;
                }
                Step::End(_) | Step::GiveUp(_) => {}
            }
            model.settle(params);
            // Polled in an order that has nothing to do with that of their arrival.
            waiting.reverse();
            let mut left = Vec::new();
            for (number, mut acquiring) in waiting {
                match poll(acquiring.as_mut()) {
                    Poll::Ready(Ok(place)) => running.push((number, place)),
                    Poll::Ready(Err(_)) => refused.push(number),
                    Poll::Pending => left.push((number, acquiring)),
                }
            }
            waiting = left;
            let sorted = |mut numbers: Vec<usize>| { numbers.sort_unstable(); numbers };
            prop_assert_eq!(sorted(running.iter().map(|(number, _)| *number).collect()), sorted(model.running.clone()));
            prop_assert_eq!(sorted(waiting.iter().map(|(number, _)| *number).collect()),
                sorted(model.waiting.iter().map(|(number, _)| *number).collect()));
            prop_assert_eq!(sorted(refused.clone()), sorted(model.refused.clone()));
            let snapshot = bulkhead.snapshot();
            prop_assert_eq!((snapshot.in_flight, snapshot.waiting), (running.len(), waiting.len()));
            prop_assert_eq!(snapshot.refused_total as usize, refused.len());
        }
    }
}
