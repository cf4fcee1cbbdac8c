//! An answer that was fetched and not stored, on its way to the client whose request it was.

use bytes::Bytes;
use http1::{Framing, Response, Version, write};
use httpcache::{CacheStatus, Lines};
use tokio::sync::mpsc;
use vocab::ErrorCode;

use super::fill::Why;
use super::{With, tell};
use crate::data::encode::{self, Encoding};
use crate::data::ends::ClientSink;
use crate::data::exchange::Call;
use crate::data::forward::{Outcome, Parts};
use crate::data::head::{self, Inbound};
use crate::data::io::{self, Stalled, Wait};
use crate::data::relay;
use crate::forwarded::says_https;

/// Pieces on their way, of 64 KiB at most each.
pub(super) const UNDER_WAY_MAX: usize = 4;

/// A part of the answer.
#[derive(Debug)]
pub(super) enum Handed {
    Head(Box<Head>),
    /// What is stored is good, and this is written with it from now on.
    Good(Bytes),
    /// There is none.
    Nothing(Why),
    Data(Bytes),
    /// All of the body has come, with these trailers, as lines.
    End(Vec<u8>),
}

/// The head, as it came.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
    status: u16,
    /// Why others have nothing of it, and why it is not stored, as a token.
    pub(super) why: Why,
    detail: &'static str,
    /// Id of the service's endpoint that it comes from; of another service's none.
    endpoint: Option<u64>,
}

impl Head {
    /// A copy of a head, without what is for caches alone.
    pub(super) fn new(
        (response, head): (&Response, &[u8]),
        (why, detail): (Why, &'static str),
        endpoint: Option<u64>,
    ) -> Self {
        let hidden =
            response.fields.as_slice().iter().filter(|field| crate::cache::is_for_caches(field.name.of_buf(head)));
        let mut bytes = Vec::with_capacity(head.len());
        let mut at = 0;
        for field in hidden {
            bytes.extend_from_slice(&head[at..field.name.start()]);
            let end = memchr::memchr(b'\n', &head[field.value.end()..]);
            at = end.map_or(head.len(), |end| field.value.end() + end + 1);
        }
        bytes.extend_from_slice(&head[at..]);
        Self { bytes, status: response.status, why, detail, endpoint }
    }

    fn fields(&self) -> Lines<'_> {
        let line = memchr::memchr(b'\n', &self.bytes).map_or(self.bytes.len(), |end| end + 1);
        Lines::new(&self.bytes[line..])
    }

    /// Whether the client has what came. It was asked for without the client's condition, so that it could be stored, and would
    /// have to be asked for again to have its origin judge.
    pub(super) fn is_known_to(&self, facts: &httpcache::Request<'_>) -> bool {
        self.status == 200 && facts.has_already(self.fields())
    }

    /// The same as 304, and the way on which nothing follows.
    pub(super) fn not_modified(&self) -> (Self, mpsc::Receiver<Handed>) {
        let mut bytes = b"HTTP/1.1 304 Not Modified\r\n".to_vec();
        for (name, value) in self.fields().filter(|(name, _)| !describes_content(name)) {
            write::field(&mut bytes, name, value);
        }
        bytes.extend_from_slice(b"\r\n");
        let (sender, receiver) = mpsc::channel(1);
        // There is room.
        let _sent = sender.try_send(Handed::End(Vec::new()));
        (Self { bytes, status: 304, why: self.why, detail: self.detail, endpoint: self.endpoint }, receiver)
    }
}

/// Whether a field says something of the content, which a 304 does not have.
fn describes_content(name: &[u8]) -> bool {
    let begins = |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()));
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    begins("content-") && !is("content-location") && !is("content-security-policy")
        || is("transfer-encoding")
        || is("trailer")
        || is("accept-ranges")
}

