//! What has to be known after a restart of what is not good any more: purges, and records that something newer replaced which is not
//! on disk.

use std::time::Instant;

use super::super::format::{Header, Kind, encode_places};
use super::super::journal::{Journal, Note};
use super::super::{FORGETS_MAX, PURGES_MAX, recover};
use super::{Log, Written};

/// Places in one record, so that it fits in the smallest segment.
const PLACES_MAX: usize = 8192;

impl Log {
    pub(super) fn write_purges(&mut self) {
        let purges = std::mem::take(&mut *self.shared.purges.lock());
        if purges.is_empty() {
            return;
        }
        let lasts = self.write_notes(&purges.notes());
        purges.tell(lasts);
    }

    /// Whether what was purged cannot come back, be it that it is written down, or that nothing is left on disk.
    fn write_notes(&mut self, notes: &[Note]) -> bool {
        self.pass(notes);
        let Some(folder) = self.folder.as_mut() else {
            // What an earlier process left there is purged by them when it is there.
            self.late.extend_from_slice(notes);
            if self.late.len() > PURGES_MAX {
                self.missed_purges = true;
                self.late.clear();
            }
            return false;
        };
        let outcome = folder.journal.append(notes);
        let is_long = folder.journal.is_long();
        match outcome {
            Ok(()) if is_long => {
                match (Journal::rewrite(&self.shared.params.path, self.notes()), self.folder.as_mut()) {
                    (Ok(journal), Some(folder)) => folder.journal = journal,
                    // The long one is good still.
                    (Err(_), _) | (_, None) => self.shared.counters.errors.add(1),
                }
                true
            }
            Ok(()) => true,
            Err(error) => {
                self.fail("does not take purges", &error.into());
                self.let_go()
            }
        }
    }

    /// Goes on to the last position of some notes. What comes behind it in the stream may have been heard of, and not be purged yet.
    pub(super) fn pass(&mut self, notes: &[Note]) {
        let positions = notes.iter().filter_map(|note| if let Note::Position(at) = note { Some(*at) } else { None });
        self.position = positions.chain(self.position).max();
    }

    /// Makes purges anew that were made before the folder could be read, where what is there may have higher numbers than they had. A folder
    /// that cannot be used after all finds them with their new numbers the next time, and they take from memory what was there the first time.
    pub(super) fn purge_late(&mut self, there: &[Note]) {
        let numbers = there.iter().filter_map(|note| if let Note::Purge(it) = note { Some(it.number) } else { None });
        let highest = numbers.max().unwrap_or(0);
        for note in &mut self.late {
            if let Note::Purge(numbered) = note
                && numbered.number <= highest
            {
                *numbered = self.shared.base.purges.purge(numbered.purge.clone());
            }
        }
    }

    /// Gives up what is in the buffer. What was to be forgotten waits on.
    pub(super) fn drop_written(&mut self) {
        for written in std::mem::take(&mut self.written) {
            match written {
                Written::Object { hash, place } => {
                    self.shared.counters.writes_dropped.add(1);
                    self.shared.withdraw(hash, place.version);
                }
                Written::Chunk { flow, .. } => {
                    self.shared.counters.writes_dropped.add(1);
                    flow.growing.set_on_disk(false);
                }
                Written::Forgotten(places) => self.shared.forgets.lock().extend(places),
            }
        }
    }

    /// Gives up all that is on disk, since it cannot be told from what was purged. Says whether it is gone.
    fn let_go(&mut self) -> bool {
        self.drop_written();
        self.folder = None;
        self.missed_purges = true;
        self.shared.counters.is_up.set(0);
        // What they lie in goes as a whole.
        self.shared.forgets.lock().clear();
        self.note_bytes();
        self.shared.segments.write().clear();
        self.shared.index.retain(|_| false);
        recover::wipe(&self.shared.params.path)
    }

