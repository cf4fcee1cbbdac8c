use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer of a server that speaks Redis' protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A short text, as `OK`.
    Simple(String),
    /// An error.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes; a text for people as well.
    Bulk(Vec<u8>),
    /// Nothing.
    Null,
    /// A list, or in version 2 a map.
    Array(Vec<Reply>),
    /// A map of version 3, its keys and values in turn.
    Map(Vec<Reply>),
}

/// A client that sends what it is told, and reads strictly what comes.
#[derive(Debug)]
pub struct RespClient {
    stream: BufReader<TcpStream>,
}

impl RespClient {
    /// Connects.
    ///
    /// # Errors
    /// Those of the system.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| address.to_string())?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a command and reads its answer.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not the protocol.
    pub fn command(&mut self, parts: &[impl AsRef<[u8]>]) -> Result<Reply> {
        self.send(&Self::encoded(parts))?;
        self.read()
    }

    /// A command as it is sent.
    pub fn encoded(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            let part = part.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of the system.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not the protocol.
    pub fn read(&mut self) -> Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let line =
            line.strip_suffix(b"\r\n").with_context(|| format!("the line {} is not whole", line.escape_ascii()))?;
        let (kind, rest) = std::str::from_utf8(line)?.split_at_checked(1).context("an empty line")?;
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse()?),
            "_" if rest.is_empty() => Reply::Null,
            "$" | "*" if rest == "-1" => Reply::Null,
            "$" => Reply::Bulk(self.bytes(rest.parse()?)?),
            "=" => Reply::Bulk(self.bytes(rest.parse()?)?.strip_prefix(b"txt:").context("no text")?.to_vec()),
            "*" => Reply::Array(self.several(rest.parse()?)?),
            "%" => Reply::Map(self.several(2 * rest.parse::<usize>()?)?),
            _ => bail!("an answer of an unknown kind: {kind}{rest}"),
        })
    }

    /// Whether the server has closed the connection, and nothing came before.
    ///
    /// # Errors
    /// When something comes, or the connection breaks otherwise.
    pub fn is_closed(&mut self) -> Result<()> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        ensure!(rest.is_empty(), "there is more: {}", rest.escape_ascii());
        Ok(())
    }

    fn several(&mut self, count: usize) -> Result<Vec<Reply>> {
        (0..count).map(|_| self.read()).collect()
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len + 2];
        self.stream.read_exact(&mut bytes)?;
        ensure!(bytes.ends_with(b"\r\n"), "no line end behind {len} bytes");
        bytes.truncate(len);
        Ok(bytes)
    }
}
