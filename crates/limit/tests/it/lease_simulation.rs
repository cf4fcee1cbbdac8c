//! Several instances, one store with latency and failures, and random demand, in simulated time. A failure prints its
//! seed.

use std::collections::VecDeque;
use std::time::Duration;

use limit::lease::store::{Bucket, Grant, LeaseQuota};
use limit::lease::{Ask, Holder, HolderParams, Lost, Taken};
use limit::{Moment, Quota, Rate};

const RATE: u32 = 1_000;
const BURST: u32 = 200;
/// A step of the simulation.
const TICK_MICROS: u64 = 100;
const SECOND: u64 = 1_000_000;

/// What is on its way, and when it arrives.
enum Message {
    Ask(Ask),
    Answer(Option<Grant>),
}

struct Instance {
    params: HolderParams,
    holder: Holder,
    wire: VecDeque<(u64, Message)>,
    waiting: u32,
    asks: u64,
    paid: u64,
    unpaid: u64,
}

struct World {
    quota: LeaseQuota,
    store: Bucket,
    instances: Vec<Instance>,
    random: fastrand::Rng,
    micros: u64,
    /// Share of messages that get lost, in thousandths.
    lost_per_mille: u64,
    is_down: bool,
}

impl World {
    fn new(seed: u64, count: u64, lost: &Lost) -> Self {
        let quota = LeaseQuota::new(Rate::per_sec(RATE), BURST).unwrap();
        let instance = |index| Instance {
            params: HolderParams { lost: lost.clone(), ..HolderParams::new(quota, index) },
            holder: Holder::default(),
            wire: VecDeque::new(),
            waiting: 0,
            asks: 0,
            paid: 0,
            unpaid: 0,
        };
        let instances = (0..count).map(instance).collect();
        let random = fastrand::Rng::with_seed(seed);
        Self { quota, store: Bucket::default(), instances, random, micros: 0, lost_per_mille: 0, is_down: false }
    }

    /// Runs for a time, with so many requests per second at each instance.
    fn run(&mut self, micros: u64, demand: &[u64]) {
        for _ in 0..micros / TICK_MICROS {
            self.micros += TICK_MICROS;
            for (index, demand) in demand.iter().enumerate() {
                self.deliver(index);
                let expected = demand * TICK_MICROS;
                let comes = expected / SECOND + u64::from(self.random.u64(..SECOND) < expected % SECOND);
                let parked = std::mem::take(&mut self.instances[index].waiting);
                for _ in 0..comes + u64::from(parked) {
                    self.request(index);
                }
            }
        }
    }

    fn request(&mut self, index: usize) {
        let now = Moment::from_nanos(self.micros * 1_000);
        let instance = &mut self.instances[index];
        match instance.holder.take(&instance.params, now, 1) {
            Taken::Allowed => instance.paid += 1,
            Taken::AllowedWithoutStore => instance.unpaid += 1,
            Taken::Wait => instance.waiting += 1,
            Taken::Refused { retry_after } => assert!(retry_after <= Duration::from_secs(1)),
            Taken::Never => panic!("a cost of one fits"),
        }
        if let Some(ask) = instance.holder.ask(&instance.params, now) {
            instance.asks += 1;
            let at = self.micros + self.random.u64(100..3_000);
            instance.wire.push_back((at, Message::Ask(ask)));
        }
    }

    fn deliver(&mut self, index: usize) {
        let now = Moment::from_nanos(self.micros * 1_000);
        let instance = &mut self.instances[index];
        while instance.wire.front().is_some_and(|(at, _)| *at <= self.micros) {
            let Some((_, message)) = instance.wire.pop_front() else { return };
            // Who hears nothing gives up after 100 ms.
            let mut gone = self.is_down || self.random.u64(..1_000) < self.lost_per_mille;
            match message {
                Message::Ask(ask) => {
                    // The store's clock has another origin.
                    let answer = (!gone).then(|| self.store.lease(&self.quota, self.micros + 77_000_000, ask));
                    gone |= self.random.u64(..1_000) < self.lost_per_mille;
                    let wait = if gone { 100_000 } else { self.random.u64(100..3_000) };
                    let answer = answer.filter(|_| !gone);
                    instance.wire.push_back((self.micros + wait, Message::Answer(answer)));
                }
                Message::Answer(Some(grant)) => instance.holder.granted(&instance.params, now, grant),
                Message::Answer(None) => instance.holder.failed(&instance.params, now),
            }
        }
    }

