//! Errors that a client is told.

use pgroute::SqlState;
use pgroute::wire::backend::Fields;
use pgroute::wire::write::{self, Report, Severity};

/// What went wrong, as a client hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: SqlState,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) hint: String,
    /// The server's routine by which drivers know it, or nothing.
    pub(crate) routine: &'static str,
}

impl Failure {
    pub(crate) fn new(code: SqlState, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: String::new(), hint: String::new(), routine: "" }
    }

    pub(crate) fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// What a server has said.
    pub(crate) fn of_server(fields: &Fields<'_>) -> Self {
        let text = |kind| fields.find(kind).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
        let code = fields.sqlstate().unwrap_or(SqlState::INTERNAL);
        Self { code, message: text(b'M'), detail: text(b'D'), hint: text(b'H'), routine: "" }
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
