//! The store beside a naive model: a map that may forget and never lies. Whatever is found has to be what was stored last, with nothing
//! purged since; after a restart too, be it in order or from a copy of the folder as it happened to be.

use std::collections::HashMap;

use proptest::prelude::*;
use store::{DiskParams, How, Mark, Purge, Store, StoreParams};
use testkit::TempDir;

use crate::tier::{MIB, body, head, put, read, runtime};

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, tag: u8, length: usize },
    Abandon { key: u8, length: usize },
    Read { key: u8 },
    PurgeTag(u8, How),
    PurgePrefix(u8, How),
    Flush,
    Restart,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![Just(How::Hard), Just(How::Soft)];
    let length = prop_oneof![3 => 0..2_000_usize, 2 => 60_000..70_000_usize, 1 => 250_000..400_000_usize];
    let step = prop_oneof![
        8 => (0..12_u8, 0..4_u8, length.clone()).prop_map(|(key, tag, length)| Step::Put { key, tag, length }),
        1 => (0..12_u8, length).prop_map(|(key, length)| Step::Abandon { key, length }),
        8 => (0..12_u8).prop_map(|key| Step::Read { key }),
        1 => (0..4_u8, how.clone()).prop_map(|(tag, how)| Step::PurgeTag(tag, how)),
        1 => (0..4_u8, how).prop_map(|(part, how)| Step::PurgePrefix(part, how)),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What the model knows of a version of a key.
#[derive(Clone, Debug)]
struct Known {
    version: u64,
    length: usize,
    tag: u8,
    is_gone: bool,
}

struct Bench {
    store: Option<Store>,
    folders: Vec<TempDir>,
    /// Versions of each key, the latest last.
    known: HashMap<u8, Vec<Known>>,
    version: u64,
}

fn name(key: u8) -> String {
    format!("{}/{key}", key % 4)
}

impl Bench {
    fn new() -> Self {
        let mut bench =
            Self { store: None, folders: vec![TempDir::new().expect("a folder")], known: HashMap::new(), version: 0 };
        bench.open();
        bench
    }

    fn open(&mut self) {
        let disk = Some(DiskParams::new(self.folders.last().expect("one").path(), 16 * MIB));
        // So small that much of it is on disk alone.
        let params = StoreParams { disk, marks_max: 6, ..StoreParams::new(2 * MIB) };
        self.store = Some(Store::open(&params).expect("opens"));
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    fn purge(&mut self, purge: Purge, concerned: impl Fn(u8, &Known) -> bool) {
        let is_hard = purge.how == How::Hard;
        let lasts = self.store().purge(purge).expect("purges").lasts();
        assert!(runtime().block_on(lasts), "it was written down");
        for (key, versions) in &mut self.known {
            for known in versions {
                known.is_gone |= is_hard && concerned(*key, known);
            }
        }
    }

    /// Goes on with a copy of the folder as it is now, while the first one is still being written.
    fn crash(&mut self) {
        let copy = TempDir::new().expect("a folder");
        let from = self.folders.last().expect("one").path();
        for entry in std::fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            // What is removed while this goes through the list is gone.
            let _ = std::fs::copy(entry.path(), copy.path().join(entry.file_name()));
        }
        self.folders.push(copy);
        self.open();
    }

    fn step(&mut self, step: &Step) {
        if matches!(step, Step::Put { .. } | Step::Abandon { .. }) && self.store().stats().memory.fetching > 0 {
            // A large body can be followed until it is on disk.
            runtime().block_on(self.store().flush());
        }
        match *step {
            Step::Put { key, tag, length } => {
                self.version += 1;
                let (version, name) = (self.version, name(key));
                put(
                    self.store(),
                    &name,
                    head(&version.to_string(), &[&format!("t{tag}")]),
                    &body(&name, version, length),
                );
                self.known.entry(key).or_default().push(Known { version, length, tag, is_gone: false });
            }
            Step::Abandon { key, length } => {
                let mut writer = crate::tier::start(self.store(), &name(key), head("0", &[]));
                writer.append(&body("wrong", 0, length));
            }
            Step::Read { key } => self.read(key),
            Step::PurgeTag(tag, how) => {
                let mark = Mark::tag(format!("t{tag}").as_bytes());
                self.purge(Purge::mark(mark, how), |_, known| known.tag == tag);
            }
            Step::PurgePrefix(part, how) => {
                self.purge(Purge::prefix(format!("{part}/").as_bytes(), how), |key, _| key % 4 == part);
            }
            Step::Flush => runtime().block_on(self.store().flush()),
            Step::Restart => {
                assert!(self.store.take().expect("open").close());
                self.open();
            }
            Step::Crash => self.crash(),
        }
    }

    fn read(&self, key: u8) {
        let name = name(key);
        let Some((meta, found)) = runtime().block_on(read(self.store(), &name)) else { return };
        let version: u64 = String::from_utf8(meta).expect("text").parse().expect("a version");
        let versions = self.known.get(&key).expect("something was stored");
        let known = versions.iter().find(|known| known.version == version).expect("this was stored");
        assert!(!known.is_gone, "{name}: version {version} was purged");
        assert!(found == body(&name, version, known.length), "{name}: version {version} has another body");
        // After a crash the last moments may be missing, so that an older version shows.
        let latest = versions.last().map(|known| known.version);
        assert!(latest == Some(version) || self.folders.len() > 1, "{name}: version {version} and not {latest:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_found_that_should_not_be(steps in steps()) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.step(step);
        }
        for key in 0..12 {
            bench.read(key);
        }
    }
}
