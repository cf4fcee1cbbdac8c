//! Many cores at one limit.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use limit::{KeyHasher, Keyed, KeyedConcurrency, Moment, Quota, Rate, Single};

const THREADS: u64 = 4;

fn hash(key: u64) -> u64 {
    KeyHasher::new((3, 5)).number(key).finish()
}

fn on_all<T: Send>(act: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        let (act, barrier) = (&act, &barrier);
        let start = |index| {
            scope.spawn(move || {
                barrier.wait();
                act(index)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn cores_that_spend_at_once_get_exactly_the_burst() {
    for round in 0..20 {
        let now = Moment::from_nanos(round);
        let single = Single::new(Quota::gcra(Rate::per_sec(1), 5_000).unwrap());
        let counts = on_all(|_| (0..3_000).filter(|_| single.check(now, 1).is_allowed()).count());
        assert_eq!(counts.iter().sum::<usize>(), 5_000);
        let keyed = Keyed::new(Quota::sliding_window(5_000, Duration::from_secs(60)).unwrap(), 100).unwrap();
        let counts = on_all(|_| (0..3_000).filter(|_| keyed.check(hash(1), now, 1).is_allowed()).count());
        assert_eq!(counts.iter().sum::<usize>(), 5_000);
    }
}

#[test]
fn under_a_flood_from_all_cores_no_key_has_more_than_its_burst() {
    const KEYS: u64 = 2_000;
    let keyed = Keyed::new(Quota::gcra(Rate { amount: 1, per: Duration::from_secs(86_400) }, 3).unwrap(), 100).unwrap();
    let allowed: Vec<_> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    let clock = AtomicU64::new(0);
    on_all(|index| {
        let mut random = fastrand::Rng::with_seed(index);
        for _ in 0..100_000 {
            let key = random.u64(..KEYS);
            // Clocks of cores differ by up to a millisecond.
            let now = clock.fetch_add(1_000, Ordering::Relaxed) + random.u64(..1_000_000);
            if keyed.check(hash(key), Moment::from_nanos(now), 1).is_allowed() {
                allowed[key as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let most = allowed.iter().map(|count| count.load(Ordering::Relaxed)).max();
    assert_eq!(most, Some(3));
}

#[test]
fn no_key_is_ever_under_way_more_often_than_its_limit() {
    const KEYS: u64 = 24;
    // One bucket's worth of places in three, so that keys come and go.
    let limits = KeyedConcurrency::new(2, 12);
    let under_way: Vec<_> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    let passed: u32 = on_all(|index| {
        let mut random = fastrand::Rng::with_seed(index);
        let mut held = Vec::new();
        let mut passed = 0;
        for _ in 0..200_000 {
            let key = random.u64(..KEYS);
            if let Some(permit) = limits.acquire(hash(key)) {
                assert!(under_way[key as usize].fetch_add(1, Ordering::SeqCst) < 2);
                held.push((key, permit));
                passed += 1;
            }
            if held.len() > 3 || random.bool() && !held.is_empty() {
                let (key, permit) = held.swap_remove(random.usize(..held.len()));
                under_way[key as usize].fetch_sub(1, Ordering::SeqCst);
                limits.release(permit);
            }
        }
        for (key, permit) in held {
            under_way[key as usize].fetch_sub(1, Ordering::SeqCst);
            limits.release(permit);
        }
        passed
    })
    .into_iter()
    .sum();
    assert!(passed > 100_000, "{passed}");
    assert!((0..KEYS).all(|key| limits.in_flight(hash(key)) == 0));
}
