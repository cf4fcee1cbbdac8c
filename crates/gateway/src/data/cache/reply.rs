//! Sending what is stored to a client, in the form that it wants.

mod by_kernel;
mod coded;
mod streamed;

use std::io::IoSlice;

use bytes::Bytes;
use coding::Coding;
use http1::{Method, Request, Version, write};
use httpcache::{ByteRange, CacheStatus, Form, Lines, Multipart, Serve, Stored};
use store::Object;
use vocab::ErrorCode;

use self::coded::Coded;
use super::source::{Source, block_of};
use super::{NAME, With};
use crate::action::Edits;
use crate::cache::CacheResult;
use crate::compress::{Subject, Treatment, Wish};
use crate::data::core::Core;
use crate::data::encode::Encoding;
use crate::data::ends::ClientSink;
use crate::data::exchange::Call;
use crate::data::forward::{Outcome, Parts};
use crate::data::io::{self, Stalled, Wait};
use crate::data::reply;
use crate::params::CacheTold;

/// Longest body that is copied behind its head. A copy of that costs less than a call with two parts.
const JOIN_BYTES_MAX: u64 = 2048;

/// Parts that are written by one call at most.
const SLICES_MAX: usize = 16;

/// What is sent.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) stored: &'a Stored,
    pub(super) serve: &'a Serve,
    /// What the client is told of it.
    pub(super) status: CacheStatus<'a>,
    pub(super) result: CacheResult,
    /// What is written with it from now on, if that is new.
    pub(super) fresh: Option<&'a Bytes>,
}

/// What of the body is sent.
enum Plan {
    Nothing,
    /// From a byte on, up to another one or to the end.
    Range(u64, Option<u64>),
    /// Several parts, each behind what is written before it, and what is written behind them.
    Parts(Vec<(Vec<u8>, ByteRange)>, Vec<u8>),
}

/// How a head is written.
struct Terms<'a> {
    keep_alive: bool,
    edits: Option<&'a Edits>,
    added: &'a [u8],
    key: Option<&'a [u8]>,
    tells: bool,
    boundary: u128,
    /// What is done with it where responses are compressed.
    treatment: Treatment,
    /// Bytes of the body in its coding, if that is kept.
    coded_bytes: Option<u64>,
}

