//! One core's state for picking.

use crate::bounded::Seen;
use crate::hash::{GOLDEN, mix, nth};
use crate::least::Least;
use crate::plan::{Algorithm, Plan};
use crate::rotation::Cursor;
use crate::tier::{Table, Tier};

/// The live numbers that load-aware algorithms read, by the candidate's position in the plan.
pub trait Loads {
    /// Requests in flight.
    fn in_flight(&self, index: usize) -> u32;
    /// Peak-sensitive moving average of latency in microseconds, decayed to now; 0 when unknown.
    fn latency_micros(&self, index: usize) -> f32;
}

/// What a pick depends on besides the plan.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Hash of the key, for `Ring` and `Maglev`; see [`hash::bytes`](crate::hash::bytes).
    pub key: u64,
    /// Positions of the candidates tried already for this request, the latest last. Meant to be few: the cost grows
    /// with the square of their number.
    pub tried: &'a [u16],
}

/// A core's own state for picking from one service's plans: cursors, random numbers, known loads. It outlives plans.
///
/// It allocates only when it meets a plan for the first time, never per pick.
#[derive(Debug)]
pub struct Picker {
    /// Where this core starts, as a share of 2^64. Cores that all started at the first endpoint would march in step.
    start: u64,
    random: fastrand::Rng,
    /// The plan that the rest belongs to; 0 before the first.
    generation: u64,
    /// Of the plan's only tier that gets traffic, if it has one; its place among `others` is empty then. Most plans have
    /// one, and a pick finds it without a look-up.
    current: State,
    /// By tier.
    others: Vec<State>,
    /// Which tier `current` belongs to.
    current_tier: Option<usize>,
    /// Id, tier and slot of the members of all trees, by id.
    slots: Vec<(u64, u16, u16)>,
    /// Which tier gets the next request, where several do: multiples of the golden ratio, which keep to the shares more
    /// closely than chance.
    turn: u64,
}

/// What a core remembers of a tier.
#[derive(Debug, Default)]
struct State {
    cursor: Cursor,
    least: Least,
    seen: Seen,
}

impl State {
    /// Notes the live load of a member, in whichever of the two there is.
    #[inline]
    fn set_load(&mut self, slot: usize, in_flight: u32) {
        if self.seen.is_empty() {
            self.least.set_load(slot, in_flight);
        } else {
            self.seen.set_load(slot, in_flight);
        }
    }
}

/// Steps that a walk over tried candidates takes in a table before it looks at the list of members instead.
const WALK_MAX: usize = 16;

/// Latency, in microseconds, of an endpoint of which nothing is known but that a request to it is under way. An
/// endpoint without answers is tried by one request and then left alone until that has ended; Finagle does the same.
/// A day is above every latency that a timeout allows.
const UNKNOWN_LATENCY_MICROS: f64 = 86_400.0 * 1e6;

impl Picker {
    /// A picker whose random choices follow from `seed`. Cores should have different seeds, so that they start at
    /// different endpoints; seed 0 starts at the first.
    pub fn new(seed: u64) -> Self {
        Self {
            start: mix(seed),
            random: fastrand::Rng::with_seed(seed),
            generation: 0,
            current: State::default(),
            others: Vec::new(),
            current_tier: None,
            slots: Vec::new(),
            turn: mix(seed),
        }
    }

    /// Picks a candidate's position. `None` when the plan has no candidate that may take the request.
    /// A tried candidate is picked again only when every available one was tried, and then not the one tried last as
    /// long as there is another.
    ///
    /// A pick by least connections, or by hash with a load factor, counts as a request in flight from here on; the caller
    /// raises the live number at once.
    #[inline]
    pub fn pick(&mut self, plan: &Plan, request: Request<'_>, loads: &impl Loads) -> Option<u16> {
        if self.generation != plan.generation() {
            self.adopt(plan, loads);
        }
        if request.tried.is_empty() {
            self.pick_first(plan, request.key, loads)
        } else {
            self.pick_again(plan, request, loads)
        }
    }

