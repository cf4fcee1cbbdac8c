//! The least loaded member of a tier, kept at the root of a tree.
//!
//! The problem: least connections must compare every endpoint's requests in flight per weight, yet a pick may not look
//! at a hundred counters that other cores are writing. The rule: a core remembers the loads that it last saw in a
//! tournament tree, so that the least loaded is at the root and a changed load costs one path upwards.
//!
//! - On one core the choice is exact: a pick counts itself at once, and the end of a request is told by `touch`.
//! - Other cores' requests are seen by looking again: each pick reads the live load of two members in turn, so none is
//!   older than half as many picks as there are members, and of the winner, which must still win with its live load.
//! - Equal loads go to the member whose turn is due: each pick puts a member's turn off by the inverse of its weight.
//!   With equal weights that is the least recently picked, so that an idle service is used evenly; with weights 3 and 1
//!   an idle service still sees three to one. A member that was busy for long has no saved-up turns, and every 32 rounds
//!   or more it is forgotten which of such members was picked less recently.
//!
//! Source of the turns: start-time fair queueing (Goyal, Vin, Cheng 1996).

/// How often a pick looks for another winner because the last one's load had grown. Under contention the choice is
/// then nearly exact, which is all that a load seen a moment ago can give.
const RECHECKS_MAX: usize = 3;

/// Members whose live load each pick reads besides the winner's.
const REFRESHES: usize = 2;

/// A key has 32 bits of load, then the turn, then as many bits of slot as the members need; with the lowest key the
/// winner is known. This is the place of the load.
///
/// Keys are compared as the doubles that have these bits, which order as the integers do as long as they are positive
/// and no NaN: processors take the lesser of two doubles in one instruction, and of two integers in three.
const LOAD_SHIFT: u32 = 32;

/// Added to the bits of a load, so that a load of 0 is no denormal double, which some processors are slow to compare.
const LOAD_MIN: u32 = 0x0010_0000;

/// Above the bits of any load, and below those of infinity, which fill entries without a member.
const LOAD_MASKED: u32 = 0x7FE0_0000;

/// The lightest member's stride leaves this many bits of a turn, so that the clock restarts, which costs a pass over
/// all members, only after 32 rounds or more.
const ROUNDS_BITS: u32 = 6;

/// Entries of a block of the tree. Two levels hold 256 members, and most changes of a load end in the first block.
/// Measured among 100 members: with 8 entries a pick takes 5 % more instructions, with 4 entries 12 % more.
const BLOCK: usize = 16;

/// What a core knows of a member.
#[derive(Clone, Copy, Debug)]
struct Member {
    weight: f32,
    /// How far a pick puts off the next turn.
    stride: u32,
    /// Requests in flight that its key stands for.
    seen: u32,
    /// Where the plan has it.
    position: u16,
}

impl Member {
    /// Load per weight, in bits that order as the number does. One division rounds once, so equal ratios give equal
    /// bits. Ratios that differ by less than one in 16 million count as equal, which takes thousands of requests on
    /// weights in the thousands.
    #[inline]
    fn load(&self) -> u32 {
        (self.seen as f32 / self.weight).to_bits() + LOAD_MIN
    }
}

/// The tree of one tier, of one core.
#[derive(Debug, Default)]
pub(crate) struct Least {
    /// The winner's key.
    root: f64,
    /// Entry `e` of block `b` is the least entry of block `16b + e + 1`, or a member's key in the blocks from `leaves`
    /// on. Entries without a member never win.
    blocks: Vec<[f64; BLOCK]>,
    leaves: usize,
    members: Vec<Member>,
    slot_bits: u32,
    /// The latest turn that was taken.
    clock: u32,
    /// The next member whose live load is read.
    next: usize,
}

impl Least {
    /// A tree of members, each with its position and a weight above 0, and their live loads by position. `turn` gives
    /// the [`turn_ahead`](Self::turn_ahead) that a slot's member had in the tree before, if any; others come as if due
    /// now, `first` before those after it.
    pub(crate) fn new(
        members: impl ExactSizeIterator<Item = (u16, u32)> + Clone,
        first: usize,
        in_flight: impl Fn(u16) -> u32,
        turn: impl Fn(usize) -> Option<f64>,
    ) -> Self {
        let len = members.len();
        let slot_bits = len.next_power_of_two().trailing_zeros();
        // The stride of weight 1, were it in the tier: as large as the lightest member permits, so that the strides
        // of heavy ones are exact. The slots of 65,535 members leave 16 bits for turns and 10 for strides.
        let lightest = members.clone().map(|member| member.1).min().unwrap_or(1);
        let unit = u64::from(lightest) << (LOAD_SHIFT - slot_bits - ROUNDS_BITS);
        let member = |(position, weight): (u16, u32)| {
            let stride = ((unit / u64::from(weight)) as u32).max(1);
            Member { weight: weight as f32, stride, seen: in_flight(position), position }
        };
        let (mut leaves, mut width) = (0, BLOCK);
        while width < len {
            (leaves, width) = (BLOCK * leaves + 1, BLOCK * width);
        }
        let blocks = vec![[f64::INFINITY; BLOCK]; leaves + len.div_ceil(BLOCK)];
        let members = members.map(member).collect();
        let mut least = Self { root: f64::INFINITY, blocks, leaves, members, slot_bits, clock: 0, next: 0 };
        for slot in 0..len {
            let fresh = ((slot + len - first) % len) as u32;
            let kept = |rounds: f64| (rounds * unit as f64).min(f64::from(least.turn_max() / 2)) as u32;
            let turn = turn(slot).map_or(fresh, kept);
            *least.leaf_mut(slot) = key(least.members[slot].load(), turn << slot_bits | slot as u32);
        }
        least.rebuild();
        least
    }

