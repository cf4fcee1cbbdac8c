//! As much of a client of PostgreSQL as the demo needs: no password, one statement at a time, values as texts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use pgroute::wire::backend::{Fields, tag};
use pgroute::wire::startup::Startup;
use pgroute::wire::write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for an answer, which a failover is part of.
const PATIENCE: Duration = Duration::from_secs(20);

/// Largest message that is read.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    stream: TcpStream,
}

/// The columns of the last row, if there was one.
pub(super) type Row = Option<Vec<String>>;

impl Session {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("no connection to the database")?;
        stream.set_nodelay(true)?;
        let mut session = Self { stream };
        let who = || "postgres".to_owned();
        let mut out = Vec::new();
        write::startup(&mut out, &Startup { user: who(), database: who(), ..Startup::default() });
        session.exchange(&out).await?;
        Ok(session)
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// What the server says; the session is of use afterwards. Or that the connection broke; then it is not.
    pub(super) async fn run(&mut self, text: &str) -> anyhow::Result<Row> {
        let mut out = Vec::new();
        write::query(&mut out, text);
        self.exchange(&out).await
    }

    async fn exchange(&mut self, out: &[u8]) -> anyhow::Result<Row> {
        let exchange = async {
            self.stream.write_all(out).await?;
            self.answer().await
        };
        timeout(PATIENCE, exchange).await.context("the database gave no answer in time")?
    }

    async fn answer(&mut self) -> anyhow::Result<Row> {
        let (mut row, mut failure) = (None, None);
        loop {
            let mut message = vec![0; 5];
            self.stream.read_exact(&mut message).await.context("the connection to the database broke")?;
            let len = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
            ensure!((4..MESSAGE_BYTES_MAX).contains(&len), "the database sent a message of {len} bytes");
            message.resize(len + 1, 0);
            self.stream.read_exact(&mut message[5..]).await.context("the connection to the database broke")?;
            match message[0] {
                tag::DATA_ROW => row = Some(columns(&message[5..]).context("a row of the database is malformed")?),
                tag::ERROR => failure = Some(said(&message)),
                tag::READY => break,
                _ => {}
            }
        }
        match failure {
            Some(failure) => bail!(failure),
            None => Ok(row),
        }
    }
}

fn said(message: &[u8]) -> String {
    let fields = Fields::of(message);
    let code = fields.sqlstate().map(|code| code.to_string()).unwrap_or_default();
    format!("{code} {}", String::from_utf8_lossy(fields.message().unwrap_or_default()))
}

/// The values of a row; nothing stands for NULL.
fn columns(mut body: &[u8]) -> Option<Vec<String>> {
    let mut take = |len: usize| {
        let (taken, rest) = body.split_at_checked(len)?;
        body = rest;
        Some(taken)
    };
    let count = u16::from_be_bytes(take(2)?.try_into().ok()?);
    let mut columns = Vec::new();
    for _ in 0..count {
        let len = i32::from_be_bytes(take(4)?.try_into().ok()?);
        let value = take(usize::try_from(len).unwrap_or(0))?;
        columns.push(String::from_utf8_lossy(value).into_owned());
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let row = [&[0, 2, 0, 0, 0, 2][..], b"ab", &[255, 255, 255, 255]].concat();
        assert_eq!(columns(&row), Some(vec!["ab".to_owned(), String::new()]));
        assert_eq!(columns(&row[..7]), None);
    }
}
