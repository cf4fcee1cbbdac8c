//! curl, a client that shares no code with the gateway.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// A call of curl, with its options.
#[derive(Debug)]
pub struct Curl(Command);

/// What curl got.
#[derive(Clone, Debug)]
pub struct CurlAnswer {
    /// The status, 0 without an answer.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// The heads as curl shows them, interim ones included; names are lower case over HTTP/2.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
    /// curl's exit code: 0 when all went well.
    pub code: i32,
    /// What curl says went wrong.
    pub error: String,
}

impl CurlAnswer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a field of the final head.
    pub fn field(&self, name: &str) -> Option<&str> {
        let last = self.head.trim_end().rsplit("\r\n\r\n").next()?;
        let mut lines = last.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Default for Curl {
    fn default() -> Self {
        let mut command = Command::new("curl");
        // Nobody's settings or proxies, and never for ever.
        command.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]);
        Self(command)
    }
}

impl Curl {
    /// Adds an option with its value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.arg(option).arg(value);
        self
    }

    /// Adds an option without a value.
    #[must_use]
    pub fn flag(mut self, option: &str) -> Self {
        self.0.arg(option);
        self
    }

    /// Has a host name stand for 127.0.0.1.
    #[must_use]
    pub fn resolve(self, host: &str, port: u16) -> Self {
        self.with("--resolve", format!("{host}:{port}:127.0.0.1"))
    }

    /// Asks for a URL.
    ///
    /// # Errors
    /// When curl cannot be run; a transfer that fails is an answer with a code.
    pub fn get(mut self, url: &str) -> Result<CurlAnswer> {
        let dir = crate::TempDir::new()?;
        let (head, body) = (dir.path().join("head"), dir.path().join("body"));
        self.0.arg("--dump-header").arg(&head).arg("--output").arg(&body);
        self.0.args(["--write-out", "%{http_code} %{http_version}", url]);
        let output = self.0.output().context("is curl installed? `make test` installs it")?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let Some((status, version)) = told.split_once(' ') else {
            bail!("curl said {told:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let read = |path| std::fs::read(path).unwrap_or_default();
        Ok(CurlAnswer {
            status: status.parse()?,
            version: version.to_owned(),
            head: String::from_utf8_lossy(&read(head)).into_owned(),
            body: read(body),
            code: output.status.code().unwrap_or(-1),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
