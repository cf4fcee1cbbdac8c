//! Policies: the order of their pieces, and that whoever leaves takes nothing along.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tenfold::Clock;
use tenfold::resilience::{
    BackoffParams, Breaker, BreakerParams, BulkheadParams, Class, Error, Force, Policy, PolicyBuilder, Quota, Rate,
    Retry, RetryParams, ShedderParams, State, Verdict,
};
use tenfold::testing::ManualClock;

use crate::poll;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Pauses of up to 10 ms, and no budget.
fn retries(retries_max: u32) -> RetryParams {
    let backoff = BackoffParams { base: millis(10), max: millis(10) };
    RetryParams { retries_max, backoff, budget: None, ..RetryParams::default() }
}

/// A callee whose calls take these times, with success, and then fail at once.
struct Callee {
    clock: Clock,
    calls: Cell<u32>,
    times: Cell<VecDeque<u64>>,
}

impl Callee {
    fn new(clock: &ManualClock, times: &[u64]) -> Self {
        Self { clock: clock.into(), calls: Cell::new(0), times: Cell::new(times.iter().copied().collect()) }
    }

    async fn call(&self) -> Result<u32, &'static str> {
        self.calls.set(self.calls.get() + 1);
        let mut times = self.times.take();
        let time = times.pop_front();
        self.times.set(times);
        match time {
            Some(time) => {
                self.clock.sleep(millis(time)).await;
                Ok(self.calls.get())
            }
            None => Err("down"),
        }
    }
}

fn policy(clock: &ManualClock) -> PolicyBuilder {
    Policy::builder_with_clock("stock", clock)
}

#[test]
fn without_pieces_it_is_the_call() {
    let clock = ManualClock::new();
    let (policy, callee) = (policy(&clock).build(), Callee::new(&clock, &[5]));
    assert_eq!(clock.run(policy.call(|| callee.call())), Ok(1));
    assert_eq!(clock.run(policy.call(|| callee.call())), Err(Error::Inner("down")));
}

#[test]
fn an_attempt_that_takes_too_long_is_tried_again() {
    let clock = ManualClock::new();
    let policy = policy(&clock).retry(retries(2)).attempt_timeout(millis(50)).build();
    let callee = Callee::new(&clock, &[1_000, 1_000, 20]);
    assert_eq!(clock.run(policy.call(|| callee.call())), Ok(3));
    assert!((millis(120)..=millis(140)).contains(&clock.elapsed()), "{:?}", clock.elapsed());
    let callee = Callee::new(&clock, &[1_000, 1_000, 1_000, 1]);
    let result = clock.run(policy.call(|| callee.call()));
    assert_eq!(result, Err(Error::TimedOut { name: "stock".into(), after: millis(50) }));
}

#[test]
fn the_deadline_bounds_tries_and_pauses_together() {
    let clock = ManualClock::new();
    let policy = policy(&clock).deadline(millis(120)).retry(retries(9)).attempt_timeout(millis(50)).build();
    let callee = Callee::new(&clock, &[1_000; 9]);
    let result = clock.run(policy.call(|| callee.call()));
    assert_eq!(result, Err(Error::TimedOut { name: "stock".into(), after: millis(120) }));
    assert_eq!((clock.elapsed(), callee.calls.get()), (millis(120), 3));
}

#[test]
fn a_retry_that_would_begin_after_the_deadline_is_not_waited_for() {
    let clock = ManualClock::new();
    let policy = policy(&clock).deadline(millis(500)).retry(retries(2)).build();
    let judge = |_: &Result<u32, &str>| Verdict::Transient { retry_after: Some(millis(500)) };
    let callee = Callee::new(&clock, &[]);
    assert_eq!(clock.run(policy.call_judged(judge, || callee.call())), Err(Error::Inner("down")));
    assert_eq!((clock.elapsed(), callee.calls.get()), (Duration::ZERO, 1));
}

#[test]
fn the_breaker_judges_tries_and_ends_them() {
    let clock = ManualClock::new();
    let params = BreakerParams { failures: Some(3), ..BreakerParams::default() };
    let policy = policy(&clock).retry(retries(9)).breaker(params).build();
    let callee = Callee::new(&clock, &[]);
    // What the callee said, and not that the breaker is open by now.
    assert_eq!(clock.run(policy.call(|| callee.call())), Err(Error::Inner("down")));
    assert_eq!(callee.calls.get(), 3);
    let before = clock.elapsed();
    assert!(matches!(clock.run(policy.call(|| callee.call())), Err(Error::Open { .. })));
    assert_eq!((callee.calls.get(), clock.elapsed()), (3, before), "an open breaker is no reason to try again");
}

