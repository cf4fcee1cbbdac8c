//! Hashing with bounded loads: a key's endpoint is passed over while it has more than its share to do.
//!
//! The problem: a few keys that everyone asks for fill their endpoints while others idle. The rule: an endpoint may have
//! `factor` times its share, by weight, of all requests in flight, the new one included, rounded up. A key goes to the first
//! endpoint with room, in the order in which its retries would go through them. So it goes where it went before as long as
//! there is room, and what does not fit always goes to the same next ones, which then have what they need in their caches.
//!
//! - The bounds sum up to more than the requests that there are, so that somebody always has room.
//! - An endpoint's own load is read live. The sum of all is what this core last saw: each pick reads two more endpoints in
//!   turn and the one that it picks, and the end of a request is told by `touch`. So the sum lags behind other
//!   cores by at most half as many picks as there are endpoints, while nobody is filled on a stale count.
//! - Only members of the tier count, as only they share its traffic.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing with Bounded Loads", 2016; HAProxy, `hash-balance-factor`.

use crate::hash::scale;
use crate::maglev::Maglev;
use crate::plan::Place;
use crate::ring::Ring;
use crate::tier::Tier;

/// Steps through a table before members are taken from their list instead: with a factor of 1.25 at most four of five
/// endpoints are full, and all of 16 in one of 35 cases.
const WALK_MAX: usize = 16;

/// Members whose live load each pick notes besides the one that it picks.
const REFRESHES: usize = 2;

/// A table of keys.
#[derive(Debug)]
pub(crate) enum Hashed {
    Ring(Ring),
    Maglev(Maglev),
}

/// A table of keys, and how much of all requests each member may have.
#[derive(Debug)]
pub(crate) struct Bounded {
    hashed: Hashed,
    /// The factor times the share by weight, by slot.
    bounds: Vec<f64>,
}

/// The loads of a tier's members as a core saw them last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By slot.
    loads: Vec<u32>,
    sum: u64,
    /// The next one whose live load is read.
    next: usize,
}

impl Hashed {
    /// The owner of the key.
    #[inline]
    pub(crate) fn owner(&self, key: u64) -> Option<u16> {
        match self {
            Self::Ring(ring) => ring.owner(key),
            Self::Maglev(maglev) => maglev.owner(key),
        }
    }

    /// All owners in the order of the table, and where the key's place is.
    #[inline]
    fn owners_from(&self, key: u64) -> (&[u16], usize) {
        match self {
            Self::Ring(ring) => ring.owners_from(key),
            Self::Maglev(maglev) => maglev.owners_from(key),
        }
    }

    /// Where a key's requests go, one after the other: to the next owners, and then to all members from a place that follows
    /// from the key. A member comes up more than once.
    pub(crate) fn order<'t>(&'t self, key: u64, tier: &'t Tier) -> impl Iterator<Item = u16> + 't {
        let (owners, start) = self.owners_from(key);
        let (first, next) = owners.split_at(start);
        let members = tier.members();
        let (before, after) = members.split_at(scale(key, members.len() as u64) as usize);
        next.iter().chain(first).take(WALK_MAX).chain(after).chain(before).copied()
    }
}

impl Bounded {
    /// A table whose members have these weights.
    pub(crate) fn new(hashed: Hashed, weights: &[u32], factor: f64) -> Self {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let bounds = weights.iter().map(|&weight| factor * f64::from(weight) / total as f64).collect();
        Self { hashed, bounds }
    }
}

impl Seen {
    /// What a core sees at first, by slot.
    pub(crate) fn new(loads: impl Iterator<Item = u32>) -> Self {
        let loads: Vec<u32> = loads.collect();
        let sum = loads.iter().map(|&load| u64::from(load)).sum();
        Self { loads, sum, next: 0 }
    }

    /// Whether there are no members, or nobody to keep their loads for.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }

    /// Notes a member's live load.
    #[inline]
    pub(crate) fn set_load(&mut self, slot: usize, load: u32) {
        let old = std::mem::replace(&mut self.loads[slot], load);
        self.sum = self.sum - u64::from(old) + u64::from(load);
    }

    /// The first member for a key that has room and is not excluded, and counts the pick. Should none have room, by what
    /// other cores have done meanwhile, the first one that is not excluded; `None` when all are. `places` are those of the
    /// plan's candidates.
    #[inline(never)]
    pub(crate) fn pick(
        &mut self,
        bounded: &Bounded,
        key: u64,
        (tier, places): (&Tier, &[Place]),
        excluded: &[u16],
        in_flight: impl Fn(u16) -> u32,
    ) -> Option<u16> {
        for _ in 0..REFRESHES {
            let slot = self.next;
            self.set_load(slot, in_flight(*tier.members().get(slot)?));
            self.next = if slot + 1 < self.loads.len() { slot + 1 } else { 0 };
        }
        let all = (self.sum + 1) as f64;
        let room = |position: u16| {
            let (slot, load) = (usize::from(places[usize::from(position)].slot), in_flight(position));
            let has_room = f64::from(load) < bounded.bounds[slot] * all && !excluded.contains(&position);
            has_room.then_some((position, slot, load))
        };
        // The walk of `order`, by hand: the iterator's steps cost as much again as what they look at.
        let (owners, mut at) = bounded.hashed.owners_from(key);
        let step = |_: usize| {
            let owner = owners[if at < owners.len() { at } else { 0 }];
            at = if at < owners.len() { at + 1 } else { 1 };
            room(owner)
        };
        let (position, slot, load) = (0..WALK_MAX).find_map(step).or_else(|| {
            let mut order = bounded.hashed.order(key, tier);
            let other =
                |position: u16| (position, usize::from(places[usize::from(position)].slot), in_flight(position));
            bounded.hashed.order(key, tier).find_map(room).or_else(|| order.find(|p| !excluded.contains(p)).map(other))
        })?;
        self.set_load(slot, load.saturating_add(1));
        Some(position)
    }
}