    pub(super) fn write_forgets(&mut self) {
        let places = std::mem::take(&mut *self.shared.forgets.lock());
        if places.is_empty() {
            return;
        }
        if places.len() > FORGETS_MAX {
            // Some of them are not known any more.
            tracing::warn!("store: too much could not be written, so everything on disk is forgotten");
            self.let_go();
            self.retry_at = Some(Instant::now() + self.pause);
            return;
        }
        let mut pieces = places.chunks(PLACES_MAX);
        while let Some(piece) = pieces.next() {
            let head = encode_places(piece);
            let Some(active) = self.active(head.len() as u64 + 128, piece.len() * 8) else {
                // The disk is down: they wait on.
                let mut forgets = self.shared.forgets.lock();
                return std::iter::once(piece).chain(pieces).for_each(|piece| forgets.extend_from_slice(piece));
            };
            active.add(Header::new(Kind::Forget), &head, &[]);
            active.note_forgotten(piece);
            self.written.push(Written::Forgotten(piece.to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::super::active::Active;
    use super::super::super::format::ChunkPlace;
    use super::super::super::{Job, Shared};
    use super::super::IDLE;
    use super::*;
    use crate::base::Base;
    use crate::disk::journal::{self, Past};
    use crate::key::Mark;
    use crate::noted::Filter;
    use crate::object::{Identity, Object};
    use crate::params::DiskParams;
    use crate::purges::{How, Judgement, Numbered, Purge, Purges, Token};

    /// What writes to a folder of its own.
    fn log(name: &str) -> (Log, PathBuf) {
        let folder = std::env::temp_dir().join(format!("tenfold-store-{}-{name}", std::process::id()));
        let _there_is_none = std::fs::remove_dir_all(&folder);
        let base = Arc::new(Base::new(1 << 20, Purges::new(16, 16)));
        let shared = Arc::new(Shared::new(base, DiskParams::new(&folder, 16 << 20)));
        (Log::open(shared), folder)
    }

    fn object(hash: u64, version: u64) -> Arc<Object> {
        let identity =
            Identity { key: b"k"[..].into(), hash, marks: Filter::new(0).note([]), since: Token(0), version };
        Arc::new(Object { identity, meta: Bytes::new(), chunks: Box::default(), body_bytes: 0, body_version: 1 })
    }

    /// Has an object written, or wait in the buffer.
    fn store(log: &mut Log, hash: u64, version: u64) {
        log.shared.index.announce(hash, version);
        log.handle(Job::Store(object(hash, version)));
    }

    #[test]
    fn a_tier_that_is_given_up_leaves_nothing_behind_that_leads_anywhere() {
        loom::model(|| {
            let (mut log, folder) = log("given-up");
            store(&mut log, 1, 1);
            log.settle();
            let number = log.shared.index.find(1).expect("written").segment;
            store(&mut log, 2, 2);
            assert_eq!(log.written.len(), 1, "it waits");
            let place = ChunkPlace { segment: number, offset: 64 };
            log.shared.forgets.lock().extend(std::iter::repeat_n(place, FORGETS_MAX + 1));
            log.write_forgets();
            assert_eq!((log.written.len(), log.shared.index.count()), (0, 0));
            assert!(log.shared.forgets.lock().is_empty() && !log.shared.stats().is_up);
            log.retry_at = Some(Instant::now());
            log.settle();
            assert!(log.shared.stats().is_up, "it goes on");
            store(&mut log, 3, 3);
            log.settle();
            assert!(log.shared.index.find(3).expect("written").segment > number, "numbers are not used again");
            assert_eq!(log.shared.index.count(), 1);
            let _left_behind = std::fs::remove_dir_all(&folder);
        });
    }

    #[test]
    fn what_is_to_be_forgotten_is_written_though_there_is_always_more_to_do() {
        loom::model(|| {
            let (mut log, folder) = log("busy");
            log.settled_at = Instant::now().checked_sub(IDLE).expect("the machine runs since");
            log.shared.forgets.lock().push(ChunkPlace { segment: 7, offset: 64 });
            let shared = Arc::clone(&log.shared);
            let (jobs, receiver) = std::sync::mpsc::sync_channel(4);
            shared.index.announce(1, 1);
            for job in [Job::Wake, Job::Wake, Job::Store(object(1, 1))] {
                jobs.try_send(job).expect("there is room");
            }
            drop(jobs);
            log.run(&receiver);
            assert!(shared.index.find(1).expect("written").offset > 64, "it comes behind the other");
            let _left_behind = std::fs::remove_dir_all(&folder);
        });
    }

    #[test]
    fn a_position_is_written_down_with_its_purge_and_not_before() {
        loom::model(|| {
            let (mut log, folder) = log("position");
            let positions = |log: &Log| {
                Journal::rewrite(&folder, log.notes()).expect("written");
                let Past::Notes(notes) = journal::read(&folder).expect("read") else { panic!("there is none") };
                notes.iter().filter(|note| matches!(note, Note::Position(_))).cloned().collect::<Vec<_>>()
            };
            assert!(log.shared.base.restore_position(7), "somebody is about to purge");
            assert_eq!(positions(&log), []);
            let numbered = log.shared.base.purges.purge(Purge::all(How::Soft));
            assert!(log.write_notes(&[Note::Purge(numbered), Note::Position(7)]));
            assert!(log.shared.base.restore_position(8));
            assert_eq!(positions(&log), [Note::Position(7)]);
            // The next process knows it too.
            drop(log);
            let base = Arc::new(Base::new(1 << 20, Purges::new(16, 16)));
            let shared = Arc::new(Shared::new(base, DiskParams::new(&folder, 16 << 20)));
            assert_eq!(positions(&Log::open(shared)), [Note::Position(7)]);
            let _left_behind = std::fs::remove_dir_all(&folder);
        });
    }

    #[test]
    fn what_is_to_be_forgotten_waits_on_when_it_cannot_be_written() {
        loom::model(|| {
            let (mut log, folder) = log("refused");
            let places: Vec<_> = (1..4).map(|segment| ChunkPlace { segment, offset: 64 }).collect();
            log.shared.forgets.lock().extend_from_slice(&places);
            if let Some(folder) = log.folder.as_mut() {
                folder.active = Some(Active::on_a_full_disk());
            }
            log.settle();
            assert!(log.retry_at.is_some(), "the disk is full");
            assert_eq!(*log.shared.forgets.lock(), places);
            log.retry_at = None;
            log.settle();
            assert!(log.shared.forgets.lock().is_empty() && log.retry_at.is_none());
            let _left_behind = std::fs::remove_dir_all(&folder);
        });
    }

    /// What writes to a folder that another one holds, in whose journal there are so many purges; the other one lets go of it then.
    fn late_log(name: &str, purges: u64) -> (Log, PathBuf) {
        let (mut first, folder) = log(name);
        for number in 1..=purges {
            assert!(first.write_notes(&[Note::Purge(Numbered { number, purge: other() })]));
        }
        let base = Arc::new(Base::new(1 << 20, Purges::new(16, 16)));
        let log = Log::open(Arc::new(Shared::new(base, DiskParams::new(&folder, 16 << 20))));
        assert!(log.folder.is_none(), "another one holds it");
        (log, folder)
    }

    fn other() -> Purge {
        Purge::mark(Mark::tag(b"other"), How::Hard)
    }

    #[test]
    fn what_was_purged_early_is_purged_anew_once_however_often_the_folder_is_tried() {
        loom::model(|| {
            let (mut log, folder) = late_log("late", 10);
            let shared = Arc::clone(&log.shared);
            let judge = |since| shared.base.purges.judge(since, b"k", &[]).0;
            let numbered = shared.base.purges.purge(Purge::all(How::Hard));
            assert!(!log.write_notes(&[Note::Purge(numbered)]), "there is no journal");
            let in_the_way = folder.join("purges.new");
            std::fs::create_dir(&in_the_way).expect("created");
            for _ in 0..3 {
                log.attach();
                assert!(log.folder.is_none(), "the journal cannot be written");
                assert_eq!((judge(10), judge(11)), (Judgement::Gone, Judgement::Valid));
                assert_eq!(shared.base.purges.latest(), 11);
            }
            std::fs::remove_dir(&in_the_way).expect("removed");
            log.attach();
            assert!(log.folder.is_some() && log.late.is_empty());
            assert_eq!((judge(10), judge(11)), (Judgement::Gone, Judgement::Valid));
            let _left_behind = std::fs::remove_dir_all(&folder);
        });
    }

    #[test]
    fn what_is_purged_while_the_folder_is_read_is_purged_there() {
        loom::model(|| {
            let (mut log, folder) = late_log("meanwhile", 10);
            let shared = Arc::clone(&log.shared);
            let numbered = shared.base.purges.purge(Purge::mark(Mark::tag(b"a"), How::Hard));
            assert_eq!(numbered.number, 1, "as the folder is not known");
            let mut told = shared.purges.lock().push(numbered, Some(7));
            log.attach();
            assert!(log.folder.is_some());
            assert_eq!(told.try_recv(), Ok(false), "nobody can promise it");
            assert_eq!(log.position, Some(7));
            let judge = |purges: &Purges| purges.judge(10, b"k", &[Mark::tag(b"a")]).0;
            assert_eq!(judge(&shared.base.purges), Judgement::Gone);
            // It lasts all the same.
            let Past::Notes(notes) = journal::read(&folder).expect("read") else { panic!("there is none") };
            let restored = Purges::new(16, 16);
            let purges = notes.iter().filter_map(|note| if let Note::Purge(purge) = note { Some(purge) } else { None });
            purges.for_each(|purge| restored.restore(purge));
            assert_eq!(judge(&restored), Judgement::Gone);
            let _left_behind = std::fs::remove_dir_all(&folder);
        });
    }

    #[test]
    fn what_began_after_a_purge_is_not_written_before_it() {
        loom::model(|| {
            let (mut log, folder) = log("before");
            let numbered = log.shared.base.purges.purge(other());
            let mut told = log.shared.purges.lock().push(numbered.clone(), None);
            store(&mut log, 1, 1);
            log.flush();
            assert!(log.shared.index.find(1).is_some(), "it is written");
            assert_eq!(told.try_recv(), Ok(true));
            let Past::Notes(notes) = journal::read(&folder).expect("read") else { panic!("there is none") };
            assert!(notes.contains(&Note::Purge(numbered)));
            let _left_behind = std::fs::remove_dir_all(&folder);
        });
    }
}
