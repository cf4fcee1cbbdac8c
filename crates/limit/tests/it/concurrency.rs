//! What is under way by key, against a map.

use std::collections::HashMap;

use limit::{KeyHasher, KeyedConcurrency};
use proptest::prelude::*;

fn hash(key: u64) -> u64 {
    KeyHasher::new((8, 13)).number(key).finish()
}

#[test]
fn a_limit_of_zero_refuses_and_a_full_bucket_does() {
    assert!(KeyedConcurrency::new(0, 10).acquire(1).is_none());
    // One bucket of eight: the ninth key finds no place, and the first to end makes one.
    let limits = KeyedConcurrency::new(1, 4);
    let mut held: Vec<_> = (0..8).map(|key| limits.acquire(hash(key)).unwrap()).collect();
    assert!(limits.acquire(hash(8)).is_none());
    limits.release(held.remove(0));
    assert!(limits.acquire(hash(8)).is_some());
    assert_eq!((limits.in_flight(hash(8)), limits.in_flight(hash(0))), (1, 0));
}

proptest! {
    #[test]
    fn with_room_it_is_a_map_of_counts(limit in 1..4_u32, steps in prop::collection::vec((0..10_u64, any::<bool>()), 1..300)) {
        let limits = KeyedConcurrency::new(limit, 1_000);
        let mut held = HashMap::<u64, Vec<_>>::new();
        for (key, ends) in steps {
            let own = held.entry(key).or_default();
            if ends {
                if let Some(permit) = own.pop() {
                    limits.release(permit);
                }
            } else {
                let permit = limits.acquire(hash(key));
                prop_assert_eq!(permit.is_some(), own.len() < limit as usize);
                own.extend(permit);
            }
            prop_assert_eq!(limits.in_flight(hash(key)) as usize, own.len());
        }
    }
}
