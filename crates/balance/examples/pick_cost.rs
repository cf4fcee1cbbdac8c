//! Picks many times among 100 candidates, so that counting instructions of `--picks N` and of `--picks 2N` gives the
//! cost of one pick by difference: `valgrind --tool=callgrind pick_cost --algorithm maglev --picks 100000`.
//!
//! Each pick is surrounded by what a gateway does: the live count rises after it, falls again 64 picks later, and the
//! picker is told (`touch`). Keys come from a short generator and stand for hashes. `--algorithm none` does all that
//! without picking and telling, so that it can be subtracted. A name that ends in `_bounded` has a load factor of 1.25, and
//! one that ends in `_spilling` a first priority of which half is out.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use balance::latency::{Decay, Moment, PeakEwma};
use balance::{Algorithm, Availability, Candidate, Loads, Picker, Plan, Request, WEIGHT_UNIT, hash};

const CANDIDATES: usize = 100;
const CONCURRENCY: usize = 64;

/// Atomics, as a gateway has them.
struct Endpoints {
    in_flight: Vec<AtomicU32>,
    latency: Vec<AtomicU64>,
    now: Moment,
    decay: Decay,
}

impl Loads for Endpoints {
    fn in_flight(&self, index: usize) -> u32 {
        self.in_flight[index].load(Ordering::Relaxed)
    }

    fn latency_micros(&self, index: usize) -> f32 {
        PeakEwma::unpack(self.latency[index].load(Ordering::Relaxed)).decayed(self.now, self.decay)
    }
}

fn main() {
    match arguments(std::env::args().skip(1)) {
        Ok((setup, picks)) => println!("checksum {}", run(setup, picks)),
        Err(problem) => {
            eprintln!("pick_cost: {problem}\nusage: pick_cost --algorithm NAME --picks N");
            std::process::exit(2);
        }
    }
}

/// What is measured.
#[derive(Clone, Copy)]
struct Setup {
    algorithm: Option<Algorithm>,
    load_factor: Option<f64>,
    /// Whether half of a first priority is out, so that traffic spills to a second one.
    spills: bool,
}

fn run(setup: Setup, picks: u64) -> u64 {
    // Weights 1 to 5, so that no shortcut for equal weights is measured.
    let Setup { algorithm, load_factor, spills } = setup;
    let candidate = |index: usize| Candidate {
        id: hash::endpoint_id(&format!("10.0.0.{index}:8080")),
        weight: WEIGHT_UNIT * (1 + index as u32 % 5),
        priority: u8::from(spills && index % 2 == 1),
        away: false,
        backup: false,
        availability: if spills && index.is_multiple_of(4) {
            Availability::Unavailable
        } else {
            Availability::Available
        },
    };
    let candidates = (0..CANDIDATES).map(candidate).collect();
    let plan = Plan::with_load_factor(algorithm.unwrap_or(Algorithm::Random), load_factor, candidates)
        .expect("100 candidates fit");
    let latency = |index: usize| {
        let rtt = Duration::from_millis(5 + index as u64 % 7);
        let average = PeakEwma::default().observe(Moment::new(Duration::ZERO), rtt, Decay::default());
        AtomicU64::new(average.pack())
    };
    let endpoints = Endpoints {
        in_flight: (0..CANDIDATES).map(|_| AtomicU32::new(0)).collect(),
        latency: (0..CANDIDATES).map(latency).collect(),
        now: Moment::new(Duration::from_millis(700)),
        decay: Decay::default(),
    };
    let mut picker = Picker::new(1);
    let mut under_way: [Option<u16>; CONCURRENCY] = [None; CONCURRENCY];
    let (mut key, mut checksum) = (0_u64, 0_u64);
    for pick in 0..picks {
        key = key.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let request = Request { key, tried: &[] };
        let position = match algorithm {
            Some(_) => picker.pick(&plan, request, &endpoints).expect("all are available"),
            None => (key >> 32) as u16 % CANDIDATES as u16,
        };
        endpoints.in_flight[usize::from(position)].fetch_add(1, Ordering::Relaxed);
        if let Some(ended) = under_way[pick as usize % CONCURRENCY].replace(position) {
            endpoints.in_flight[usize::from(ended)].fetch_sub(1, Ordering::Relaxed);
            if algorithm.is_some() {
                picker.touch(&plan, ended, &endpoints);
            }
        }
        checksum = checksum.wrapping_mul(31).wrapping_add(u64::from(position));
    }
    checksum
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<(Setup, u64), String> {
    let (mut setup, mut picks) = (None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} lacks its value"))?;
        match word.as_str() {
            "--algorithm" => setup = Some(named(&value)?),
            "--picks" => picks = Some(value.parse().map_err(|error| format!("--picks {value}: {error}"))?),
            _ => return Err(format!("{word} is not an option")),
        }
    }
    Ok((setup.ok_or("--algorithm is missing")?, picks.ok_or("--picks is missing")?))
}

fn named(name: &str) -> Result<Setup, String> {
    let plain = name.trim_end_matches("_bounded").trim_end_matches("_spilling");
    let algorithm = match plain {
        "round_robin" => Some(Algorithm::RoundRobin),
        "least_connections" => Some(Algorithm::LeastConnections),
        "random" => Some(Algorithm::Random),
        "power_of_two" => Some(Algorithm::PowerOfTwo),
        "peak_ewma" => Some(Algorithm::PeakEwma),
        "ring" => Some(Algorithm::Ring),
        "maglev" => Some(Algorithm::Maglev),
        "none" => None,
        _ => return Err(format!("--algorithm {name}: is no algorithm")),
    };
    let load_factor = name.ends_with("_bounded").then_some(1.25);
    Ok(Setup { algorithm, load_factor, spills: name.ends_with("_spilling") })
}
