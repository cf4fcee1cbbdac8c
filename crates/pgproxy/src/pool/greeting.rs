//! What clients are told at their beginning, and what connections begin with.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use super::{GREETINGS_MAX, Pool, Reports};
use crate::failure::Failure;

impl Pool {
    /// What servers report to whoever connects, if one has been connected to.
    pub(crate) fn template(&self) -> arc_swap::Guard<Arc<Option<Reports>>> {
        self.template.load()
    }

    /// What a client with such settings is told, in their order, if that is known.
    pub(crate) fn greeting(&self, settings: &[(String, String)]) -> Option<Reports> {
        if settings.is_empty() { self.template().as_ref().clone() } else { self.greetings().get(settings).cloned() }
    }

    /// Remembers it, as a backend of that epoch says it, unless what sessions begin with has changed since.
    pub(crate) fn set_greeting(&self, settings: Vec<(String, String)>, reports: Reports, epoch: u64) {
        let mut greetings = self.greetings();
        if !settings.is_empty() && epoch == self.epoch.load(Ordering::SeqCst) {
            if greetings.len() >= GREETINGS_MAX {
                greetings.clear();
            }
            greetings.insert(settings, reports);
        }
    }

    /// The `search_path` that sessions begin with, if it has been asked for.
    pub(crate) fn search_path(&self) -> Option<Arc<str>> {
        self.search_path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers it, as a backend of that epoch says it, unless what sessions begin with has changed since.
    pub(crate) fn set_search_path(&self, found: Arc<str>, epoch: u64) {
        let mut known = self.search_path.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch == self.epoch.load(Ordering::SeqCst) {
            *known = Some(found);
        }
    }

    pub(super) fn forget_greetings(&self) {
        *self.refusal() = None;
        self.template.store(Arc::default());
        self.greetings().clear();
        *self.search_path.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn greetings(&self) -> MutexGuard<'_, HashMap<Vec<(String, String)>, Reports>> {
        self.greetings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What sessions begin with has changed: whoever comes from now on gets a connection that was made since.
    pub(crate) fn renew(self: &Arc<Self>) {
        let now = Instant::now();
        // First, so that nothing from before comes behind what is forgotten here.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // The next one that is opened reports anew.
        self.greetings().clear();
        *self.search_path.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.refusal() = None;
        self.act(now, |decider, out| decider.renew(now, out));
    }

    /// Why the server lets nobody in, if it did not a moment ago.
    pub(crate) fn refused(&self) -> Option<Failure> {
        let known = self.refusal();
        known.as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, failure)| failure.clone())
    }

    pub(super) fn refusal(&self) -> MutexGuard<'_, Option<(Instant, Failure)>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
