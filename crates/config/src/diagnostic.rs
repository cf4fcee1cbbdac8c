use std::fmt;

use serde_json::{Value as Json, json};

use crate::render;
use crate::source::{Location, Place, Sources};

/// Most findings that are kept; the rest is counted. Nobody reads further, and a hostile file must not fill memory.
const KEPT_MAX: usize = 200;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

/// One finding, with its place and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) key: String,
    pub(crate) place: Option<Place>,
    pub(crate) label: String,
    pub(crate) allowed: Option<String>,
    pub(crate) fix: Option<String>,
    pub(crate) related: Option<(Place, String)>,
}

impl Diagnostic {
    pub(crate) fn error(place: impl Into<Option<Place>>, key: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            key: key.to_string(),
            place: place.into(),
            label: String::new(),
            allowed: None,
            fix: None,
            related: None,
        }
    }

    pub(crate) fn warning(place: impl Into<Option<Place>>, key: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, key, message) }
    }

    pub(crate) fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    pub(crate) fn allowed(mut self, text: impl Into<String>) -> Self {
        self.allowed = Some(text.into());
        self
    }

    pub(crate) fn fix(mut self, text: impl Into<Option<String>>) -> Self {
        self.fix = text.into();
        self
    }

    pub(crate) fn related(mut self, place: impl Into<Option<Place>>, label: impl Into<String>) -> Self {
        self.related = place.into().map(|place| (place, label.into()));
        self
    }

    /// Whether it is an error or a warning.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The key it concerns, such as `service.api.endpoints[1].weight`; empty when it concerns a whole file.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// All that was found in a configuration, in the order of the files. `Display` shows it as plain text.
#[derive(Clone)]
pub struct Diagnostics {
    sources: Sources,
    found: Vec<Diagnostic>,
    left_out: usize,
}

impl Diagnostics {
    pub(crate) fn new(mut sources: Sources, sink: Sink) -> Self {
        let Sink { mut found, left_out, secrets, .. } = sink;
        secrets.into_iter().for_each(|place| sources.hide(place));
        found.sort_by_key(|diagnostic| diagnostic.place);
        found.dedup();
        Self { sources, found, left_out }
    }

    /// The findings, errors and warnings mixed.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter()
    }

    /// Number of errors, including those beyond the first 200 findings.
    pub fn errors(&self) -> usize {
        self.found.iter().filter(|d| d.severity == Severity::Error).count() + self.left_out
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.found.iter().filter(|d| d.severity == Severity::Warning).count()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.left_out == 0
    }

    /// Where a finding is; `None` when it is in no file.
    pub fn location(&self, diagnostic: &Diagnostic) -> Option<Location> {
        diagnostic.place.map(|place| self.sources.location(place))
    }

    /// The findings as text for people: ASCII only around the quoted lines, with ANSI colours if `color`.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        for diagnostic in &self.found {
            text.push_str(&render::diagnostic(&self.sources, diagnostic, color));
            text.push_str("\n\n");
        }
        if self.left_out > 0 {
            text.push_str(&format!("error: {} more errors are not shown\n\n", self.left_out));
        }
        text
    }

    /// The findings for programs: an array of objects with `severity`, `message`, `key`, `file`, `line`, `column`,
    /// `found`, `allowed`, `fix` and `related`; what does not apply is null.
    pub fn to_json(&self) -> Json {
        let location = |place: Place| {
            let location = self.sources.location(place);
            (location.file.display().to_string(), location.line, location.column)
        };
        let one = |diagnostic: &Diagnostic| {
            let place = diagnostic.place.map(location);
            let related = diagnostic.related.as_ref().map(|(place, label)| {
                let (file, line, column) = location(*place);
                json!({ "file": file, "line": line, "column": column, "message": label })
            });
            json!({
                "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "message": diagnostic.message,
                "key": (!diagnostic.key.is_empty()).then_some(&diagnostic.key),
                "file": place.as_ref().map(|(file, _, _)| file),
                "line": place.as_ref().map(|(_, line, _)| line),
                "column": place.as_ref().map(|(_, _, column)| column),
                "found": (!diagnostic.label.is_empty()).then_some(&diagnostic.label),
                "allowed": diagnostic.allowed,
                "fix": diagnostic.fix,
                "related": related,
            })
        };
        self.found.iter().map(one).collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl fmt::Debug for Diagnostics {
    // The findings only: the sources may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostics").field("found", &self.found).finish_non_exhaustive()
    }
}

impl std::error::Error for Diagnostics {}

/// Where findings are collected while a configuration is read.
#[derive(Default)]
pub(crate) struct Sink {
    found: Vec<Diagnostic>,
    left_out: usize,
    errors: usize,
    secrets: Vec<Place>,
}

impl Sink {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if !self.is_full() {
            self.found.push(diagnostic);
        } else if diagnostic.severity == Severity::Error {
            self.left_out += 1;
        }
    }

    /// Keeps a place from being shown.
    pub(crate) fn hide(&mut self, place: Place) {
        self.secrets.push(place);
    }

    /// Counts errors without keeping them.
    pub(crate) fn leave_out(&mut self, errors: usize) {
        self.errors += errors;
        self.left_out += errors;
    }

    /// Whether further findings are only counted, so that nobody need work on their wording.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= KEPT_MAX
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }
}
