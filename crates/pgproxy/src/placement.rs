//! Which core serves a client.
//!
//! Clients are gathered: a core is given some before the next one gets any. Those of a core take from each other what it keeps of their pool, without a
//! lock or a move between event queues, and each of its turns does more of what has come, so that they cost less together than apart. What
//! so many ask takes a server many times the work that it takes a core. Where they do not ask little but much, such as long rows under TLS,
//! a core shows it by its time, and gets no more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Clients that a core is given before the next one gets any.
pub(crate) const TOGETHER: usize = 64;

/// The part of its time that a core works, in thousandths, from which on it gets no more as long as another one has less to do.
const BUSY: u32 = 600;

/// How busy each core is, for whoever places clients.
#[derive(Debug)]
pub(crate) struct Placement {
    together: usize,
    busy: Box<[AtomicU32]>,
}

impl Placement {
    /// For so many cores, of which each is given so many clients before the next one gets any.
    pub(crate) fn new(cores: usize, together: usize) -> Self {
        Self { together, busy: (0..cores).map(|_| AtomicU32::new(0)).collect() }
    }

    /// The core of the next client that `own` has accepted. Each has so many clients.
    pub(crate) fn choose(&self, own: usize, clients: impl Fn(usize) -> usize) -> usize {
        let cores = self.busy.len();
        let is_busy = |core: usize| self.busy[core].load(Ordering::Relaxed) >= BUSY;
        let in_turn = || (own..cores).chain(0..own);
        let gathered = in_turn().find(|&core| clients(core) < self.together && !is_busy(core));
        gathered.or_else(|| in_turn().min_by_key(|&core| clients(core))).unwrap_or(own)
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
            placement.busy[core].store((part * 1000.0) as u32, Ordering::Relaxed);
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
            ("all are busy: the same", 0, [10, 20, 5], [999, 999, 999], 2),
        ];
        for (name, own, clients, busy, expected) in cases {
            let (clients, busy): ([usize; 3], [u32; 3]) = (clients, busy);
            let placement = Placement { together: TOGETHER, busy: busy.map(AtomicU32::new).into() };
            assert_eq!(placement.choose(own, |core| clients[core]), expected, "{name}");
        }
    }

    #[test]
    fn a_core_that_works_is_busy_and_one_that_sleeps_is_not() {
        let placement = Placement::new(1, TOGETHER);
        let busy = |work: &dyn Fn()| {
            let mut meter = Meter::start();
            work();
            meter.tell(&placement, 0);
            placement.busy[0].load(Ordering::Relaxed)
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