/// Passes an answer on as it comes; `None` when it cannot be read.
pub(super) async fn relay(
    parts: &mut Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    (came, pieces, status): (&Head, &mut mpsc::Receiver<Handed>, CacheStatus<'_>),
) -> Option<Outcome> {
    tell(&mut parts.scratch.added, with.cache, &CacheStatus { detail: Some(came.detail), ..status });
    let Parts { link, scratch, account, .. } = parts;
    let limits = &call.service.view.limits;
    if scratch.response.parse(&came.bytes, limits, &scratch.request.method).is_err() {
        return None;
    }
    let response = &scratch.response;
    let (treatment, encoding) = encode::treat(link.core, call.terms.wish.as_ref(), (response, &came.bytes));
    let encoded = encoding.is_some();
    let framed = matches!(response.framing, Framing::Chunked | Framing::UntilClose) || encoded;
    let http11 = scratch.request.version == Version::Http11;
    let keep_alive = scratch.request.keep_alive && !link.state.closing.get() && (http11 || !framed);
    let edits = call.terms.actions.map(|actions| &actions.response);
    let (version, added) = (scratch.request.version, &scratch.added);
    let sticky = call.service.view.params.sticky.as_ref().zip(came.endpoint);
    let secure =
        link.peer.tls || call.origin.trusted && says_https(&scratch.request, &link.buffer.filled()[..call.head_len]);
    let sticky = sticky.filter(|(_, id)| call.sticky != Some(*id)).map(|(sticky, id)| (sticky, id, secure));
    let cached = true;
    let inbound = Inbound { version, keep_alive, sticky, edits, treatment, encoded, cached, added };
    head::write_response(&mut scratch.to_client, response, &came.bytes, &inbound);
    let out = &mut scratch.to_client;
    account.status = Some(response.status);
    account.head_sent += out.len() as u64;
    let chunked = framed && http11 && matches!(link.sink, ClientSink::Wire(_));
    let empty = response.framing == Framing::Empty;
    let wait = Wait::after(&scratch.deadline, call.listener.params.write_timeout);
    let mut way = Way { sink: &mut link.sink, out, chunked, wait, sent: 0, encoding };
    let relayed = way.run(pieces, empty).await;
    account.body_sent += way.sent;
    drop(way);
    with.route.state.cached.add(link.core.id, crate::cache::CacheResult::Unstored, account.body_sent);
    match relayed {
        Ok(()) => return Some(Outcome::Answered { keep_alive }),
        Err(Broken::Client(Stalled::TimedOut)) => account.error = Some(ErrorCode::WriteTimeout),
        Err(Broken::Client(Stalled::Broken(_)) | Broken::Gone) => {}
        Err(Broken::Origin) => {
            account.error = Some(ErrorCode::UpstreamClosed);
            link.sink.cut(framed && !http11);
        }
    }
    Some(Outcome::Broken)
}

enum Broken {
    Client(Stalled),
    Gone,
    Origin,
}

struct Way<'w, 's> {
    sink: &'w mut ClientSink<'s>,
    /// What goes out before the next piece.
    out: &'w mut Vec<u8>,
    chunked: bool,
    wait: Wait<'w>,
    sent: u64,
    /// What compresses the body, if anything does.
    encoding: Option<Box<Encoding<'w>>>,
}

impl From<relay::Broken> for Broken {
    fn from(broken: relay::Broken) -> Self {
        match broken {
            relay::Broken::Client => Self::Gone,
            relay::Broken::Unread => Self::Client(Stalled::TimedOut),
            relay::Broken::Upstream(_) | relay::Broken::OutOfTime => Self::Origin,
        }
    }
}

impl Way<'_, '_> {
    async fn run(&mut self, pieces: &mut mpsc::Receiver<Handed>, empty: bool) -> Result<(), Broken> {
        if let ClientSink::Stream(responder) = self.sink {
            responder.begin(self.out, empty).map_err(Broken::Client)?;
            self.out.clear();
        }
        loop {
            // What has gathered goes out before anything is waited for.
            let piece = match pieces.try_recv() {
                Ok(piece) => Some(piece),
                Err(_) => {
                    if let Some(encoding) = self.encoding.as_mut().filter(|encoding| encoding.holds_back()) {
                        self.sent += encoding.flush((self.sink, self.out), self.wait).await?;
                    }
                    self.flush(&[]).await?;
                    pieces.recv().await
                }
            };
            match piece {
                // What answers a `HEAD` has none, whatever comes.
                Some(Handed::Data(_)) if empty => {}
                Some(Handed::Data(data)) => self.piece(&data).await?,
                Some(Handed::End(trailers)) => return self.end(&trailers, empty).await,
                _ => return Err(Broken::Origin),
            }
        }
    }

    async fn piece(&mut self, data: &[u8]) -> Result<(), Broken> {
        if let Some(encoding) = &mut self.encoding {
            self.sent += encoding.push(data, (self.sink, self.out), self.wait).await?;
            return Ok(());
        }
        if self.chunked {
            self.out.extend_from_slice(write::chunk_head(&mut [0; write::CHUNK_HEAD_BYTES_MAX], data.len() as u64));
        }
        self.flush(data).await?;
        if self.chunked {
            self.out.extend_from_slice(b"\r\n");
        }
        self.sent += data.len() as u64;
        Ok(())
    }

    /// Sends what has gathered, and a piece behind it.
    async fn flush(&mut self, data: &[u8]) -> Result<(), Broken> {
        match self.sink {
            ClientSink::Wire(writer) => {
                io::write_all(writer, self.out, data, self.wait).await.map_err(Broken::Client)?;
                self.out.clear();
                Ok(())
            }
            ClientSink::Stream(responder) if !data.is_empty() => {
                let body = responder.body().map_err(Broken::Client)?;
                body.send(data, false, Some(self.wait)).await.map_err(Broken::Client)
            }
            _ => Ok(()),
        }
    }

    async fn end(&mut self, trailers: &[u8], empty: bool) -> Result<(), Broken> {
        if let Some(encoding) = &mut self.encoding {
            self.sent += encoding.finish((self.sink, self.out), trailers.is_empty(), self.wait).await?;
        }
        match self.sink {
            ClientSink::Stream(_) if empty => Ok(()),
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(Broken::Client)?;
                if body.has_ended { Ok(()) } else { body.finish(trailers).await.map_err(Broken::Client) }
            }
            _ => {
                if self.chunked {
                    self.out.extend_from_slice(b"0\r\n");
                    self.out.extend_from_slice(trailers);
                    self.out.extend_from_slice(b"\r\n");
                }
                self.flush(&[]).await
            }
        }
    }
}