    fn paid(&self) -> u64 {
        self.instances.iter().map(|instance| instance.paid).sum()
    }

    fn most(&self) -> u64 {
        u64::from(BURST) + u64::from(RATE) * self.micros / SECOND
    }
}

#[test]
fn ten_times_the_demand_gets_all_of_the_rate_and_no_more() {
    for seed in 0..6 {
        let count = 1 + seed % 4;
        let mut world = World::new(seed, count, &Lost::Closed);
        let each = 10 * u64::from(RATE) / count;
        // Uneven: the first has three times what the others have.
        let demand: Vec<_> = (0..count).map(|index| if index == 0 { 3 * each } else { each }).collect();
        for _ in 0..30 {
            world.run(SECOND, &demand);
            assert!(world.paid() <= world.most(), "seed {seed}: {} of {}", world.paid(), world.most());
        }
        let (paid, most) = (world.paid(), world.most());
        assert!(paid * 100 >= most * 98, "seed {seed}: {paid} of {most}");
        let asks: u64 = world.instances.iter().map(|instance| instance.asks).sum();
        println!("seed {seed}: {count} instances, {paid} of {most}, {asks} asks");
        // Many requests for a round trip, not one.
        assert!(asks * 5 < paid, "seed {seed}: {asks} asks for {paid}");
        let least = world.instances.iter().map(|instance| instance.paid).min().unwrap();
        assert!(least * count * 2 > paid, "seed {seed}: one of {count} got {least} of {paid}");
    }
}

#[test]
fn what_is_below_the_rate_passes_entirely() {
    for seed in 0..5 {
        let mut world = World::new(seed, 3, &Lost::Closed);
        world.run(SECOND, &[100, 300, 5]);
        let before = world.paid();
        world.run(10 * SECOND, &[100, 400, 5]);
        let passed = world.paid() - before;
        assert!((4_800..5_300).contains(&passed), "seed {seed}: {passed}");
        let asks = world.instances[1].asks;
        assert!(asks * 5 < world.instances[1].paid, "seed {seed}: {asks}");
    }
}

#[test]
fn lost_messages_and_changing_demand_never_let_more_through() {
    for seed in 0..20 {
        let mut world = World::new(seed, 4, &Lost::Closed);
        world.lost_per_mille = seed * 5;
        for _ in 0..40 {
            let demand: Vec<_> = (0..4).map(|_| [0, 20, 500, 5_000][world.random.usize(..4)]).collect();
            let time = world.random.u64(1..SECOND);
            world.run(time, &demand);
            assert!(world.paid() <= world.most(), "seed {seed}: {} of {}", world.paid(), world.most());
        }
    }
}

#[test]
fn a_lost_store_is_survived_as_configured_and_heals() {
    let local = Quota::gcra(Rate::per_sec(50), 10).unwrap();
    let check = |lost: Lost, at_least: u64, at_most: u64| {
        let mut world = World::new(11, 2, &lost);
        world.run(2 * SECOND, &[2_000, 2_000]);
        world.is_down = true;
        world.run(SECOND, &[2_000, 2_000]);
        let unpaid = |world: &World| world.instances.iter().map(|instance| instance.unpaid).sum::<u64>();
        let before = (world.paid(), unpaid(&world));
        world.run(10 * SECOND, &[2_000, 2_000]);
        assert_eq!(world.paid(), before.0);
        let passed = unpaid(&world) - before.1;
        assert!((at_least..=at_most).contains(&passed), "{lost:?}: {passed}");
        assert!(world.instances.iter().all(|instance| instance.holder.is_lost()));
        world.is_down = false;
        world.run(2 * SECOND, &[2_000, 2_000]);
        assert!(world.instances.iter().all(|instance| !instance.holder.is_lost()));
        let (before, healed) = (unpaid(&world), world.paid());
        world.run(10 * SECOND, &[2_000, 2_000]);
        assert_eq!(unpaid(&world), before, "{lost:?}");
        assert!(world.paid() - healed > 9_800, "{lost:?}");
    };
    check(Lost::Closed, 0, 0);
    check(Lost::Open, 39_000, 41_000);
    check(Lost::Local(local), 2 * 450, 2 * 550);
}

