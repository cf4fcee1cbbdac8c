use std::fmt;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    reason: &'static str,
}

/// How a server answers the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The grammar is broken or the meaning ambiguous: 400.
    Malformed,
    /// The head has too many bytes or fields: 431.
    HeadTooLarge,
    /// The request line alone exceeds the limit: 414.
    TargetTooLong,
    /// A transfer coding or method that is not implemented: 501.
    NotImplemented,
    /// An expectation other than `100-continue`: 417.
    Expectation,
}

impl Error {
    pub(crate) const fn malformed(reason: &'static str) -> Self {
        Self { kind: ErrorKind::Malformed, reason }
    }

    pub(crate) const fn new(kind: ErrorKind, reason: &'static str) -> Self {
        Self { kind, reason }
    }

    /// How a server answers it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was wrong, for people.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for Error {}