/// Sends an answer.
pub(super) async fn serve(
    parts: &mut Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    (answer, source): (&Answer<'_>, &mut Source),
) -> Outcome {
    let Parts { link, scratch, account, .. } = parts;
    let request = &scratch.request;
    let http11 = request.version == Version::Http11;
    let unmeasured = answer.serve.form == Form::Stored && answer.stored.body() == httpcache::Body::Unmeasured;
    let keep_alive = request.keep_alive && !link.state.closing.get() && (http11 || !unmeasured);
    let edits = call.terms.actions.map(|actions| &actions.response);
    let told = with.cache.params.told;
    let block = answer.fresh.map_or(source.block(), |meta| block_of(meta));
    let (treatment, mut coded) = treat(link.core, call.terms.wish.as_ref(), request, (answer, block, source));
    let terms = Terms {
        keep_alive,
        edits: edits.filter(|edits| edits.drop_any()),
        added: &scratch.added,
        key: (told == CacheTold::Key).then_some(source.key()),
        tells: told != CacheTold::Nothing,
        boundary: if matches!(answer.serve.form, Form::Parts(..)) { link.core.random.borrow_mut().u128(..) } else { 0 },
        treatment,
        coded_bytes: coded.bytes(),
    };
    let (status, plan) = write_head(&mut scratch.to_client, request, (answer, block), &terms);
    let plan = if request.method == Method::Head { Plan::Nothing } else { plan };
    account.status = Some(status);
    account.head_sent += scratch.to_client.len() as u64;
    let chunked = unmeasured && http11 && matches!(link.sink, ClientSink::Wire(_));
    let wait = Wait::after(&scratch.deadline, call.listener.params.write_timeout);
    // What is asked for once is copied: most of it goes without being asked for again, and memory that was sent cannot be used again.
    let by_kernel = matches!(answer.result, CacheResult::Hit | CacheResult::Stale).then_some(&**link.core);
    let head_alone = link.peer.paced_within;
    let mut way =
        Way { by_kernel, head_alone, sink: &mut link.sink, out: &mut scratch.to_client, chunked, wait, sent: 0 };
    let sent = match &mut coded {
        Coded::No => way.run(source, plan).await,
        // Apart, so that what goes out as it is does not carry its memory.
        Coded::Anew(encoding) => {
            let sent = Box::pin(way.run_coded(source, &plan, encoding)).await;
            if let (Ok(()), Source::Memory(plain), Some(body)) = (&sent, &*source, encoding.take_kept()) {
                coded::keep(link.core, plain, &treatment, &body);
            }
            sent
        }
        Coded::Kept(hit) => Box::pin(way.run(&mut Source::Memory(hit.clone()), plan)).await,
    };
    account.body_sent += way.sent;
    with.route.state.cached.add(link.core.id, answer.result, way.sent);
    match sent {
        Ok(()) => return Outcome::Answered { keep_alive },
        Err(Broken::Client(Stalled::TimedOut)) => account.error = Some(ErrorCode::WriteTimeout),
        Err(Broken::Client(Stalled::Broken(_)) | Broken::Gone) => {}
        Err(Broken::Origin) => {
            account.error = Some(ErrorCode::UpstreamClosed);
            link.sink.cut(unmeasured && !http11);
        }
        Err(broken @ (Broken::Disk | Broken::Busy)) => {
            account.error = Some(ErrorCode::FileUnavailable);
            // Nobody else is to be sent half of it; what a disk has no time for is good.
            if matches!(broken, Broken::Disk) {
                let store = &link.core.shared.cache.look().store;
                store.remove(store.key(source.key()));
            }
            link.sink.cut(unmeasured && !http11);
        }
    }
    Outcome::Broken
}

/// What is done with an answer where responses are compressed, and what its body is sent as.
fn treat<'c>(
    core: &'c Core,
    wish: Option<&Wish<'c>>,
    request: &Request,
    (answer, block, source): (&Answer<'_>, &[u8], &Source),
) -> (Treatment, Coded<'c>) {
    let Some(wish) = wish else { return (Treatment::default(), Coded::No) };
    let (stored, form) = (answer.stored, &answer.serve.form);
    let length = match stored.body() {
        httpcache::Body::Whole(bytes) => Some(bytes),
        _ => None,
    };
    let whole = wish.treat(Subject { status: stored.status(), length }, Lines::new(block));
    match form {
        Form::Stored => match whole.coding.filter(|_| request.method != Method::Head) {
            None => (whole, Coded::No),
            Some(coding) => coded(core, wish, (whole, coding), source),
        },
        Form::NotModified => (wish.not_modified(whole), Coded::No),
        // Parts are those of the plain form.
        Form::Part(_) | Form::Parts(..) => (whole.plain(), Coded::No),
        Form::Unsatisfiable(_) => (Treatment::default(), Coded::No),
    }
}

/// What a body is sent as that is to have a coding.
fn coded<'c>(
    core: &'c Core,
    wish: &Wish<'c>,
    (whole, coding): (Treatment, Coding),
    source: &Source,
) -> (Treatment, Coded<'c>) {
    if let (Some(hit), Source::Memory(plain)) = (coded::find(core, source, (coding, whole.effort)), source) {
        wish.state.compressed(core.id, coding, (plain.object.body_bytes(), hit.object.body_bytes()));
        return (whole, Coded::Kept(hit));
    }
    match Encoding::begin(core, wish, &whole) {
        Some(mut encoding) => {
            if matches!(source, Source::Memory(_)) {
                encoding.keep();
            }
            (whole, Coded::Anew(encoding))
        }
        None => (whole.plain(), Coded::No),
    }
}

