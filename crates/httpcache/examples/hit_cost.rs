//! Decides many times, so that counting instructions of `--decisions N` and of `--decisions 2N` gives the cost of one by
//! difference: `valgrind --tool=callgrind hit_cost --case hit --decisions 100000`.
//!
//! A decision is all that the core does for a request that is answered from the store: it reads the fields that a browser
//! sends, writes the key, and looks up. `key` and `request` are those parts alone; `none` does the loop alone, so that it
//! can be subtracted.

use std::hint::black_box;

use httpcache::{
    Answer, Field, Found, KeyParts, Lookup, Policy, QueryParts, Request, Storable, Target, UnixTime, lookup, store,
};

/// What a browser sends, but for the fields that a case adds.
const BROWSER: &[(&str, &str)] = &[
    ("Host", "shop.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Connection", "keep-alive"),
    ("Cookie", "session=8b1f0c6a4d7e; theme=dark"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "none"),
    ("Priority", "u=0, i"),
];

/// Some moment, in seconds.
const NOON: u64 = 1_700_000_000;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let subject = match words[..] {
        ["--case", name, "--decisions", count] => count.parse().ok().zip(Subject::named(name)),
        _ => None,
    };
    let Some((decisions, subject)) = subject else {
        eprintln!("usage: hit_cost --case NAME --decisions N");
        std::process::exit(2);
    };
    println!("served {}", run(&subject, decisions));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Nothing,
    Key,
    Request,
    Whole,
}

struct Subject {
    part: Part,
    policy: Policy,
    fields: Vec<(&'static str, &'static str)>,
    storable: Storable,
}

impl Subject {
    fn named(name: &str) -> Option<Self> {
        let mut policy = Policy::default();
        let (mut part, mut fields, mut vary) = (Part::Whole, BROWSER.to_vec(), "");
        match name {
            "none" => part = Part::Nothing,
            "key" => part = Part::Key,
            "request" => part = Part::Request,
            "hit" => {}
            "hit_sorted_query" => {
                let query = QueryParts::Except(vec!["utm_source".to_owned()]);
                policy.key = KeyParts { sorts_query: true, query, ..KeyParts::default() };
            }
            "hit_vary" => vary = "Accept-Encoding",
            "hit_directive" => fields.push(("Cache-Control", "max-age=600")),
            "not_modified" => fields.push(("If-None-Match", "\"33a64df551425fcc55e4d42a148795d9\"")),
            "range" => fields.push(("Range", "bytes=0-499")),
            _ => return None,
        }
        let stored = [
            ("Cache-Control", "public, max-age=3600"),
            ("ETag", "\"33a64df551425fcc55e4d42a148795d9\""),
            ("Content-Length", "1024"),
            ("Vary", vary),
        ];
        let now = UnixTime::from_secs(NOON);
        let request = Request::read(b"GET", TARGET, bytes_of(&fields));
        let answer = Answer { status: 200, fields: bytes_of(&stored), requested: now, received: now };
        let storable = store(&policy, &request, &answer).ok()?;
        Some(Self { part, policy, fields, storable })
    }

    /// One decision; tells whether the store serves it.
    fn decide(&self, key: &mut Vec<u8>, now: UnixTime) -> bool {
        let fields = || bytes_of(&self.fields);
        key.clear();
        if matches!(self.part, Part::Key | Part::Whole) {
            self.policy.key.write(key, TARGET, fields());
            self.storable.vary.write_variant(key, fields(), &self.policy.vary);
        }
        if self.part == Part::Nothing || self.part == Part::Key {
            return black_box(key.len()) > 0;
        }
        let request = Request::read(b"GET", TARGET, fields());
        if self.part == Part::Request {
            return black_box(&request).is_for_part();
        }
        let found = Found::Response(&self.storable.stored, &self.storable.fields);
        matches!(lookup(&self.policy, &request, found, now), Lookup::Serve(_))
    }
}

const TARGET: Target<'static> =
    Target { https: true, host: b"shop.example.com", path_and_query: b"/catalogue/shoes?size=42&page=2&colour=red" };

fn bytes_of<'a>(fields: &'a [(&'static str, &'static str)]) -> impl Iterator<Item = Field<'a>> + Clone {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

fn run(subject: &Subject, decisions: u64) -> u64 {
    let (mut key, mut served) = (Vec::new(), 0);
    for decision in 0..decisions {
        let now = UnixTime::from_millis(NOON * 1000 + decision / 1000);
        served += u64::from(black_box(subject).decide(&mut key, black_box(now)));
    }
    served
}
