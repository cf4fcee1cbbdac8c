//! Decides many times, so that counting instructions of `--checks N` and of `--checks 2N` gives the cost of one
//! decision by difference: `valgrind --tool=callgrind check_cost --limit keyed_gcra --checks 100000`.
//!
//! Keyed limits see 50,000 keys in a table for 100,000, and with `keyed_flood` 100,000 in one for 10,000, where most
//! push another out. `lease` takes from a lease that is asked for and granted at once. `none` does the loop and the
//! hash of an address alone, so that it can be subtracted.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use limit::lease::store::{Bucket, LeaseQuota};
use limit::lease::{Holder, HolderParams, Taken};
use limit::{KeyHasher, Keyed, KeyedConcurrency, Moment, Prefixes, Quota, Rate, Single};

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let checks = match words[..] {
        ["--limit", name, "--checks", checks] => checks.parse().ok().zip(Subject::named(name)),
        _ => None,
    };
    let Some((checks, mut subject)) = checks else {
        eprintln!("usage: check_cost --limit NAME --checks N");
        std::process::exit(2);
    };
    println!("allowed {}", run(&mut subject, checks));
}

enum Subject {
    Nothing,
    Single(Single),
    Keyed(Keyed, u32),
    Concurrency(KeyedConcurrency),
    Lease(Box<(HolderParams, Holder, Bucket)>),
}

impl Subject {
    fn named(name: &str) -> Option<Self> {
        let gcra = || Quota::gcra(Rate::per_sec(100), 200).expect("valid");
        let minute = Duration::from_secs(60);
        let keyed = |quota: Quota, keys: usize| Self::Keyed(Keyed::new(quota, keys).expect("fits"), 50_000);
        Some(match name {
            "none" => Self::Nothing,
            "single_gcra" => Self::Single(Single::new(gcra())),
            "keyed_gcra" => keyed(gcra(), 100_000),
            "keyed_token_bucket" => keyed(Quota::token_bucket(200, 100, minute).expect("valid"), 100_000),
            "keyed_sliding_window" => keyed(Quota::sliding_window(1_000, minute).expect("valid"), 100_000),
            "keyed_flood" => {
                // Each of the keys stays in debt for a minute.
                let slow = Quota::gcra(Rate { amount: 1, per: minute }, 5).expect("valid");
                Self::Keyed(Keyed::new(slow, 10_000).expect("fits"), 100_000)
            }
            "keyed_concurrency" => Self::Concurrency(KeyedConcurrency::new(10, 100_000)),
            "lease" => {
                let quota = LeaseQuota::new(Rate::per_sec(100_000), 100_000).expect("valid");
                Self::Lease(Box::new((HolderParams::new(quota, 1), Holder::default(), Bucket::default())))
            }
            _ => return None,
        })
    }

    fn allows(&mut self, hash: u64, now: Moment) -> bool {
        match self {
            Self::Nothing => hash & 1 == 0,
            Self::Single(single) => single.check(now, 1).is_allowed(),
            Self::Keyed(keyed, _) => keyed.check(hash, now, 1).is_allowed(),
            Self::Concurrency(limits) => limits.acquire(hash).map(|permit| limits.release(permit)).is_some(),
            Self::Lease(lease) => {
                let (params, holder, bucket) = &mut **lease;
                let taken = holder.take(params, now, 1);
                if let Some(ask) = holder.ask(params, now) {
                    let grant = bucket.lease(&params.quota, now.nanos() / 1_000, ask);
                    holder.granted(params, now, grant);
                }
                taken == Taken::Allowed
            }
        }
    }
}

fn run(subject: &mut Subject, checks: u64) -> u64 {
    let keys = if let Subject::Keyed(_, keys) = subject { *keys } else { 50_000 };
    let (mut state, mut allowed) = (0_u64, 0);
    for check in 0..checks {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let address = IpAddr::V4(Ipv4Addr::from_bits((state >> 33) as u32 % keys));
        let hash = KeyHasher::new((1, 2)).address(address, Prefixes::default()).finish();
        // 50,000 a second.
        allowed += u64::from(subject.allows(hash, Moment::from_nanos(check * 20_000)));
    }
    allowed
}
