//! What a call comes to when it does not succeed.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a call has no result: one type for every piece, so that pieces can be combined without nesting.
///
/// `name` is the name that the piece or the policy was given.
///
/// | variant | the call was made | says |
/// |---|---|---|
/// | [`Open`](Self::Open) | no | the circuit breaker is open |
/// | [`Limited`](Self::Limited) | no | the rate is used up |
/// | [`Full`](Self::Full) | no | the bulkhead is full, and so is its queue |
/// | [`Overloaded`](Self::Overloaded) | no | the shedder has found that no more can be served |
/// | [`TimedOut`](Self::TimedOut) | perhaps | it took too long |
/// | [`Inner`](Self::Inner) | yes | the call's own error |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<E> {
    /// The circuit breaker is open.
    Open {
        /// Whose it is.
        name: Arc<str>,
        /// When a probe may pass, if that is known.
        retry_after: Option<Duration>,
    },
    /// The rate is used up.
    Limited {
        /// Whose it is.
        name: Arc<str>,
        /// When there is enough again. `None` if the call costs more than there ever is.
        retry_after: Option<Duration>,
    },
    /// As many calls as may be are under way, and as many wait as may.
    Full {
        /// Whose calls they are.
        name: Arc<str>,
        /// How long this one waited: nothing if there was no place to wait.
        waited: Duration,
    },
    /// As many calls are under way as the callee can serve at present.
    Overloaded {
        /// Whose calls they are.
        name: Arc<str>,
        /// How many that is.
        limit: u32,
    },
    /// It took too long. Unless it was still waiting for its turn, it was made and may have taken effect.
    TimedOut {
        /// Whose call it was.
        name: Arc<str>,
        /// The time that it had.
        after: Duration,
    },
    /// The call's own error.
    Inner(E),
}

/// What pieces say of themselves, when there is no call with an error of its own.
pub type Refusal = Error<Infallible>;

impl<E> Error<E> {
    /// How long to wait before another call makes sense, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Open { retry_after, .. } | Self::Limited { retry_after, .. } => *retry_after,
            Self::Full { .. } | Self::Overloaded { .. } | Self::TimedOut { .. } | Self::Inner(_) => None,
        }
    }

    /// Whether the call may have been made, so that to make it again could do something twice.
    pub fn may_have_taken_effect(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Inner(_))
    }

    /// The call's own error, if it is one.
    pub fn inner(&self) -> Option<&E> {
        match self {
            Self::Inner(error) => Some(error),
            _ => None,
        }
    }

    /// The call's own error, or what a piece said.
    ///
    /// # Errors
    /// With what a piece said.
    pub fn into_inner(self) -> Result<E, Refusal> {
        match self {
            Self::Inner(error) => Ok(error),
            Self::Open { name, retry_after } => Err(Error::Open { name, retry_after }),
            Self::Limited { name, retry_after } => Err(Error::Limited { name, retry_after }),
            Self::Full { name, waited } => Err(Error::Full { name, waited }),
            Self::Overloaded { name, limit } => Err(Error::Overloaded { name, limit }),
            Self::TimedOut { name, after } => Err(Error::TimedOut { name, after }),
        }
    }

    /// One error of the call's own type, for callers that have a variant of their own for refusals.
    ///
    /// ```
    /// use tenfold::resilience::{Error, Refusal};
    /// let refused = Error::<std::io::Error>::Inner(std::io::ErrorKind::NotFound.into());
    /// assert_eq!(refused.unify(std::io::Error::other).kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn unify(self, from: impl FnOnce(Refusal) -> E) -> E {
        self.into_inner().unwrap_or_else(from)
    }

    /// The same with another error of the call.
    pub fn map<D>(self, change: impl FnOnce(E) -> D) -> Error<D> {
        match self.into_inner() {
            Ok(error) => Error::Inner(change(error)),
            Err(refusal) => refusal.into_any(),
        }
    }
}

impl<E> Error<Error<E>> {
    /// One error of two pieces, one within the other.
    pub fn flatten(self) -> Error<E> {
        self.into_inner().unwrap_or_else(Refusal::into_any)
    }
}

impl Refusal {
    /// The same, as the error of some call.
    pub fn into_any<E>(self) -> Error<E> {
        match self {
            Self::Open { name, retry_after } => Error::Open { name, retry_after },
            Self::Limited { name, retry_after } => Error::Limited { name, retry_after },
            Self::Full { name, waited } => Error::Full { name, waited },
            Self::Overloaded { name, limit } => Error::Overloaded { name, limit },
            Self::TimedOut { name, after } => Error::TimedOut { name, after },
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { name, .. } => write!(f, "{name}: the circuit breaker is open")?,
            Self::Limited { name, .. } => write!(f, "{name}: the rate limit is used up")?,
            Self::Full { name, waited } if waited.is_zero() => write!(f, "{name}: the bulkhead is full")?,
            Self::Full { name, waited } => write!(f, "{name}: the bulkhead had no room for {waited:?}")?,
            Self::Overloaded { name, limit } => write!(f, "{name}: overloaded with {limit} calls under way")?,
            Self::TimedOut { name, after } => write!(f, "{name}: timed out after {after:?}")?,
            Self::Inner(error) => error.fmt(f)?,
        }
        match self.retry_after() {
            Some(wait) => write!(f, ", try again in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl<E: StdError> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Its text is the inner error's own, so what comes next in the chain is what comes next there.
        self.inner().and_then(StdError::source)
    }
}
