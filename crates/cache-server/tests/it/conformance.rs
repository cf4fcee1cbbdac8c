//! Random commands, the same to this and to a real Redis: the answers are the same.

use std::fmt::Write as _;

use testkit::{Redis, Reply, RespClient};

use crate::site::{Site, client, params};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "key with spaces"];
const VALUES: [&str; 12] =
    ["", "x", "0", "7", "-3", "+5", "007", " 1", "9223372036854775807", "-9223372036854775808", "1.5", "a\r\nb\0c"];
const NUMBERS: [&str; 10] =
    ["0", "1", "-1", "100", "10000000", "9223372036854775807", "-9223372036854775808", "9223372036854775", "x", ""];
/// Lives that have passed, or are none. Those that are neither are drawn: long, so that none passes between a command to the one server
/// and the same to the other; and no two alike, as which of two is longer would be up to the clocks then.
const LIVES: [&str; 6] = ["0", "-1", "-5000", "x", "9223372036854775807", "9223372036854775"];
const LONG: std::ops::Range<u64> = 10_000_000..1_000_000_000;
/// Since 1970: long ago. Those in some thousand years, in seconds or milliseconds, are drawn.
const MOMENTS: [&str; 4] = ["1", "1000", "0", "-1"];
const LATE: std::ops::Range<u64> = 90_000_000_000_000..100_000_000_000_000;

/// Answers to these are compared loosely: the clocks of two processes are read at two moments.
const TIMES: [&str; 2] = ["ttl", "pttl"];

struct Draw(fastrand::Rng);

impl Draw {
    fn of<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.0.usize(..words.len())]
    }

    fn key(&mut self) -> &'static str {
        self.of(&KEYS)
    }

    fn life(&mut self) -> String {
        if self.0.u8(..3) == 0 { self.0.u64(LONG).to_string() } else { self.of(&LIVES).to_owned() }
    }

    fn moment(&mut self) -> String {
        if self.0.u8(..4) == 0 { self.0.u64(LATE).to_string() } else { self.of(&MOMENTS).to_owned() }
    }

    fn life_option(&mut self, to: &mut Vec<String>) {
        let (name, value) = match self.0.u8(..4) {
            0 => ("EX", self.life()),
            1 => ("px", self.life()),
            2 => ("EXAT", self.moment()),
            _ => ("PXAT", self.moment()),
        };
        to.push(name.to_owned());
        if self.0.u8(..20) > 0 {
            to.push(value);
        }
    }

    fn set(&mut self) -> Vec<String> {
        let mut parts = vec!["SET".to_owned(), self.key().to_owned(), self.of(&VALUES).to_owned()];
        for _ in 0..self.0.u8(..3) {
            match self.0.u8(..8) {
                0 | 1 => self.life_option(&mut parts),
                2 => parts.push("NX".to_owned()),
                3 => parts.push("xx".to_owned()),
                4 => parts.push("GET".to_owned()),
                5 => parts.push("KEEPTTL".to_owned()),
                6 => parts.push("bogus".to_owned()),
                _ => {}
            }
        }
        parts
    }

    fn expire(&mut self) -> Vec<String> {
        let name = self.of(&["EXPIRE", "PEXPIRE", "EXPIREAT", "pexpireat"]);
        let value = if name.to_lowercase().ends_with("at") { self.moment() } else { self.life() };
        let mut parts = vec![name.to_owned(), self.key().to_owned(), value];
        for _ in 0..self.0.u8(..3) {
            parts.push(self.of(&["NX", "xx", "GT", "lt", "bogus"]).to_owned());
        }
        parts
    }

    fn command(&mut self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (key, other, value) = (self.key(), self.key(), self.of(&VALUES));
        match self.0.u8(..33) {
            0..=3 => words(&[self.of(&["GET", "get", "gEt"]), key]),
            4..=8 => self.set(),
            9..=10 => self.expire(),
            11 => words(&["MGET", key, other, "nothing"]),
            12 => words(&["MSET", key, value, other, self.of(&VALUES)]),
            13 => words(&[self.of(&["DEL", "UNLINK"]), key, other]),
            14 => words(&["EXISTS", key, other, key]),
            15 => words(&["SETEX", key, &self.life(), value]),
            16 => words(&["PSETEX", key, &self.life(), value]),
            17 => words(&["SETNX", key, value]),
            18 => words(&["GETSET", key, value]),
            19 => words(&["GETDEL", key]),
            20 => {
                let mut parts = words(&["GETEX", key]);
                match self.0.u8(..4) {
                    0 => parts.push("PERSIST".to_owned()),
                    1 => {}
                    _ => self.life_option(&mut parts),
                }
                parts
            }
            21 => words(&["PERSIST", key]),
            22..=24 => words(&[self.of(&TIMES), key]),
            25 => words(&[self.of(&["INCR", "DECR"]), key]),
            26 => words(&[self.of(&["INCRBY", "DECRBY"]), key, self.of(&NUMBERS)]),
            27 => words(&["STRLEN", key]),
            28 => words(&["TYPE", key]),
            29 => words(&[self.of(&["PING", "ECHO"]), value]),
            30 => words(&["SELECT", self.of(&["0", "x", "-1", "99"])]),
            31 if self.0.u8(..20) == 0 => {
                words(&[self.of(&["FLUSHALL", "FLUSHDB"]), self.of(&["ASYNC", "sync", "bogus"])])
            }
            // Too few, and too many.
            31 => words(&[self.of(&["GET", "SET", "MSET", "DEL", "EXPIRE", "INCR", "TTL", "PING", "ECHO", "SETEX"])]),
            _ => words(&[self.of(&["GET", "MSET", "SETNX", "TTL", "PING", "TYPE", "STRLEN"]), key, value, other]),
        }
    }
}

fn is_alike(parts: &[String], ours: &Reply, theirs: &Reply) -> bool {
    match (ours, theirs) {
        (Reply::Integer(ours), Reply::Integer(theirs)) if TIMES.contains(&parts[0].as_str()) => {
            // Time that may go by between the two servers, and a second that rounding may add.
            let near = if parts[0] == "ttl" { 60 } else { 60_000 };
            (ours - theirs).abs() <= near && (*ours < 0) == (*theirs < 0)
        }
        _ => ours == theirs,
    }
}

#[test]
fn answers_are_those_of_redis() {
    let redis = Redis::start(&[]).expect("a Redis");
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let rounds = if cfg!(debug_assertions) { 6 } else { 30 };
    for seed in 0..rounds {
        let (mut ours, mut theirs) = (client(&params), RespClient::connect(redis.address()).expect("a connection"));
        let version = if seed % 2 == 0 { "2" } else { "3" };
        for client in [&mut ours, &mut theirs] {
            client.command(&["HELLO", version]).expect("an answer");
            client.command(&["FLUSHALL"]).expect("an answer");
        }
        let (mut draw, mut story) = (Draw(fastrand::Rng::with_seed(seed)), String::new());
        for _ in 0..3000 {
            let parts = draw.command();
            let (ours, theirs) = (ours.command(&parts).expect("an answer"), theirs.command(&parts).expect("an answer"));
            let _ = writeln!(story, "{parts:?} -> {theirs:?}");
            if !is_alike(&parts, &ours, &theirs) {
                let last: Vec<_> = story.lines().rev().take(30).collect();
                panic!(
                    "seed {seed}: {parts:?}: {ours:?} instead of {theirs:?}\nbefore, the last first:\n{}",
                    last.join("\n")
                );
            }
        }
    }
}
