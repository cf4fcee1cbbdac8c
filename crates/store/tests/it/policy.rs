//! Hit ratios of the store's policy beside naive models of others, on streams of each kind.

use store::simulate::{Report, Simulation};

use crate::streams;

/// On one stream, what others may be better by, in points.
const SHORTFALL_MAX: f64 = 2.0;
/// And on average over all of them.
const SHORTFALL_MEAN_MAX: f64 = 1.0;

fn run(keys: &[u64], size: usize) -> Report {
    let mut simulation = Simulation::new(size);
    keys.iter().for_each(|key| simulation.request(&key.to_le_bytes()));
    simulation.report()
}

#[test]
fn no_other_policy_is_much_better_on_any_stream() {
    let mut shortfalls = Vec::new();
    for stream in streams::all() {
        for size in stream.sizes {
            let report = run(&stream.keys, size);
            let points = |hits: u64| 100.0 * hits as f64 / report.requests as f64;
            let hits = report.hits;
            let best = hits.lru.max(hits.arc).max(hits.s3_fifo);
            let shortfall = points(best) - points(hits.tenfold);
            println!(
                "| {} | {size} | {:.1} | {:.1} | {:.1} | {:.1} | {:+.1} |",
                stream.name,
                points(hits.tenfold),
                points(hits.lru),
                points(hits.arc),
                points(hits.s3_fifo),
                -shortfall
            );
            assert!(shortfall <= SHORTFALL_MAX, "{} with {size}: {report:?}", stream.name);
            shortfalls.push(shortfall.max(0.0));
        }
    }
    let mean = shortfalls.iter().sum::<f64>() / shortfalls.len() as f64;
    println!("mean shortfall: {mean:.2} points");
    assert!(mean <= SHORTFALL_MEAN_MAX, "{mean}");
}

#[test]
fn sizes_at_the_edges_are_simulated() {
    for size in [0, 1, 2, 3, 10] {
        let keys: Vec<u64> = (0..200).map(|at| at % 7).collect();
        let report = run(&keys, size);
        assert_eq!((report.requests, report.keys), (200, 7), "{size}");
        assert!(report.hits.tenfold <= 193, "{size}");
        assert_eq!(report.hits.tenfold == 193, size == 10, "{size}: {report:?}");
    }
}