    /// How far a member's next turn is ahead of the clock, in strides of weight 1, which all trees have in common; `None` in a
    /// tree that was never built.
    pub(crate) fn turn_ahead(&self, slot: usize) -> Option<f64> {
        let member = self.members.get(slot)?;
        let unit = f64::from(member.stride) * f64::from(member.weight);
        Some(f64::from(self.turn(self.leaf(slot)).saturating_sub(self.clock)) / unit)
    }

    /// Picks the least loaded member, counts the pick, and gives the member's position.
    #[inline]
    pub(crate) fn pick(&mut self, in_flight: impl Fn(u16) -> u32) -> u16 {
        for _ in 0..REFRESHES {
            let slot = self.next;
            let member = &self.members[slot];
            let live = in_flight(member.position);
            self.next = if slot + 1 < self.members.len() { slot + 1 } else { 0 };
            if live != member.seen {
                self.set_load(slot, live);
            }
        }
        self.pick_winner(in_flight)
    }

    /// Picks the least loaded member outside `excluded`, which leaves at least one, and counts the pick.
    pub(crate) fn pick_other(
        &mut self,
        excluded: impl Iterator<Item = usize> + Clone,
        in_flight: impl Fn(u16) -> u32,
    ) -> u16 {
        for slot in excluded.clone() {
            self.set(slot, key(LOAD_MASKED, self.leaf(slot).to_bits() as u32));
        }
        let position = self.pick_winner(&in_flight);
        for slot in excluded {
            self.set_load(slot, in_flight(self.members[slot].position));
        }
        position
    }

    /// Notes a member's live load.
    pub(crate) fn set_load(&mut self, slot: usize, in_flight: u32) {
        self.members[slot].seen = in_flight;
        // The turn stays, and with it the lower half of the key.
        self.set(slot, key(self.members[slot].load(), self.leaf(slot).to_bits() as u32));
    }

    #[inline]
    fn pick_winner(&mut self, in_flight: impl Fn(u16) -> u32) -> u16 {
        for _ in 0..RECHECKS_MAX {
            let winner = self.winner();
            let member = &self.members[winner];
            let live = in_flight(member.position);
            if live == member.seen {
                break;
            }
            self.set_load(winner, live);
        }
        let winner = self.winner();
        // One more each time, so that of equal strides the later one ends later.
        self.clock = self.clock.max(self.turn(self.root)) + 1;
        let member = &mut self.members[winner];
        member.seen = member.seen.saturating_add(1);
        let (next_turn, position) = (self.clock + member.stride, member.position);
        let counted = key(member.load(), next_turn << self.slot_bits | winner as u32);
        self.raise(winner, counted);
        if next_turn >= self.turn_max() {
            self.restart_clock();
        }
        position
    }

    #[inline]
    fn winner(&self) -> usize {
        self.root.to_bits() as usize & ((1 << self.slot_bits) - 1)
    }

    #[inline]
    fn turn(&self, key: f64) -> u32 {
        key.to_bits() as u32 >> self.slot_bits
    }

    /// Where the clock is restarted: half of what a turn's bits can hold, as a stride is less than the other half.
    #[inline]
    fn turn_max(&self) -> u32 {
        1 << (LOAD_SHIFT - self.slot_bits - 1)
    }

    fn leaf(&self, slot: usize) -> f64 {
        self.blocks[self.leaves + slot / BLOCK][slot % BLOCK]
    }

    fn leaf_mut(&mut self, slot: usize) -> &mut f64 {
        &mut self.blocks[self.leaves + slot / BLOCK][slot % BLOCK]
    }

