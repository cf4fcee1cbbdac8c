//! Errors that a client is told.

use std::ops::{Deref, DerefMut};

use pgroute::SqlState;
use pgroute::wire::backend::Fields;
use pgroute::wire::write::{self, Report, Severity};

/// What went wrong, as a client hears it. It is one pointer: what may fail is handed on with each statement, and hardly ever does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(Box<Words>);

/// What is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) code: SqlState,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) hint: String,
    /// The server's routine by which drivers know it, or nothing.
    pub(crate) routine: &'static str,
}

impl Failure {
    pub(crate) fn new(code: SqlState, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Words { code, message, detail: String::new(), hint: String::new(), routine: "" }))
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// What is told first.
    pub(crate) fn into_message(self) -> String {
        self.0.message
    }

    /// What a server has said.
    pub(crate) fn of_server(fields: &Fields<'_>) -> Self {
        let text = |kind| fields.find(kind).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let code = fields.sqlstate().unwrap_or(SqlState::INTERNAL);
        Self::new(code, text(b'M')).with_detail(text(b'D')).with_hint(text(b'H'))
    }

    /// Bytes that the other side should not have sent.
    pub(crate) fn of_wire(error: pgroute::wire::WireError) -> Self {
        Self::new(error.sqlstate(), error.to_string())
    }

    /// Appends it.
    pub(crate) fn write(&self, severity: Severity, out: &mut Vec<u8>) {
        let (message, detail, hint, routine) = (&self.message, &self.detail, &self.hint, self.routine);
        write::report(out, &Report { severity, code: self.code, message, detail, hint, routine });
    }
}

impl Deref for Failure {
    type Target = Words;

    fn deref(&self) -> &Words {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Words {
        &mut self.0
    }
}
