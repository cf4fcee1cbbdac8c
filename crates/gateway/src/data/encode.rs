//! A body that is compressed on its way to the client.
//!
//! It is encoded in portions, with a turn for the core's other tasks after each: a large body at hand would otherwise keep
//! everybody waiting for as long as its compression takes. What the encoder holds back is written out whenever the
//! endpoint has nothing more to give at the moment, so that events arrive as they happen.

use http1::{Framing, Response, write};
use vocab::ErrorCode;

use coding::{Coding, Encoder};

use super::core::Core;
use super::ends::ClientSink;
use super::io::{self, Wait};
use super::relay::{Broken, client};
use crate::compress::{Treatment, Wish};
use crate::state::RouteState;

/// Bytes that are encoded before others have a turn: a fraction of a millisecond at the usual effort.
const PORTION_BYTES: usize = 16 * 1024;

/// Bodies that a core compresses at once, of up to two mebibytes each at the usual effort. Further ones go as they are.
const ENCODERS_MAX: usize = 128;

/// Longest encoded body that is kept: what is put into a cache in one piece.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// A body on its way.
pub(crate) struct Encoding<'c> {
    /// Until the body has ended.
    encoder: Option<Encoder>,
    coding: Coding,
    core: &'c Core,
    state: &'c RouteState,
    /// What was made and not yet sent.
    made: Vec<u8>,
    /// Whether the encoder may hold something back.
    holds: bool,
    /// All that was made, as long as it is wanted and not too much.
    kept: Option<Vec<u8>>,
    /// Bytes taken, and bytes made of them.
    taken: u64,
    given: u64,
}

impl Drop for Encoding<'_> {
    fn drop(&mut self) {
        self.core.encoders.set(self.core.encoders.get() - 1);
        self.state.compressed(self.core.id, self.coding, (self.taken, self.given));
    }
}

/// There is no memory for it.
const NO_MEMORY: Broken = Broken::Upstream(ErrorCode::Overloaded);

/// What is done with a response where responses are compressed, and the encoding of its body, if it gets one.
pub(crate) fn treat<'c>(
    core: &'c Core,
    wish: Option<&Wish<'c>>,
    (response, head): (&Response, &[u8]),
) -> (Treatment, Option<Box<Encoding<'c>>>) {
    let Some(wish) = wish else { return (Treatment::default(), None) };
    let treatment = wish.treatment(response, head);
    if treatment.coding.is_none() || response.framing == Framing::Empty {
        return (treatment, None);
    }
    match Encoding::begin(core, wish, &treatment) {
        Some(encoding) => (treatment, Some(encoding)),
        None => (treatment.plain(), None),
    }
}

impl<'c> Encoding<'c> {
    /// Begins a body; `None` when there is nothing to be done, or the core has enough to do.
    pub(crate) fn begin(core: &'c Core, wish: &Wish<'c>, treatment: &Treatment) -> Option<Box<Self>> {
        let coding = treatment.coding?;
        let open = core.encoders.get();
        if open >= ENCODERS_MAX {
            return None;
        }
        let encoder = Encoder::new(coding, treatment.effort).ok()?;
        core.encoders.set(open + 1);
        let (state, made) = (wish.state, Vec::new());
        Some(Box::new(Self {
            encoder: Some(encoder),
            coding,
            core,
            state,
            made,
            kept: None,
            holds: false,
            taken: 0,
            given: 0,
        }))
    }

    /// Keeps what is made, besides sending it.
    pub(crate) fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// What was kept, once the body has ended.
    pub(crate) fn take_kept(&mut self) -> Option<Vec<u8>> {
        self.kept.take()
    }

    /// Takes note of what was sent.
    fn note(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&self.made);
            if kept.len() > KEPT_BYTES_MAX {
                self.kept = None;
            }
        }
        self.made.clear();
    }

    /// Whether something that was taken has not been sent.
    pub(crate) fn holds_back(&self) -> bool {
        self.holds
    }

    /// Takes a piece of the body and sends what comes of it, behind what stands in `out`: how many bytes went.
    pub(crate) async fn push(
        &mut self,
        data: &[u8],
        (sink, out): (&mut ClientSink<'_>, &mut Vec<u8>),
        wait: Wait<'_>,
    ) -> Result<u64, Broken> {
        let mut sent = 0;
        for portion in data.chunks(PORTION_BYTES) {
            let encoder = self.encoder.as_mut().ok_or(NO_MEMORY)?;
            encoder.push(portion, &mut self.made).map_err(|_| NO_MEMORY)?;
            (self.holds, self.taken) = (true, self.taken + portion.len() as u64);
            sent += self.put((sink, out), wait).await?;
            if portion.len() == PORTION_BYTES {
                tokio::task::yield_now().await;
            }
        }
        Ok(sent)
    }

    /// Sends what the encoder holds back.
    pub(crate) async fn flush(
        &mut self,
        ends: (&mut ClientSink<'_>, &mut Vec<u8>),
        wait: Wait<'_>,
    ) -> Result<u64, Broken> {
        self.holds = false;
        let encoder = self.encoder.as_mut().ok_or(NO_MEMORY)?;
        encoder.flush(&mut self.made).map_err(|_| NO_MEMORY)?;
        self.put(ends, wait).await
    }

    /// Ends the body. To a wire, its end goes with what is sent next. `is_last` tells that nothing follows on a stream.
    pub(crate) async fn finish(
        &mut self,
        (sink, out): (&mut ClientSink<'_>, &mut Vec<u8>),
        is_last: bool,
        wait: Wait<'_>,
    ) -> Result<u64, Broken> {
        let encoder = self.encoder.take().ok_or(NO_MEMORY)?;
        encoder.finish(&mut self.made).map_err(|_| NO_MEMORY)?;
        let count = self.made.len() as u64;
        match sink {
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(client)?;
                body.send(&self.made, is_last, Some(wait)).await.map_err(client)?;
            }
            ClientSink::Wire(_) | ClientSink::Nobody | ClientSink::Kept(_) | ClientSink::Fill(_) => {
                push_chunk(out, &self.made);
            }
        }
        self.note();
        self.given += count;
        Ok(count)
    }

    /// Sends what was made, if anything was.
    async fn put(&mut self, (sink, out): (&mut ClientSink<'_>, &mut Vec<u8>), wait: Wait<'_>) -> Result<u64, Broken> {
        let count = self.made.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        match sink {
            ClientSink::Wire(writer) => {
                push_chunk(out, &self.made);
                io::write_all(writer, out, &[], wait).await.map_err(client)?;
            }
            ClientSink::Stream(responder) => {
                responder.body().map_err(client)?.send(&self.made, false, Some(wait)).await.map_err(client)?;
            }
            // The cache stores what came, and keeps no compressed forms.
            ClientSink::Nobody | ClientSink::Kept(_) | ClientSink::Fill(_) => return Err(Broken::Client),
        }
        out.clear();
        self.note();
        self.given += count;
        Ok(count)
    }
}

/// Adds a chunk; bodies that are compressed have no length, and clients without chunks get none of them.
fn push_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        out.extend_from_slice(write::chunk_head(&mut [0; write::CHUNK_HEAD_BYTES_MAX], data.len() as u64));
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}
