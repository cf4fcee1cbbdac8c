//! The ledger beside a naive model: lists that are searched from the beginning.

use std::collections::{BTreeMap, BTreeSet};

use breaker::BackoffParams;
use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    let backoff = BackoffParams { base: Duration::from_millis(10), max: Duration::from_millis(100) };
    Rules {
        entries_max: 12,
        bytes_max: 100_000,
        batch_entries_max: 4,
        batch_bytes_max: 400,
        linger: Duration::from_millis(5),
        backoff: Backoff::new(backoff),
        tries_max: 2,
        outage_tries_max: None,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, bytes: u8 },
    Take { millis: u64, hurry: bool },
    Delivered { which: usize },
    Unavailable { which: usize, random: u64 },
    Failed { which: usize, random: u64 },
    Refused { which: usize, index: usize, is_buried: bool },
    NextSegment,
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, 0..200_u8).prop_map(|(key, bytes)| Step::Put { key, bytes }),
        5 => (0..40_u64, any::<bool>()).prop_map(|(millis, hurry)| Step::Take { millis, hurry }),
        3 => (0..4_usize).prop_map(|which| Step::Delivered { which }),
        1 => (0..4_usize, any::<u64>()).prop_map(|(which, random)| Step::Unavailable { which, random }),
        2 => (0..4_usize, any::<u64>()).prop_map(|(which, random)| Step::Failed { which, random }),
        1 => (0..4_usize, 0..4_usize, any::<bool>())
            .prop_map(|(which, index, is_buried)| Step::Refused { which, index, is_buried }),
        1 => Just(Step::NextSegment),
        1 => Just(Step::Move),
    ]
}

/// Writes with their segments.
type Placed = Vec<(Write, u64)>;

/// Every write that is needed, in any order: those under way, and one that waits for each key.
#[derive(Default)]
struct Model {
    waiting: Vec<(Write, u64)>,
    under_way: Vec<Vec<(Write, u64)>>,
}

impl Model {
    fn all(&self) -> Vec<&(Write, u64)> {
        self.waiting.iter().chain(self.under_way.iter().flatten()).collect()
    }

    fn dirty(&self, key: &[u8]) -> Option<Version> {
        let all = self.all();
        all.iter().filter(|(write, _)| write.key == key).map(|(write, _)| write.version).max()
    }

    /// What is back waits, unless something newer does.
    fn put_back(&mut self, back: Vec<(Write, u64)>) {
        for (write, segment) in back {
            if !self.waiting.iter().any(|(newer, _)| newer.key == write.key) {
                self.waiting.push((write, segment));
            }
        }
    }
}

struct Both {
    ledger: Ledger,
    model: Model,
    now: Instant,
    version: u128,
    segment: u64,
}

impl Both {
    fn new() -> Self {
        let mut ledger = Ledger::new(rules());
        ledger.opened(1);
        Self { ledger, model: Model::default(), now: Instant::now(), version: 0, segment: 1 }
    }

    fn put(&mut self, key: u8, bytes: u8) {
        self.version += 1;
        let value = Some(vec![b'v'; usize::from(bytes)].into());
        let write = Write { key: vec![b'k', key].into(), version: Version::from_u128(self.version), value };
        let is_full = self.model.all().len() >= rules().entries_max;
        let outcome = self.ledger.reserve(bytes_of(&write));
        assert_eq!(outcome.is_err(), is_full);
        if outcome.is_ok() {
            self.model.waiting.retain(|(older, _)| older.key != write.key);
            self.model.waiting.push((write.clone(), self.segment));
            self.ledger.commit(write, self.segment, self.now);
        }
    }

    fn take(&mut self, hurry: bool) {
        let Next::Batch(batch) = self.ledger.next(self.now, hurry) else { return };
        assert!(!batch.is_empty() && batch.len() <= rules().batch_entries_max);
        let bytes: u64 = batch.iter().map(bytes_of).sum();
        assert!(batch.len() == 1 || bytes <= rules().batch_bytes_max);
        let mut taken = Vec::new();
        for write in &batch {
            let is_under_way = self.model.under_way.iter().flatten().any(|(other, _)| other.key == write.key);
            assert!(!is_under_way, "{write:?} while another of its key is under way");
            let place = self.model.waiting.iter().position(|(waiting, _)| waiting == write);
            taken.push(self.model.waiting.remove(place.expect("the latest of its key")));
        }
        self.model.under_way.push(taken);
    }

    /// A batch that is under way, if any is.
    fn back(&mut self, which: usize) -> Option<(Vec<Write>, Placed)> {
        let count = self.model.under_way.len();
        let batch = (count > 0).then(|| self.model.under_way.remove(which % count))?;
        Some((batch.iter().map(|(write, _)| write.clone()).collect(), batch))
    }

    fn fail(&mut self, which: usize, error: SinkError, random: u64) {
        let Some((batch, mut taken)) = self.back(which) else { return };
        let finished = self.ledger.finish(&batch, Err(error), self.now, random);
        assert!(finished.dead.is_empty() || batch.len() == 1, "only who stands alone is to blame");
        self.ledger.buried(&finished.dead);
        taken.retain(|(write, _)| finished.dead.iter().all(|dead| dead.write != *write));
        self.model.put_back(taken);
    }

