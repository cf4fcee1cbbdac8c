//! What the traffic saw: who answered in which scene, how fast, and what failed.

use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds of failure that are told apart; a broken demo must not print a page of them.
const REASONS_MAX: usize = 5;

#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Answers of each instance, scene by scene.
    scenes: Vec<Vec<u64>>,
    latencies: Vec<Duration>,
    failed: u64,
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new(instances: usize) -> Self {
        Self { scenes: vec![vec![0; instances]], latencies: Vec::new(), failed: 0, reasons: BTreeMap::new() }
    }

    /// What follows is counted apart from what came before.
    pub(super) fn next_scene(&mut self) {
        let instances = self.scenes[0].len();
        self.scenes.push(vec![0; instances]);
    }

    pub(super) fn answered(&mut self, instance: usize, latency: Duration) {
        let scene = self.scenes.last_mut().expect("there is a first scene");
        scene[instance] += 1;
        self.latencies.push(latency);
    }

    pub(super) fn failed_with(&mut self, reason: &str) {
        self.failed += 1;
        if self.reasons.len() < REASONS_MAX || self.reasons.contains_key(reason) {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn answers(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Reasons of failures, at most five kinds, and how often each was met.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        self.reasons.iter().map(|(reason, &times)| (reason.as_str(), times))
    }

    /// Answers of each instance, scene by scene.
    pub(super) fn scenes(&self) -> &[Vec<u64>] {
        &self.scenes
    }

    /// Latencies at the given shares (0 to 1), by nearest rank; `None` without answers.
    pub(super) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(shares.map(|share| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted[rank.saturating_sub(1).min(last)]
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_counted_apart() {
        let mut tally = Tally::new(2);
        tally.answered(0, Duration::ZERO);
        tally.next_scene();
        tally.answered(1, Duration::ZERO);
        tally.answered(1, Duration::ZERO);
        assert_eq!(tally.scenes(), [vec![1, 0], vec![0, 2]]);
        assert_eq!(tally.answers(), 3);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut tally = Tally::new(1);
        assert_eq!(tally.quantiles([0.5]), None);
        for millis in [5, 1, 4, 2, 3] {
            tally.answered(0, Duration::from_millis(millis));
        }
        let expected = [1, 3, 5, 5].map(Duration::from_millis);
        assert_eq!(tally.quantiles([0.0, 0.5, 0.99, 1.0]), Some(expected));
    }

    #[test]
    fn failures_are_all_counted_and_few_are_named() {
        let mut tally = Tally::new(1);
        for n in 0..20 {
            tally.failed_with(&format!("reason {n}"));
            tally.failed_with("reason 0");
        }
        assert_eq!(tally.failed(), 40);
        let reasons: Vec<_> = tally.reasons().collect();
        assert_eq!(reasons.len(), REASONS_MAX);
        assert_eq!(reasons[0], ("reason 0", 21));
    }
}
