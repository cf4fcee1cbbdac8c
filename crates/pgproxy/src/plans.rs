//! What a core has found texts to be, by database.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use pgroute::classify::{Cache, Plan};

use crate::database::{Database, Known};

/// Memory of a core for what texts were found to be, per database.
const BYTES_MAX: usize = 4 << 20;

/// What texts of a database were found to be, and by what was known of its names.
#[derive(Debug)]
pub(crate) struct Plans {
    cache: Cache,
    known: Arc<Known>,
}

impl Plans {
    /// What a text is.
    pub(crate) fn plan(&mut self, database: &Database, text: &[u8], standard_strings: bool) -> Arc<Plan> {
        database.look_up(&mut self.known);
        self.cache.plan(text, standard_strings, &self.known.catalogue, self.known.generation)
    }
}

/// Those of a database, by its address. It is weakly held, so that the address stays its own.
type Entry = (Weak<Database>, Rc<RefCell<Plans>>);

/// A core's.
#[derive(Debug, Default)]
pub(crate) struct AllPlans(RefCell<Vec<Entry>>);

impl AllPlans {
    /// Those of a database.
    pub(crate) fn of(&self, database: &Arc<Database>) -> Rc<RefCell<Plans>> {
        let mut all = self.0.borrow_mut();
        let known = all.iter().find(|(other, _)| other.as_ptr() == Arc::as_ptr(database));
        if let Some((_, known)) = known {
            return Rc::clone(known);
        }
        let new = Rc::new(RefCell::new(Plans { cache: Cache::new(BYTES_MAX), known: Arc::default() }));
        all.push((Arc::downgrade(database), Rc::clone(&new)));
        new
    }

    /// Forgets those of databases that have gone.
    pub(crate) fn forget_gone(&self) {
        self.0.borrow_mut().retain(|(database, _)| database.strong_count() > 0);
    }
}
