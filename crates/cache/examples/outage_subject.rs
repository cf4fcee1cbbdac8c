//! A cache under load, as `cargo xtask fault outage` takes its Redis away: callers who hit hot keys in memory all the time, and ask now and
//! then for a key that nobody has asked for before.
//!
//! Standard input has a command a line, and each is answered by one: `load SECONDS` by what calls have met meanwhile; `back` when values are
//! shared through Redis again, by how long that took.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache::{Cache, Coherence, MIB, Reach};

/// Keys that are hit in memory.
const HOT: u64 = 64;
const CALLERS: usize = 4;
/// Hits for each miss, and the pause after them, so that the machine is not what is measured.
const HITS: usize = 200;
const PAUSE: Duration = Duration::from_millis(2);
/// A miss that takes longer has waited for Redis.
const SLOW: Duration = Duration::from_millis(100);
/// Beyond, what is gone does not come back.
const PATIENCE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(3600);

type Values = Cache<u64, String>;

/// How calls of one time went.
#[derive(Debug, Default)]
struct Calls {
    hits: Vec<u64>,
    misses: Vec<u64>,
    loads: u64,
    /// Hot keys that were not there any more.
    hot_loads: u64,
    wrong: u64,
}

fn main() {
    let url = std::env::args().nth(1).expect("usage: outage_subject URL");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(serve(&url));
}

async fn build(url: &str) -> Values {
    let builder = Cache::builder("outage").memory(64 * MIB).redis(url).ttl(TTL).jitter(0.0);
    builder.coherence(Coherence::BoundedStale(TTL)).build().await.expect("nothing is wrong with it")
}

async fn serve(url: &str) {
    let (values, elsewhere) = (build(url).await, build(url).await);
    for key in 0..HOT {
        let put = values.put(&key, value(key)).await.expect("it is small");
        assert_eq!(put, Reach::Everywhere, "there is a Redis at the beginning");
    }
    let next = Arc::new(AtomicU64::new(HOT));
    println!("ready");
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("load", seconds)) => {
                let time = Duration::from_secs_f64(seconds.parse().expect("a number"));
                println!("{}", tell(load(&values, &next, time).await, &values));
            }
            _ => println!("{}", back((&values, &elsewhere), &next).await),
        }
    }
}

fn value(key: u64) -> String {
    format!("value {key}")
}

async fn load(values: &Values, next: &Arc<AtomicU64>, time: Duration) -> Calls {
    let callers = (0..CALLERS).map(|_| tokio::spawn(call(values.clone(), Arc::clone(next), time)));
    let mut all = Calls::default();
    for caller in callers.collect::<Vec<_>>() {
        let calls = caller.await.expect("no caller panics");
        all.hits.extend(calls.hits);
        all.misses.extend(calls.misses);
        all.loads += calls.loads;
        all.hot_loads += calls.hot_loads;
        all.wrong += calls.wrong;
    }
    all
}

async fn call(values: Values, next: Arc<AtomicU64>, time: Duration) -> Calls {
    let (mut calls, began) = (Calls::default(), Instant::now());
    let [loads, hot_loads] = [AtomicU64::new(0), AtomicU64::new(0)];
    let one = async |key: u64| {
        let asked = Instant::now();
        let found = values.get_or_load(&key, || async {
            (if key < HOT { &hot_loads } else { &loads }).fetch_add(1, Ordering::Relaxed);
            Ok::<_, io::Error>(value(key))
        });
        let is_right = found.await.is_ok_and(|found| *found == value(key));
        (asked.elapsed().as_nanos() as u64, u64::from(!is_right))
    };
    while began.elapsed() < time {
        for _ in 0..HITS {
            let (nanos, wrong) = one(fastrand::u64(..HOT)).await;
            calls.hits.push(nanos);
            calls.wrong += wrong;
        }
        let (nanos, wrong) = one(next.fetch_add(1, Ordering::Relaxed)).await;
        calls.misses.push(nanos);
        calls.wrong += wrong;
        tokio::time::sleep(PAUSE).await;
    }
    (calls.loads, calls.hot_loads) = (loads.into_inner(), hot_loads.into_inner());
    calls
}

/// One line, of words and numbers in turn.
fn tell(calls: Calls, values: &Values) -> String {
    let Calls { mut hits, mut misses, loads, hot_loads, wrong } = calls;
    hits.sort_unstable();
    misses.sort_unstable();
    let of = |times: &[u64], part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let slow = misses.iter().filter(|nanos| **nanos > SLOW.as_nanos() as u64).count();
    let numbers = [
        ("hits", hits.len() as u64),
        ("hit_p50_ns", of(&hits, 0.5)),
        ("hit_p99_ns", of(&hits, 0.99)),
        ("misses", misses.len() as u64),
        ("miss_p50_ns", of(&misses, 0.5)),
        ("miss_p99_ns", of(&misses, 0.99)),
        ("slow", slow as u64),
        ("loads", loads),
        ("hot_loads", hot_loads),
        ("wrong", wrong),
        ("redis_is_up", u64::from(values.stats().redis_is_up)),
    ];
    numbers.map(|(word, number)| format!("{word} {number}")).join(" ")
}

/// Waits until what each instance puts is read by the other, through Redis.
async fn back((values, elsewhere): (&Values, &Values), next: &AtomicU64) -> String {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let mut shared = 0;
        for (writer, reader) in [(values, elsewhere), (elsewhere, values)] {
            let key = next.fetch_add(1, Ordering::Relaxed);
            let put = writer.put(&key, value(key)).await.expect("it is small");
            let is_read = reader.get(&key).await.is_some_and(|found| *found == value(key));
            shared += u32::from(put == Reach::Everywhere && is_read);
        }
        if shared == 2 {
            return format!("back_ms {}", began.elapsed().as_millis());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    "back_ms never".to_owned()
}
