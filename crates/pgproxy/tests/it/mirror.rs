//! What clients hear through the proxy is what they hear without it: any messages, sent to both.

mod pipelined;

use std::time::Duration;

use testkit::{PgClient, PgMessage, PgMessages};

use crate::proxy::Proxy;

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

/// A client of the proxy, and one of the server itself that says the same.
struct Pair {
    proxied: PgClient,
    direct: PgClient,
    said: usize,
    /// What was said lately.
    lately: Vec<Vec<String>>,
}

/// How much is told of what was said before.
const LATELY_MAX: usize = 6;

impl Pair {
    fn new(proxy: &Proxy) -> Self {
        Self { proxied: proxy.client(), direct: connect(proxy), said: 0, lately: Vec::new() }
    }

    fn send(&mut self, messages: &PgMessages) {
        // What comes of it shows.
        let _of_proxied = self.proxied.send(&messages.0);
        let _of_direct = self.direct.send(&messages.0);
    }

    /// Says messages and an end to them, and holds what comes of it against each other.
    fn say(&mut self, parts: &[PgMessages], proxy: &Proxy, seed: u64) {
        self.said += 1;
        let (mut proxied, mut direct) = (Vec::new(), Vec::new());
        for part in parts {
            self.send(part);
            if ends(part) {
                hear(&mut self.proxied, &mut proxied, "");
                hear(&mut self.direct, &mut direct, "");
            } else {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        self.end(parts, (proxied, direct), proxy, seed);
    }

    /// Says all of them without waiting for answers.
    fn say_all(&mut self, parts: &[PgMessages], proxy: &Proxy, seed: u64) {
        self.said += 1;
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.send(part);
        }
        self.end(parts, (Vec::new(), Vec::new()), proxy, seed);
    }

    fn end(&mut self, parts: &[PgMessages], heard: (Vec<String>, Vec<String>), proxy: &Proxy, seed: u64) {
        let (mut proxied, mut direct) = heard;
        let end = format!("end{}", self.said);
        self.send(
            &PgMessages::default().sync().query(&format!("ROLLBACK; SELECT current_setting('work_mem'), '{end}'")),
        );
        hear(&mut self.proxied, &mut proxied, &end);
        hear(&mut self.direct, &mut direct, &end);
        if self.lately.len() == LATELY_MAX {
            self.lately.remove(0);
        }
        self.lately.push(parts.iter().map(|part| names(&part.0)).collect());
        if proxied != direct && is_for_want_of_a_plan(&proxied, &direct) {
            (self.proxied, self.direct) = (proxy.client(), connect(proxy));
        } else if proxied != direct {
            let said = &self.lately;
            panic!("seed {seed}, after {said:#?}:\nproxied {proxied:#?}\n direct {direct:#?}");
        }
    }
}

fn connect(proxy: &Proxy) -> PgClient {
    PgClient::connect(proxy.postgres.port(0), "postgres", "postgres", "").unwrap()
}

/// Whether they differ first in this: a server describes a statement without rows also in a transaction that has failed. Where it has not got the
/// statement, as another backend had it before, it cannot be told of it there.
fn is_for_want_of_a_plan(proxied: &[String], direct: &[String]) -> bool {
    let first = proxied.iter().zip(direct).find(|(proxied, direct)| proxied != direct);
    first.is_some_and(|(proxied, direct)| proxied.starts_with("E 25P02") && direct.starts_with('t'))
}

/// Whether it ends a group.
fn ends(part: &PgMessages) -> bool {
    part.0.ends_with(&PgMessages::default().sync().0)
}

/// What comes up to the end of what has this row.
fn hear(client: &mut PgClient, heard: &mut Vec<String>, row: &str) {
    let mut is_last = row.is_empty();
    loop {
        let message = match client.message() {
            Ok(message) => message,
            Err(error) => return heard.push(error.to_string()),
        };
        is_last |= message.tag == b'D' && String::from_utf8_lossy(&message.body).ends_with(row);
        if !matches!(message.tag, b'S' | b'N' | b'A') {
            heard.push(told(&message));
        }
        if is_last && message.tag == b'Z' {
            return;
        }
    }
}

fn told(message: &PgMessage) -> String {
    let tag = char::from(message.tag);
    match message.tag {
        b'E' => format!("E {} {}", message.field(b'C'), message.field(b'M')),
        _ => format!("{tag} {}", String::from_utf8_lossy(&message.body)),
    }
}

/// The letters of messages.
fn names(mut bytes: &[u8]) -> String {
    let mut names = String::new();
    while let Some((head, _)) = bytes.split_first_chunk::<5>() {
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let body = String::from_utf8_lossy(&bytes[5..1 + len]).replace('\0', "|");
        names.push_str(&format!("{}({body}) ", char::from(head[0])));
        bytes = &bytes[1 + len..];
    }
    names
}

/// Texts of statements. The last ones fail: when they are parsed, bound, run.
const TEXTS: [&str; 9] = [
    "SELECT 1",
    "SELECT 'two', 2",
    "SELECT a FROM t ORDER BY a",
    "INSERT INTO written VALUES (7)",
    "SET work_mem = '5MB'",
    "SHOW work_mem",
    "SELEC",
    "SELECT 1 / 0",
    "SELECT 1 / a FROM t WHERE a = 0",
];

const NAMES: [&str; 4] = ["", "a", "b", "c"];

/// Messages of some groups, taken apart where answers are asked for, or a group ends.
fn some(random: &mut Random) -> Vec<PgMessages> {
    let (mut parts, mut last, mut is_last_group) = (Vec::new(), PgMessages::default(), false);
    for _ in 0..1 + random.below(10) {
        let (name, text) = (random.one(&NAMES), random.one(&TEXTS));
        last = match random.below(20) {
            0..5 => last.parse(name, text),
            5..9 => last.bind(name, &[]).execute(),
            9..11 => last.bind(name, &[]).raw(b'D', b"P\0").execute(),
            11..13 => last.describe(name),
            13..15 => last.close(name),
            15 => {
                is_last_group = true;
                last.query(text)
            }
            16..18 if !is_last_group => {
                parts.push(last.sync());
                PgMessages::default()
            }
            _ => {
                parts.push(last.raw(b'H', &[]));
                PgMessages::default()
            }
        };
    }
    parts.push(last);
    parts
}

fn mirror(seed: u64, steps: usize) {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    proxy
        .postgres
        .sql(0, "CREATE TABLE t (a int); INSERT INTO t VALUES (0), (1); CREATE TABLE written (a int)")
        .unwrap();
    let mut random = Random(seed);
    let mut pairs = [(); 3].map(|()| Pair::new(&proxy));
    // Whoever has one of both backends meanwhile.
    let mut holder = proxy.client();
    for _ in 0..steps {
        match random.below(6) {
            0 => drop(holder.query("BEGIN").unwrap()),
            1 => drop(holder.query("COMMIT").unwrap()),
            _ => {}
        }
        let parts = some(&mut random);
        pairs[random.below(3)].say(&parts, &proxy, seed);
    }
    drop((pairs, holder));
    proxy.check_accounts();
}

/// `SEED` and `SEEDS` look further: where to begin, and how many.
/// A number of the environment; 1 without it.
fn number(name: &str) -> u64 {
    std::env::var(name).map_or(1, |text| text.parse().unwrap())
}

#[test]
fn clients_hear_what_they_would_hear_without_a_proxy() {
    for seed in (number("SEED")..).take(number("SEEDS") as usize) {
        mirror(seed, 200);
    }
}
