//! What most tests need: candidates, counters, and all algorithms.

use std::cell::Cell;

use balance::{Algorithm, Availability, Candidate, Loads, Picker, Plan, Request, WEIGHT_UNIT, hash};

pub(crate) const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::Random,
    Algorithm::PowerOfTwo,
    Algorithm::PeakEwma,
    Algorithm::Ring,
    Algorithm::Maglev,
];

/// An available candidate of this configured weight.
pub(crate) fn candidate(index: usize, weight: u32) -> Candidate {
    Candidate {
        id: hash::endpoint_id(&format!("10.0.{}.{}:8080", index / 250, index % 250 + 1)),
        weight: weight * WEIGHT_UNIT,
        priority: 0,
        away: false,
        backup: false,
        availability: Availability::Available,
    }
}

pub(crate) fn candidates(weights: &[u32]) -> Vec<Candidate> {
    weights.iter().enumerate().map(|(index, &weight)| candidate(index, weight)).collect()
}

pub(crate) fn plan(algorithm: Algorithm, candidates: &[Candidate]) -> Plan {
    Plan::new(algorithm, candidates.to_vec()).expect("a test's candidates fit")
}

/// Live numbers that a test sets.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) in_flight: Vec<Cell<u32>>,
    pub(crate) latency_micros: Vec<Cell<f32>>,
}

impl Counters {
    pub(crate) fn idle(len: usize) -> Self {
        Self { in_flight: vec![Cell::new(0); len], latency_micros: vec![Cell::new(0.0); len] }
    }

    pub(crate) fn begin(&self, index: u16) {
        let count = &self.in_flight[usize::from(index)];
        count.set(count.get() + 1);
    }

    pub(crate) fn end(&self, index: u16) {
        let count = &self.in_flight[usize::from(index)];
        count.set(count.get() - 1);
    }
}

impl Loads for Counters {
    fn in_flight(&self, index: usize) -> u32 {
        self.in_flight[index].get()
    }

    fn latency_micros(&self, index: usize) -> f32 {
        self.latency_micros[index].get()
    }
}

/// One request that has no key and was not tried yet.
pub(crate) const FIRST: Request<'static> = Request { key: 0, tried: &[] };

/// How often each candidate comes up in a number of picks by different keys while nothing is under way.
pub(crate) fn shares(plan: &Plan, picker: &mut Picker, picks: u64) -> Vec<u64> {
    let loads = Counters::idle(plan.len());
    let mut counts = vec![0; plan.len()];
    for pick in 0..picks {
        let request = Request { key: hash::bytes(&pick.to_le_bytes()), tried: &[] };
        let position = picker.pick(plan, request, &loads).expect("someone is available");
        counts[usize::from(position)] += 1;
        picker.touch(plan, position, &loads);
    }
    counts
}
