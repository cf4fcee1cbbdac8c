//! Purges that wait to be written down. There may be as many as come while a disk hangs: the oldest of too many are taken for one of
//! everything, a few with each that comes, so that none takes long.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::PURGES_MAX;
use super::journal::Note;
use crate::purges::{How, Numbered, Purge};

/// Purges that are taken for one with each that comes when there are too many: more than come.
const MERGED_AT_ONCE: usize = 2;

/// A purge that is to be written down.
#[derive(Debug)]
struct Unwritten {
    numbered: Numbered,
    position: Option<u64>,
    done: oneshot::Sender<bool>,
}

/// All of them, in their order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The last number and position of those that were too many. Nobody knows after a restart what they were, so that everything of before
    /// is purged then, and those who wait for them are told that they may not last.
    merged: Option<(u64, Option<u64>)>,
    purges: VecDeque<Unwritten>,
}

impl Waiting {
    /// One more. The answer is whether it will last.
    pub(super) fn push(&mut self, numbered: Numbered, position: Option<u64>) -> oneshot::Receiver<bool> {
        let (done, receiver) = oneshot::channel();
        if self.purges.len() >= PURGES_MAX {
            for purge in self.purges.drain(..MERGED_AT_ONCE) {
                let (number, at) = self.merged.unwrap_or_default();
                self.merged = Some((number.max(purge.numbered.number), at.max(purge.position)));
            }
        }
        self.purges.push_back(Unwritten { numbered, position, done });
        receiver
    }

    pub(super) fn is_empty(&self) -> bool {
        self.purges.is_empty()
    }

    /// As they are written down.
    pub(super) fn notes(&self) -> Vec<Note> {
        let merged = self.merged.map(|(number, at)| (Numbered { number, purge: Purge::all(How::Hard) }, at));
        let each = self.purges.iter().map(|purge| (purge.numbered.clone(), purge.position));
        let noted = |(purge, at): (Numbered, Option<u64>)| [Some(Note::Purge(purge)), at.map(Note::Position)];
        merged.into_iter().chain(each).flat_map(noted).flatten().collect()
    }

    /// Tells all of them whether they will last.
    pub(super) fn tell(self, lasts: bool) {
        for purge in self.purges {
            // Whoever purged may not want to know.
            let _: Result<(), bool> = purge.done.send(lasts);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::key::Mark;

    #[test]
    fn the_oldest_of_too_many_are_written_as_one() {
        const MORE: u64 = 5;
        let (max, mut waiting) = (PURGES_MAX as u64, Waiting::default());
        let purge = Purge::mark(Mark::tag(b"a"), How::Hard);
        let mut push = |number| waiting.push(Numbered { number, purge: purge.clone() }, Some(number + 100));
        let mut told: Vec<_> = (1..=max + MORE).map(&mut push).collect();
        let notes = waiting.notes();
        let Note::Purge(first) = &notes[0] else { panic!("{:?}", notes[0]) };
        let merged =
            told.iter_mut().map(|one| one.try_recv()).take_while(|told| *told != Err(TryRecvError::Empty)).count()
                as u64;
        assert!((MORE..=2 * MORE).contains(&merged), "{merged} are told that they may not last");
        assert_eq!(
            (first, &notes[1]),
            (&Numbered { number: merged, purge: Purge::all(How::Hard) }, &Note::Position(merged + 100))
        );
        assert_eq!(notes.len() as u64, 2 * (1 + max + MORE - merged));
        assert_eq!(notes.last(), Some(&Note::Position(max + MORE + 100)));
        waiting.tell(true);
        assert!(told.iter_mut().skip(merged as usize).all(|one| one.try_recv() == Ok(true)));
    }
}
