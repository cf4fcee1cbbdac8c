//! Every order in which threads can meet at one bucket, by the model checker.

use loom::sync::Arc;
use loom::thread;

use crate::{Keyed, KeyedConcurrency, Moment, Quota, Rate};

/// Threads are stopped in the middle of a step at most so often, which bounds the number of orders.
fn every_order(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn table(burst: u32) -> Keyed {
    // One bucket with two slots.
    Keyed::new(Quota::gcra(Rate::per_sec(1), burst).expect("valid"), 1).expect("fits")
}

const NOW: Moment = Moment::from_nanos(1_000_000_000);

#[test]
fn three_cores_spend_one_key_exactly() {
    every_order(|| {
        let keyed = Arc::new(table(2));
        let spend = |keyed: &Keyed| u32::from(keyed.check(7, NOW, 1).is_allowed());
        let others: Vec<_> = (0..2)
            .map(|_| {
                let keyed = Arc::clone(&keyed);
                thread::spawn(move || spend(&keyed))
            })
            .collect();
        let own = spend(&keyed);
        let sum: u32 = others.into_iter().map(|thread| thread.join().expect("joined")).sum();
        assert_eq!(own + sum, 2);
    });
}

#[test]
fn a_key_that_is_pushed_out_meanwhile_never_has_more() {
    every_order(|| {
        let keyed = Arc::new(table(2));
        let other = Arc::clone(&keyed);
        // Three keys for two slots: 1 is spent by one core, while the other spends 1 and pushes it out by 2 and 3.
        let thread = thread::spawn(move || {
            let allowed = u32::from(other.check(1, NOW, 1).is_allowed());
            other.check(2, NOW, 1);
            other.check(3, NOW, 1);
            allowed
        });
        let own = (0..3).filter(|_| keyed.check(1, NOW, 1).is_allowed()).count() as u32;
        let sum = own + thread.join().expect("joined");
        let last = u32::from(keyed.check(1, NOW, 1).is_allowed());
        assert!(sum + last <= 2, "{sum} and {last}");
    });
}

#[test]
fn one_key_is_under_way_at_most_so_often() {
    every_order(|| {
        let limits = Arc::new(KeyedConcurrency::new(1, 1));
        // Somebody else holds a slot, and lets go while two bring in one key.
        let held = limits.acquire(1).expect("free");
        let other = Arc::clone(&limits);
        let thread = thread::spawn(move || other.acquire(2).is_some());
        limits.release(held);
        let own = limits.acquire(2).is_some();
        let both = u32::from(own) + u32::from(thread.join().expect("joined"));
        assert!(both <= 1);
        assert_eq!(limits.in_flight(2), both);
    });
}