    /// Changes a key, and above it whatever depends on it.
    fn set(&mut self, slot: usize, key: f64) {
        let (mut block, mut entry) = (self.leaves + slot / BLOCK, slot % BLOCK);
        let mut new = key;
        loop {
            let entries = &mut self.blocks[block];
            let old = std::mem::replace(&mut entries[entry], new);
            let above = (block != 0).then(|| ((block - 1) / BLOCK, (block - 1) % BLOCK));
            let known = above.map_or(self.root, |(block, entry)| self.blocks[block][entry]);
            if new > known {
                if old > known {
                    // It was not the least and is not now, so nothing above changes.
                    return;
                }
                new = least_of(&self.blocks[block]);
            }
            let Some(next) = above else { break };
            (block, entry) = next;
        }
        self.root = new;
    }

    /// Changes the winner's key, which is the least of every block above it.
    #[inline]
    fn raise(&mut self, winner: usize, key: f64) {
        let (mut block, mut entry) = (self.leaves + winner / BLOCK, winner % BLOCK);
        let mut new = key;
        loop {
            let entries = &mut self.blocks[block];
            entries[entry] = new;
            new = least_of(entries);
            if block == 0 {
                break;
            }
            (block, entry) = ((block - 1) / BLOCK, (block - 1) % BLOCK);
        }
        self.root = new;
    }

    fn rebuild(&mut self) {
        for block in (1..self.blocks.len()).rev() {
            let least = least_of(&self.blocks[block]);
            self.blocks[(block - 1) / BLOCK][(block - 1) % BLOCK] = least;
        }
        self.root = self.blocks.first().map_or(f64::INFINITY, least_of);
    }

    /// Counts turns from 0 again.
    #[cold]
    fn restart_clock(&mut self) {
        let past = std::mem::take(&mut self.clock);
        for slot in 0..self.members.len() {
            let turn = self.turn(self.leaf(slot)).saturating_sub(past);
            *self.leaf_mut(slot) = key(self.members[slot].load(), turn << self.slot_bits | slot as u32);
        }
        self.rebuild();
    }
}

#[inline]
fn key(load: u32, turn_and_slot: u32) -> f64 {
    f64::from_bits(u64::from(load) << LOAD_SHIFT | u64::from(turn_and_slot))
}

#[inline]
fn least_of(entries: &[f64; BLOCK]) -> f64 {
    // Written as the instruction works, which `f64::min` with its care for NaN is not.
    entries.iter().fold(f64::INFINITY, |least, &entry| if least < entry { least } else { entry })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(weights: &[u32], first: usize, in_flight: impl Fn(u16) -> u32) -> Least {
        let members = weights.iter().enumerate().map(|(slot, &weight)| (slot as u16, weight));
        Least::new(members, first, in_flight, |_| None)
    }

    #[test]
    fn the_clock_restarts_without_disturbing_the_order() {
        // Some 32 rounds fit the clock, so that thousands of picks restart it many times.
        let mut least = tree(&[512, 512, 256], 0, |_| 0);
        let mut idle = |_: usize| {
            let position = least.pick(|_| 0);
            least.set_load(usize::from(position), 0);
            position
        };
        let first: Vec<u16> = (0..10).map(&mut idle).collect();
        let cycles: Vec<u16> = (0..10_000).map(&mut idle).collect();
        assert!(cycles.chunks(10).all(|picks| picks == first), "{first:?}");
        assert_eq!(first.iter().filter(|&&position| position == 2).count(), 2);
        assert!(least.clock < least.turn_max());
    }

    #[test]
    fn the_root_is_the_least_after_any_changes() {
        let mut random = fastrand::Rng::with_seed(7);
        for len in [1, 2, 7, 8, 9, 63, 64, 65, 100, 511, 512, 513, 700] {
            let weights: Vec<u32> = (0..len).map(|_| random.u32(1..1000)).collect();
            let mut loads: Vec<u32> = (0..len).map(|_| random.u32(0..5)).collect();
            let mut least = tree(&weights, 0, |position| loads[usize::from(position)]);
            for _ in 0..300 {
                let slot = random.usize(0..len);
                loads[slot] = random.u32(0..5);
                least.set_load(slot, loads[slot]);
                let key = |slot: &usize| least.leaf(*slot).to_bits();
                let expected = (0..len).min_by_key(key).unwrap();
                assert_eq!((least.winner(), least.root.to_bits()), (expected, key(&expected)));
            }
        }
    }

    #[test]
    fn most_members_leave_room_for_turns() {
        let weights: Vec<u32> = (0..65_535).map(|slot| if slot % 2 == 0 { 256 } else { u32::MAX }).collect();
        let mut least = tree(&weights, 65_534, |_| 0);
        assert_eq!(least.pick(|_| 0), 65_534);
        // The requests never end, so the next to be picked are all others once.
        let mut met = vec![false; 65_535];
        for _ in 0..40_000 {
            let position = least.pick(|position| u32::from(met[usize::from(position)]));
            met[usize::from(position)] = true;
        }
        assert!(met.iter().filter(|&&met| met).count() > 39_000);
    }
}
