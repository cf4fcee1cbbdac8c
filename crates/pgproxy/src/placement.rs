//! Which core serves a client.
//!
//! Clients are gathered: a core is given some before the next one gets any. Those of a core take from each other what it keeps of their pool, without a
//! lock or a move between event queues, and each of its turns does more of what has come, so that they cost less together than apart. What
//! so many ask takes a server many times the work that it takes a core. Where they do not ask little but much, such as long rows under TLS,
//! a core shows it by its time, and gets no more as long as another one has time.
//!
//! A client stays where it is: what is decided here is decided when it comes. So a core that becomes busy later is relieved as clients go and others
//! come, and not sooner. It is busy from one mark on and at ease from a lower one on, or a core at the mark would be given a client, refused
//! the next, and so on.
//!
//! What a core tells of its time is a moment old, and many may come within that moment, as after a restart of theirs. So those are counted
//! that a core was given since it told: where all have their clients already, they weigh until it tells what they come to.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Clients that a core is given before the next one gets any.
pub(crate) const TOGETHER: usize = 64;

/// The part of its time that a core works, in thousandths, from which on it gets no more as long as another one has time.
const BUSY: u32 = 600;

/// The part from which on a core that was busy has time again: a quarter less, which is more than a core of steady clients goes up and down.
const AT_EASE: u32 = 450;

/// Steps of the time that a core works, in thousandths, by which busy cores differ: 600 to 699 is one, 700 to 799 the next. Of those on the same
/// step, the one with the fewest clients is the better one: they may all be at it at the next moment. As many clients as a core is given before
/// the next one gets any are a step as well, until it tells what they do.
const STEP: u32 = 100;

/// How busy each core is, for whoever places clients.
#[derive(Debug)]
pub(crate) struct Placement {
    together: usize,
    cores: Box<[Busyness]>,
}

/// How busy a core is.
#[derive(Debug, Default)]
struct Busyness {
    /// The part of its time that it worked when it was looked at last, in thousandths.
    part: AtomicU32,
    is_busy: AtomicBool,
    /// Clients that it was given since.
    placed: AtomicU32,
}

/// A core, for whoever chooses among them.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    core: usize,
    clients: usize,
    /// The part of its time that it works, in thousandths, if it is busy.
    busy: Option<u32>,
    /// Clients that it was given since it told how busy it is.
    placed: usize,
}

impl Placement {
    /// For so many cores, of which each is given so many clients before the next one gets any.
    pub(crate) fn new(cores: usize, together: usize) -> Self {
        Self { together, cores: (0..cores).map(|_| Busyness::default()).collect() }
    }

    /// The core of the next client that `own` has accepted, which is counted as given to it. Each has so many clients.
    pub(crate) fn choose(&self, own: usize, clients: impl Fn(usize) -> usize) -> usize {
        let candidate = |core: usize| Candidate {
            core,
            clients: clients(core),
            busy: self.cores[core].busy(),
            placed: self.cores[core].placed.load(Ordering::Relaxed) as usize,
        };
        let found = choose(self.together, (own..self.cores.len()).chain(0..own).map(candidate)).unwrap_or(own);
        self.cores[found].placed.fetch_add(1, Ordering::Relaxed);
        found
    }
}

/// The first core with time that has not its clients yet; or the one with the fewest clients of those with time; or of those that are the least busy.
fn choose(together: usize, cores: impl Iterator<Item = Candidate> + Clone) -> Option<usize> {
    let mut at_ease = cores.clone().filter(|found| found.busy.is_none());
    let gathers = at_ease.find(|found| found.clients < together);
    let last = || cores.min_by_key(|found| (found.step(together), found.clients));
    gathers.or_else(last).map(|found| found.core)
}

impl Candidate {
    /// How much it is to be spared: not at all as long as it has time. One that was at ease and was given many since counts as one that has just
    /// become busy.
    fn step(&self, together: usize) -> usize {
        let groups = self.placed / together.max(1);
        match self.busy {
            None if groups == 0 => 0,
            busy => busy.unwrap_or(BUSY) as usize / STEP as usize + groups,
        }
    }
}

impl Busyness {
    fn tell(&self, part: u32) {
        self.part.store(part, Ordering::Relaxed);
        let mark = if self.is_busy.load(Ordering::Relaxed) { AT_EASE } else { BUSY };
        self.is_busy.store(part >= mark, Ordering::Relaxed);
        self.placed.store(0, Ordering::Relaxed);
    }

    fn busy(&self) -> Option<u32> {
        self.is_busy.load(Ordering::Relaxed).then(|| self.part.load(Ordering::Relaxed))
    }
}

