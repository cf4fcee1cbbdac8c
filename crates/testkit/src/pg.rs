use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client of PostgreSQL's protocol that sends what it is told, byte by byte if need be, and sees every message of the answer.
#[derive(Debug)]
pub struct PgClient {
    stream: TcpStream,
    /// Settings that the server has reported, the newest last.
    pub reports: Vec<(String, String)>,
    /// The process and the secret by which the session is cancelled.
    pub key: (i32, Vec<u8>),
    port: u16,
}

/// A message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgMessage {
    /// What it is.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

/// What a server has answered, up to the next `ReadyForQuery`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PgAnswer {
    /// Rows, of texts.
    pub rows: Vec<Vec<Option<String>>>,
    /// What statements said at their ends.
    pub tags: Vec<String>,
    /// Codes and texts of errors.
    pub errors: Vec<(String, String)>,
    /// The kinds of all messages, in order.
    pub kinds: String,
    /// Where the transaction stands: `I`, `T` or `E`.
    pub status: char,
}

impl PgAnswer {
    /// The one value of the one row.
    ///
    /// # Panics
    /// When there is something else.
    pub fn value(&self) -> &str {
        match &self.rows[..] {
            [row] if row.len() == 1 && self.errors.is_empty() => row[0].as_deref().unwrap_or_default(),
            _ => panic!("no single value: {self:?}"),
        }
    }

    /// The code of the first error, or nothing.
    pub fn code(&self) -> &str {
        self.errors.first().map_or("", |(code, _)| code)
    }
}

impl PgMessage {
    /// A field of an error.
    pub fn field(&self, kind: u8) -> String {
        let mut fields = self.body.split(|byte| *byte == 0).filter(|field| field.first() == Some(&kind));
        fields.next().map_or_else(String::new, |field| String::from_utf8_lossy(&field[1..]).into_owned())
    }
}

/// Messages of a client, to be sent together.
#[derive(Clone, Debug, Default)]
pub struct PgMessages(pub Vec<u8>);

impl PgMessages {
    /// A message of any kind.
    #[must_use]
    pub fn raw(mut self, tag: u8, body: &[u8]) -> Self {
        self.0.push(tag);
        self.0.extend((body.len() as u32 + 4).to_be_bytes());
        self.0.extend(body);
        self
    }

    /// Statements as a text.
    #[must_use]
    pub fn query(self, text: &str) -> Self {
        self.raw(b'Q', &[text.as_bytes(), &[0]].concat())
    }

    /// Prepares a statement.
    #[must_use]
    pub fn parse(self, name: &str, text: &str) -> Self {
        self.raw(b'P', &[name.as_bytes(), &[0], text.as_bytes(), &[0, 0, 0]].concat())
    }

    /// Values, as texts, for a statement; the portal has no name.
    #[must_use]
    pub fn bind(self, name: &str, values: &[&str]) -> Self {
        let mut body = [&[0], name.as_bytes(), &[0, 0, 0]].concat();
        body.extend((values.len() as u16).to_be_bytes());
        for value in values {
            body.extend((value.len() as u32).to_be_bytes());
            body.extend(value.as_bytes());
        }
        body.extend([0, 0]);
        self.raw(b'B', &body)
    }

    /// Runs the portal without a name.
    #[must_use]
    pub fn execute(self) -> Self {
        self.raw(b'E', &[0; 5])
    }

    /// Asks what a statement takes and gives.
    #[must_use]
    pub fn describe(self, name: &str) -> Self {
        self.raw(b'D', &[b"S", name.as_bytes(), &[0]].concat())
    }

    /// Forgets a statement.
    #[must_use]
    pub fn close(self, name: &str) -> Self {
        self.raw(b'C', &[b"S", name.as_bytes(), &[0]].concat())
    }

    /// The end of a group.
    #[must_use]
    pub fn sync(self) -> Self {
        self.raw(b'S', &[])
    }
}

impl PgClient {
    /// Logs in at a port of the loopback address, with the password in clear if it is asked for.
    ///
    /// # Errors
    /// When the server refuses; the message has its code and text.
    pub fn connect(port: u16, user: &str, database: &str, password: &str) -> Result<Self> {
        Self::connect_with(port, &[("user", user), ("database", database)], password)
    }