    #[inline]
    fn pick_first(&mut self, plan: &Plan, key: u64, loads: &impl Loads) -> Option<u16> {
        let (tier, state) = match plan.only_tier() {
            Some((_, tier)) => (&**tier, &mut self.current),
            None => {
                let index = self.tier_by_share(plan, key)?;
                (&*plan.tiers()[index], &mut self.others[index])
            }
        };
        match tier.table() {
            Table::Cycle(cycle) => Some(state.cursor.next(cycle)),
            Table::Least => Some(state.least.pick(|position| loads.in_flight(usize::from(position)))),
            Table::Shares(shares) => {
                let first = shares.draw(self.random.u64(..));
                let position = tier.members()[first];
                if plan.algorithm() == Algorithm::Random {
                    return Some(position);
                }
                let other = shares.draw_other(self.random.u64(..), first).map(|second| tier.members()[second]);
                Some(other.map_or(position, |other| cheaper(plan, position, other, loads)))
            }
            Table::Hashed(hashed) => hashed.owner(mix(key)),
            Table::Bounded(bounded) => {
                let in_flight = |position| loads.in_flight(usize::from(position));
                state.seen.pick(bounded, mix(key), (tier, plan.places()), &[], in_flight)
            }
        }
    }

    /// Picks after some tries, which is rare enough that its cost does not count.
    #[inline(never)]
    fn pick_again(&mut self, plan: &Plan, request: Request<'_>, loads: &impl Loads) -> Option<u16> {
        let preferred = self.tier_by_share(plan, request.key);
        let (index, excluded) = plan.tier_for(preferred, request.tried)?;
        let tier = &plan.tiers()[index];
        let slot = |&position: &u16| plan.place(position).filter(|place| place.0 == index).map(|place| place.1);
        match tier.table() {
            Table::Cycle(cycle) => {
                let (start, cursor) = (self.start, &mut self.state(index).cursor);
                first_other((0..WALK_MAX).map(|_| cursor.next(cycle)), tier, excluded, start)
            }
            Table::Least => {
                let slots = excluded.iter().filter_map(slot);
                Some(self.state(index).least.pick_other(slots, |position| loads.in_flight(usize::from(position))))
            }
            Table::Shares(shares) => {
                let slots = excluded.iter().filter_map(slot);
                let first = shares.draw_except(self.random.u64(..), &slots)?;
                let position = tier.members()[first];
                if plan.algorithm() == Algorithm::Random {
                    return Some(position);
                }
                let second = shares.draw_except(self.random.u64(..), &slots.chain([first]));
                let other = second.map(|second| tier.members()[second]);
                Some(other.map_or(position, |other| cheaper(plan, position, other, loads)))
            }
            Table::Hashed(hashed) => hashed.order(mix(request.key), tier).find(|position| !excluded.contains(position)),
            Table::Bounded(bounded) => {
                let in_flight = |position| loads.in_flight(usize::from(position));
                self.state(index).seen.pick(bounded, mix(request.key), (tier, plan.places()), excluded, in_flight)
            }
        }
    }

    /// The tier that gets a request where several do. A key always gets the same one, by a number that has nothing to do
    /// with its place in the tier's table.
    #[inline]
    fn tier_by_share(&mut self, plan: &Plan, key: u64) -> Option<usize> {
        let number = if matches!(plan.algorithm(), Algorithm::Ring | Algorithm::Maglev) {
            nth(key, 0)
        } else {
            self.turn = self.turn.wrapping_add(GOLDEN);
            self.turn
        };
        plan.tier_by_share(number)
    }

    /// Tells that the load of a candidate has changed on this core since it was picked, typically at a request's end.
    /// The plan may be an older one than that of the latest pick.
    #[inline]
    pub fn touch(&mut self, plan: &Plan, index: u16, loads: &impl Loads) {
        if !plan.reads_loads() {
            return;
        }
        if self.generation != plan.generation() {
            return self.touch_by_id(plan, index, loads);
        }
        if let Some((tier, slot)) = plan.place(index) {
            self.state(tier).set_load(slot, loads.in_flight(usize::from(index)));
        }
    }

