//! Many cores at one budget.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use breaker::{BudgetParams, RetryBudget};

const THREADS: u64 = 8;

#[test]
fn cores_that_withdraw_at_once_get_exactly_the_budget() {
    let start = Instant::now();
    let params = BudgetParams { share: 0.2, window: Duration::from_secs(10), floor_per_sec: 2_000 };
    for round in 0..20 {
        let budget = RetryBudget::new(params, start, round);
        let barrier = Barrier::new(THREADS as usize);
        let withdraw = || {
            barrier.wait();
            (0..20_000).filter(|_| budget.try_withdraw(start, round + 5_000)).count()
        };
        let taken: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(withdraw)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // 2,000 a second over 10 s and a fifth of 5,000.
        assert_eq!(taken, 21_000, "round {round}");
        assert_eq!(budget.withdrawn_total(), 21_000);
    }
}

#[test]
fn no_window_overshoots_while_seconds_begin_under_load() {
    const WINDOW_SECS: usize = 3;
    const SECONDS: usize = 400;
    const ATTEMPTS: u64 = 300;
    let start = Instant::now();
    let params = BudgetParams { share: 0.2, window: Duration::from_secs(WINDOW_SECS as u64), floor_per_sec: 7 };
    let budget = RetryBudget::new(params, start, 0);
    let requests = AtomicU64::new(0);
    let barrier = Barrier::new(THREADS as usize);
    // What had been seen when each second began and ended, and the retries allowed in it.
    let began: Vec<AtomicU64> = (0..SECONDS).map(|_| AtomicU64::new(0)).collect();
    let ended: Vec<AtomicU64> = (0..SECONDS).map(|_| AtomicU64::new(0)).collect();
    let allowed: Vec<AtomicU64> = (0..SECONDS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (budget, requests, barrier) = (&budget, &requests, &barrier);
            let (began, ended, allowed) = (&began, &ended, &allowed);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                for second in 0..SECONDS {
                    if barrier.wait().is_leader() {
                        began[second].store(requests.load(Ordering::SeqCst), Ordering::SeqCst);
                    }
                    barrier.wait();
                    let now = start + Duration::from_millis(second as u64 * 1_000 + random.u64(0..1_000));
                    for _ in 0..ATTEMPTS {
                        let seen = requests.fetch_add(random.u64(0..3), Ordering::SeqCst);
                        allowed[second].fetch_add(u64::from(budget.try_withdraw(now, seen)), Ordering::SeqCst);
                    }
                    if barrier.wait().is_leader() {
                        // What is left is taken, so that the lower bound below means something.
                        let seen = requests.load(Ordering::SeqCst);
                        ended[second].store(seen, Ordering::SeqCst);
                        while budget.try_withdraw(now, seen) {
                            allowed[second].fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    for second in WINDOW_SECS..SECONDS {
        let first = second - WINDOW_SECS;
        let taken: u64 = allowed[first..=second].iter().map(|count| count.load(Ordering::SeqCst)).sum();
        let end = ended[second].load(Ordering::SeqCst);
        let floor = 7.0 * WINDOW_SECS as f64;
        let most = 0.2 * (end - began[first].load(Ordering::SeqCst)) as f64 + floor;
        let least = 0.2 * (end - ended[first].load(Ordering::SeqCst)) as f64 + floor;
        assert!(taken as f64 <= most + 1e-6, "seconds {first} to {second}: {taken} retries, at most {most}");
        assert!(taken as f64 > least - 1.0, "seconds {first} to {second}: {taken} retries, at least {least} - 1");
    }
}
