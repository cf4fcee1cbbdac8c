//! What has to be known after a restart of what is not good any more: purges, and records that something newer replaced which is not
//! on disk.

use std::time::Instant;

use tokio::sync::oneshot;

use super::super::format::{Header, Kind, encode_places};
use super::super::journal::{Journal, Note};
use super::super::{FORGETS_MAX, recover};
use super::Log;

impl Log {
    pub(super) fn write_purges(&mut self) {
        let purges = std::mem::take(&mut *self.shared.purges.lock());
        if purges.is_empty() {
            return;
        }
        let notes: Vec<_> = purges
            .iter()
            .flat_map(|purge| {
                let position = purge.position.map(Note::Position);
                std::iter::once(Note::Purge(purge.numbered.clone())).chain(position)
            })
            .collect();
        let lasts = self.write_notes(&notes);
        for purge in purges {
            // Whoever purged may not want to know.
            let _: Result<(), bool> = oneshot::Sender::send(purge.done, lasts);
        }
    }

    /// Whether what was purged cannot come back, be it that it is written down, or that nothing is left on disk.
    fn write_notes(&mut self, notes: &[Note]) -> bool {
        let Some(folder) = self.folder.as_mut() else {
            self.missed_purges = true;
            return false;
        };
        let outcome = folder.journal.append(notes);
        let is_long = folder.journal.is_long();
        match outcome {
            Ok(()) if is_long => {
                let notes = self.notes();
                match (Journal::rewrite(&self.shared.params.path, &notes), self.folder.as_mut()) {
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

    /// Gives up all that is on disk, since it cannot be told from what was purged. Says whether it is gone.
    fn let_go(&mut self) -> bool {
        self.folder = None;
        self.missed_purges = true;
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
        let head = encode_places(&places);
        match self.active(head.len() as u64 + 128, places.len() * 8) {
            Some(active) => {
                active.add(Header::new(Kind::Forget), &head, &[]);
                active.note_forgotten(&places);
            }
            // The disk is down: they wait on.
            None => self.shared.forgets.lock().extend(places),
        }
    }
}
