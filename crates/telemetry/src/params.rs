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

/// Where the access log goes: one line per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// No access log.
    Off,
    /// The process's standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// How the lines of the access log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// A JSON object.
    #[default]
    Json,
    /// The combined format of Apache and nginx.
    Combined,
    /// `key=value` pairs.
    Logfmt,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogParams {
    /// Where it goes.
    pub target: AccessLogTarget,
    /// How its lines look.
    pub format: AccessLogFormat,
}

/// What `[log]` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogParams {
    /// Format of the program's own log, which goes to standard error.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: LogLevel,
    /// The access log.
    pub access: AccessLogParams,
}

impl Default for AccessLogParams {
    fn default() -> Self {
        Self { target: AccessLogTarget::Off, format: AccessLogFormat::default() }
    }
}

impl Default for LogParams {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info, access: AccessLogParams::default() }
    }
}
