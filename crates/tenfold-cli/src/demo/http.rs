//! As much of an HTTP/1.1 client as the demo needs: GET on a kept connection, answers with a length.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest answer that is read; a scrape of a demo is a tenth of that.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// An answer, head and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the other side closes the connection after it.
    pub(super) closes: bool,
}

/// A client of one address, with one connection that is made when needed.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Gets a path. After an error or a timeout the next request takes a new connection.
    pub(super) async fn get(&mut self, path: &str, within: Duration) -> anyhow::Result<Answer> {
        // Taken out meanwhile, so that a connection in an unknown state is dropped with the error.
        let stream = self.stream.take();
        let (stream, answer) = timeout(within, self.exchange(stream, path)).await.context("no answer in time")??;
        if !answer.closes {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    async fn exchange(&mut self, stream: Option<TcpStream>, path: &str) -> anyhow::Result<(TcpStream, Answer)> {
        let mut stream = match stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await.context("no connection")?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.context("the request could not be sent")?;
        self.buffer.clear();
        loop {
            let n = stream.read_buf(&mut self.buffer).await.context("the connection broke")?;
            if let Some(answer) = parse(&self.buffer)? {
                return Ok((stream, answer));
            }
            ensure!(n > 0, "the connection was closed before the answer's end");
            ensure!(self.buffer.len() < ANSWER_BYTES_MAX, "the answer is too large");
        }
    }
}

/// Reads an answer; `None` while it is not whole.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(start) = head.parse(bytes).context("the answer is not HTTP")? else {
        return Ok(None);
    };
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let Some(length) = field("content-length") else { bail!("the answer has no length") };
    let length: usize =
        std::str::from_utf8(length.value)?.trim().parse().context("the answer's length is no number")?;
    let Some(body) = bytes[start..].get(..length) else { return Ok(None) };
    let closes = field("connection").is_some_and(|field| field.value.eq_ignore_ascii_case(b"close"));
    let status = head.code.context("the answer has no status")?;
    Ok(Some(Answer { status, body: body.to_vec(), closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]).expect("so far it is HTTP"), None, "{cut}");
        }
        let expected = Answer { status: 200, body: b"hello".to_vec(), closes: false };
        assert_eq!(parse(whole).expect("HTTP"), Some(expected));
    }

    #[test]
    fn a_closing_answer_says_so() {
        let text = b"HTTP/1.1 503 Busy\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(parse(text).expect("HTTP"), Some(Answer { status: 503, body: Vec::new(), closes: true }));
    }

    #[test]
    fn what_is_not_an_answer_is_an_error() {
        for text in ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
