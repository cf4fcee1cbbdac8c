//! The peak-sensitive average.

use std::time::Duration;

use balance::latency::{Decay, Moment, PeakEwma};
use proptest::prelude::*;

fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

/// The average after samples of so many milliseconds each at a time in milliseconds.
fn average(samples: &[(u64, u64)]) -> PeakEwma {
    samples.iter().fold(PeakEwma::default(), |average, &(millis, rtt)| {
        average.observe(at(millis), Duration::from_millis(rtt), Decay::default())
    })
}

#[test]
fn rises_at_once_and_falls_slowly() {
    let check = |samples: &[(u64, u64)], now: u64, expected_millis: f32| {
        let found = average(samples).decayed(at(now), Decay::default()) / 1e3;
        let close = (found - expected_millis).abs() <= expected_millis * 1e-3;
        assert!(close, "{samples:?} at {now}: {found} ms, not {expected_millis} ms");
    };
    check(&[], 5_000, 0.0);
    check(&[(0, 10)], 0, 10.0);
    // Half as much after ln 2 decay times.
    check(&[(0, 10)], 6_931, 5.0);
    check(&[(0, 10)], 20_000, 10.0 * 0.135_335);
    // A peak replaces, a quick answer moves by what the time since then is worth.
    check(&[(0, 10), (1, 500)], 1, 500.0);
    check(&[(0, 500), (0, 10)], 0, 500.0);
    check(&[(0, 500), (10_000, 10)], 10_000, 500.0 * 0.367_879 + 10.0 * 0.632_121);
    check(&[(0, 500), (100_000, 10)], 100_000, 10.022_245);
}

#[test]
fn a_clock_that_differs_between_cores_does_no_harm() {
    let known = average(&[(60_000, 100)]);
    // A reader whose clock is behind.
    assert_eq!(known.decayed(at(59_000), Decay::default()), 100_000.0);
    // A writer whose clock is behind neither moves the time back nor the average down.
    let late = known.observe(at(50_000), Duration::from_millis(1), Decay::default());
    assert_eq!(late, known);
}

#[test]
fn the_clock_of_32_bits_may_wrap() {
    let wrap = 1_u64 << 32;
    let known = average(&[(wrap - 5_000, 100)]);
    let found = known.decayed(at(wrap + 5_000), Decay::default());
    assert!((found - 36_787.9).abs() < 10.0, "{found}");
    // Untouched for a month: decayed, and not taken for the future.
    assert!(known.decayed(at(wrap + 30 * 86_400_000), Decay::default()) < 1.0);
}

#[test]
fn nothing_known_packs_to_zero() {
    assert_eq!(PeakEwma::default().pack(), 0);
    assert_eq!(PeakEwma::unpack(0), PeakEwma::default());
}

#[test]
fn the_shortest_response_is_not_unknown() {
    let known = PeakEwma::default().observe(at(0), Duration::ZERO, Decay::default());
    assert!(known.decayed(at(0), Decay::default()) > 0.0);
}

proptest! {
    #[test]
    fn packs_without_loss(millis: u32, rtt_micros in 0..10_000_000_u64) {
        let rtt = Duration::from_micros(rtt_micros);
        let known = PeakEwma::default().observe(at(u64::from(millis)), rtt, Decay::default());
        prop_assert_eq!(PeakEwma::unpack(known.pack()), known);
    }

    #[test]
    fn stays_between_the_quickest_and_the_slowest(
        samples in prop::collection::vec((0..20_000_u64, 1..1_000_u64), 1..50),
    ) {
        let mut now = 0;
        let samples: Vec<_> = samples.iter().map(|&(wait, rtt)| { now += wait; (now, rtt) }).collect();
        let found = average(&samples).decayed(at(now), Decay::default()) / 1e3;
        let rtts = samples.iter().map(|sample| sample.1 as f32);
        prop_assert!(found >= rtts.clone().fold(f32::MAX, f32::min) * 0.999);
        prop_assert!(found <= rtts.fold(0.0, f32::max) * 1.001);
    }
}