#[test]
fn a_probe_is_one_try() {
    let clock = ManualClock::new();
    let params = BreakerParams { failures: Some(1), open_for: millis(100), ..BreakerParams::default() };
    let policy = policy(&clock).retry(retries(9)).breaker(params).build();
    let callee = Callee::new(&clock, &[]);
    for expected in 1..4 {
        assert_eq!(clock.run(policy.call(|| callee.call())), Err(Error::Inner("down")));
        assert_eq!(callee.calls.get(), expected);
        clock.advance(Duration::from_secs(60));
    }
}

#[test]
fn what_the_deadline_cuts_off_is_a_failure_of_the_callee() {
    let clock = ManualClock::new();
    let params = BreakerParams { failures: Some(2), ..BreakerParams::default() };
    let policy = policy(&clock).deadline(millis(100)).breaker(params).build();
    let callee = Callee::new(&clock, &[1_000, 1_000]);
    for _ in 0..2 {
        let result = clock.run(policy.call(|| callee.call()));
        assert!(matches!(result, Err(Error::TimedOut { .. })));
    }
    assert!(matches!(policy.breaker().unwrap().state(), State::Open { .. }));
}

#[test]
fn a_call_is_paid_for_once_whatever_its_tries() {
    let clock = ManualClock::new();
    let quota = Quota::gcra(Rate { amount: 1, per: Duration::from_secs(3600) }, 2).unwrap();
    let policy = policy(&clock).limiter(quota).retry(retries(4)).build();
    let callee = Callee::new(&clock, &[]);
    for _ in 0..2 {
        assert_eq!(clock.run(policy.call(|| callee.call())), Err(Error::Inner("down")));
    }
    assert!(matches!(clock.run(policy.call(|| callee.call())), Err(Error::Limited { .. })));
    assert_eq!(callee.calls.get(), 10);
}

#[test]
fn waiting_for_a_place_is_within_the_deadline() {
    let clock = ManualClock::new();
    let params = BulkheadParams { concurrency_max: 1, queue_max: 1, wait_max: millis(80) };
    // The time that the place takes, what is left of it for the second call, and what that comes to.
    let table = [
        (50, 500, Ok(2)),
        (50, 60, Err(Error::TimedOut { name: "stock".into(), after: millis(60) })),
        (90, 60, Err(Error::TimedOut { name: "stock".into(), after: millis(60) })),
        (90, 500, Err(Error::Full { name: "stock".into(), waited: millis(80) })),
    ];
    for (first, deadline, expected) in table {
        let bulkhead = tenfold::resilience::Bulkhead::with_clock("stock", params, &clock);
        let policy = policy(&clock).deadline(millis(deadline)).bulkhead(&bulkhead).build();
        let callee = Callee::new(&clock, &[first, 20]);
        let (_, second) =
            clock.run(async { tokio::join!(bulkhead.call(|| callee.call()), policy.call(|| callee.call())) });
        assert_eq!(second, expected, "{first} {deadline}");
    }
}

#[test]
fn a_place_that_comes_with_the_deadline_comes_too_late() {
    let clock = ManualClock::new();
    let params = BulkheadParams { concurrency_max: 1, queue_max: 1, wait_max: millis(500) };
    let policy = policy(&clock).deadline(millis(50)).bulkhead(params).build();
    let callee = Callee::new(&clock, &[]);
    let place = policy.bulkhead().unwrap().try_acquire().unwrap();
    let mut call: Pin<Box<dyn Future<Output = _>>> = Box::pin(policy.call(|| callee.call()));
    assert!(poll(call.as_mut()).is_pending());
    drop(place);
    clock.advance(millis(50));
    assert!(matches!(clock.run(call), Err(Error::TimedOut { .. })));
    assert_eq!(callee.calls.get(), 0, "nobody waits for it any more, so it is not made");
}

#[test]
fn the_shedder_refuses_by_class_and_learns_from_tries() {
    let clock = ManualClock::new();
    let params = ShedderParams { limit_start: 10, ..ShedderParams::default() };
    let policy = policy(&clock).shedder(params).retry(retries(3)).build();
    let shedder = policy.shedder().unwrap();
    let busy: Vec<_> = (0..8).map(|_| shedder.acquire(Class::Critical).unwrap()).collect();
    let callee = Callee::new(&clock, &[1; 9]);
    let low = policy.with_class(Class::Low);
    assert!(matches!(clock.run(low.call(|| callee.call())), Err(Error::Overloaded { limit: 10, .. })));
    assert_eq!(callee.calls.get(), 0, "to be refused is no reason to try again");
    assert_eq!(clock.run(policy.call(|| callee.call())), Ok(1));
    drop(busy);
    assert_eq!(shedder.snapshot().in_flight, 0);
}

