//! Shedders around calls: who is refused, what teaches the limit, and what it comes to.

use std::time::Duration;

use tenfold::Clock;
use tenfold::resilience::{Class, Error, Shedder, ShedderParams, Verdict};
use tenfold::testing::ManualClock;

use crate::poll;

#[test]
fn the_least_important_are_refused_first_and_the_exempt_never() {
    let params = ShedderParams { limit_start: 10, ..ShedderParams::default() };
    let shedder = Shedder::with_clock("search", params, ManualClock::new());
    let hold = |class, count: usize| -> Vec<_> { (0..count).map_while(|_| shedder.acquire(class).ok()).collect() };
    let low = hold(Class::Low, 100);
    let normal = hold(Class::Normal, 100);
    let critical = hold(Class::Critical, 100);
    let exempt = hold(Class::Exempt, 100);
    assert_eq!((low.len(), normal.len(), critical.len(), exempt.len()), (7, 2, 1, 100));
    assert_eq!((shedder.snapshot().in_flight, shedder.snapshot().refused_total), (110, 3));
    drop((low, normal, critical, exempt));
    assert_eq!(shedder.snapshot().in_flight, 0);
}

#[test]
fn a_dropped_call_is_no_longer_under_way() {
    let shedder = Shedder::with_clock("search", ShedderParams::default(), ManualClock::new());
    let mut call = Box::pin(shedder.call(Class::Normal, std::future::pending::<Result<(), &str>>));
    assert!(poll(call.as_mut()).is_pending());
    assert_eq!(shedder.snapshot().in_flight, 1);
    drop(call);
    assert_eq!(shedder.snapshot().in_flight, 0);
}

#[test]
fn signs_of_overload_shrink_it_and_other_failures_do_not() {
    for (verdict, shrinks) in [
        (Verdict::Failed, false),
        (Verdict::TRANSIENT, true),
        (Verdict::Limited { retry_after: None }, false),
        (Verdict::Fine, false),
    ] {
        let manual = ManualClock::new();
        let clock = Clock::from(&manual);
        let shedder = Shedder::with_clock("search", ShedderParams::default(), &manual);
        for _ in 0..20 {
            let call = || async {
                clock.sleep(Duration::from_millis(20)).await;
                Err::<(), _>("busy")
            };
            let round = async {
                tokio::join!(
                    shedder.call_judged(Class::Critical, |_: &_| verdict, call),
                    shedder.call_judged(Class::Critical, |_: &_| verdict, call),
                    async {
                        let _busy: Vec<_> = (0..12).map(|_| shedder.acquire(Class::Critical)).collect();
                        clock.sleep(Duration::from_millis(20)).await;
                    },
                )
            };
            let (result, _, ()) = manual.run(round);
            assert!(matches!(result, Err(Error::Inner("busy")) | Err(Error::Overloaded { .. })));
        }
        let limit = shedder.snapshot().limit;
        assert_eq!(limit < 20, shrinks, "{verdict:?}: {limit}");
    }
}