    /// Tells of the load of a candidate of an older plan.
    #[inline(never)]
    fn touch_by_id(&mut self, plan: &Plan, index: u16, loads: &impl Loads) {
        let Some(candidate) = plan.candidates().get(usize::from(index)) else { return };
        if let Ok(at) = self.slots.binary_search_by_key(&candidate.id, |entry| entry.0) {
            let (_, tier, slot) = self.slots[at];
            let in_flight = loads.in_flight(usize::from(index));
            self.state(usize::from(tier)).set_load(usize::from(slot), in_flight);
        }
    }

    #[inline]
    fn state(&mut self, tier: usize) -> &mut State {
        if self.current_tier == Some(tier) { &mut self.current } else { &mut self.others[tier] }
    }

    /// Meets a plan. What is known of candidates that were in the last one is kept.
    #[cold]
    fn adopt(&mut self, plan: &Plan, loads: &impl Loads) {
        self.generation = plan.generation();
        let start = self.start;
        let old_slots = std::mem::take(&mut self.slots);
        if let Some(tier) = self.current_tier.take() {
            std::mem::swap(&mut self.current, &mut self.others[tier]);
        }
        self.others.iter_mut().for_each(|state| state.seen = Seen::default());
        let old: Vec<Least> = self.others.iter_mut().map(|state| std::mem::take(&mut state.least)).collect();
        self.others.resize_with(plan.tiers().len(), State::default);
        for (index, tier) in plan.tiers().iter().enumerate() {
            let candidate = |slot: usize| plan.candidates()[usize::from(tier.members()[slot])];
            let slots = 0..tier.members().len();
            match tier.table() {
                Table::Cycle(cycle) => self.others[index].cursor.adopt(cycle.len(), start),
                Table::Bounded(_) => {
                    let in_flight = |&position: &u16| loads.in_flight(usize::from(position));
                    self.others[index].seen = Seen::new(tier.members().iter().map(in_flight));
                    self.slots.extend(slots.map(|slot| (candidate(slot).id, index as u16, slot as u16)));
                }
                Table::Least if !tier.members().is_empty() => {
                    let turn = |slot: usize| {
                        let at = old_slots.binary_search_by_key(&candidate(slot).id, |entry| entry.0).ok()?;
                        let (_, tier, slot) = old_slots[at];
                        old[usize::from(tier)].turn_ahead(usize::from(slot))
                    };
                    let first = crate::hash::scale(start, slots.len() as u64) as usize;
                    let in_flight = |position: u16| loads.in_flight(usize::from(position));
                    let members = tier.members().iter();
                    let members = members.map(|&position| (position, plan.candidates()[usize::from(position)].weight));
                    self.others[index].least = Least::new(members, first, in_flight, turn);
                    self.slots.extend(slots.map(|slot| (candidate(slot).id, index as u16, slot as u16)));
                }
                _ => {}
            }
        }
        self.slots.sort_unstable();
        if let Some(&(tier, _)) = plan.only_tier() {
            std::mem::swap(&mut self.current, &mut self.others[tier]);
            self.current_tier = Some(tier);
        }
    }
}

/// Which of two drawn candidates costs less; on a tie the first, which was drawn by weight among all.
#[inline]
fn cheaper(plan: &Plan, first: u16, second: u16, loads: &impl Loads) -> u16 {
    let cost = |position: u16| {
        let index = usize::from(position);
        let in_flight = f64::from(loads.in_flight(index));
        let cost = if plan.algorithm() == Algorithm::PowerOfTwo {
            in_flight
        } else {
            match f64::from(loads.latency_micros(index)) {
                latency if latency > 0.0 => latency * (in_flight + 1.0),
                _ if in_flight > 0.0 => UNKNOWN_LATENCY_MICROS * (in_flight + 1.0),
                _ => 0.0,
            }
        };
        cost / f64::from(plan.candidates()[index].weight)
    };
    if cost(second) < cost(first) { second } else { first }
}

/// The first walked position that is not excluded; after [`WALK_MAX`] steps, any member that is not, by `random`.
fn first_other(mut walked: impl Iterator<Item = u16>, tier: &Tier, excluded: &[u16], random: u64) -> Option<u16> {
    walked
        .find(|position| !excluded.contains(position))
        .or_else(|| tier.other(crate::hash::scale(random, tier.members().len() as u64) as usize, excluded))
}
