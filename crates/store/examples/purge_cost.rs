//! What purging costs whoever purges: as many marks as are remembered, purged softly again and again in a store with a disk, whose journal is
//! written anew all the time. Prints the longest that one purge took, and one lookup beside it; and the most time that a purge itself ran, which others
//! on the machine do not change.
//!
//! Arguments: how many marks, and how often each is purged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use store::{DiskParams, Head, How, Mark, Purge, Store, StoreParams};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>().expect("a number"));
    let (marks, rounds) = (arguments.next().unwrap_or(262_144), arguments.next().unwrap_or(9));
    let folder = std::env::temp_dir().join(format!("tenfold-purge-cost-{}", std::process::id()));
    let disk = Some(DiskParams::new(&folder, 64 << 20));
    let store = Store::open(&StoreParams { disk, ..StoreParams::new(64 << 20) }).expect("opens");
    let head = Head { marks: vec![Mark::tag(b"stays")], ..Head::default() };
    store.put(store.key(b"k"), store.token(), head, b"body").expect("small");
    let is_done = AtomicBool::new(false);
    let (mut longest, mut most, mut sum) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let lookup = std::thread::scope(|scope| {
        let lookups = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !is_done.load(Ordering::Relaxed) {
                let began = Instant::now();
                let found = store.in_memory(store.key(b"k"));
                longest = longest.max(began.elapsed());
                assert!(found.is_some());
                std::thread::sleep(Duration::from_micros(50));
            }
            longest
        });
        // Once more, of other marks: the oldest of all make room.
        for round in 0..=rounds {
            let (mut round_longest, mut round_most) = (Duration::ZERO, Duration::ZERO);
            for mark in 0..marks {
                let name = if round == rounds { marks + mark } else { mark };
                let purge = Purge::mark(Mark::tag(&name.to_le_bytes()), How::Soft).at(1 + 60 * round);
                let (began, ran) = (Instant::now(), own_time());
                store.purge(purge).expect("no prefix");
                let (took, ran) = (began.elapsed(), own_time() - ran);
                round_most = round_most.max(ran);
                (round_longest, sum) = (round_longest.max(took), sum + took);
            }
            println!("round {round}: the longest purge took {round_longest:?} and ran for {round_most:?}");
            (longest, most) = (longest.max(round_longest), most.max(round_most));
        }
        is_done.store(true, Ordering::Relaxed);
        lookups.join().expect("it ends")
    });
    let each = sum / (marks * (rounds + 1));
    println!(
        "{each:?} for each; the longest purge took {longest:?} and ran for {most:?}, the longest lookup {lookup:?}"
    );
    store.close();
    let _it_may_be_gone = std::fs::remove_dir_all(&folder);
}

/// For how long this thread has run.
fn own_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