    /// The same, with any parameters.
    ///
    /// # Errors
    /// As [`PgClient::connect`].
    pub fn connect_with(port: u16, parameters: &[(&str, &str)], password: &str) -> Result<Self> {
        let mut client = Self::begin(port)?;
        let mut body = (3_u32 << 16).to_be_bytes().to_vec();
        for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
            body.extend(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        client.send(&[&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat())?;
        loop {
            let message = client.message()?;
            match message.tag {
                b'R' if message.body[..4] == [0, 0, 0, 3] => {
                    let password = [password.as_bytes(), &[0]].concat();
                    client.send(&PgMessages::default().raw(b'p', &password).0)?;
                }
                b'R' if message.body[..4] == [0; 4] => {}
                b'S' => client.note(&message),
                b'K' => {
                    let pid = message.body[..4].try_into().context("a key")?;
                    client.key = (i32::from_be_bytes(pid), message.body[4..].to_vec());
                }
                b'N' => {}
                b'Z' => return Ok(client),
                b'E' => bail!("{} {}", message.field(b'C'), message.field(b'M')),
                tag => bail!("unexpected message {}", char::from(tag)),
            }
        }
    }

    /// A connection on which nothing was said.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn begin(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, reports: Vec::new(), key: (0, Vec::new()), port })
    }

    /// Another handle of the connection, to send by while answers are awaited.
    ///
    /// # Errors
    /// Those of the system.
    pub fn another_handle(&self) -> Result<Self> {
        let stream = self.stream.try_clone()?;
        Ok(Self { stream, reports: Vec::new(), key: (0, Vec::new()), port: self.port })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next message.
    ///
    /// # Errors
    /// When the connection ends, or nothing comes for half a minute.
    pub fn message(&mut self) -> Result<PgMessage> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        ensure!((4..1 << 30).contains(&len), "message {}: length {len}", char::from(head[0]));
        let mut body = vec![0; len - 4];
        self.stream.read_exact(&mut body)?;
        Ok(PgMessage { tag: head[0], body })
    }

    /// What comes up to the next `ReadyForQuery`.
    ///
    /// # Errors
    /// As [`PgClient::message`].
    pub fn answer(&mut self) -> Result<PgAnswer> {
        let mut answer = PgAnswer::default();
        loop {
            let message = self.message()?;
            answer.kinds.push(char::from(message.tag));
            match message.tag {
                b'D' => answer.rows.push(row(&message.body)?),
                b'C' => {
                    let text = message.body.strip_suffix(&[0]).context("a text without its end")?;
                    answer.tags.push(String::from_utf8(text.to_vec())?);
                }
                b'E' => answer.errors.push((message.field(b'C'), message.field(b'M'))),
                b'S' => self.note(&message),
                b'Z' => {
                    answer.status = message.body.first().map_or(' ', |status| char::from(*status));
                    return Ok(answer);
                }
                _ => {}
            }
        }
    }

    /// Sends messages and hears the answer of one group.
    ///
    /// # Errors
    /// As [`PgClient::message`].
    pub fn ask(&mut self, messages: &PgMessages) -> Result<PgAnswer> {
        self.send(&messages.0)?;
        self.answer()
    }

    /// Runs statements as a text.
    ///
    /// # Errors
    /// As [`PgClient::message`]. What the server says of the statements is in the answer.
    pub fn query(&mut self, text: &str) -> Result<PgAnswer> {
        self.ask(&PgMessages::default().query(text))
    }

    /// Cancels what the session runs, from a connection of its own.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub fn cancel(&self) -> Result<()> {
        let mut other = Self::begin(self.port)?;
        let (pid, secret) = &self.key;
        let body = [&(1234_i32 << 16 | 5678).to_be_bytes()[..], &pid.to_be_bytes(), secret].concat();
        other.send(&[&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat())?;
        let mut rest = Vec::new();
        other.stream.read_to_end(&mut rest)?;
        Ok(())
    }

    /// Goes without a word, as a process that was killed with something unread: the other side finds the connection reset.
    ///
    /// # Errors
    /// Those of the system.
    pub fn reset(self) -> Result<()> {
        Ok(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?)
    }

    /// The value that was reported last for a setting.
    pub fn report(&self, name: &str) -> Option<&str> {
        self.reports.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn note(&mut self, message: &PgMessage) {
        let mut texts = message.body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        self.reports.push((texts.next().unwrap_or_default(), texts.next().unwrap_or_default()));
    }
}

fn row(body: &[u8]) -> Result<Vec<Option<String>>> {
    let mut rest = body.get(2..).context("a row without a count")?;
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>().context("a value without a length")?;
        let len = i32::from_be_bytes(*len);
        let (value, after) = after.split_at_checked(len.max(0) as usize).context("a value that is too short")?;
        values.push((len >= 0).then(|| String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Ok(values)
}