/// Writes the head of an answer: its status, and what of the body follows.
fn write_head(
    out: &mut Vec<u8>,
    request: &Request,
    (answer, block): (&Answer<'_>, &[u8]),
    with: &Terms<'_>,
) -> (u16, Plan) {
    let (stored, form) = (answer.stored, &answer.serve.form);
    let status = match form {
        Form::Stored => stored.status(),
        Form::NotModified => 304,
        Form::Part(_) | Form::Parts(..) => 206,
        Form::Unsatisfiable(_) => 416,
    };
    out.clear();
    write::status_line(out, status, reply::reason(status).as_bytes());
    let is_whole = matches!(form, Form::Stored | Form::Part(_));
    let edited = |name: &[u8]| with.edits.is_some_and(|edits| edits.drops(name));
    if is_whole && with.edits.is_none() && !with.treatment.varies {
        out.extend_from_slice(block);
    } else {
        let drops = |name: &[u8]| edited(name) || with.treatment.drops(name);
        let passes = |name: &[u8]| match form {
            Form::Stored | Form::Part(_) => true,
            Form::NotModified => httpcache::belongs_in_304(name),
            // These describe the whole, and the answer is something else.
            Form::Parts(..) => !name.eq_ignore_ascii_case(b"content-type"),
            Form::Unsatisfiable(_) => name.eq_ignore_ascii_case(b"date"),
        };
        for (name, value) in Lines::new(block).filter(|(name, _)| passes(name) && !drops(name)) {
            write::field(out, name, value);
        }
    }
    if with.treatment.varies {
        with.treatment.push(out, Lines::new(block), edited);
    }
    let plan = write_framing(out, request, answer, with, block);
    out.extend_from_slice(b"Age: ");
    write::number(out, answer.serve.age_secs);
    out.extend_from_slice(b"\r\n");
    if with.tells {
        CacheStatus { key: with.key, ..answer.status }.write_line(out, NAME);
    }
    if !with.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if request.version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(with.added);
    out.extend_from_slice(b"\r\n");
    (status, plan)
}

/// Writes what tells how long the body is, and which part of the whole.
fn write_framing(out: &mut Vec<u8>, request: &Request, answer: &Answer<'_>, with: &Terms<'_>, block: &[u8]) -> Plan {
    let stored = answer.stored;
    match &answer.serve.form {
        Form::NotModified => Plan::Nothing,
        Form::Stored => match stored.body() {
            httpcache::Body::Whole(bytes) if with.treatment.coding.is_some() => {
                // Only clients that take chunks get codings, and to a HEAD there is no body.
                if let Some(bytes) = with.coded_bytes {
                    write::content_length(out, bytes);
                    return Plan::Range(0, Some(bytes));
                }
                if request.method != Method::Head {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
                Plan::Range(0, Some(bytes))
            }
            httpcache::Body::Whole(bytes) => {
                if stored.status() != 204 {
                    write::content_length(out, bytes);
                }
                if bytes == 0 { Plan::Nothing } else { Plan::Range(0, Some(bytes)) }
            }
            _ => {
                if request.version == Version::Http11 {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
                Plan::Range(0, None)
            }
        },
        Form::Part(part) => {
            write::content_length(out, part.range.len());
            out.extend_from_slice(b"Content-Range: ");
            part.write(out);
            out.extend_from_slice(b"\r\n");
            // Of a part that is stored its place in the whole is the beginning.
            let first = if let httpcache::Body::Part(stored) = stored.body() { stored.range.first } else { 0 };
            Plan::Range(part.range.first - first, Some(part.range.last + 1 - first))
        }
        Form::Parts(ranges, total) => {
            let content_type = Lines::new(block).find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
            let content_type = content_type.map(|(_, value)| value);
            let multipart = Multipart { boundary: with.boundary, content_type, total: *total };
            write::content_length(out, multipart.bytes(ranges));
            out.extend_from_slice(b"Content-Type: ");
            multipart.write_type(out);
            out.extend_from_slice(b"\r\n");
            let part = |range: &ByteRange| {
                let mut head = Vec::new();
                multipart.write_head(&mut head, *range);
                (head, *range)
            };
            let parts = ranges.iter().map(part).collect();
            let mut end = Vec::new();
            multipart.write_end(&mut end);
            Plan::Parts(parts, end)
        }
        Form::Unsatisfiable(total) => {
            out.extend_from_slice(b"Content-Range: ");
            httpcache::write_unsatisfied(out, *total);
            out.extend_from_slice(b"\r\nContent-Length: 0\r\n");
            Plan::Nothing
        }
    }
}

enum Broken {
    /// By the client.
    Client(Stalled),
    /// The client does not want it any more.
    Gone,
    /// By the origin that it comes from.
    Origin,
    /// By the disk that it is on, which has not got it.
    Disk,
    /// By the disk, which has too much to do, or does not answer.
    Busy,
}

/// The way to a client.
struct Way<'w, 's> {
    /// The core, if long pieces go out by the kernel.
    by_kernel: Option<&'w Core>,
    /// The head does not go along with a long piece. Where packets are spread over time (BBR does), each is taken for a whole segment when
    /// the client's speed is reckoned; without a small one among them, the second half of a body waits for a timer, which doubles
    /// what it costs within a machine.
    head_alone: bool,
    sink: &'w mut ClientSink<'s>,
    /// What goes out before the next piece: the head, at first.
    out: &'w mut Vec<u8>,
    chunked: bool,
    wait: Wait<'w>,
    sent: u64,
}

impl Way<'_, '_> {
    async fn run(&mut self, source: &mut Source, plan: Plan) -> Result<(), Broken> {
        if let ClientSink::Stream(responder) = self.sink {
            responder.begin(self.out, matches!(plan, Plan::Nothing)).map_err(Broken::Client)?;
            self.out.clear();
        }
        match plan {
            Plan::Nothing => self.flush(&[]).await,
            Plan::Range(first, end) => self.range(source, (first, end.unwrap_or(u64::MAX)), true).await,
            // Apart, since few ask for it.
            Plan::Parts(parts, end) => Box::pin(self.parts(source, parts, &end)).await,
        }
    }

    /// Sends what stands between two places of the body.
    async fn range(&mut self, source: &mut Source, range: (u64, u64), is_last: bool) -> Result<(), Broken> {
        match source {
            Source::Memory(hit) => self.whole(&hit.object, range, is_last).await,
            // Apart, so that what is in memory does not carry its memory.
            Source::Stream(reader) => Box::pin(self.read(reader, range, is_last)).await,
        }
    }

    async fn parts(&mut self, source: &mut Source, parts: Vec<(Vec<u8>, ByteRange)>, end: &[u8]) -> Result<(), Broken> {
        for (head, range) in parts {
            self.text(&head).await?;
            self.range(source, (range.first, range.last + 1), false).await?;
        }
        self.text(end).await?;
        match self.sink {
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(Broken::Client)?;
                body.finish(&[]).await.map_err(Broken::Client)
            }
            _ => self.flush(&[]).await,
        }
    }

    /// Adds a text of the gateway's own to the body.
    async fn text(&mut self, text: &[u8]) -> Result<(), Broken> {
        self.sent += text.len() as u64;
        match self.sink {
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(Broken::Client)?;
                body.send(text, false, Some(self.wait)).await.map_err(Broken::Client)
            }
            _ => {
                self.out.extend_from_slice(text);
                Ok(())
            }
        }
    }

    /// Sends what stands between two places of a body that is all there.
    async fn whole(&mut self, hit: &Object, (first, end): (u64, u64), is_last: bool) -> Result<(), Broken> {
        let end = end.min(hit.body_bytes());
        let mut at = 0;
        let pieces = hit.chunks().iter().filter_map(move |chunk| {
            let start = at;
            at += chunk.len() as u64;
            let (from, to) = (first.max(start), end.min(at));
            (from < to).then(|| (chunk, (from - start) as usize..(to - start) as usize))
        });
        match self.sink {
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(Broken::Client)?;
                let mut pieces = pieces.peekable();
                while let Some((chunk, range)) = pieces.next() {
                    let ends = is_last && pieces.peek().is_none();
                    self.sent += range.len() as u64;
                    body.send_shared(chunk.slice(range), ends, self.wait).await.map_err(Broken::Client)?;
                }
                Ok(())
            }
            ClientSink::Wire(writer)
                if self.by_kernel.is_some()
                    && writer.socket().is_some()
                    && end.saturating_sub(first) >= by_kernel::BYTES_MIN =>
            {
                // Apart, so that what is short does not carry its memory.
                Box::pin(self.by_kernel(pieces)).await
            }
            ClientSink::Wire(writer) => {
                let mut pieces = pieces.peekable();
                if let Some((chunk, range)) = pieces.next_if(|(_, range)| range.len() as u64 <= JOIN_BYTES_MAX) {
                    self.sent += range.len() as u64;
                    self.out.extend_from_slice(&chunk[range]);
                }
                let mut out = self.out.as_slice();
                while !out.is_empty() || pieces.peek().is_some() {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    slices[0] = IoSlice::new(std::mem::take(&mut out));
                    let mut count = 1;
                    for (slot, (chunk, range)) in slices[1..].iter_mut().zip(&mut pieces) {
                        self.sent += range.len() as u64;
                        *slot = IoSlice::new(&chunk[range]);
                        count += 1;
                    }
                    io::write_slices(writer, &mut slices[..count], self.wait).await.map_err(Broken::Client)?;
                }
                self.out.clear();
                Ok(())
            }
            ClientSink::Nobody | ClientSink::Kept(_) | ClientSink::Fill(_) => Ok(()),
        }
    }

    /// Sends what has gathered for a wire, and a piece behind it.
    async fn flush(&mut self, data: &[u8]) -> Result<(), Broken> {
        let ClientSink::Wire(writer) = self.sink else { return Ok(()) };
        io::write_all(writer, self.out, data, self.wait).await.map_err(Broken::Client)?;
        self.out.clear();
        Ok(())
    }
}
