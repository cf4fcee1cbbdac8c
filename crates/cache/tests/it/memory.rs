//! Strategies in one process, on a clock that jumps.

use std::io;
use std::time::Duration;

use cache::{Error, Reach};
use tokio::time::{advance, sleep};

use crate::{Loads, in_memory, product};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn one_loads_and_all_have_it() {
    let (cache, loads) = (in_memory().build().await.unwrap(), Loads::default());
    let mut callers = Vec::new();
    for _ in 0..1000 {
        let (cache, loads) = (cache.clone(), loads.clone());
        let load = async move { cache.get_or_load(&7, || loads.load(7, "a", SECOND)).await };
        callers.push(tokio::spawn(load));
    }
    for caller in callers {
        assert_eq!(*caller.await.unwrap().unwrap(), product(7, "a"));
    }
    assert_eq!(loads.count(), 1);
    assert!(cache.get_or_load(&7, || loads.now(7, "b")).await.is_ok_and(|found| found.name == "a"));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.coalesced, stats.memory_hits, stats.misses), (1, 999, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dropped_fails_or_panics_hands_over() {
    let (cache, loads) = (in_memory().build().await.unwrap(), Loads::default());
    let first = {
        let (cache, loads) = (cache.clone(), loads.clone());
        tokio::spawn(async move { cache.get_or_load(&7, || loads.load(7, "first", 1000 * SECOND)).await })
    };
    sleep(SECOND).await;
    let panics = {
        let cache = cache.clone();
        let load = async move || -> io::Result<_> { panic!("a loader's bug, which is shown in this test's output") };
        tokio::spawn(async move { cache.get_or_load(&7, load).await })
    };
    sleep(SECOND).await;
    let fails = {
        let (cache, loads) = (cache.clone(), loads.clone());
        tokio::spawn(async move { cache.get_or_load(&7, || loads.fail()).await })
    };
    sleep(SECOND).await;
    let last = {
        let (cache, loads) = (cache.clone(), loads.clone());
        tokio::spawn(async move { cache.get_or_load(&7, || loads.now(7, "last")).await })
    };
    sleep(SECOND).await;
    first.abort();
    assert!(panics.await.unwrap_err().is_panic());
    let error = fails.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cache product: the load failed: the database is down");
    assert!(error.inner::<io::Error>().is_some());
    assert_eq!(last.await.unwrap().unwrap().name, "last");
    assert_eq!(loads.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn two_failures_are_the_failure_of_all() {
    let (cache, loads) = (in_memory().build().await.unwrap(), Loads::default());
    let calls = (0..100).map(|_| {
        cache.get_or_load(&7, async || {
            sleep(SECOND).await;
            loads.fail().await
        })
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Load { .. }))));
    assert_eq!(loads.count(), 2);
    assert!(cache.get_or_load(&7, || loads.now(7, "a")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn values_expire_and_old_ones_are_served_on_errors_for_a_while() {
    let cache = in_memory().stale_on_error(60 * SECOND).build().await.unwrap();
    let loads = Loads::default();
    cache.get_or_load(&7, || loads.now(7, "a")).await.unwrap();
    advance(59 * SECOND).await;
    assert!(cache.get(&7).await.is_some());
    advance(2 * SECOND).await;
    assert!(cache.get(&7).await.is_none());
    assert_eq!(cache.get_or_load(&7, || loads.fail()).await.unwrap().name, "a");
    assert_eq!(cache.stats().stale_served, 1);
    assert_eq!(cache.get_or_load(&7, || loads.now(7, "b")).await.unwrap().name, "b");
    advance(121 * SECOND).await;
    assert!(cache.get_or_load(&7, || loads.fail()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_the_loader_says_is_gone_is_not_served_when_it_fails_later() {
    let (cache, loads) = (in_memory().stale_on_error(600 * SECOND).build().await.unwrap(), Loads::default());
    cache.put(&7, product(7, "a")).await.unwrap();
    advance(61 * SECOND).await;
    assert_eq!(cache.find_or_load(&7, async || Ok::<_, io::Error>(None)).await.unwrap(), None);
    assert!(cache.get_or_load(&7, || loads.fail()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn that_there_is_nothing_is_remembered_and_not_for_ever() {
    let cache = in_memory().negative_ttl(5 * SECOND).build().await.unwrap();
    let loads = Loads::default();
    let nothing = async || -> io::Result<_> {
        loads.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(None)
    };
    for _ in 0..3 {
        assert_eq!(cache.find_or_load(&7, nothing).await.unwrap(), None);
    }
    assert_eq!(loads.count(), 1);
    // Whoever needs a value is not content with that.
    assert_eq!(cache.get_or_load(&7, || loads.now(7, "a")).await.unwrap().name, "a");
    cache.invalidate(&7).await;
    assert_eq!(cache.find_or_load(&7, nothing).await.unwrap(), None);
    advance(6 * SECOND).await;
    assert!(cache.find_or_load(&7, async || loads.now(7, "b").await.map(Some)).await.unwrap().is_some());
    // Without a time to live for it, it is not remembered.
    let cache = in_memory().build().await.unwrap();
    let before = loads.count();
    for _ in 0..3 {
        assert_eq!(cache.find_or_load(&7, nothing).await.unwrap(), None);
    }
    assert_eq!(loads.count(), before + 3);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_ahead_of_the_end_and_nobody_else_waits() {
    let cache = in_memory().ttl(100 * SECOND).refresh_ahead().build().await.unwrap();
    let loads = Loads::default();
    cache.get_or_load(&7, || loads.load(7, "a", SECOND)).await.unwrap();
    // One load takes a second, so that it begins seconds before the end with near certainty.
    let mut waited = 0;
    for _ in 0..1000 {
        let began = tokio::time::Instant::now();
        cache.get_or_load(&7, || loads.load(7, "b", SECOND)).await.unwrap();
        waited += u32::from(began.elapsed() >= SECOND);
        advance(SECOND / 10).await;
    }
    assert!(cache.stats().refreshes >= 1, "{:?}", cache.stats());
    assert_eq!(cache.stats().misses, 1);
    assert_eq!(u64::from(waited), cache.stats().refreshes);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_leaves_what_there_is() {
    let cache = in_memory().ttl(10 * SECOND).refresh_ahead().build().await.unwrap();
    let loads = Loads::default();
    cache.get_or_load(&7, || loads.load(7, "a", 4 * SECOND)).await.unwrap();
    advance(5 * SECOND + SECOND / 2).await;
    for _ in 0..100 {
        assert_eq!(cache.get_or_load(&7, || loads.fail()).await.unwrap().name, "a");
    }
    assert!(cache.stats().load_failures > 0);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_after_the_end_serves_nobody() {
    let cache = in_memory().ttl(10 * SECOND).jitter(0.0).refresh_ahead().build().await.unwrap();
    let loads = Loads::default();
    cache.get_or_load(&7, || loads.load(7, "old", 4 * SECOND)).await.unwrap();
    advance(5 * SECOND + SECOND / 2).await;
    let refresh = async {
        loop {
            let answer = cache.get_or_load(&7, async || {
                sleep(2 * SECOND).await;
                loads.fail().await
            });
            let answer = answer.await;
            if cache.stats().refreshes > 0 {
                return answer;
            }
        }
    };
    let late = async {
        sleep(SECOND).await;
        cache.get_or_load(&7, || loads.now(7, "new")).await
    };
    let (refreshed, late) = tokio::join!(refresh, late);
    assert!(matches!(refreshed, Err(Error::Load { .. })));
    assert_eq!(late.unwrap().name, "new");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_beyond_its_time_however_long_a_load_or_a_write_takes() {
    let cache = in_memory().stale_on_error(60 * SECOND).build().await.unwrap();
    let loads = Loads::default();
    cache.get_or_load(&7, || loads.now(7, "old")).await.unwrap();
    advance(119 * SECOND).await;
    let failing = cache.get_or_load(&7, async || {
        sleep(2 * SECOND).await;
        loads.fail().await
    });
    assert!(failing.await.is_err());
    let slow = async |_| {
        sleep(30 * SECOND).await;
        Ok::<_, io::Error>(())
    };
    cache.write_through(&7, product(7, "new"), slow).await.unwrap();
    assert_eq!(cache.get(&7).await.unwrap().name, "new");
    advance(31 * SECOND).await;
    assert_eq!(cache.get(&7).await, None);
}

#[test]
fn a_write_that_is_dropped_outside_a_runtime_does_not_close_the_key() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (cache, loads) = (runtime.block_on(in_memory().build()).unwrap(), Loads::default());
    let mut write = Box::pin(cache.write_through(&7, product(7, "new"), async |_| {
        std::future::pending::<()>().await;
        Ok::<_, io::Error>(())
    }));
    let once = std::future::poll_fn(|context| std::task::Poll::Ready(write.as_mut().poll(context).is_pending()));
    assert!(runtime.block_on(once));
    drop(write);
    runtime.block_on(async {
        cache.get_or_load(&7, || loads.now(7, "a")).await.unwrap();
        assert_eq!(cache.get(&7).await.unwrap().name, "a");
    });
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_to_the_database_first_and_a_failed_one_leaves_nothing() {
    let (cache, loads) = (in_memory().build().await.unwrap(), Loads::default());
    cache.put(&7, product(7, "old")).await.unwrap();
    let saved = cache.write_through(&7, product(7, "new"), async |value| {
        assert_eq!(cache.get(&7).await.unwrap().name, "old");
        Ok::<_, io::Error>(value.id)
    });
    assert_eq!(saved.await.unwrap().name, "new");
    assert_eq!(cache.get(&7).await.unwrap().name, "new");
    let failed = cache.write_through(&7, product(7, "newer"), async |_| Err::<(), _>(io::Error::other("no")));
    assert_eq!(failed.await.unwrap_err().to_string(), "cache product: the write failed: no");
    assert_eq!(cache.get(&7).await, None);
    assert_eq!(cache.get_or_load(&7, || loads.now(7, "true")).await.unwrap().name, "true");
}

#[tokio::test(start_paused = true)]
async fn a_reader_from_before_a_change_does_not_put_the_old_value_back() {
    let (cache, loads) = (in_memory().build().await.unwrap(), Loads::default());
    type Change = fn(cache::Cache<u64, crate::Product>) -> futures_util::future::BoxFuture<'static, ()>;
    let changes: [Change; 4] = [
        |cache| Box::pin(async move { assert_eq!(cache.invalidate(&7).await, Reach::Everywhere) }),
        |cache| Box::pin(async move { assert!(cache.put(&7, product(7, "new")).await.is_ok()) }),
        |cache| {
            Box::pin(async move {
                cache.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await.unwrap();
            })
        },
        |cache| Box::pin(async move { assert_eq!(cache.invalidate_all().await, Reach::Everywhere) }),
    ];
    for change in changes {
        cache.invalidate(&7).await;
        let reader = {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move { cache.get_or_load(&7, || loads.load(7, "old", SECOND)).await })
        };
        sleep(SECOND / 2).await;
        change(cache.clone()).await;
        // Who comes after the change does not wait for what began before it either.
        assert_eq!(cache.get_or_load(&7, || loads.now(7, "new")).await.unwrap().name, "new");
        assert_eq!(reader.await.unwrap().unwrap().name, "old");
        assert_eq!(cache.get_or_load(&7, || loads.now(7, "new")).await.unwrap().name, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_overlap_leave_no_value_and_a_dropped_one_neither() {
    let cache = in_memory().build().await.unwrap();
    let write = |name: &'static str, time: Duration| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let save = async |_| {
                sleep(time).await;
                Ok::<_, io::Error>(())
            };
            cache.write_through(&7, product(7, name), save).await
        })
    };
    let (first, second) = (write("first", 2 * SECOND), write("second", SECOND));
    second.await.unwrap().unwrap();
    assert_eq!(cache.get(&7).await, None);
    first.await.unwrap().unwrap();
    assert_eq!(cache.get(&7).await, None);
    cache.put(&7, product(7, "old")).await.unwrap();
    let dropped = write("dropped", 1000 * SECOND);
    sleep(SECOND).await;
    dropped.abort();
    assert!(dropped.await.is_err());
    sleep(SECOND).await;
    assert_eq!(cache.get(&7).await, None);
}

#[tokio::test]
async fn tags_drop_what_has_them() {
    let tags = |product: &crate::Product| vec![format!("category:{}", product.category), "all".to_owned()];
    let cache = in_memory().tags(tags).build().await.unwrap();
    for id in 0..100 {
        cache.put(&id, product(id, "a")).await.unwrap();
    }
    assert_eq!(cache.invalidate_tag("category:7").await, Reach::Everywhere);
    let found = cache.get_many(&(0..100).collect::<Vec<_>>()).await;
    let gone: Vec<_> = (0..100).filter(|id| found[*id].is_none()).collect();
    assert_eq!(gone, [7, 17, 27, 37, 47, 57, 67, 77, 87, 97]);
    assert_eq!(found[42].as_ref().unwrap().id, 42);
    cache.put(&7, product(7, "b")).await.unwrap();
    assert_eq!(cache.get(&7).await.unwrap().name, "b");
    let _here = cache.invalidate_tag("all").await;
    assert!(cache.get(&7).await.is_none() && cache.get(&8).await.is_none());
}

#[tokio::test]
async fn compare_and_set_sees_changes() {
    let cache = in_memory().build().await.unwrap();
    let first = cache.compare_and_set(&7, None, product(7, "a")).await.unwrap().unwrap();
    assert_eq!(cache.compare_and_set(&7, None, product(7, "b")).await.unwrap(), None);
    assert_eq!(cache.versioned(&7).await.unwrap().unwrap().version, first);
    let second = cache.compare_and_set(&7, Some(first), product(7, "b")).await.unwrap().unwrap();
    assert!(second > first);
    assert_eq!(cache.compare_and_set(&7, Some(first), product(7, "c")).await.unwrap(), None);
    assert_eq!(cache.get(&7).await.unwrap().name, "b");
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_served_but_not_kept() {
    let cache = in_memory().value_bytes_max(100).build().await.unwrap();
    let large = || product(7, &"x".repeat(200));
    let error = cache.put(&7, large()).await.unwrap_err();
    assert_eq!(error.to_string(), "cache product: a value of 204 bytes is larger than value_bytes_max, 100");
    let written = cache.write_through(&7, large(), async |_| -> io::Result<()> { panic!("it is not called") }).await;
    assert!(matches!(written, Err(Error::TooLarge { bytes: 204, bytes_max: 100, .. })));
    assert_eq!(*cache.get_or_load(&7, async || Ok::<_, io::Error>(large())).await.unwrap(), large());
    assert_eq!(cache.get(&7).await, None);
    assert_eq!(cache.stats().unstorable, 1);
}

#[tokio::test(start_paused = true)]
async fn loads_are_bounded_and_waits_as_well() {
    let cache = in_memory().bulkhead(2, 3 * SECOND).build().await.unwrap();
    let loads = Loads::default();
    let keys: Vec<u64> = (0..10).collect();
    let calls = keys.iter().map(|id| cache.get_or_load(id, || loads.load(*id, "a", 2 * SECOND)));
    let answers = futures_util::future::join_all(calls).await;
    // Two at once, and two more whose turn comes after two seconds.
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 4);
    assert!(answers.iter().any(|answer| matches!(answer, Err(Error::Busy { loads_max: 2, .. }))));
    assert_eq!((loads.count(), cache.stats().loads_refused), (4, 6));
}

#[tokio::test]
async fn memory_is_bounded_by_what_values_weigh() {
    let cache = in_memory().weigher(|product| 1000 * product.id).build().await.unwrap();
    for id in 1..=200 {
        cache.put(&id, product(id, "a")).await.unwrap();
        assert!(cache.stats().memory_weight <= cache::MIB);
    }
    let stats = cache.stats();
    assert!(stats.memory_entries < 100 && stats.memory_weight > cache::MIB / 4, "{stats:?}");
}

#[tokio::test]
async fn a_cache_is_warm_before_it_is_asked() {
    let (cache, loads) = (in_memory().build().await.unwrap(), Loads::default());
    let load = async |id: &u64| if *id == 13 { loads.fail().await } else { loads.now(*id, "a").await };
    let load = &load;
    let warm = cache.warm_up(0..100_u64, 8, load).await;
    assert_eq!((warm.warm, warm.failed), (99, 1));
    assert!(cache.get(&99).await.is_some());
    let again = cache.warm_up(0..13_u64, 8, load).await;
    assert_eq!((again.warm, loads.count()), (13, 100));
}

#[tokio::test(start_paused = true)]
async fn tags_count_in_what_is_kept() {
    let tags = |found: &crate::Product| (0..64).map(|number| format!("{}:{number:0>200}", found.id)).collect();
    let cache = in_memory().memory(cache::MIB).value_bytes_max(1000).tags(tags).build().await.unwrap();
    for id in 0..1000 {
        cache.put(&id, product(id, "a")).await.unwrap();
    }
    // Each has 19 KiB of tags.
    let stats = cache.stats();
    assert!((10..60).contains(&stats.memory_entries), "{stats:?}");
}
