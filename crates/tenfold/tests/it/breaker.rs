//! Breakers around calls. The rules themselves are proved in the core, against a model and under other schedulers.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenfold::Clock;
use tenfold::resilience::{Breaker, BreakerParams, Error, Force, SlowParams, State, Verdict};
use tenfold::testing::ManualClock;
use tokio::sync::Semaphore;

use crate::poll;

const OPEN_FOR: Duration = Duration::from_secs(30);

/// A breaker whose open time is over.
fn probing(params: BreakerParams) -> Breaker {
    let clock = ManualClock::new();
    let params = BreakerParams { failures: Some(1), open_for: OPEN_FOR, ..params };
    let breaker = Breaker::with_clock("stock", params, &clock);
    let failed = clock.run(breaker.call(|| async { Err::<(), _>("down") }));
    assert_eq!(failed, Err(Error::Inner("down")));
    assert!(matches!(breaker.state(), State::Open { .. }));
    clock.advance(OPEN_FOR);
    breaker
}

fn is_open<T, E>(result: &Result<T, Error<E>>) -> bool {
    matches!(result, Err(Error::Open { .. }))
}

async fn fine() -> Result<u32, &'static str> {
    Ok(7)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_callers_no_more_than_the_probes_pass() {
    const CALLERS: usize = 1_000;
    const PROBES: usize = 5;
    let breaker =
        probing(BreakerParams { probes: PROBES as u32, successes: PROBES as u32, ..BreakerParams::default() });
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let caller = |_| {
        let (breaker, under_way, most, gate) = (breaker.clone(), under_way.clone(), most.clone(), gate.clone());
        tokio::spawn(async move {
            let call = || async {
                let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let _open = gate.acquire().await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, &str>(())
            };
            breaker.call(call).await
        })
    };
    let callers: Vec<_> = (0..CALLERS).map(caller).collect();
    // No probe ends before every caller has been answered or has become a probe.
    while breaker.snapshot().refused_total as usize + under_way.load(Ordering::SeqCst) < CALLERS {
        tokio::task::yield_now().await;
    }
    assert_eq!(breaker.state(), State::HalfOpen);
    gate.add_permits(CALLERS);
    let mut passed = 0;
    for caller in callers {
        let result = caller.await.unwrap();
        passed += usize::from(result.is_ok());
        assert!(result.is_ok() || is_open(&result));
    }
    assert_eq!((passed, most.load(Ordering::SeqCst)), (PROBES, PROBES));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_that_are_dropped_under_load_are_never_lost() {
    let breaker = probing(BreakerParams { probes: 3, successes: 3, ..BreakerParams::default() });
    let caller = |_| {
        let breaker = breaker.clone();
        tokio::spawn(async move {
            let never = std::future::pending::<Result<(), &str>>;
            let mut call = pin!(breaker.call(never));
            // Polled, and dropped half-way.
            std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context).is_pending())).await
        })
    };
    let callers: Vec<_> = (0..1_000).map(caller).collect();
    let mut admitted = 0;
    for caller in callers {
        admitted += usize::from(caller.await.unwrap());
    }
    assert!(admitted >= 3, "{admitted}");
    for _ in 0..3 {
        assert_eq!(breaker.call(fine).await, Ok(7));
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_dropped_probe_makes_room_for_another() {
    let breaker = probing(BreakerParams::default());
    let mut first = Box::pin(breaker.call(std::future::pending::<Result<u32, &str>>));
    assert!(poll(first.as_mut()).is_pending());
    assert!(is_open(&ManualClock::new().run(breaker.call(fine))));
    drop(first);
    assert_eq!(ManualClock::new().run(breaker.call(fine)), Ok(7));
}

#[test]
fn a_call_that_panics_has_no_result() {
    let breaker = probing(BreakerParams::default());
    let call = || async { panic!("a bug") };
    let panicking = AssertUnwindSafe(|| ManualClock::new().run(breaker.call::<u32, &str, _, _>(call)));
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(ManualClock::new().run(breaker.call(fine)), Ok(7));
}

#[test]
fn a_permit_can_be_used_without_a_future() {
    let breaker = probing(BreakerParams::default());
    let permit = breaker.acquire().unwrap();
    assert!(permit.is_probe());
    assert!(breaker.acquire().is_err());
    permit.record(false);
    assert!(!breaker.acquire().unwrap().is_probe());
}

#[test]
fn slow_calls_open_it() {
    let manual = ManualClock::new();
    let clock = Clock::from(&manual);
    let slow = SlowParams { after: Duration::from_millis(100), rate: 0.5 };
    let params = BreakerParams { failures: None, slow: Some(slow), calls_min: 4, ..BreakerParams::default() };
    let breaker = Breaker::with_clock("stock", params, &manual);
    for millis in [1, 1, 100, 100] {
        let call = || async {
            clock.sleep(Duration::from_millis(millis)).await;
            Ok::<_, &str>(())
        };
        assert!(manual.run(breaker.call(call)).is_ok());
    }
    assert!(matches!(breaker.state(), State::Open { .. }));
    assert_eq!(breaker.snapshot().opened_total, 1);
}

#[test]
fn what_is_judged_fine_does_not_open_it() {
    let clock = ManualClock::new();
    let params = BreakerParams { failures: Some(2), ..BreakerParams::default() };
    let breaker = Breaker::with_clock("stock", params, &clock);
    let judge = |result: &Result<(), u16>| if *result == Err(404) { Verdict::Fine } else { Verdict::Failed };
    for _ in 0..10 {
        assert_eq!(clock.run(breaker.call_judged(judge, || async { Err(404) })), Err(Error::Inner(404)));
    }
    for _ in 0..2 {
        assert_eq!(clock.run(breaker.call_judged(judge, || async { Err(500) })), Err(Error::Inner(500)));
    }
    assert!(is_open(&clock.run(breaker.call_judged(judge, || async { Ok(()) }))));
}

#[test]
fn it_can_be_held_open_and_closed() {
    let clock = ManualClock::new();
    let breaker = Breaker::with_clock("stock", BreakerParams::default(), &clock);
    breaker.force(Some(Force::Open));
    let refused = clock.run(breaker.call(fine)).unwrap_err();
    assert_eq!((refused.retry_after(), breaker.snapshot().refused_total), (None, 1));
    breaker.force(Some(Force::Closed));
    for _ in 0..10 {
        assert_eq!(clock.run(breaker.call(|| async { Err::<u32, _>("down") })), Err(Error::Inner("down")));
    }
    breaker.force(None);
    assert_eq!(breaker.state(), State::Closed);
}
