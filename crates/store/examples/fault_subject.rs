//! The store as `cargo xtask fault cache` breaks it: a process that stores, reads, or takes a mixed load, and says on standard output
//! what it did, line by line, so that whoever kills it knows what was done.
//!
//! An entry is called `k<number>`, has the tag `t<number % 16>`, and a body that is made of its number, so that each byte tells whether it
//! is right.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use store::{Begin, DiskParams, Head, How, Lookup, Mark, Outcome, Purge, Store, StoreParams};

const MIB: u64 = 1024 * 1024;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    match words[..] {
        ["write", folder, first] => write(Path::new(folder), number(first)),
        ["read", folder] => read(Path::new(folder)),
        ["full", folder, disk_mib] => full(Path::new(folder), number(disk_mib)),
        ["memory", mib, seconds] => memory(number(mib), Duration::from_secs(number(seconds)), cores()),
        ["memory", mib, seconds, threads] => memory(number(mib), Duration::from_secs(number(seconds)), number(threads)),
        _ => {
            eprintln!(
                "usage: fault_subject write FOLDER FIRST | read FOLDER | full FOLDER MIB | memory MIB SECONDS [THREADS]"
            );
            std::process::exit(2);
        }
    }
}

fn open(folder: &Path, memory: u64, disk: u64) -> Store {
    let disk = Some(DiskParams::new(folder, disk));
    Store::open(&StoreParams { disk, ..StoreParams::new(memory) }).expect("opens")
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listened has gone when this fails, and so does this process soon.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Most are small, some of a few chunks, a few larger than memory keeps whole.
fn length_of(number: u64) -> usize {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    match mixed % 100 {
        0..80 => (mixed >> 8) % 8_000,
        80..97 => (mixed >> 8) % 200_000,
        _ => 250_000 + (mixed >> 8) % 1_500_000,
    }
    .try_into()
    .expect("small")
}

/// Gives the body in pieces, as a connection would, without holding all of it.
fn for_each_piece(number: u64, mut take: impl FnMut(&[u8])) {
    let mut state = number ^ 0x5851_f42d_4c95_7f2d;
    let mut left = length_of(number);
    let mut piece = [0_u8; 30_000];
    while left > 0 {
        for bytes in piece.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.copy_from_slice(&state.to_be_bytes());
        }
        let count = left.min(piece.len());
        take(&piece[..count]);
        left -= count;
    }
}

fn body_of(number: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(length_of(number));
    for_each_piece(number, |piece| body.extend_from_slice(piece));
    body
}

fn store_one(store: &Store, number: u64) -> bool {
    let name = format!("k{number}");
    let Begin::Lead(lead) = store.begin(store.key(name.as_bytes()), &[]) else { return false };
    let marks = vec![Mark::tag(format!("t{}", number % 16).as_bytes())];
    let Ok(mut writer) = lead.start(Head { meta: name.clone().into(), marks, body_bytes: None }) else { return false };
    for_each_piece(number, |piece| writer.append(piece));
    writer.finish().is_ok()
}

/// Stores until it is killed.
fn write(folder: &Path, first: u64) {
    let store = open(folder, 16 * MIB, 512 * MIB);
    say("open");
    let runtime = runtime();
    for number in first.. {
        if store_one(&store, number) {
            say(&format!("stored {number}"));
        }
        if number % 400 == 399 {
            let tag = number % 7;
            let purge = Purge::mark(Mark::tag(format!("t{tag}").as_bytes()), How::Hard);
            let lasts = store.purge(purge).expect("purges").lasts();
            if runtime.block_on(lasts) {
                say(&format!("purged {tag} {number}"));
            }
        }
        // About as much as a disk of the slow kind takes.
        std::thread::sleep(Duration::from_micros(700));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// What is there of an entry, and whether it is right.
async fn find(store: &Store, number: u64) -> &'static str {
    let name = format!("k{number}");
    for _ in 0..3 {
        let follower = match store.lookup(store.key(name.as_bytes())) {
            Lookup::Hit(hit) => return judge(number, hit.object.meta(), &hit.object.chunks().concat()),
            Lookup::Miss => return "absent",
            Lookup::Coming(follower) => follower,
        };
        match follower.head().await {
            Outcome::Hit(hit) => return judge(number, hit.object.meta(), &hit.object.chunks().concat()),
            Outcome::Stream(mut reader) => {
                let (meta, mut all) = (reader.meta().clone(), Vec::new());
                return loop {
                    match reader.next().await {
                        Ok(Some(bytes)) => all.extend_from_slice(&bytes),
                        Ok(None) => break judge(number, &meta, &all),
                        // Broken off, which whoever reads is told.
                        Err(_) => break "absent",
                    }
                };
            }
            Outcome::Declined(_) | Outcome::Nothing => {}
        }
    }
    "absent"
}

fn judge(number: u64, meta: &[u8], body: &[u8]) -> &'static str {
    if meta == format!("k{number}").as_bytes() && body == body_of(number) { "there" } else { "wrong" }
}

