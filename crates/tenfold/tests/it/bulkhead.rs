//! Bulkheads under many tasks at once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenfold::resilience::{Bulkhead, BulkheadParams, Error};
use tenfold::testing::ManualClock;

use crate::poll;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_stay_within_its_bounds() {
    const CONCURRENCY: usize = 7;
    const QUEUE: usize = 50;
    let params = BulkheadParams { concurrency_max: CONCURRENCY, queue_max: QUEUE, wait_max: Duration::from_secs(3600) };
    let bulkhead = Bulkhead::new("stock", params);
    let (under_way, most, most_waiting) = (Arc::default(), Arc::default(), Arc::default());
    let task = |number: usize| {
        let bulkhead = bulkhead.clone();
        let (under_way, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = (Arc::clone(&under_way), Arc::clone(&most));
        let most_waiting: Arc<AtomicUsize> = Arc::clone(&most_waiting);
        tokio::spawn(async move {
            let call = || async {
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                most_waiting.fetch_max(bulkhead.snapshot().waiting, Ordering::SeqCst);
                for _ in 0..number % 5 {
                    tokio::task::yield_now().await;
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, &str>(())
            };
            if number.is_multiple_of(3) {
                // Given up after one look, wherever it stands.
                let before = tokio::task::yield_now();
                let mut call = pin!(bulkhead.call(|| async { std::future::pending::<Result<(), &str>>().await }));
                let looked = std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context)));
                let _pending_or_full = looked.await;
                before.await;
                return Ok(());
            }
            bulkhead.call(call).await
        })
    };
    let tasks: Vec<_> = (0..1_000).map(task).collect();
    let mut full = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => {}
            Err(Error::Full { waited, .. }) => {
                assert_eq!(waited, Duration::ZERO);
                full += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(most.load(Ordering::SeqCst) <= CONCURRENCY);
    assert!(most_waiting.load(Ordering::SeqCst) <= QUEUE);
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0), "{full} were refused");
}

#[test]
fn a_place_that_a_dropped_waiter_was_given_goes_to_the_next() {
    let clock = ManualClock::new();
    let params = BulkheadParams { concurrency_max: 1, queue_max: 2, ..BulkheadParams::default() };
    let bulkhead = Bulkhead::with_clock("stock", params, &clock);
    let held = clock.run(bulkhead.acquire()).unwrap();
    let (mut first, mut second) = (Box::pin(bulkhead.acquire()), Box::pin(bulkhead.acquire()));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(held);
    // The place is the first one's already, which never hears of it.
    assert!(bulkhead.try_acquire().is_none());
    drop(first);
    assert!(poll(second.as_mut()).is_ready());
}

#[test]
fn sizes_of_nothing_are_sizes() {
    let clock = ManualClock::new();
    let params = BulkheadParams { concurrency_max: 0, queue_max: 0, wait_max: Duration::ZERO };
    let bulkhead = Bulkhead::with_clock("stock", params, &clock);
    let place = bulkhead.try_acquire().expect("at least one call may be under way");
    assert!(clock.run(bulkhead.acquire()).is_err());
    drop(place);
    assert!(clock.run(bulkhead.acquire()).is_ok());
}
