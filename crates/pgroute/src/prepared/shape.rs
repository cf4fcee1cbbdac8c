//! What a statement takes and gives.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::wire::WireError;
use crate::wire::backend::{self, tag};

/// What a statement takes and gives, as a server tells it when it is asked (`Describe`).
///
/// A client that has asked knows how the values look that it sends and gets, and PostgreSQL sees to it that they stay so: parameters
/// keep their types whatever becomes of the schema, and a statement whose columns change is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Numbers of its parameters' types, four bytes each.
    pub types: Box<[u8]>,
    /// A digest of its columns' names and types; zero if it gives none.
    pub columns: u64,
}

impl Shape {
    /// Takes what one of the server's messages tells of it; others tell nothing. It is whole once columns were told, or that there are none.
    ///
    /// # Errors
    /// When the message is malformed.
    pub fn told(&mut self, message: &[u8]) -> Result<bool, WireError> {
        match message.first() {
            Some(&tag::PARAMETER_DESCRIPTION) => {
                self.types = backend::parameter_types(message)?.into();
                Ok(false)
            }
            Some(&tag::ROW_DESCRIPTION) => {
                let mut digest = DefaultHasher::new();
                backend::columns(message, |name, kind| (name, kind).hash(&mut digest))?;
                self.columns = digest.finish().max(1);
                Ok(true)
            }
            Some(&tag::NO_DATA) => {
                self.columns = 0;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
