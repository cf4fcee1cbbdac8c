//! What callers of a service get for a call without a result.

use super::super::{Error, Refusal};

/// Makes what a caller gets instead of a result.
pub trait Answer<T, E> {
    /// The error of the service with its layer.
    type Error;

    /// A response instead, or the error.
    ///
    /// # Errors
    /// With what has no response.
    fn answer(&self, error: Error<E>) -> Result<T, Self::Error>;
}

/// The error as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsError;

/// A response that a closure makes of a refusal. The service's own errors stay.
#[derive(Clone, Copy, Debug)]
pub struct RespondWith<F>(pub(super) F);

impl<T, E> Answer<T, E> for AsError {
    type Error = Error<E>;

    fn answer(&self, error: Error<E>) -> Result<T, Error<E>> {
        Err(error)
    }
}

impl<T, E, F: Fn(Refusal) -> T> Answer<T, E> for RespondWith<F> {
    type Error = E;

    fn answer(&self, error: Error<E>) -> Result<T, E> {
        match error.into_inner() {
            Ok(error) => Err(error),
            Err(refusal) => Ok((self.0)(refusal)),
        }
    }
}
