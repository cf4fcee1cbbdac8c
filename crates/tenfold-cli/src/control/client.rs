//! As much of an HTTP/1.1 client as the admin listener needs, and a service that shows its caches: a request on a connection of its own, an answer with a
//! length.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::ConnectArgs;
use super::target::{self, Target};

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause of an answer. A reload may wait 5 s for names.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer that is read: metrics of tens of thousands of endpoints.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Asks one admin listener.
#[derive(Clone, Debug)]
pub(super) struct Client {
    target: Target,
    answer_timeout: Duration,
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Client {
    /// A client of the process that is meant.
    pub(super) fn new(args: &ConnectArgs) -> anyhow::Result<Self> {
        Ok(Self::of(target::find(args, &|name| std::env::var(name).ok())?))
    }

    /// A client of something that was found.
    pub(super) fn of(target: Target) -> Self {
        Self { target, answer_timeout: ANSWER_TIMEOUT }
    }

    /// The same with another bound on the pauses of an answer.
    pub(super) fn with_answer_timeout(self, answer_timeout: Duration) -> Self {
        Self { answer_timeout, ..self }
    }

    /// Where it asks.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.target.authority)
    }

    /// Gets a page of JSON.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(&self.exchange("GET", path, None)?)
    }

    /// Gets a page of text.
    pub(super) fn text(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.exchange("GET", path, None)?;
        self.is_well(&answer)?;
        String::from_utf8(answer.body).with_context(|| format!("{}{path}: the answer is not UTF-8", self.url()))
    }

    /// Sends a change.
    pub(super) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map_or_else(String::new, Value::to_string);
        self.json(&self.exchange(method, path, Some(&body))?)
    }

    fn json(&self, answer: &Answer) -> anyhow::Result<Value> {
        self.is_well(answer)?;
        serde_json::from_slice(&answer.body).with_context(|| self.stranger())
    }

    fn stranger(&self) -> String {
        let Target { found, kind, .. } = &self.target;
        format!("{} answers, but not {} ({found})", self.url(), kind.manner())
    }

    fn is_well(&self, answer: &Answer) -> anyhow::Result<()> {
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let told = serde_json::from_slice::<Value>(&answer.body).ok();
        let Some(told) = told.as_ref().and_then(|value| value["error"].as_str()) else {
            bail!("{}: status {}", self.stranger(), answer.status);
        };
        if answer.status == 401 {
            bail!("{}: {told}: {}", self.url(), self.target.kind.if_unknown());
        }
        bail!("{told}")
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<Answer> {
        let mut stream = self.connect()?;
        let request = request(&self.target, method, path, body);
        stream.write_all(request.as_bytes()).with_context(|| format!("{}: the connection broke", self.url()))?;
        let mut bytes = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut bytes)
            .with_context(|| format!("{}: no whole answer came", self.url()))?;
        parse(&bytes).with_context(|| self.stranger())
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let addresses = self.target.authority.to_socket_addrs();
        let addresses = addresses.with_context(|| format!("{}: the host cannot be resolved", self.url()))?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.answer_timeout))?;
                    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        let (url, found) = (self.url(), &self.target.found);
        match last {
            Some(error) if error.kind() != ErrorKind::ConnectionRefused => {
                Err(error).with_context(|| format!("{url} cannot be reached ({found})"))
            }
            _ => bail!("nothing answers at {url} ({found}): {}", self.target.kind.if_silent()),
        }
    }
}

fn request(target: &Target, method: &str, path: &str, body: Option<&str>) -> String {
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nConnection: close\r\n", target.authority);
    if let Some(token) = &target.token {
        request.extend(["Authorization: Bearer ", token.expose(), "\r\n"]);
    }
    match body {
        Some(body) => {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
        None => request += "\r\n",
    }
    request
}

/// Reads a whole answer.
fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(start) = head.parse(bytes).context("the answer is not HTTP")? else {
        bail!("the answer ends within its head");
    };
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let length = field("content-length").context("the answer has no length")?;
    let length: usize =
        std::str::from_utf8(length.value)?.trim().parse().context("the answer's length is no number")?;
    let body = bytes[start..].get(..length);
    ensure!(body.is_some(), "the answer is cut short");
    let (status, body) = (head.code.context("the answer has no status")?, body.unwrap_or_default().to_vec());
    Ok(Answer { status, body })
}

/// A part of a path, with everything encoded that might end it.
pub(super) fn encoded(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_only() {
        let check = |text: &str| parse(text.as_bytes()).map(|answer| (answer.status, answer.body));
        assert_eq!(check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("HTTP"), (200, b"ok".to_vec()));
        for text in [
            "",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        ] {
            assert!(check(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn parts_of_paths_are_encoded() {
        assert_eq!(encoded("10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(encoded("[::1]:80"), "%5B::1%5D:80");
        assert_eq!(encoded("../a b?c#d"), "..%2Fa%20b%3Fc%23d");
    }

    #[test]
    fn a_request_says_what_it_is() {
        let token = Some(vocab::Secret::new("0123456789abcdef"));
        let target =
            Target { authority: "localhost:1".to_owned(), token, found: String::new(), kind: target::Kind::Process };
        let text = request(&target, "PATCH", "/x", Some("{}"));
        assert_eq!(
            text,
            "PATCH /x HTTP/1.1\r\nHost: localhost:1\r\nAccept: */*\r\nConnection: close\r\n\
             Authorization: Bearer 0123456789abcdef\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        );
        assert!(!format!("{target:?}").contains("0123456789abcdef"));
    }
}
