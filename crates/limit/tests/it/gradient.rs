//! The adaptive limit before a simulated server: slots, a queue, and clients that never let up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use limit::Moment;
use limit::gradient::{Class, Gradient, GradientParams};

const MILLI: u64 = 1_000_000;

/// A server whose slots work on one request each, for the time that holds when it begins.
struct Server {
    slots: usize,
    service_nanos: u64,
    /// When each running request ends, and when it came.
    running: BinaryHeap<Reverse<(u64, u64)>>,
    queue: VecDeque<u64>,
    random: fastrand::Rng,
    /// How many times as long one in ten requests takes.
    tenth: u64,
    refused: u64,
}

impl Server {
    fn new(slots: usize, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self {
            slots,
            service_nanos: 20 * MILLI,
            running: BinaryHeap::new(),
            queue: VecDeque::new(),
            random,
            tenth: 1,
            refused: 0,
        }
    }

    fn in_flight(&self) -> u32 {
        (self.running.len() + self.queue.len()) as u32
    }

    fn begin(&mut self, now: u64) {
        while self.running.len() < self.slots {
            let Some(came) = self.queue.pop_front() else { return };
            // A fifth up or down.
            let spread = self.random.u64(800..1_200) * if self.random.u32(..10) == 0 { self.tenth } else { 1 };
            self.running.push(Reverse((now + self.service_nanos * spread / 1_000, came)));
        }
    }

    /// Offers requests at `per_milli` for some time; gives answers per second and the longest time of one.
    fn run(&mut self, limit: &Gradient, from_millis: u64, millis: u64, per_milli: u64) -> (f64, Duration) {
        let (mut answers, mut longest) = (0_u64, 0);
        for tick in from_millis * 10..(from_millis + millis) * 10 {
            let now = tick * MILLI / 10;
            while let Some(&Reverse((end, came))) = self.running.peek() {
                if end > now {
                    break;
                }
                let in_flight = self.in_flight();
                self.running.pop();
                limit.sample(Moment::from_nanos(end), Duration::from_nanos(end - came), in_flight, false);
                (answers, longest) = (answers + 1, longest.max(end - came));
                self.begin(end);
            }
            if self.random.u64(..10) >= per_milli {
                continue;
            }
            if limit.admit(Class::Critical, self.in_flight()) {
                self.queue.push_back(now);
                self.begin(now);
            } else {
                self.refused += 1;
            }
        }
        (answers as f64 * 1e3 / millis as f64, Duration::from_nanos(longest))
    }
}

fn limit() -> Gradient {
    Gradient::new(GradientParams::default(), Moment::default())
}

#[test]
fn before_twenty_slots_it_stays_between_twenty_and_thirty() {
    for seed in 0..5 {
        let (limit, mut server) = (limit(), Server::new(20, seed));
        server.run(&limit, 0, 5_000, 3);
        // Three times what the server can do, for a minute: six measurements.
        for second in 5..65 {
            let (goodput, longest) = server.run(&limit, second * 1_000, 1_000, 3);
            let found = limit.limit();
            let measures = (10..=15).contains(&found);
            assert!((20..=30).contains(&found) || measures, "seed {seed}, second {second}: limit {found}");
            assert!(goodput > 850.0, "seed {seed}, second {second}: {goodput} answers");
            assert!(longest < Duration::from_millis(60), "seed {seed}, second {second}: {longest:?}");
        }
    }
}

#[test]
fn it_finds_its_way_after_steps() {
    for seed in 0..5 {
        let (limit, mut server) = (limit(), Server::new(20, seed));
        server.run(&limit, 0, 5_000, 3);
        // Three times slower: at first it looks like a queue, then it is measured.
        server.service_nanos = 60 * MILLI;
        server.run(&limit, 5_000, 10_000, 3);
        let (goodput, _) = server.run(&limit, 15_000, 8_000, 3);
        assert!(goodput > 0.9 * 20.0 / 0.06, "seed {seed}: {goodput} answers, limit {}", limit.limit());
        assert!(limit.limit() <= 33, "seed {seed}: limit {}", limit.limit());
        // Quick again.
        server.service_nanos = 20 * MILLI;
        server.run(&limit, 23_000, 5_000, 3);
        let (goodput, longest) = server.run(&limit, 28_000, 8_000, 3);
        assert!(goodput > 900.0, "seed {seed}: {goodput} answers, limit {}", limit.limit());
        assert!(longest < Duration::from_millis(60), "seed {seed}: {longest:?}");
        // Half of the slots are gone.
        server.slots = 10;
        server.run(&limit, 36_000, 15_000, 3);
        let (goodput, longest) = server.run(&limit, 51_000, 8_000, 3);
        assert!(goodput > 430.0, "seed {seed}: {goodput} answers, limit {}", limit.limit());
        assert!(longest < Duration::from_millis(60), "seed {seed}: {longest:?}, limit {}", limit.limit());
    }
}

