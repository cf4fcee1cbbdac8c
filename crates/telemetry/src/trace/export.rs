//! The task that exports spans.
//!
//! It takes full buffers, joins those that wait into one message, and gives the buffers back before it sends, so that
//! cores go on while the collector is slow. A collector that is busy or gone is tried again, as OTLP asks, with pauses
//! that grow; after a few tries the batch is dropped and counted, because the next one waits.
//!
//! Source: OpenTelemetry Protocol 1.8, "OTLP/HTTP".

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Buffer, Shared, TraceParams};

/// Sends spans to the collector. Run it on the control plane's runtime.
#[derive(Debug)]
pub struct Exporter {
    filled: mpsc::Receiver<Buffer>,
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "such a build exports nothing"))]
    params: watch::Receiver<Option<Arc<TraceParams>>>,
    stopping: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

/// Spans that are exported together.
#[derive(Debug, Default)]
struct Batch {
    /// `spans` fields, one after another.
    bytes: Vec<u8>,
    spans: u64,
}

/// A batch is sent at this size. Collectors take messages of some megabytes.
const BATCH_BYTES: usize = 512 * 1024;

impl Exporter {
    pub(super) fn new(
        filled: mpsc::Receiver<Buffer>,
        params: watch::Receiver<Option<Arc<TraceParams>>>,
        stopping: watch::Receiver<bool>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { filled, params, stopping, shared }
    }

    /// Waits for spans; `None` once it is to stop and nothing is left.
    async fn next_batch(&mut self) -> Option<Batch> {
        let first = if *self.stopping.borrow() {
            self.filled.try_recv().ok()
        } else {
            tokio::select! {
                biased;
                buffer = self.filled.recv() => buffer,
                _ = self.stopping.changed() => self.filled.try_recv().ok(),
            }
        };
        let mut batch = Batch::default();
        batch.take(first?);
        while batch.bytes.len() < BATCH_BYTES {
            let Ok(buffer) = self.filled.try_recv() else { break };
            batch.take(buffer);
        }
        Some(batch)
    }
}

impl Batch {
    fn take(&mut self, buffer: Buffer) {
        self.bytes.extend_from_slice(&buffer.bytes);
        self.spans += buffer.spans;
        buffer.go_home();
    }
}

#[cfg(not(feature = "otlp"))]
impl Exporter {
    /// Waits for the stop; this build records no spans.
    pub async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.shared.export_failed.add(batch.spans);
        }
    }
}

#[cfg(feature = "otlp")]
mod otlp {
    use std::time::{Duration, Instant};

    use breaker::{Backoff, BackoffParams};

    use super::super::answer::{self, Found};
    use super::super::client::{Client, Failure};
    use super::super::span::text_pair;
    use super::super::wire;
    use super::{Batch, Exporter, TraceParams};

    /// Tries of a batch. With the pauses below, a collector may be gone for some ten seconds without a loss.
    const TRIES_MAX: u32 = 6;

    /// Pauses between tries.
    const BACKOFF: BackoffParams = BackoffParams { base: Duration::from_millis(500), max: Duration::from_secs(5) };

    /// The longest pause that a collector may ask for.
    const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

    /// A collector that stays away is worth one line a minute.
    const REPORT_INTERVAL: Duration = Duration::from_secs(60);

    impl Exporter {
        /// Exports until it is told to stop.
        pub async fn run(mut self) {
            let mut client = Client::default();
            let mut reported = None::<Instant>;
            while let Some(batch) = self.next_batch().await {
                match self.export(&mut client, &batch).await {
                    Ok(rejected) => {
                        let rejected = rejected.min(batch.spans);
                        self.shared.exported.add(batch.spans - rejected);
                        self.shared.rejected.add(rejected);
                    }
                    Err(failure) => {
                        let refused = failure.is_refusal();
                        let counter = if refused { &self.shared.rejected } else { &self.shared.export_failed };
                        counter.add(batch.spans);
                        if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                            reported = Some(Instant::now());
                            tracing::warn!(spans = batch.spans, "trace: spans were dropped: {failure}");
                        }
                    }
                }
            }
        }

        /// Sends a batch, again if that may help: how many of its spans the collector refused.
        async fn export(&mut self, client: &mut Client, batch: &Batch) -> Result<u64, Failure> {
            let mut tries = 0;
            loop {
                // A reload may have named another collector meanwhile.
                let params = self.params.borrow().clone().ok_or(Failure::Off)?;
                tries += 1;
                let failure = match client.post(&params, request(&params, &batch.bytes).into()).await {
                    Ok(answer) => return Ok(rejected(&answer)),
                    Err(failure) => failure,
                };
                self.shared.export_errors.increment();
                // At the end nobody waits for a collector that is not there.
                if failure.is_refusal() || tries == TRIES_MAX || *self.stopping.borrow() {
                    return Err(failure);
                }
                let pause = Backoff::new(BACKOFF).pause(tries, fastrand::u64(..));
                let pause = pause.max(failure.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = self.stopping.changed() => {}
                }
            }
        }
    }

    /// `ExportTraceServiceRequest { resource_spans: [{ resource, scope_spans: [{ scope, spans }] }] }`
    fn request(params: &TraceParams, spans: &[u8]) -> Vec<u8> {
        let mut resource = Vec::new();
        text_pair(&mut resource, 1, "service.name", params.service_name.as_bytes());
        let mut scope = Vec::new();
        wire::bytes(&mut scope, 1, b"tenfold");
        wire::bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        let scope_spans = wire::length_bytes(scope.len()) + spans.len();
        let resource_spans = wire::length_bytes(resource.len()) + wire::length_bytes(scope_spans);
        let mut out = Vec::with_capacity(wire::length_bytes(resource_spans));
        wire::length(&mut out, 1, resource_spans);
        wire::bytes(&mut out, 1, &resource);
        wire::length(&mut out, 2, scope_spans);
        wire::bytes(&mut out, 1, &scope);
        out.extend_from_slice(spans);
        out
    }

    /// `ExportTraceServiceResponse { partial_success: { rejected_spans } }`
    fn rejected(message: &[u8]) -> u64 {
        let Some(Found::Bytes(partial)) = answer::find(message, 1) else { return 0 };
        match answer::find(partial, 1) {
            Some(Found::Number(spans)) => spans,
            _ => 0,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_partial_success_tells_how_many_spans_were_refused() {
            let check = |answer: &[u8], expected: u64| assert_eq!(rejected(answer), expected, "{answer:?}");
            check(b"", 0);
            check(&[0x0a, 0x00], 0);
            check(&[0x0a, 0x03, 0x08, 0x96, 0x01], 150);
            check(&[0x0a, 0x05, 0x12, 0x01, b'x', 0x08, 0x02], 2);
            check(b"{\"not\": \"protobuf\"}", 0);
        }
    }
}
