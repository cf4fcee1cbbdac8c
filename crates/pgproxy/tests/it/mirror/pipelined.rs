//! The same with several groups of messages in one write: what a later one means depends on what becomes of an earlier one, which nobody knows yet.
//!
//! Somebody else uses the same backends meanwhile, under the same names.

use std::sync::atomic::{AtomicBool, Ordering};

use testkit::{PgClient, PgMessages};

use super::{Pair, Random, number};
use crate::proxy::Proxy;

/// Texts of statements. Some fail: when they are parsed, bound, run.
const TEXTS: [&str; 18] = [
    "SELECT 1",
    "SELECT 'two', 2",
    "SELECT a FROM t ORDER BY a",
    "SELECT generate_series(1, 3)",
    "INSERT INTO written VALUES (7)",
    "SET work_mem = '5MB'",
    "SET LOCAL work_mem = '6MB'",
    "SHOW work_mem",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SELEC",
    "SELECT * FROM nowhere",
    "SELECT 1 / 0",
    "SELECT 1 / a FROM t WHERE a = 0",
    "SELECT 1 FROM pg_prepared_statements WHERE false",
    "",
];

/// Texts about names, which stand at the beginning of a group as simple queries. (In a group without `BEGIN` the last two end
/// PostgreSQL's connection: "unexpected state STARTED".)
const NAMING: [&str; 10] = [
    "PREPARE a AS SELECT 'text a'",
    "PREPARE b AS SELECT 'text b'",
    "PREPARE c AS SELECT * FROM nowhere",
    "EXECUTE a",
    "EXECUTE b",
    "DEALLOCATE a",
    "DEALLOCATE b",
    "DEALLOCATE ALL",
    "SAVEPOINT s",
    "ROLLBACK TO s",
];

const NAMES: [&str; 4] = ["", "", "a", "b"];

const PORTALS: [&str; 3] = ["", "", "p"];

fn bind(messages: PgMessages, portal: &str, name: &str) -> PgMessages {
    messages.raw(b'B', &[portal.as_bytes(), &[0], name.as_bytes(), &[0; 7]].concat())
}

fn execute(messages: PgMessages, portal: &str, rows_max: u8) -> PgMessages {
    messages.raw(b'E', &[portal.as_bytes(), &[0, 0, 0, 0, rows_max]].concat())
}

fn of_portal(messages: PgMessages, kind: u8, portal: &str) -> PgMessages {
    messages.raw(kind, &[b"P", portal.as_bytes(), &[0]].concat())
}

/// A group of messages with its end.
fn group(random: &mut Random, mut messages: PgMessages) -> PgMessages {
    if random.below(6) == 0 {
        return messages.query(random.one(&NAMING));
    }
    for _ in 0..1 + random.below(5) {
        let (name, portal, text) = (random.one(&NAMES), random.one(&PORTALS), random.one(&TEXTS));
        messages = match random.below(24) {
            0..6 => messages.parse(name, text),
            6..11 => execute(bind(messages, portal, name), portal, random.below(3) as u8),
            11..13 => execute(of_portal(bind(messages, portal, name), b'D', portal), portal, 0),
            13 => execute(messages, portal, 0),
            14 => of_portal(messages, b'C', portal),
            15..18 => messages.describe(name),
            18..20 => messages.close(name),
            20 => messages.raw(b'H', &[]),
            // It ends the group, or is passed over with it.
            21 => messages.query(text),
            _ => messages.parse(name, text).bind(name, &[]).execute(),
        };
    }
    messages.sync()
}

/// Groups that are sent in one write, or in two with a pause between.
fn some(random: &mut Random) -> Vec<PgMessages> {
    let mut all = PgMessages::default();
    let mut lengths = Vec::new();
    for _ in 0..2 + random.below(3) {
        if random.below(4) == 0 {
            all = all.query(random.one(&TEXTS));
        } else {
            all = group(random, all);
        }
        lengths.push(all.0.len());
    }
    if random.below(4) > 0 {
        return vec![all];
    }
    let rest = all.0.split_off(lengths[random.below(lengths.len() - 1)]);
    vec![all, PgMessages(rest)]
}

/// Uses backends as others do, until it is told to stop.
fn disturb(mut client: PgClient, seed: u64, is_over: &AtomicBool) {
    let mut random = Random(seed ^ 0x5eed);
    while !is_over.load(Ordering::Relaxed) {
        let name = random.one(&NAMES);
        let messages = PgMessages::default();
        let messages = match random.below(8) {
            0 => messages.parse(name, "SELECT 'another one'").bind(name, &[]).execute().close(name).sync(),
            1 => messages.parse("", "SELECT 'another one'").sync(),
            2 => messages.close("").sync(),
            3 => messages.query("SET work_mem = '7MB'"),
            4 => messages.query("DISCARD ALL"),
            5 => messages.query("BEGIN; SELECT 'another one'; COMMIT"),
            6 => messages.query("PREPARE a AS SELECT 'another one'").query("EXECUTE a").query("DEALLOCATE a"),
            _ => messages.parse("", "SELEC").sync(),
        };
        client.send(&messages.0).unwrap();
        let answers = messages.0.iter().filter(|byte| **byte == b'Q').count().max(1);
        for _ in 0..answers {
            client.answer().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_micros(random.below(300) as u64));
    }
}

fn mirror(proxy: &Proxy, seed: u64, steps: usize) {
    let is_over = AtomicBool::new(false);
    let mut pairs = [(); 2].map(|()| Pair::new(proxy));
    std::thread::scope(|scope| {
        let other = proxy.client();
        scope.spawn(|| disturb(other, seed, &is_over));
        let stops = Stops(&is_over);
        let mut random = Random(seed);
        for _ in 0..steps {
            let parts = some(&mut random);
            pairs[random.below(2)].say_all(&parts, proxy, seed);
        }
        drop(stops);
    });
    drop(pairs);
    proxy.check_accounts();
}

/// Has the other one stop, also where a test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn clients_who_send_groups_ahead_hear_what_they_would_hear_without_a_proxy() {
    let mut proxy = Proxy::start(|_| ());
    let tables = "CREATE TABLE t (a int); INSERT INTO t VALUES (0), (1); CREATE TABLE written (a int)";
    proxy.postgres.sql(0, tables).unwrap();
    for seed in (number("SEED")..).take(number("SEEDS") as usize) {
        for size in [1, 2] {
            proxy.params.pool.size = size;
            proxy.restart();
            mirror(&proxy, seed, 100);
        }
    }
}
