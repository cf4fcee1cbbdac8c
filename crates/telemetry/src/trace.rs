//! Traces: spans of sampled requests, exported by OTLP, which never make a request wait.
//!
//! A sampled request is a server span, and each try at an endpoint a client span below it. Which requests are sampled is
//! decided once, when a request begins (`sampling`), and travels on in `traceparent`. A core encodes its spans
//! into a buffer of its own (`span`, `wire`). Full buffers, and once a second those that are not, travel through a
//! bounded channel to one exporter on the control plane's runtime and come back empty, so that nothing is allocated
//! per span. When every buffer of a core is under way, the collector is slower than the traffic: spans are then
//! dropped and counted. Spans exported plus spans dropped are the spans recorded, always, but for those under way.

mod context;
mod export;
mod params;
mod sampling;
mod span;
mod wire;

#[cfg(feature = "otlp")]
mod answer;
#[cfg(feature = "otlp")]
mod client;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

pub use context::{RemoteParent, RequestTrace, Traceparent};
pub use export::Exporter;
pub use params::{ExportHeader, TraceEndpoint, TraceParams};
pub use sampling::{Follow, Sampling};
pub use span::{ServerSpan, TrySpan};

use crate::cell::Counter;
use span::SpanEncoder;

/// Size of a buffer. 64 KiB hold the spans of some hundred requests.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers of a core: half a megabyte of spans bridges an exporter's pause.
const BUFFERS_PER_CORE: usize = 8;

/// Traces were asked for and cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The program was built without the feature `otlp`.
    #[error("trace: this build exports no traces; it needs the feature `otlp`")]
    NotBuilt,
}

/// The traces of a process: whether and what is sampled, and what was counted. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Tracer {
    shared: Arc<Shared>,
    filled: mpsc::Sender<Buffer>,
    params: Arc<watch::Sender<Option<Arc<TraceParams>>>>,
    stopping: Arc<watch::Sender<bool>>,
}

/// One core's end of the traces.
#[derive(Debug)]
pub struct CoreTracer {
    shared: Arc<Shared>,
    counts: Arc<CoreCounts>,
    filled: mpsc::Sender<Buffer>,
    emptied: std::sync::mpsc::Receiver<Buffer>,
    home: std::sync::mpsc::SyncSender<Buffer>,
    current: Option<Buffer>,
    buffers: usize,
    encoder: SpanEncoder,
}

/// Spans on their way to the exporter, and the way back: `spans` fields of a `ScopeSpans` message, one after another.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    spans: u64,
    home: std::sync::mpsc::SyncSender<Buffer>,
}

/// What became of the spans so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceTotals {
    /// Spans that were recorded.
    pub recorded: u64,
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans that were dropped because every buffer was under way.
    pub queue_full: u64,
    /// Spans that were dropped because they could not be exported in time.
    pub export_failed: u64,
    /// Spans that the collector refused.
    pub rejected: u64,
    /// Exports that failed, tries each.
    pub export_errors: u64,
}

#[derive(Debug, Default)]
struct CoreCounts {
    recorded: Counter,
    dropped: Counter,
}

/// What the cores, the exporter and the control plane share.
#[derive(Debug, Default)]
struct Shared {
    /// [`Sampling`] packed into a word, 0 when there are no traces.
    sampling: AtomicU64,
    cores: Mutex<Vec<Arc<CoreCounts>>>,
    // These are written by the exporter alone.
    exported: Counter,
    export_failed: Counter,
    rejected: Counter,
    export_errors: Counter,
}