#[test]
fn a_cost_that_only_all_of_the_burst_pays_is_not_starved() {
    let quota = LeaseQuota::new(Rate::per_sec(10), 20).unwrap();
    let params = HolderParams::new(quota, 1);
    let (mut holder, mut store) = (Holder::default(), Bucket::default());
    let mut passed = 0;
    for millis in 0..20_000_u64 {
        let now = Moment::from_nanos(millis * 1_000_000);
        passed += u32::from(holder.take(&params, now, 20) == Taken::Allowed);
        if let Some(ask) = holder.ask(&params, now) {
            holder.granted(&params, now, store.lease(&quota, millis * 1_000, ask));
        }
    }
    // One at once, and one each two seconds.
    assert!((10..=11).contains(&passed), "{passed}");
    assert_eq!(holder.take(&params, Moment::from_nanos(0), 21), Taken::Never);
}

#[test]
fn what_is_held_is_given_back_while_that_is_worth_anything() {
    let quota = LeaseQuota::new(Rate::per_sec(RATE), BURST).unwrap();
    let params = HolderParams::new(quota, 9);
    let back_after = |millis: u64| {
        let (mut holder, start) = (Holder::default(), Moment::from_nanos(0));
        holder.take(&params, start, 1);
        let ask = holder.ask(&params, start).unwrap();
        holder.granted(&params, start, Bucket::default().lease(&quota, 1, ask));
        let back = holder.give_back(&params, start + Duration::from_millis(millis));
        assert_eq!(holder.take(&params, start, 1), Taken::Wait, "nothing is held any more");
        back.map(|back| (back.want, back.returned, back.returned_stamp))
    };
    assert_eq!(back_after(5), Some((0, 13, 1)));
    assert_eq!(back_after(20), None);
}

#[test]
fn all_that_wait_are_paid_by_one_round_trip_however_low_the_rate() {
    let quota = LeaseQuota::new(Rate::per_sec(2), 100).unwrap();
    let params = HolderParams::new(quota, 1);
    let (mut holder, mut store, now) = (Holder::default(), Bucket::default(), Moment::from_nanos(0));
    // The first asks at once, and knows of no others.
    assert_eq!(holder.take(&params, now, 1), Taken::Wait);
    holder.waits(1);
    let ask = holder.ask(&params, now).unwrap();
    assert_eq!((ask.want, ask.least), (1, 1));
    let costs = [1, 3, 1, 1];
    for cost in costs {
        assert_eq!(holder.take(&params, now, cost), Taken::Wait);
        holder.waits(cost);
        assert_eq!(holder.ask(&params, now), None, "one is under way");
    }
    holder.granted(&params, now, store.lease(&quota, 5, ask));
    assert_eq!(holder.take(&params, now, 1), Taken::Allowed);
    holder.left(1);
    assert_eq!(holder.take(&params, now, costs[0]), Taken::Wait);
    let ask = holder.ask(&params, now).unwrap();
    assert_eq!((ask.want, ask.least), (6, 1));
    holder.granted(&params, now, store.lease(&quota, 5, ask));
    for cost in costs {
        assert_eq!(holder.take(&params, now, cost), Taken::Allowed);
        holder.left(cost);
    }
    assert_eq!(holder.take(&params, now, 1), Taken::Wait);
    // No more is asked for than there can ever be.
    (0..1_000).for_each(|_| holder.waits(1));
    assert_eq!(holder.ask(&params, now).map(|ask| ask.want), Some(100));
}

#[test]
fn an_ask_that_is_put_off_is_no_loss_of_the_store() {
    for lost in [Lost::Open, Lost::Closed] {
        let mut world = World::new(1, 1, &lost);
        let Instance { params, holder, .. } = &mut world.instances[0];
        let (now, soon) = (Moment::from_nanos(0), Moment::from_nanos(30_000_000));
        assert_eq!(holder.take(params, now, 1), Taken::Wait);
        holder.ask(params, now).expect("something waits");
        holder.put_off(params, now);
        assert!(!holder.is_lost());
        assert!(matches!(holder.take(params, now, 1), Taken::Refused { retry_after } if retry_after <= params.share));
        assert_eq!(holder.ask(params, now), None, "nobody asks again at once");
        assert_eq!(holder.take(params, soon, 1), Taken::Wait);
        let ask = holder.ask(params, soon).expect("it is asked again");
        holder.granted(params, soon, world.store.lease(&world.quota, 30_000, ask));
        assert_eq!(holder.take(params, soon, 1), Taken::Allowed);
    }
}
