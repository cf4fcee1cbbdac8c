//! What others can find of a key while it is fetched, and until a disk has written it.

use std::sync::Arc;

use crate::base::Base;
use crate::pending::{Pending, Source, Stage};

/// A fetch that others can find, as long as this is there.
pub(crate) struct Shown {
    base: Arc<Base>,
    pub(crate) pending: Arc<Pending>,
    hashes: [u64; 2],
}

impl Shown {
    pub(crate) fn new(base: &Arc<Base>, pending: Arc<Pending>, hash: u64) -> Self {
        Self { base: Arc::clone(base), pending, hashes: [hash; 2] }
    }

    /// Ends with what has come of it, which can be found elsewhere by now.
    pub(crate) fn found(self, source: Source) {
        self.pending.set(Stage::Started(source));
    }

    /// Shows it under another key too.
    pub(crate) fn show_as(&mut self, hash: u64) {
        if hash != self.hashes[0] {
            self.hashes[1] = hash;
            self.base.memory.show(hash, &self.pending);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let [asked, stored] = self.hashes;
        self.base.memory.hide(asked, &self.pending);
        if stored != asked {
            self.base.memory.hide(stored, &self.pending);
        }
        // Whoever wakes up has to find the key free.
        self.pending.set(Stage::Nothing);
    }
}

/// Something that is known and not yet to be found where it will stand: others can find it, as long as this is there.
pub(crate) struct Known {
    base: Arc<Base>,
    pending: Arc<Pending>,
    hash: u64,
}

impl Known {
    pub(crate) fn new(base: &Arc<Base>, source: &Source) -> Self {
        let (hash, pending) = (source.identity().hash, Arc::new(Pending::known(source.clone())));
        base.memory.show_known(source.identity(), &pending);
        Self { base: Arc::clone(base), pending, hash }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.base.memory.hide_known(self.hash, &self.pending);
    }
}
