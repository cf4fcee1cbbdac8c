//! The clocks: what sleeps by a manual one wakes when it should, and nothing is left behind.

use std::time::{Duration, Instant};

use tenfold::Clock;
use tenfold::testing::ManualClock;

use crate::poll;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn sleepers_wake_in_order_of_their_moments() {
    let manual = ManualClock::new();
    let clock = Clock::from(&manual);
    let order = std::cell::RefCell::new(Vec::new());
    let sleep = |seconds: u32| {
        let (clock, order, manual) = (&clock, &order, &manual);
        async move {
            clock.sleep(SECOND * seconds).await;
            order.borrow_mut().push((seconds, manual.elapsed().as_secs()));
        }
    };
    manual.run(async { tokio::join!(sleep(3), sleep(1), sleep(2), sleep(1)) });
    assert_eq!(*order.borrow(), [(1, 1), (1, 1), (2, 2), (3, 3)]);
    assert_eq!(manual.next_wake(), None);
}

#[test]
fn a_dropped_sleeper_is_forgotten() {
    let manual = ManualClock::new();
    let clock = Clock::from(manual.clone());
    let mut sleep = Box::pin(clock.sleep(SECOND));
    assert!(poll(sleep.as_mut()).is_pending() && poll(sleep.as_mut()).is_pending());
    assert_eq!(manual.next_wake(), Some(SECOND));
    drop(sleep);
    assert_eq!(manual.next_wake(), None);
}

#[test]
fn it_stands_still_until_it_is_told_to_go_on() {
    let manual = ManualClock::new();
    let clock = Clock::from(&manual);
    let before = clock.now();
    assert_eq!(clock.now(), before);
    let mut sleep = Box::pin(clock.sleep(SECOND));
    manual.advance(SECOND - Duration::from_nanos(1));
    assert!(poll(sleep.as_mut()).is_pending());
    manual.advance(Duration::from_nanos(1));
    assert!(poll(sleep.as_mut()).is_ready());
    assert_eq!(clock.now() - before, SECOND);
}

#[test]
#[should_panic(expected = "waits for something that is not on this clock")]
fn to_wait_for_something_else_is_a_mistake() {
    ManualClock::new().run(std::future::pending::<()>());
}

#[tokio::test]
async fn the_default_is_that_of_tokio() {
    let clock = Clock::default();
    let before = Instant::now();
    clock.sleep(Duration::from_millis(5)).await;
    assert!(clock.now() >= before + Duration::from_millis(5));
    // Further than any clock goes.
    assert!(poll(Box::pin(clock.sleep(Duration::MAX)).as_mut()).is_pending());
}
