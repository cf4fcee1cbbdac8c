//! Timeouts, by both clocks.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use tenfold::Clock;
use tenfold::resilience::{Error, Timeout};
use tenfold::testing::ManualClock;

const BOUND: Duration = Duration::from_millis(250);

#[test]
fn a_call_has_exactly_its_time() {
    for (takes, is_in_time) in [(0, true), (249, true), (250, true), (251, false), (10_000, false)] {
        let manual = ManualClock::new();
        let clock = Clock::from(&manual);
        let timeout = Timeout::with_clock("report", BOUND, &manual);
        let call = || async {
            clock.sleep(Duration::from_millis(takes)).await;
            Ok::<_, &str>(takes)
        };
        let result = manual.run(timeout.call(call));
        assert_eq!(result.is_ok(), is_in_time, "{takes}: {result:?}");
        assert_eq!(manual.elapsed(), Duration::from_millis(takes).min(BOUND));
    }
}

#[test]
fn a_call_that_took_too_long_is_dropped() {
    struct Told<'a>(&'a Cell<bool>);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let (clock, dropped) = (ManualClock::new(), Cell::new(false));
    let timeout = Timeout::with_clock("report", BOUND, &clock);
    let call = || async {
        let _told = Told(&dropped);
        std::future::pending::<Result<(), &str>>().await
    };
    let result = clock.run(async {
        let result = timeout.call(call).await;
        assert!(dropped.get());
        result
    });
    assert_eq!(result, Err(Error::TimedOut { name: "report".into(), after: BOUND }));
    assert_eq!(clock.next_wake(), None, "its sleep is dropped as well");
}

#[test]
fn what_is_ready_needs_no_runtime() {
    let timeout = Timeout::new("report", BOUND);
    let mut call = pin!(timeout.call(|| async { Ok::<_, &str>(1) }));
    assert!(crate::poll(call.as_mut()).is_ready());
}

#[tokio::test]
async fn it_ends_a_call_that_never_leaves_off_working() {
    let timeout = Timeout::new("report", Duration::from_millis(20));
    // It waits only because it has used up what tokio allows a task at once, and the sleep beside it would have to as well.
    let call = || async {
        loop {
            tokio::task::consume_budget().await;
        }
        #[expect(unreachable_code, reason = "it says what the loop would give")]
        Ok::<(), &str>(())
    };
    assert!(matches!(timeout.call(call).await, Err(Error::TimedOut { .. })));
}
