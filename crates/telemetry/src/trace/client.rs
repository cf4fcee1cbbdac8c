//! What of an HTTP client an exporter needs: one connection, kept while the collector keeps it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{TraceEndpoint, TraceParams};

/// What is read of an answer: it holds a number and a message.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A client of one collector.
#[derive(Debug, Default)]
pub(super) struct Client {
    kept: Option<(TraceEndpoint, SendRequest<Full<Bytes>>)>,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Traces were switched off while spans were under way.
    #[error("traces were switched off")]
    Off,
    /// The collector could not be reached.
    #[error("cannot connect to the collector: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or what came was no HTTP.
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    /// The answer broke off or was too long.
    #[error("answer: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The request cannot be written.
    #[error("request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The collector answered that it did not take the spans.
    #[error("the collector answered {status}")]
    Status {
        /// How.
        status: StatusCode,
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
    },
}

impl Failure {
    /// Whether another try would fail as well. OTLP names the statuses that are worth one.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Status { status, .. } => !matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Request(_) => true,
            _ => false,
        }
    }

    /// When the collector asked to be tried again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Client {
    /// Sends a message: the body of the answer that says that it was taken.
    pub(super) async fn post(&mut self, params: &TraceParams, message: Bytes) -> Result<Bytes, Failure> {
        let answered = tokio::time::timeout(params.timeout, self.exchange(params, message)).await;
        let result = answered.unwrap_or(Err(Failure::TimedOut(params.timeout)));
        if result.is_err() {
            // What may still come on the connection belongs to a request that was given up.
            self.kept = None;
        }
        result
    }

    async fn exchange(&mut self, params: &TraceParams, message: Bytes) -> Result<Bytes, Failure> {
        let kept = self.kept.take().filter(|(endpoint, _)| *endpoint == params.endpoint);
        if let Some((_, mut sender)) = kept
            && sender.ready().await.is_ok()
        {
            match self.send(sender, params, message.clone()).await {
                // The collector had closed the connection meanwhile, as it may.
                Err(Failure::Broken(_)) => {}
                other => return other,
            }
        }
        let endpoint = &params.endpoint;
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(Failure::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends by itself when the sender is dropped; what goes wrong on it the sender hears.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        self.send(sender, params, message).await
    }

    async fn send(
        &mut self,
        mut sender: SendRequest<Full<Bytes>>,
        params: &TraceParams,
        message: Bytes,
    ) -> Result<Bytes, Failure> {
        let mut request = Request::post(&params.endpoint.path)
            .header(HOST, params.endpoint.authority())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("tenfold/", env!("CARGO_PKG_VERSION")));
        for header in &params.headers {
            request = request.header(&header.name, &header.value);
        }
        let response = sender.send_request(request.body(Full::new(message))?).await?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(Failure::Answer)?;
        self.kept = Some((params.endpoint.clone(), sender));
        if status.is_success() {
            Ok(body.to_bytes())
        } else {
            Err(Failure::Status { status, retry_after: retry_after.map(Duration::from_secs) })
        }
    }
}
