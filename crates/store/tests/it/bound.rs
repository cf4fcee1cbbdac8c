//! Resident memory keeps to the bound of a small store that several threads use.

use std::process::Command;

use store::{Begin, Head, Lookup};

use crate::streams::Random;
use crate::tier::{MIB, store};

const BOUND: u64 = 32 * MIB;
const THREADS: u64 = 4;
/// Of each thread: enough that what is there is replaced some fifty times, which takes seconds.
const FETCHES: u64 = 8_000;

/// Most are small, some of a few chunks, a few of many.
fn length(random: &mut Random) -> usize {
    let length = match random.below(100) {
        0..80 => random.below(8_000),
        80..97 => random.below(200_000),
        _ => 250_000 + random.below(1_500_000),
    };
    length as usize
}

/// Set in the process that takes the load.
const LOADED: &str = "STORE_TEST_LOADED";

/// A mixed load, at the end of which this process says what it took.
fn take_load() {
    let resident = || testkit::procfs::rss_bytes(std::process::id()).expect("a process");
    let before = resident();
    let store = store(BOUND);
    let work = |seed: u64| {
        let store = store.clone();
        std::thread::spawn(move || {
            let mut random = Random::new(seed);
            let piece = vec![seed as u8; 30_000];
            let (mut fetched, mut most) = (0, 0);
            while fetched < FETCHES {
                // Other keys of other sizes come as time goes on.
                let key = format!("{seed} {}", random.below(2_000) + fetched);
                if !matches!(store.lookup(store.key(key.as_bytes())), Lookup::Miss) {
                    continue;
                }
                let Begin::Lead(lead) = store.begin(store.key(key.as_bytes()), &[]) else { panic!("free") };
                let mut left = length(&mut random);
                let known = (random.below(2) == 0).then_some(left as u64);
                // Refused is what comes while others fetch too much.
                let Ok(mut writer) = lead.start(Head { body_bytes: known, ..Head::default() }) else { continue };
                while left > 0 {
                    let count = left.min(piece.len());
                    writer.append(&piece[..count]);
                    left -= count;
                }
                writer.finish().expect("whole");
                fetched += 1;
                if fetched % 50 == 0 {
                    most = most.max(resident());
                }
            }
            most
        })
    };
    let threads: Vec<_> = (0..THREADS).map(work).collect();
    let most = threads.into_iter().map(|thread| thread.join().expect("no panic")).max().expect("threads");
    let stats = store.stats().memory;
    assert!(stats.bytes > BOUND / 4 * 3 && stats.evictions > 10_000, "{stats:?}");
    println!("resident {} of {BOUND}.", most - before);
}

#[test]
fn resident_memory_keeps_to_the_bound() {
    if std::env::var_os(LOADED).is_some() {
        return take_load();
    }
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.args(["--exact", "bound::resident_memory_keeps_to_the_bound", "--nocapture"]);
    // The allocator as `tenfold run` sets it.
    command.env(LOADED, "1").env("MALLOC_TRIM_THRESHOLD_", "4194304");
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let words = said.split_whitespace().skip_while(|word| *word != "resident");
    let taken: u64 = words.skip(1).find_map(|word| word.parse().ok()).expect("a number");
    println!("{:.2} times the bound", taken as f64 / BOUND as f64);
    assert!(taken as f64 <= 1.25 * BOUND as f64, "{taken} bytes of {BOUND}");
}
