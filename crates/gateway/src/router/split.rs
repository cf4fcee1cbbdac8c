//! Shares of a route's requests for several services.
//!
//! At random, each request is drawn on its own. By a key, a request goes where its key has the lowest score: every
//! service draws a number from the key and its own name, evenly spread in (0, 1], and scores `-ln(number) / weight`. So
//! the shares are those of the weights, a key stays where it is as long as nothing changes, and a higher weight can only
//! lower scores of its service: raising it moves keys to that service and none between others. Only the ratio of the
//! weights counts, and the order in which the file lists them does not.
//!
//! Source: weighted rendezvous hashing, Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", SPAA 2005.

use vocab::Name;

use crate::params::{HashKey, SplitParams};

/// A split, ready to choose by.
#[derive(Debug)]
pub(crate) struct Split {
    /// Those with a weight.
    shares: Box<[Share]>,
    total: u64,
    by: Option<HashKey>,
}

#[derive(Debug)]
struct Share {
    /// Position in the snapshot.
    service: usize,
    weight: u32,
    /// Hash of the service's name.
    id: u64,
}

impl Split {
    /// The split with these settings, whose services have these positions. `None` when a service is not there.
    pub(crate) fn new(params: &SplitParams, position: impl Fn(&Name) -> Option<usize>) -> Option<Self> {
        let weighty = params.shares.iter().filter(|share| share.weight > 0);
        let share = |share: &crate::params::ShareParams| {
            let id = balance::hash::bytes(share.service.as_str().as_bytes());
            Some(Share { service: position(&share.service)?, weight: share.weight, id })
        };
        let shares: Box<[Share]> = weighty.map(share).collect::<Option<_>>()?;
        let total = shares.iter().map(|share| u64::from(share.weight)).sum();
        (total > 0).then_some(Self { shares, total, by: params.by.clone() })
    }

    /// What of a request decides; `None` when chance does.
    pub(crate) fn by(&self) -> Option<&HashKey> {
        self.by.as_ref()
    }

    /// The services that get requests, by position, with their weights.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (usize, u32)> {
        self.shares.iter().map(|share| (share.service, share.weight))
    }

    /// The service that an evenly spread random number draws.
    pub(crate) fn at_random(&self, random: u64) -> usize {
        let mut drawn = ((u128::from(random) * u128::from(self.total)) >> 64) as u64;
        for share in &self.shares {
            match drawn.checked_sub(u64::from(share.weight)) {
                None => return share.service,
                Some(rest) => drawn = rest,
            }
        }
        self.shares[self.shares.len() - 1].service
    }

    /// The service of a key, given by its hash.
    pub(crate) fn of_key(&self, key: u64) -> usize {
        let scored = self.shares.iter().map(|share| (share.score(key), share.service));
        scored.min_by(|(one, _), (other, _)| one.total_cmp(other)).map_or(0, |(_, service)| service)
    }
}

impl Share {
    fn score(&self, key: u64) -> f64 {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&key.to_le_bytes());
        both[8..].copy_from_slice(&self.id.to_le_bytes());
        // 53 bits are what a float holds exactly; 0 is left out because its logarithm is.
        let number = ((balance::hash::bytes(&both) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -number.ln() / f64::from(self.weight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::params::ShareParams;

    /// A split among services named by letters, whose positions are their places in the alphabet.
    fn split(shares: &[(&str, u32)]) -> Split {
        let share = |&(name, weight): &(&str, u32)| ShareParams { service: name.parse().unwrap(), weight };
        let params = SplitParams { shares: shares.iter().map(share).collect(), by: None };
        Split::new(&params, |name| Some(usize::from(name.as_str().as_bytes()[0] - b'a'))).unwrap()
    }

    fn key(number: u64) -> u64 {
        balance::hash::bytes(format!("10.0.{}.{}", number >> 8, number & 255).as_bytes())
    }

    #[test]
    fn shares_are_met_within_a_percent() {
        const REQUESTS: u64 = 100_000;
        let check = |shares: &[(&str, u32)]| {
            let split = split(shares);
            let total: u32 = shares.iter().map(|(_, weight)| weight).sum();
            let mut random = fastrand::Rng::with_seed(7);
            let (mut drawn, mut keyed) = ([0; 4], [0; 4]);
            for number in 0..REQUESTS {
                drawn[split.at_random(random.u64(..))] += 1;
                keyed[split.of_key(key(number))] += 1;
            }
            for (at, (name, weight)) in shares.iter().enumerate() {
                let expected = f64::from(*weight) / f64::from(total);
                for (how, count) in [("drawn", drawn[at]), ("keyed", keyed[at])] {
                    let share = f64::from(count) / REQUESTS as f64;
                    assert!((share - expected).abs() < 0.01, "{how} {name}: {share} of {expected}");
                }
            }
        };
        check(&[("a", 95), ("b", 5)]);
        check(&[("a", 1), ("b", 1), ("c", 1)]);
        check(&[("a", 700), ("b", 0), ("c", 200), ("d", 100)]);
    }

    #[test]
    fn keys_stay_from_release_to_release() {
        let split = split(&[("a", 50), ("b", 30), ("c", 20)]);
        let services: Vec<_> = (0..16).map(|number| split.of_key(key(number))).collect();
        assert_eq!(services, [0, 0, 2, 0, 1, 1, 0, 1, 2, 1, 0, 1, 2, 0, 2, 0]);
    }

    #[test]
    fn the_last_numbers_are_drawn_too() {
        let split = split(&[("a", 1), ("b", 2)]);
        assert_eq!([0, u64::MAX / 4, u64::MAX / 2, u64::MAX].map(|random| split.at_random(random)), [0, 0, 1, 1]);
    }

    proptest! {
        #[test]
        fn more_weight_only_attracts(weights in proptest::collection::vec(0_u32..1000, 3), more in 1_u32..1000) {
            prop_assume!(weights.iter().any(|&weight| weight > 0));
            let names = ["a", "b", "c"];
            let before: Vec<_> = names.into_iter().zip(weights).collect();
            let mut after = before.clone();
            after[1].1 += more;
            // The order in the file has no say.
            after.reverse();
            let (before, after) = (split(&before), split(&after));
            for number in 0..200 {
                let (old, new) = (before.of_key(key(number)), after.of_key(key(number)));
                prop_assert!(new == old || new == 1, "{} moved from {} to {}", number, old, new);
            }
        }

        #[test]
        fn only_the_ratio_counts(factor in 1_u32..1000) {
            let (one, many) = (split(&[("a", 7), ("b", 3)]), split(&[("a", 7 * factor), ("b", 3 * factor)]));
            for number in 0..200 {
                prop_assert_eq!(one.of_key(key(number)), many.of_key(key(number)));
            }
        }
    }
}