#[test]
fn who_is_not_at_the_limit_does_not_move_it() {
    let limit = limit();
    for tick in 0..2_000 {
        let now = Moment::from_nanos(tick * 5 * MILLI);
        limit.sample(now, Duration::from_millis(if tick < 1_000 { 20 } else { 90 }), 4, false);
    }
    assert_eq!(limit.limit(), 20);
}

#[test]
fn drops_lower_it_to_its_minimum_and_never_below() {
    let limit = limit();
    for tick in 0..1_000 {
        limit.sample(Moment::from_nanos(tick * 20 * MILLI), Duration::from_secs(1), 100, true);
    }
    assert_eq!(limit.limit(), 8);
}

#[test]
fn the_least_important_are_refused_first() {
    let limit = limit();
    let check = |class: Class, most: u32| {
        let admitted = (0..100).take_while(|&in_flight| limit.admit(class, in_flight)).count();
        assert_eq!(admitted as u32, most, "{class:?}");
    };
    check(Class::Low, 14);
    check(Class::Normal, 18);
    check(Class::Critical, 20);
    check(Class::Exempt, 100);
    // However small a share is, one is let in.
    let params = GradientParams { shares: [0.0, 0.0, 0.0], ..GradientParams::default() };
    let limit = Gradient::new(params, Moment::default());
    assert!(limit.admit(Class::Low, 0) && !limit.admit(Class::Low, 1));
}

#[test]
fn requests_of_unequal_cost_are_no_overload() {
    // Slots, how much longer one in ten takes, and requests per second; at most three quarters of what it can do.
    for (slots, tenth, per_milli) in [(100, 10, 2), (60, 10, 1), (200, 30, 2)] {
        for seed in 0..2 {
            let (limit, mut server) = (limit(), Server::new(slots, seed));
            server.tenth = tenth;
            server.run(&limit, 0, 3_000, per_milli);
            server.refused = 0;
            server.run(&limit, 3_000, 25_000, per_milli);
            assert_eq!(server.refused, 0, "slots {slots}, seed {seed}: limit {}", limit.limit());
        }
    }
}

#[test]
fn an_overload_with_unequal_costs_is_found() {
    for seed in 0..2 {
        let (limit, mut server) = (limit(), Server::new(40, seed));
        server.tenth = 20;
        server.run(&limit, 0, 10_000, 1);
        let (goodput, _) = server.run(&limit, 10_000, 30_000, 1);
        // 40 slots, 20 ms for nine and 400 ms for one.
        assert!(goodput > 0.9 * 40.0 / 0.058, "seed {seed}: {goodput} answers, limit {}", limit.limit());
        assert!(limit.limit() <= 60, "seed {seed}: limit {}", limit.limit());
    }
}

#[test]
fn a_large_service_is_found_within_seconds() {
    let (limit, mut server) = (limit(), Server::new(400, 1));
    server.service_nanos = 100 * MILLI;
    server.run(&limit, 0, 3_000, 3);
    server.refused = 0;
    server.run(&limit, 3_000, 2_000, 3);
    assert_eq!(server.refused, 0, "limit {}", limit.limit());
}

#[test]
fn a_few_drops_happen_to_everyone() {
    let limit = limit();
    for tick in 0..10_000 {
        limit.sample(Moment::from_nanos(tick * MILLI), Duration::from_millis(20), 20, tick % 50 == 0);
    }
    assert!(limit.limit() >= 20, "limit {}", limit.limit());
}
