//! Stampedes over several processes and one Redis: this test's own program, started again as a caller.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use cache::Cache;
use testkit::{Process, Redis, Signal};

use crate::{Product, product};

const PROCESSES: usize = 4;
const CALLERS: usize = 2500;
/// What a process needs to know to be a caller: where Redis is.
const SUBJECT: &str = "TENFOLD_CACHE_SUBJECT";
/// Longer than a process may stand still on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(1);

/// One of the processes of the tests below. By itself it does nothing.
#[test]
fn subject() {
    let Ok(url) = std::env::var(SUBJECT) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let builder = Cache::builder("product").memory(cache::MIB).redis(&url).redis_timeout(PATIENCE).lease(LEASE);
        let cache: Cache<u64, Product> = builder.build().await.unwrap();
        let client = redis::Client::open(url).unwrap();
        let without_end = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&without_end).await.unwrap();
        println!("ready");
        let _start: redis::Value = redis::cmd("BLPOP").arg("start").arg(0).query_async(&mut connection).await.unwrap();
        let callers = (0..CALLERS).map(|_| {
            let (cache, connection) = (cache.clone(), connection.clone());
            tokio::spawn(async move { cache.get_or_load(&7, || load(connection)).await })
        });
        let callers: Vec<_> = callers.collect();
        let mut answered = 0;
        for caller in callers {
            answered += u32::from(caller.await.unwrap().is_ok_and(|found| *found == product(7, "loaded")));
        }
        println!("answered {answered} {:?}", cache.stats());
    });
}

/// Tells who loads. The first one takes its time, and for ever where it is to be killed.
async fn load(mut connection: redis::aio::MultiplexedConnection) -> io::Result<Product> {
    let mut command = async |words: &[&str]| -> redis::Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await.unwrap()
    };
    let number = command(&["INCR", "loads"]).await;
    command(&["RPUSH", "leaders", &std::process::id().to_string()]).await;
    if number == redis::Value::Int(1) && command(&["EXISTS", "mortal"]).await == redis::Value::Int(1) {
        std::future::pending::<()>().await;
    }
    // Longer than the lease, so that it has to be extended.
    tokio::time::sleep(LEASE * 2).await;
    Ok(product(7, "loaded"))
}

fn start(redis: &Redis) -> Vec<Process> {
    let subjects: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "processes::subject", "--nocapture"]);
            command.env(SUBJECT, format!("redis://{}", redis.address()));
            let mut subject = Process::spawn("subject", command).unwrap();
            subject.wait_for_output("ready", PATIENCE).unwrap();
            subject
        })
        .collect();
    redis.command(&["RPUSH", "start", "1", "1", "1", "1"]).unwrap();
    subjects
}

/// Waits for the processes, each of which has to have answered all of its callers.
fn end(subjects: impl IntoIterator<Item = Process>) {
    for mut subject in subjects {
        subject.wait_for_output(&format!("answered {CALLERS} "), PATIENCE).unwrap();
    }
}

#[test]
fn ten_thousand_callers_in_four_processes_load_once() {
    let redis = Redis::start(&[]).unwrap();
    end(start(&redis));
    assert_eq!(redis.command(&["GET", "loads"]).unwrap(), ["1"]);
}

#[test]
fn a_killed_leader_costs_one_load_more_and_its_lease() {
    let redis = Redis::start(&[]).unwrap();
    redis.command(&["SET", "mortal", "1"]).unwrap();
    let mut subjects = start(&redis);
    let leader = redis.command(&["BLPOP", "leaders", "0"]).unwrap();
    let at = subjects.iter().position(|subject| subject.pids().contains(&leader[1].parse().unwrap())).unwrap();
    let killed = Instant::now();
    subjects[at].signal(Signal::KILL).unwrap();
    drop(subjects.swap_remove(at));
    let next = redis.command(&["BLPOP", "leaders", "0"]).unwrap();
    println!("another leads after {:?}", killed.elapsed());
    assert_ne!(next[1], leader[1]);
    // Beside the lease there is the time that a busy machine takes.
    assert!(killed.elapsed() < LEASE * 4, "{:?}", killed.elapsed());
    end(subjects);
    assert_eq!(redis.command(&["GET", "loads"]).unwrap(), ["2"]);
}
