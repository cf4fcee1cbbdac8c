//! Backends of a pool that wait to be lent.

use pgroute::pool::BackendId;

use crate::backend::Backend;

/// What waits to be lent, by its place. Boxed, as it is when it is lent: it does not move when it changes hands.
#[derive(Debug, Default)]
pub(super) struct Parked(Vec<Option<Box<Backend>>>);

impl Parked {
    /// It waits from now on.
    pub(super) fn put(&mut self, backend: Box<Backend>) {
        let slot = backend.id.slot();
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(backend);
    }

    /// Takes out what its server has ended.
    pub(super) fn take_ended(&mut self) -> Vec<Backend> {
        let has_ended = |backend: &mut Box<Backend>| backend.socket.has_ended_below();
        self.0.iter_mut().filter_map(|place| place.take_if(has_ended)).map(|backend| *backend).collect()
    }

    /// Takes one out, if it is there.
    pub(super) fn take(&mut self, id: BackendId) -> Option<Box<Backend>> {
        self.0.get_mut(id.slot())?.take_if(|backend| backend.id == id)
    }
}
