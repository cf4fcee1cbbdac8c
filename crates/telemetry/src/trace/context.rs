//! Where a request stands in its trace.
//!
//! A sampled request has a span of its own, whose parent is the span that the request came from, if any; each try is a
//! span below it, and the endpoint is told that one as its parent.
//!
//! Source: W3C Trace Context, level 1; of level 2 the flag that says that a trace's id is random, which is passed on.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Sampling;

/// The flag that says that a trace is sampled.
const SAMPLED: u8 = 1;
/// The flag of level 2 that says that a trace's id is random.
const RANDOM: u8 = 2;

/// The value of a `traceparent` field.
pub type Traceparent = [u8; 55];

/// What a request's `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteParent {
    /// The trace, not 0.
    pub trace_id: u128,
    /// The span that the request came from, not 0.
    pub span_id: u64,
    /// The flags.
    pub flags: u8,
}

/// A request of which the gateway tells its own part of a trace.
#[derive(Clone, Copy, Debug)]
pub struct RequestTrace {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) parent_id: Option<u64>,
    pub(super) flags: u8,
    pub(super) client_address: bool,
    /// A moment by both clocks, so that all spans of the request agree.
    pub(super) started: Instant,
    started_unix_nanos: u64,
}

impl RequestTrace {
    /// Decides about a request that began at `started`. `random` is evenly drawn, and the id of a trace that begins here.
    /// `None` when the request's own `traceparent` may go on as it is, or a new one that is not sampled: nothing is
    /// recorded then.
    pub fn begin(
        sampling: Sampling,
        parent: Option<RemoteParent>,
        trusted: bool,
        random: u128,
        span_id: impl FnOnce() -> u64,
        started: Instant,
    ) -> Option<Self> {
        let flag = parent.map(|parent| parent.flags & SAMPLED != 0);
        let sampled = match flag {
            Some(flag) if sampling.believes(trusted) => flag,
            _ => sampling.by_chance(random),
        };
        // A flag that is not followed must not be passed on either.
        if !sampled && flag != Some(true) {
            return None;
        }
        let elapsed = started.elapsed();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Self {
            trace_id: parent.map_or(random.max(1), |parent| parent.trace_id),
            span_id: span_id().max(1),
            parent_id: parent.map(|parent| parent.span_id),
            flags: parent.map_or(0, |parent| parent.flags & RANDOM) | u8::from(sampled),
            client_address: sampling.client_address,
            started,
            started_unix_nanos: now.saturating_sub(elapsed).as_nanos() as u64,
        })
    }

    /// Whether spans are to be recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What an endpoint is told whose parent is the span `span_id`.
    pub fn traceparent(&self, span_id: u64) -> Traceparent {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&mut value[3..35], self.trace_id);
        hex(&mut value[36..52], u128::from(span_id));
        hex(&mut value[53..], u128::from(self.flags));
        value
    }

    /// Nanoseconds since 1970 of a moment in the request's life.
    pub(super) fn unix_nanos(&self, moment: Instant) -> u64 {
        self.started_unix_nanos + moment.saturating_duration_since(self.started).as_nanos() as u64
    }
}

/// Fills `out` with the lowest digits of a number.
fn hex(out: &mut [u8], mut number: u128) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Follow;
    use super::*;

    #[test]
    fn flags_and_ids_follow_the_decision() {
        let parent = |flags| Some(RemoteParent { trace_id: 0xabc, span_id: 0xdef, flags });
        let check = |ratio: f64, follow, parent: Option<RemoteParent>, trusted, expected: Option<(u128, &str)>| {
            let sampling = Sampling { ratio, follow, client_address: true };
            let trace = RequestTrace::begin(sampling, parent, trusted, 77, || 5, Instant::now());
            let found = trace.map(|trace| {
                assert_eq!((trace.span_id, trace.parent_id), (5, parent.map(|parent| parent.span_id)));
                (trace.trace_id, String::from_utf8(trace.traceparent(9)[36..].to_vec()).unwrap())
            });
            let found = found.as_ref().map(|(trace, rest)| (*trace, rest.as_str()));
            assert_eq!(found, expected, "{sampling:?} {parent:?} {trusted}");
        };
        // A new trace goes by chance.
        check(1.0, Follow::Any, None, false, Some((77, "0000000000000009-01")));
        check(0.0, Follow::Any, None, true, None);
        // Another one goes by its flag, if that is believed.
        check(0.0, Follow::Any, parent(1), false, Some((0xabc, "0000000000000009-01")));
        check(1.0, Follow::Any, parent(0), false, None);
        check(0.0, Follow::Trusted, parent(3), true, Some((0xabc, "0000000000000009-03")));
        check(1.0, Follow::Trusted, parent(0), false, Some((0xabc, "0000000000000009-01")));
        check(1.0, Follow::None, parent(0xf8), true, Some((0xabc, "0000000000000009-01")));
        // A flag that is not believed does not go on to the endpoint.
        check(0.0, Follow::None, parent(3), true, Some((0xabc, "0000000000000009-02")));
        check(0.0, Follow::None, parent(0), true, None);
    }

    #[test]
    fn ids_are_never_zero_and_clocks_agree() {
        let sampling = Sampling { ratio: 1.0, follow: Follow::Any, client_address: true };
        let started = Instant::now() - std::time::Duration::from_secs(1);
        let trace = RequestTrace::begin(sampling, None, false, 0, || 0, started).unwrap();
        assert_eq!((trace.trace_id, trace.span_id), (1, 1));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let age = now - trace.unix_nanos(started);
        assert!((1_000_000_000..2_000_000_000).contains(&age), "{age}");
        let later = started + std::time::Duration::from_micros(7);
        assert_eq!(trace.unix_nanos(later) - trace.unix_nanos(started), 7_000);
    }
}