impl Tracer {
    /// The traces of `cores` writers, and the task that exports them, which somebody has to run.
    ///
    /// # Errors
    /// [`TraceError::NotBuilt`].
    pub fn new(params: Option<&TraceParams>, cores: usize) -> Result<(Self, Exporter), TraceError> {
        // There are never more filled buffers than there are buffers, so handing one over never finds the channel full.
        let (filled, received) = mpsc::channel(cores.max(1) * BUFFERS_PER_CORE);
        let (params_sender, params_receiver) = watch::channel(None);
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared::default());
        let exporter = Exporter::new(received, params_receiver, stopping, Arc::clone(&shared));
        let tracer = Self { shared, filled, params: Arc::new(params_sender), stopping: Arc::new(stop) };
        tracer.change(params)?;
        Ok((tracer, exporter))
    }

    /// The end for one more core. Call it once per core.
    pub fn for_core(&self) -> CoreTracer {
        let (home, emptied) = std::sync::mpsc::sync_channel(BUFFERS_PER_CORE);
        let counts = Arc::new(CoreCounts::default());
        self.shared.cores().push(Arc::clone(&counts));
        CoreTracer {
            shared: Arc::clone(&self.shared),
            counts,
            filled: self.filled.clone(),
            emptied,
            home,
            current: None,
            buffers: 0,
            encoder: SpanEncoder::default(),
        }
    }

    /// Traces by other parameters from now on, or none; spans under way go where the new ones go.
    ///
    /// # Errors
    /// [`TraceError::NotBuilt`]; nothing changes then.
    pub fn change(&self, params: Option<&TraceParams>) -> Result<(), TraceError> {
        if params.is_some() && !cfg!(feature = "otlp") {
            return Err(TraceError::NotBuilt);
        }
        self.shared.sampling.store(params.map_or(0, |params| params.sampling.packed()), Relaxed);
        self.params.send_replace(params.cloned().map(Arc::new));
        Ok(())
    }

    /// What became of the spans so far.
    pub fn totals(&self) -> TraceTotals {
        self.shared.totals()
    }

    /// Has the exporter end once what was handed over is exported; it does not wait for a collector that is not
    /// there. Let the cores' ends be flushed or dropped before.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

impl CoreTracer {
    /// How requests are sampled now; `None` when there are no traces.
    #[inline]
    pub fn sampling(&self) -> Option<Sampling> {
        let packed = self.shared.sampling.load(Relaxed);
        (packed != 0).then(|| Sampling::from_packed(packed))
    }

    /// Records the span of a request. Never waits; drops the span and counts it when the exporter is behind.
    pub fn record_request(&mut self, trace: &RequestTrace, span: &ServerSpan<'_>) {
        self.encoder.server(trace, span);
        self.append();
    }

    /// Records the span of a try. Never waits; drops the span and counts it when the exporter is behind.
    pub fn record_try(&mut self, trace: &RequestTrace, span: &TrySpan<'_>) {
        self.encoder.client(trace, span);
        self.append();
    }

    /// Hands what was recorded to the exporter. Call it on a timer, so that quiet hours are seen too.
    pub fn flush(&mut self) {
        let Some(buffer) = self.current.take() else { return };
        if let Err(unsent) = self.filled.try_send(buffer) {
            // Only an exporter that has ended refuses a buffer.
            self.counts.dropped.add(unsent.into_inner().spans);
            self.buffers -= 1;
        }
    }

    fn append(&mut self) {
        self.counts.recorded.increment();
        let room = self.encoder.field_bytes();
        if self.current.as_ref().is_some_and(|buffer| buffer.bytes.len() + room > BUFFER_BYTES) {
            self.flush();
        }
        if self.current.is_none() {
            self.current = self.free_buffer();
        }
        match &mut self.current {
            Some(buffer) => {
                self.encoder.append_to(&mut buffer.bytes);
                buffer.spans += 1;
            }
            None => self.counts.dropped.increment(),
        }
    }

    fn free_buffer(&mut self) -> Option<Buffer> {
        if let Ok(buffer) = self.emptied.try_recv() {
            return Some(buffer);
        }
        if self.buffers == BUFFERS_PER_CORE {
            return None;
        }
        self.buffers += 1;
        Some(Buffer { bytes: Vec::with_capacity(BUFFER_BYTES), spans: 0, home: self.home.clone() })
    }
}

impl Drop for CoreTracer {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Buffer {
    /// Gives the buffer back to its core, empty.
    fn go_home(mut self) {
        self.bytes.clear();
        self.spans = 0;
        let home = self.home.clone();
        // The core may be gone, and its buffers with it. Otherwise its channel has room for all its buffers.
        let _ = home.try_send(self);
    }
}

impl Shared {
    /// Nothing panics while it is held.
    fn cores(&self) -> std::sync::MutexGuard<'_, Vec<Arc<CoreCounts>>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn totals(&self) -> TraceTotals {
        let cores = self.cores();
        TraceTotals {
            recorded: cores.iter().map(|core| core.recorded.value()).sum(),
            exported: self.exported.value(),
            queue_full: cores.iter().map(|core| core.dropped.value()).sum(),
            export_failed: self.export_failed.value(),
            rejected: self.rejected.value(),
            export_errors: self.export_errors.value(),
        }
    }
}

impl fmt::Display for TraceTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self.queue_full + self.export_failed + self.rejected;
        write!(f, "{} spans recorded, {} exported, {dropped} dropped", self.recorded, self.exported)
    }
}