/// Measures how busy its core is. It belongs to that core's thread.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Instant,
    worked: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { since: Instant::now(), worked: worked() }
    }

    /// Says how busy the core was since it was said last.
    pub(crate) fn tell(&mut self, placement: &Placement, core: usize) {
        let (now, worked) = (Instant::now(), worked());
        let passed = now.saturating_duration_since(self.since);
        if !passed.is_zero() {
            let part = worked.saturating_sub(self.worked).as_secs_f64() / passed.as_secs_f64();
            placement.cores[core].tell((part * 1000.0) as u32);
        }
        (self.since, self.worked) = (now, worked);
    }
}

/// Time that this thread has worked.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_gathered_until_a_core_is_full_or_busy() {
        let cases = [
            ("the first stays where it was accepted", 1, [0, 0, 0], [0, 0, 0], 1),
            ("others join it", 1, [0, 40, 0], [0, 0, 0], 1),
            ("the next core when it is full", 1, [0, 64, 0], [0, 0, 0], 2),
            ("from the last core on to the first", 2, [3, 64, 64], [0, 0, 0], 0),
            ("not to one that is busy", 1, [0, 10, 0], [0, 600, 0], 2),
            ("all are full: to where there are fewest", 0, [100, 64, 90], [0, 0, 0], 1),
            ("not to one that is busy, though the others are full", 0, [10, 90, 70], [900, 0, 599], 2),
            ("all are busy: to the one that is so the least", 0, [10, 20, 5], [999, 650, 999], 1),
            ("all are as busy: to where there are fewest", 0, [10, 20, 5], [999, 910, 930], 2),
        ];
        for (name, own, clients, parts, expected) in cases {
            let (clients, parts): ([usize; 3], [u32; 3]) = (clients, parts);
            let placement = Placement::new(3, TOGETHER);
            placement.cores.iter().zip(parts).for_each(|(core, part)| core.tell(part));
            assert_eq!(placement.choose(own, |core| clients[core]), expected, "{name}");
        }
    }

    #[test]
    fn those_who_come_before_a_core_tells_again_are_shared_out() {
        let cases = [
            ("busy ones that differ by a step", [70, 70, 70], [610, 710, 710], [198, 156, 156]),
            ("one of them at ease", [70, 70, 70], [900, 100, 910], [124, 262, 124]),
            ("one at ease, the others just busy", [70, 70, 70], [100, 610, 620], [170, 170, 170]),
            ("all at ease", [70, 64, 90], [100, 0, 599], [175, 175, 174]),
            ("those that have not their clients first", [0, 10, 64], [0, 0, 0], [123, 123, 128]),
        ];
        for (name, clients, parts, expected) in cases {
            let (mut clients, parts): ([usize; 3], [u32; 3]) = (clients, parts);
            let placement = Placement::new(3, TOGETHER);
            placement.cores.iter().zip(parts).for_each(|(core, part)| core.tell(part));
            for _ in 0..300 {
                clients[placement.choose(0, |core| clients[core])] += 1;
            }
            assert_eq!(clients, expected, "{name}");
        }
    }

    #[test]
    fn what_a_core_tells_holds_for_all_that_it_was_given_before() {
        let placement = Placement::new(2, TOGETHER);
        let (mut clients, idle) = ([70, 70], 100);
        for _ in 0..4 {
            placement.cores.iter().zip([idle, 900]).for_each(|(core, part)| core.tell(part));
            for _ in 0..TOGETHER {
                clients[placement.choose(1, |core| clients[core])] += 1;
            }
        }
        assert_eq!(clients, [70 + 4 * TOGETHER, 70]);
    }

    #[test]
    fn a_core_is_at_ease_when_it_has_less_to_do_than_when_it_became_busy() {
        let core = Busyness::default();
        let told = [(599, false), (600, true), (599, true), (450, true), (449, false), (599, false), (1000, true)];
        for (part, is_busy) in told {
            core.tell(part);
            assert_eq!(core.busy(), is_busy.then_some(part), "{part}");
        }
    }

    #[test]
    fn a_core_that_works_is_busy_and_one_that_sleeps_is_not() {
        let placement = Placement::new(1, TOGETHER);
        let busy = |work: &dyn Fn()| {
            let mut meter = Meter::start();
            work();
            meter.tell(&placement, 0);
            placement.cores[0].part.load(Ordering::Relaxed)
        };
        let asleep = busy(&|| std::thread::sleep(Duration::from_millis(50)));
        assert!(asleep < 200, "{asleep}");
        // Others may have the processor meanwhile: what it worked is held to, and not what passed.
        let awake = busy(&|| {
            let until = worked() + Duration::from_millis(50);
            while worked() < until {}
        });
        assert!(awake > asleep, "{awake}");
    }
}