/// Says of each number that it is given what is there.
fn read(folder: &Path) {
    let start = Instant::now();
    let store = open(folder, 16 * MIB, 512 * MIB);
    say(&format!("open {}", start.elapsed().as_millis()));
    let runtime = runtime();
    for line in std::io::stdin().lock().lines() {
        let Ok(number) = line.expect("a line").parse() else { continue };
        say(&format!("{} {number}", runtime.block_on(find(&store, number))));
    }
}

/// Stores much more than the disk takes, checks what comes back, and waits for the disk to come back when it is told that there is room.
fn full(folder: &Path, disk_mib: u64) {
    let store = open(folder, 16 * MIB, disk_mib * MIB);
    let runtime = runtime();
    let mut wrong = 0;
    for number in 0..4_000 {
        store_one(&store, number);
        let back = number.saturating_sub(number % 97);
        wrong += u64::from(runtime.block_on(find(&store, back)) == "wrong");
        std::thread::sleep(Duration::from_micros(300));
    }
    let disk = store.stats().disk.expect("a disk");
    say(&format!("wrong {wrong} errors {} written {} dropped {}", disk.errors, disk.writes, disk.writes_dropped));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("told that there is room");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    let free = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, free).expect("the soft limit goes up");
    let start = Instant::now();
    let mut number = 1_000_000;
    // The pause grows up to a minute, so that may take one.
    while start.elapsed() < Duration::from_secs(100) {
        let before = store.stats().disk.expect("a disk").writes;
        number += 1;
        store_one(&store, number);
        runtime.block_on(store.flush());
        if store.stats().disk.expect("a disk").writes > before + u64::from(length_of(number) > 0) - 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = start.elapsed().as_secs();
    assert!(store.close());
    let store = open(folder, 16 * MIB, disk_mib * MIB);
    say(&format!("back {} after {took} s", runtime.block_on(find(&store, number))));
}

/// As many threads as a gateway has on this machine.
fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// A mixed load on several threads: sizes from nothing to megabytes, popular and rare keys, purges.
fn memory(mib: u64, time: Duration, threads: u64) {
    let start = Instant::now();
    // What the process has anyway.
    say("empty");
    std::io::stdin().lock().read_line(&mut String::new()).expect("measured");
    let store = Store::open(&StoreParams::new(mib * MIB)).expect("opens");
    let threads: Vec<_> = (0..threads)
        .map(|seed| {
            let store = store.clone();
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut hits = 0_u64;
                while start.elapsed() < time {
                    // The square makes some much more popular than others, and phases have other keys and sizes.
                    let phase = start.elapsed().as_secs() / 3;
                    let number = (random.f64().powi(3) * mib as f64 * 300.0) as u64 + phase * 10_000;
                    let name = format!("k{number}");
                    match store.lookup(store.key(name.as_bytes())) {
                        Lookup::Hit(_) => hits += 1,
                        Lookup::Coming(_) => {}
                        Lookup::Miss => {
                            store_one(&store, number);
                        }
                    }
                }
                hits
            })
        })
        .collect();
    let hits: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    let stats = store.stats().memory;
    say(&format!("done {hits} hits, {stats:?}"));
    std::io::stdin().lock().read_line(&mut String::new()).expect("measured");
}
