//! A primary, replicas that lag, probes and samples that take their time, and clients: nobody may miss what it wrote or has seen.

use std::collections::BTreeMap;

use pgroute::position::{Choice, Floor, Lsn, Progress, ReplicaId, Timeline, choose};

/// A question that is under way: it was asked, and sees the server when it arrives there, some time later.
struct Flight {
    of: Option<ReplicaId>,
    number: u64,
    seen: Option<u64>,
}

#[derive(Default)]
struct Client {
    floor: Floor,
    /// The latest state that it wrote or saw.
    knows: u64,
}

/// How far clients are believed.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// As it is.
    Whole,
    /// A mistake: any replica will do.
    Anywhere,
    /// A mistake: a write is covered by the probe that is under way.
    EarlyProbe,
    /// A mistake: reads on replicas are forgotten.
    NoMonotonicReads,
    /// A mistake: a replica that was away is believed to be as far as before.
    LongMemory,
}

struct World {
    random: fastrand::Rng,
    rule: Rule,
    log: u64,
    replicas: BTreeMap<ReplicaId, u64>,
    progress: Progress,
    flights: Vec<Flight>,
    clients: Vec<Client>,
    shared: Floor,
    is_shared: bool,
    by_replicas: usize,
    violations: usize,
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut progress = Progress::new(1, Timeline(1));
        let replicas: BTreeMap<_, _> = (0..random.u32(1..4)).map(|number| (ReplicaId(number), 0)).collect();
        replicas.keys().for_each(|replica| progress.join(*replica, Timeline(1)));
        let clients = (0..random.usize(1..5)).map(|_| Client::default()).collect();
        let is_shared = random.bool();
        let (flights, shared) = (Vec::new(), Floor::default());
        let (log, by_replicas, violations) = (0, 0, 0);
        Self { random, rule, log, replicas, progress, flights, clients, shared, is_shared, by_replicas, violations }
    }

    fn any_replica(&mut self) -> ReplicaId {
        ReplicaId(self.random.u32(0..self.replicas.len() as u32))
    }

    fn write(&mut self, client: usize) {
        self.log += 1;
        self.clients[client].knows = self.log;
        // A mistake: somebody else's probe, which may have seen the primary before, is believed to cover it.
        let early = (self.rule == Rule::EarlyProbe).then(|| Progress::new(1, Timeline(1)));
        let progress = early.as_ref().unwrap_or(&self.progress);
        self.clients[client].floor.after_primary(progress);
        self.shared.after_primary(progress);
    }

    fn read(&mut self, client: usize) {
        let choice = match self.rule {
            Rule::Anywhere => Choice::Replicas(self.replicas.keys().copied().collect()),
            _ if self.is_shared => choose(&mut [&mut self.clients[client].floor, &mut self.shared], &self.progress),
            _ => choose(&mut [&mut self.clients[client].floor], &self.progress),
        };
        let seen = match choice {
            Choice::Replicas(able) => {
                let replica = able[self.random.usize(0..able.len())];
                self.by_replicas += 1;
                if self.rule != Rule::NoMonotonicReads {
                    self.clients[client].floor.after_replica(self.progress.start_read(replica), &self.progress);
                }
                self.replicas[&replica]
            }
            Choice::Probe(number) if self.random.u8(0..20) > 0 => {
                // One probe serves all who need it.
                return if self.progress.is_probing(number) { self.fly() } else { self.ask(None) };
            }
            Choice::Wait { .. } if self.random.u8(0..20) > 0 => {
                let replica = self.any_replica();
                return self.ask(Some(replica));
            }
            _ => {
                self.clients[client].floor.after_primary(&self.progress);
                self.log
            }
        };
        let knows = &mut self.clients[client].knows;
        if seen < *knows {
            self.violations += 1;
        }
        *knows = seen.max(*knows);
    }

    fn ask(&mut self, of: Option<ReplicaId>) {
        let number = match of {
            None => Some(self.progress.start_probe()),
            Some(replica) => self.progress.start_sample(replica),
        };
        self.flights.extend(number.map(|number| Flight { of, number, seen: None }));
    }

    /// A question arrives at its server, or its answer comes back.
    fn fly(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.random.usize(0..self.flights.len());
        let flight = &mut self.flights[at];
        match flight.seen {
            None => flight.seen = Some(flight.of.map_or(self.log, |replica| self.replicas[&replica])),
            Some(seen) => {
                let flight = self.flights.swap_remove(at);
                match flight.of {
                    None => self.progress.probed(flight.number, Lsn(seen)),
                    Some(replica) => self.progress.sampled(replica, flight.number, Lsn(seen)),
                }
            }
        }
    }

    /// A replica comes back from an older backup.
    fn restore(&mut self) {
        let replica = self.any_replica();
        let position = self.replicas[&replica];
        self.replicas.insert(replica, self.random.u64(0..=position));
        if self.rule != Rule::LongMemory {
            self.progress.lose(replica);
            // Its connections have ended as well.
            self.flights.retain(|flight| flight.of != Some(replica) || flight.seen.is_some());
        }
    }

    fn step(&mut self) {
        let client = self.random.usize(0..self.clients.len());
        match self.random.u8(0..100) {
            0..5 => self.write(client),
            5..50 => self.read(client),
            50..70 => {
                let replica = self.any_replica();
                let position = self.replicas[&replica];
                self.replicas.insert(replica, self.random.u64(position..=self.log));
            }
            70..75 => {
                let replica = self.any_replica();
                self.ask(Some(replica));
            }
            75 => self.restore(),
            _ => (0..4).for_each(|_| self.fly()),
        }
    }
}

/// Violations, and reads that replicas served.
fn run(rule: Rule, seeds: std::ops::Range<u64>) -> (usize, usize) {
    let (mut violations, mut by_replicas) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed, rule);
        (0..1000).for_each(|_| world.step());
        assert!(rule != Rule::Whole || world.violations == 0, "seed {seed}: {} violations", world.violations);
        violations += world.violations;
        by_replicas += world.by_replicas;
    }
    (violations, by_replicas)
}

#[test]
fn nobody_misses_what_it_wrote_or_saw() {
    let (violations, by_replicas) = run(Rule::Whole, 0..400);
    assert_eq!(violations, 0);
    assert!(by_replicas > 20_000, "{by_replicas} reads were served by replicas");
}

#[test]
fn the_model_finds_each_mistake() {
    for (rule, name) in [
        (Rule::Anywhere, "any replica"),
        (Rule::EarlyProbe, "an early probe"),
        (Rule::NoMonotonicReads, "forgotten reads"),
        (Rule::LongMemory, "a replica that was away"),
    ] {
        let (violations, _) = run(rule, 0..100);
        assert!(violations > 0, "{name}: not found");
    }
}
