//! What a result says about the callee, and whether to call again.

use std::time::Duration;

/// What a result comes to. One judgement serves the breaker, the retries and the shedder alike.
///
/// | verdict | breaker | retries | shedder |
/// |---|---|---|---|
/// | `Fine` | success | none | a sample of how long calls take |
/// | `Transient` | failure | another try | a sign of overload |
/// | `Limited` | success | another try | nothing |
/// | `Failed` | failure | none | nothing |
///
/// An error that is the caller's own fault, such as "not found", is `Fine`: the callee has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The callee did its work.
    Fine,
    /// It failed, and may succeed when it is asked again.
    Transient {
        /// After this time at the earliest, where it has said so.
        retry_after: Option<Duration>,
    },
    /// It is well, and has told this caller to come later: a rate limit of its own.
    Limited {
        /// After this time at the earliest, where it has said so.
        retry_after: Option<Duration>,
    },
    /// It failed, and asking again would not help or could do something twice.
    Failed,
}

impl Verdict {
    /// `Transient`, where nothing is known of when.
    pub const TRANSIENT: Self = Self::Transient { retry_after: None };

    /// Whether it failed.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Fine | Self::Limited { .. } => false,
            Self::Transient { .. } | Self::Failed => true,
        }
    }

    /// Whether to call again, and after what time at the earliest.
    pub(super) fn repeat_after(self) -> Option<Duration> {
        match self {
            Self::Transient { retry_after } | Self::Limited { retry_after } => Some(retry_after.unwrap_or_default()),
            Self::Fine | Self::Failed => None,
        }
    }
}

/// Judges results. Closures over `&Result<T, E>` are judges.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not judge a `Result<{T}, {E}>`",
    note = "a closure judges when its argument has a type: `|result: &Result<Response, Error>| ...`"
)]
pub trait Judge<T, E> {
    /// What a result comes to.
    fn judge(&self, result: &Result<T, E>) -> Verdict;
}

impl<T, E, F: Fn(&Result<T, E>) -> Verdict> Judge<T, E> for F {
    fn judge(&self, result: &Result<T, E>) -> Verdict {
        self(result)
    }
}

/// Judges by `Ok` and `Err` alone: every error is transient. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

impl<T, E> Judge<T, E> for ByResult {
    #[inline]
    fn judge(&self, result: &Result<T, E>) -> Verdict {
        if result.is_ok() { Verdict::Fine } else { Verdict::TRANSIENT }
    }
}
