use std::time::Duration;

use super::offenders::Offence;

/// The 99th percentile of others may be this on a loopback whatever it was before: threads of two cores wait for each
/// other about so long now and then, with or without a gateway between them.
const P99_FLOOR_US: u64 = 4000;
/// The check that something else on this machine can fail. What disturbs only ever adds to it, while a flood that holds
/// others up does so each time it is done: so it is the best of two rounds that counts.
pub(super) const LATENCY: &str = "others' p99";
/// Memory that any load may make the allocator take: what [`leaks`](crate::fault) allow as well.
const MEMORY_SPARE_BYTES: u64 = 8 << 20;

/// What an offender may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Memory of each at one time.
    pub(super) memory_bytes: u64,
    /// CPU time of each in all.
    pub(super) cpu: Duration,
}

/// What was seen of a flood.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) offence: Offence,
    /// Offenders by the gateway's count.
    pub(super) counted: u64,
    /// 99th percentiles of others in microseconds.
    pub(super) p99_before_us: u64,
    pub(super) p99_during_us: u64,
    /// Requests of others, and those of them that failed.
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) failures: Vec<String>,
    /// The most that the gateway's resident memory grew by.
    pub(super) memory_bytes: u64,
    /// CPU time of the gateway beyond what the others alone cost it.
    pub(super) cpu: Duration,
}

impl Seen {
    /// A line for people.
    pub(super) fn told(&self, name: &str, metric: &str) -> String {
        let Offence { offenders, at_once, uncut } = self.offence;
        let each_kib = self.memory_bytes as f64 / 1024.0 / at_once.max(1) as f64;
        let each_us = self.cpu.as_secs_f64() * 1e6 / offenders.max(1) as f64;
        format!(
            "{name}: {offenders} offenders, {at_once} at once, {uncut} not cut, {} counted by {metric}\n  \
             others: p99 {:.2} ms before, {:.2} ms meanwhile; {} of {} requests failed\n  \
             gateway: memory +{:.1} MiB ({each_kib:.1} KiB each), CPU {:.2} s ({each_us:.0} us each)",
            self.counted,
            self.p99_before_us as f64 / 1e3,
            self.p99_during_us as f64 / 1e3,
            self.failed,
            self.requests,
            self.memory_bytes as f64 / f64::from(1 << 20),
            self.cpu.as_secs_f64(),
        )
    }

    /// What is held against the gateway, bound by bound.
    pub(super) fn checks(&self, expected: u64, bounds: &Bounds) -> Vec<(&'static str, Result<(), String>)> {
        let Offence { offenders, at_once, uncut } = self.offence;
        let check = |holds: bool, otherwise: String| if holds { Ok(()) } else { Err(otherwise) };
        let p99_max = P99_FLOOR_US.max(2 * self.p99_before_us);
        let memory_max = MEMORY_SPARE_BYTES + bounds.memory_bytes * at_once;
        let cpu_max = bounds.cpu * u32::try_from(offenders).unwrap_or(u32::MAX);
        let (p99, memory, cpu) = (self.p99_during_us, self.memory_bytes, self.cpu);
        vec![
            ("offenders at once", check(at_once >= expected, format!("{at_once} instead of {expected}"))),
            ("offenders cut", check(uncut == 0, format!("{uncut} of {offenders} were not"))),
            ("offenders counted", check(self.counted == offenders, format!("{} of {offenders}", self.counted))),
            (LATENCY, check(p99 <= p99_max, format!("{p99} us, at most {p99_max} us"))),
            (
                "others' requests",
                check(self.failed == 0, format!("{} failed: {}", self.failed, self.failures.join("; "))),
            ),
            ("memory", check(memory <= memory_max, format!("{memory} bytes more, at most {memory_max}"))),
            ("CPU", check(cpu <= cpu_max, format!("{cpu:?}, at most {cpu_max:?}"))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_judged() {
        let offence = Offence { offenders: 100, at_once: 10, uncut: 0 };
        let good = Seen {
            offence,
            counted: 100,
            p99_before_us: 3000,
            p99_during_us: 6000,
            requests: 5000,
            memory_bytes: 9 << 20,
            cpu: Duration::from_millis(90),
            ..Seen::default()
        };
        let bounds = Bounds { memory_bytes: 128 << 10, cpu: Duration::from_millis(1) };
        let broken = |change: fn(&mut Seen)| {
            let mut seen = good.clone();
            change(&mut seen);
            let checks = seen.checks(10, &bounds);
            checks.into_iter().filter(|(_, outcome)| outcome.is_err()).map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(broken(|_| {}), [""; 0]);
        assert_eq!(broken(|seen| seen.offence.at_once = 9), ["offenders at once"]);
        assert_eq!(broken(|seen| seen.offence.uncut = 1), ["offenders cut"]);
        assert_eq!(broken(|seen| seen.counted = 99), ["offenders counted"]);
        assert_eq!(broken(|seen| seen.counted = 101), ["offenders counted"]);
        assert_eq!(broken(|seen| seen.p99_during_us = 6001), [LATENCY]);
        assert_eq!(broken(|seen| seen.p99_before_us = 100), [LATENCY], "the floor is lower than this");
        assert_eq!(broken(|seen| (seen.p99_before_us, seen.p99_during_us) = (100, 3900)), [""; 0], "noise");
        assert_eq!(broken(|seen| seen.failed = 1), ["others' requests"]);
        assert_eq!(broken(|seen| seen.memory_bytes = 10 << 20), ["memory"]);
        assert_eq!(broken(|seen| seen.cpu = Duration::from_millis(101)), ["CPU"]);
    }
}
