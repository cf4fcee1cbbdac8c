//! What a hit costs, beside the bare engine and other caches: `cache_cost hits 20 200000` for rounds and lookups in each, and
//! `cache_cost redis redis://127.0.0.1:6379 10 1000` for rounds and milliseconds of each, beside the bare client. Subjects take
//! turns within a round, so that whatever else the machine does meets all of them. Prints lines of case, subject and number:
//! nanoseconds for a hit in memory, hits per second for Redis.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tenfold::cache::Cache;

const ENTRIES: u64 = 10_000;
const MEMORY_BYTES: u64 = 256 * tenfold::cache::MIB;
/// Callers at once of Redis, which share one connection.
const CALLERS: u64 = 64;
/// Threads of the runtime for Redis.
const WORKERS: usize = 2;
const VALUE_BYTES: usize = 1024;
const TTL: Duration = Duration::from_secs(3600);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["hits", rounds, lookups] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let lines = runtime.block_on(hits(rounds.parse()?, lookups.parse()?))?;
            lines.iter().for_each(|line| println!("{line}"));
        }
        ["redis", url, rounds, millis] => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
            let time = Duration::from_millis(millis.parse()?);
            let lines = runtime.block_on(redis(url.to_owned(), rounds.parse()?, time))?;
            lines.iter().for_each(|line| println!("{line}"));
        }
        _ => return Err("usage: cache_cost hits ROUNDS LOOKUPS | cache_cost redis URL ROUNDS MILLIS".into()),
    }
    Ok(())
}

fn text(number: u64) -> String {
    format!("product:{number:08}")
}

fn value(number: u64) -> String {
    format!("{number:0VALUE_BYTES$}")
}

/// Which entry a lookup asks for: some more often than others.
fn entry(round: u64) -> u64 {
    let mixed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    let unit = mixed as f64 / (1_u64 << 53) as f64;
    (unit * unit * ENTRIES as f64) as u64
}

/// Times a lookup for each entry of an order.
macro_rules! timed {
    ($order:expr, $at:ident => $lookup:expr) => {{
        let began = Instant::now();
        let mut bytes = 0;
        for &$at in $order {
            bytes += $lookup.map_or(0, |found| found.len());
        }
        let nanos = began.elapsed().as_nanos() as f64 / $order.len() as f64;
        assert_eq!(bytes, VALUE_BYTES * $order.len(), "all are hits");
        nanos
    }};
}

/// Hits in memory, by keys that are text and by keys that are numbers.
pub(crate) async fn hits(rounds: u64, lookups: u64) -> Result<Vec<String>> {
    let order: Vec<u64> = (0..lookups).map(entry).collect();
    let texts: Vec<String> = (0..ENTRIES).map(text).collect();
    let engine = quick_cache::sync::Cache::<String, Arc<String>>::new(2 * ENTRIES as usize);
    let numbered = quick_cache::sync::Cache::<u64, Arc<String>>::new(2 * ENTRIES as usize);
    let moka = moka::sync::Cache::builder().max_capacity(2 * ENTRIES).time_to_live(TTL).build();
    let foyer: foyer_memory::Cache<String, Arc<String>> = foyer_memory::CacheBuilder::new(2 * ENTRIES as usize).build();
    let tenfold = Cache::<str, String>::builder("text").memory(MEMORY_BYTES).ttl(TTL).build().await?;
    let tenfold_numbered = Cache::<u64, String>::builder("number").memory(MEMORY_BYTES).ttl(TTL).build().await?;
    for (number, key) in (0_u64..).zip(&texts) {
        // Each has values of its own, so that none finds them near because another one was asked before.
        engine.insert(key.clone(), Arc::new(value(number)));
        numbered.insert(number, Arc::new(value(number)));
        moka.insert(key.clone(), Arc::new(value(number)));
        foyer.insert(key.clone(), Arc::new(value(number)));
        tenfold.put(key, value(number)).await?;
        tenfold_numbered.put(&number, value(number)).await?;
    }
    let mut lines = Vec::new();
    for _ in 0..rounds {
        let mut note = |case: &str, subject: &str, nanos: f64| lines.push(format!("{case} {subject} {nanos:.2}"));
        note("text", "engine", timed!(&order, at => engine.get(texts[at as usize].as_str())));
        note("text", "tenfold", timed!(&order, at => tenfold.get(&texts[at as usize]).await));
        note("text", "moka", timed!(&order, at => moka.get(texts[at as usize].as_str())));
        note(
            "text",
            "foyer",
            timed!(&order, at => foyer.get(texts[at as usize].as_str()).map(|entry| Arc::clone(entry.value()))),
        );
        note("number", "engine", timed!(&order, at => numbered.get(&at)));
        note("number", "tenfold", timed!(&order, at => tenfold_numbered.get(&at).await));
    }
    Ok(lines)
}

/// Hits in Redis with nothing in memory.
pub(crate) async fn redis(url: String, rounds: u64, time: Duration) -> Result<Vec<String>> {
    let tenfold = Cache::<u64, String>::builder("bench").redis(&url).ttl(TTL).build().await?;
    let client = redis::Client::open(url)?;
    let bare = client.get_multiplexed_async_connection().await?;
    for number in 0..ENTRIES / 10 {
        tenfold.put(&number, value(number)).await?;
        let mut set = redis::cmd("SET");
        set.arg(text(number)).arg(value(number)).exec_async(&mut bare.clone()).await?;
    }
    let mut lines = Vec::new();
    for _ in 0..rounds {
        let connection = bare.clone();
        let one = move |number| {
            let mut bare = connection.clone();
            async move {
                let found: Option<String> = redis::cmd("GET").arg(text(number)).query_async(&mut bare).await?;
                Ok(found.map_or(0, |found| found.len()))
            }
        };
        lines.push(format!("redis client {:.0}", throughput(time, one).await?));
        let cache = tenfold.clone();
        let one = move |number| {
            let tenfold = cache.clone();
            async move { Ok(tenfold.get(&number).await.map_or(0, |found| found.len())) }
        };
        lines.push(format!("redis tenfold {:.0}", throughput(time, one).await?));
    }
    Ok(lines)
}

/// Lookups per second by callers that each wait for an answer before they ask again.
async fn throughput<F, Fut>(time: Duration, one: F) -> Result<f64>
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<usize>> + Send,
{
    let began = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let callers = (0..CALLERS).map(|caller| {
        let (one, done) = (one.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut round = caller * 1_000_003;
            while began.elapsed() < time {
                if one(entry(round) / 10).await? != VALUE_BYTES {
                    return Err("it was no hit".into());
                }
                done.fetch_add(1, Ordering::Relaxed);
                round += 1;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}
