//! Looks up many times, so that counting instructions of `--lookups N` and of `--lookups 2N` gives the cost of one by difference:
//! `valgrind --tool=callgrind hit_cost --what hit --lookups 100000`.
//!
//! Hits are of 10,000 entries of 1 KiB by a popularity that falls; `one` asks for one entry alone, `purged` purges a tag before every
//! hundredth, `miss` asks for keys that are not there, and `fill` stores them. `none` does the loop and the name of a key alone, so
//! that it can be subtracted.

use std::time::Instant;

use store::{Begin, Head, How, Lookup, Mark, Purge, Store, StoreParams};

const ENTRIES: u64 = 10_000;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (what, lookups) = match words[..] {
        ["--what", what, "--lookups", lookups] => (what, lookups.parse().unwrap_or(0)),
        _ => ("", 0),
    };
    if lookups == 0 || !["none", "hit", "one", "purged", "miss", "fill"].contains(&what) {
        eprintln!("usage: hit_cost --what NAME --lookups N");
        std::process::exit(2);
    }
    let store = Store::open(&StoreParams::new(64 * 1024 * 1024)).expect("opens");
    for number in 0..ENTRIES {
        fill(&store, number);
    }
    let start = Instant::now();
    let mut found = 0_u64;
    for round in 0..lookups {
        let number = number_of(what, round);
        let name = name(number);
        let bytes = &name[..];
        if what == "purged" && round % 100 == 0 {
            store.purge(Purge::mark(Mark::tag(b"other"), How::Hard)).expect("purges");
        }
        match what {
            "none" => found += u64::from(bytes[30] & 1),
            "fill" => fill(&store, number),
            _ => found += u64::from(matches!(store.lookup(store.key(bytes)), Lookup::Hit(_))),
        }
    }
    println!("{found} found, {} ns each", start.elapsed().as_nanos() as u64 / lookups);
}

fn number_of(what: &str, round: u64) -> u64 {
    let mixed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    let unit = mixed as f64 / (1_u64 << 53) as f64;
    match what {
        "one" => 7,
        "miss" | "fill" => ENTRIES + round,
        _ => (unit * unit * ENTRIES as f64) as u64,
    }
}

/// A key as long as they usually are.
fn name(number: u64) -> [u8; 52] {
    let mut name = *b"GET https://www.example.com/products/0000000000/page";
    let mut left = number;
    for digit in name[37..47].iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    name
}

fn fill(store: &Store, number: u64) {
    let name = name(number);
    let Begin::Lead(lead) = store.begin(store.key(&name), &[]) else { return };
    let marks = vec![Mark::key(&name), Mark::group(b"www.example.com"), Mark::tag(b"products")];
    let mut writer = lead.start(Head { meta: "200".into(), marks, body_bytes: Some(1024) }).expect("starts");
    writer.append(&[b'x'; 1024]);
    writer.finish().expect("whole");
}
