use std::path::PathBuf;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: a line of text.
    Text,
    /// For programs: a JSON object per line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where the access log goes: one JSON line per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// No access log.
    Off,
    /// The process's standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// What `[log]` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogParams {
    /// Format of the program's own log, which goes to standard error.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: LogLevel,
    /// The access log.
    pub access: AccessLogTarget,
}

impl Default for LogParams {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info, access: AccessLogTarget::Off }
    }
}