#[test]
fn policies_can_share_a_piece() {
    let clock = ManualClock::new();
    let breaker = Breaker::with_clock("stock", BreakerParams::default(), &clock);
    let retry = Retry::with_clock("stock", retries(4), &clock);
    let reads = policy(&clock).retry(&retry).breaker(&breaker).build();
    let writes = policy(&clock).breaker(breaker).build();
    let callee = Callee::new(&clock, &[]);
    assert!(clock.run(reads.call(|| callee.call())).is_err());
    assert!(matches!(clock.run(writes.call(|| callee.call())), Err(Error::Open { .. })));
}

/// A call is dropped after so many milliseconds, whatever it is at.
#[test]
fn whoever_leaves_at_any_moment_takes_nothing_along() {
    let (mut in_queue, mut in_call, mut in_pause) = (0, 0, 0);
    for leaves_at in 0..200 {
        let clock = ManualClock::new();
        let policy = policy(&clock)
            .deadline(Duration::from_secs(5))
            .bulkhead(BulkheadParams { concurrency_max: 1, queue_max: 1, wait_max: Duration::from_secs(5) })
            .shedder(ShedderParams::default())
            .breaker(BreakerParams { failures: Some(100), ..BreakerParams::default() })
            .retry(RetryParams { backoff: BackoffParams { base: millis(60), max: millis(60) }, ..retries(3) })
            .attempt_timeout(millis(40))
            .build();
        let place = policy.bulkhead().unwrap().try_acquire().unwrap();
        let mut place = Some(place);
        let callee = Callee::new(&clock, &[1_000; 9]);
        let mut call = Box::pin(policy.call(|| callee.call()));
        for now in 0..leaves_at {
            let _pending = poll(call.as_mut());
            clock.advance(millis(1));
            if now == 20 {
                place = None;
            }
        }
        let _pending = poll(call.as_mut());
        let (bulkhead, shedder) = (policy.bulkhead().unwrap(), policy.shedder().unwrap());
        match (bulkhead.snapshot().waiting, shedder.snapshot().in_flight) {
            (1, _) => in_queue += 1,
            (_, 1) => in_call += 1,
            _ => in_pause += 1,
        }
        drop((call, place));
        let bulkhead = bulkhead.snapshot();
        assert_eq!((bulkhead.in_flight, bulkhead.waiting, shedder.snapshot().in_flight), (0, 0, 0), "{leaves_at}");
        assert_eq!(clock.next_wake(), None, "{leaves_at}");
    }
    assert!(in_queue > 10 && in_call > 10 && in_pause > 10, "{in_queue} {in_call} {in_pause}");
}

#[test]
fn a_probe_that_leaves_makes_room_for_another() {
    let clock = ManualClock::new();
    let params = BreakerParams { failures: Some(1), open_for: millis(100), ..BreakerParams::default() };
    let policy = policy(&clock).breaker(params).attempt_timeout(millis(500)).build();
    let callee = Callee::new(&clock, &[]);
    assert!(clock.run(policy.call(|| callee.call())).is_err());
    clock.advance(millis(100));
    let callee = Callee::new(&clock, &[50, 50]);
    let mut probe = Box::pin(policy.call(|| callee.call()));
    assert!(poll(probe.as_mut()).is_pending());
    assert!(matches!(clock.run(policy.call(|| callee.call())), Err(Error::Open { .. })));
    drop(probe);
    assert_eq!(clock.run(policy.call(|| callee.call())), Ok(2));
    assert_eq!(policy.breaker().unwrap().state(), State::Closed);
}

#[test]
fn futures_are_small_and_can_be_sent() {
    fn sent<F: Future + Send>(future: &F) -> usize {
        size_of_val(future)
    }
    let clock = ManualClock::new();
    let policy = policy(&clock).retry(retries(1)).build();
    let call = || async { Ok::<_, std::io::Error>(()) };
    assert!(sent(&policy.call(call)) <= 900, "{} bytes", sent(&policy.call(call)));
}

#[test]
fn what_a_try_gave_is_told_when_no_other_is_let_in() {
    let clock = ManualClock::new();
    let policy = policy(&clock).retry(retries(2)).breaker(BreakerParams::default()).build();
    let callee = Callee::new(&clock, &[]);
    let mut call = std::pin::pin!(policy.call(|| callee.call()));
    assert!(poll(call.as_mut()).is_pending(), "it pauses after the first try");
    // Others may open the breaker meanwhile. That this call was made must not look as if it was not.
    policy.breaker().expect("it has one").force(Some(Force::Open));
    let result = clock.run(call);
    assert!(result.as_ref().is_err_and(Error::may_have_taken_effect), "{result:?}");
    assert_eq!((result, callee.calls.get()), (Err(Error::Inner("down")), 1));
}