    fn refuse(&mut self, which: usize, index: usize, is_buried: bool) {
        let Some((batch, mut taken)) = self.back(which) else { return };
        let index = index % batch.len();
        let receipt = Receipt::all().refused(index, "no");
        let finished = self.ledger.finish(&batch, Ok(receipt), self.now, 0);
        assert_eq!(finished.dead, [Dead { write: batch[index].clone(), reason: "no".into() }]);
        assert_eq!(finished.delivered, batch.len() - 1);
        if is_buried {
            self.ledger.buried(&finished.dead);
        } else {
            self.ledger.unburied(&finished.dead, self.now);
            self.model.put_back(vec![taken.remove(index)]);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Put { key, bytes } => self.put(key, bytes),
            Step::Take { millis, hurry } => {
                self.now += Duration::from_millis(millis);
                self.take(hurry);
            }
            Step::Delivered { which } => {
                if let Some((batch, _)) = self.back(which) {
                    let finished = self.ledger.finish(&batch, Ok(Receipt::all()), self.now, 0);
                    assert_eq!(finished.settled.len(), batch.len());
                }
            }
            Step::Unavailable { which, random } => self.fail(which, SinkError::Unavailable("away".into()), random),
            Step::Failed { which, random } => self.fail(which, SinkError::Failed("odd".into()), random),
            Step::Refused { which, index, is_buried } => self.refuse(which, index, is_buried),
            Step::NextSegment => {
                self.segment += 1;
                self.ledger.opened(self.segment);
            }
            Step::Move => self.move_oldest(),
        }
        self.compare();
    }

    fn move_oldest(&mut self) {
        let Some(oldest) = self.ledger.oldest_segment().filter(|oldest| *oldest < self.segment) else { return };
        let needed = self.ledger.needed_in(oldest);
        self.ledger.moved(&needed, self.segment);
        for (_, segment) in self.model.waiting.iter_mut().chain(self.model.under_way.iter_mut().flatten()) {
            *segment = if *segment == oldest { self.segment } else { *segment };
        }
        assert_eq!(self.ledger.removable(self.segment), Some(oldest));
        self.ledger.removed(oldest);
    }

    fn compare(&self) {
        let all = self.model.all();
        let bytes: u64 = all.iter().map(|(write, _)| bytes_of(write)).sum();
        assert_eq!(self.ledger.size(), (all.len(), bytes));
        for key in 0..6_u8 {
            let found = self.ledger.dirty(&[b'k', key]).map(|write| write.version);
            assert_eq!(found, self.model.dirty(&[b'k', key]), "key {key}");
        }
        let keys: BTreeSet<_> = all.iter().map(|(write, _)| &write.key).collect();
        assert_eq!(self.ledger.keys(), keys.len());
        assert_eq!(self.ledger.oldest().is_none(), all.is_empty());
        // Of each key, the latest alone.
        let latest = all.iter().filter(|(write, _)| self.model.dirty(&write.key) == Some(write.version));
        let needed: BTreeMap<u64, usize> = latest.fold(BTreeMap::new(), |mut needed, (_, segment)| {
            *needed.entry(*segment).or_default() += 1;
            needed
        });
        let first = self.ledger.oldest_segment().expect("one is always there");
        let expected = (first < self.segment && !needed.contains_key(&first)).then_some(first);
        assert_eq!(self.ledger.removable(self.segment), expected);
        assert!(needed.keys().all(|segment| *segment >= first));
    }

    /// With a sink that takes everything, everything is taken.
    fn drain(&mut self) {
        while let Some((batch, _)) = self.back(0) {
            self.ledger.finish(&batch, Ok(Receipt::all()), self.now, 0);
        }
        for _ in 0..100 {
            self.now += Duration::from_secs(1);
            self.take(false);
            if let Some((batch, _)) = self.back(0) {
                self.ledger.finish(&batch, Ok(Receipt::all()), self.now, 0);
            }
        }
        self.compare();
        assert!(self.ledger.is_clean());
        assert_eq!(self.ledger.next(self.now, true), Next::Idle);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn it_is_the_naive_model(steps in prop::collection::vec(step(), 1..150)) {
        let mut both = Both::new();
        steps.iter().for_each(|step| both.step(step));
        both.drain();
    }
}

#[test]
fn one_bad_write_among_many_is_found_by_halving() {
    let mut both = Both::new();
    for key in 0..4 {
        both.put(key, 0);
    }
    let (mut calls, mut dead) = (0, Vec::new());
    while !both.ledger.is_clean() {
        both.now += Duration::from_secs(1);
        let Next::Batch(batch) = both.ledger.next(both.now, true) else { panic!("nothing to do after {calls} calls") };
        calls += 1;
        let is_bad = batch.iter().any(|write| write.key == [b'k', 2][..]);
        let outcome = if is_bad { Err(SinkError::Failed("odd".into())) } else { Ok(Receipt::all()) };
        let finished = both.ledger.finish(&batch, outcome, both.now, 0);
        both.ledger.buried(&finished.dead);
        dead.extend(finished.dead);
    }
    // Four, two and two, one and one, and the bad one once more.
    assert_eq!((calls, dead.len()), (6, 1));
    assert_eq!(dead[0].write.key, [b'k', 2][..]);
}

#[test]
fn a_sink_that_is_away_pauses_everything_and_is_nobodys_fault() {
    let mut both = Both::new();
    both.put(1, 0);
    for outage in 1..50 {
        let Next::Batch(batch) = both.ledger.next(both.now, true) else { panic!("nothing to do") };
        let away = Err(SinkError::Unavailable("away".into()));
        assert_eq!(both.ledger.finish(&batch, away, both.now, u64::MAX).dead, []);
        both.put(2, 0);
        let Next::At(until) = both.ledger.next(both.now, true) else { panic!("no pause") };
        let pause = Duration::from_millis((10 << (outage - 1).min(10)).min(100));
        assert_eq!((until - both.now, both.ledger.outage()), (pause, outage));
        both.now = until;
    }
    assert_eq!(both.ledger.coalesced(), 48);
}
