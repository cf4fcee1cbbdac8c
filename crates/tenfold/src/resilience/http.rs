//! What is special to HTTP: verdicts by status, responses to refused calls, and which requests may be sent twice.
//!
//! **Servers**, such as axum: a policy's [`http_layer`](super::Policy::http_layer) goes onto a router or a route as it is.
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use tenfold::resilience::{BulkheadParams, Policy, ShedderParams};
//!
//! let policy = Policy::builder("search")
//!     .deadline(Duration::from_secs(1))
//!     .shedder(ShedderParams::default())
//!     .build();
//! let app: Router = Router::new().route("/search", get(|| async { "found" })).layer(policy.http_layer());
//! ```
//!
//! **Clients**: a request is copied for each further try, and so is its body. `http::Request` is `Clone` if its body is, such
//! as `Full<Bytes>` or `String`; `axum::body::Body` and streams are not. [`Idempotent`] copies what may be sent twice. With
//! reqwest, wrap `client.execute(...)` in [`Policy::call_judged`](super::Policy::call_judged), or put a layer around the client,
//! which is a service; `reqwest::Request::try_clone` copies requests with bodies that are not streams.
//!
//! A response counts as soon as its head is there. A body that breaks off later is not judged, and neither timeouts nor
//! bulkheads wait for it: read it within the call where that matters.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use super::layer::{Answer, Repeat};
use super::{Error, Judge, Refusal, Verdict};

/// What a response's head says of the callee.
///
/// - `Limited`, with the time of `Retry-After` if there is one: 429. A callee that keeps its rate is not a broken one.
/// - `Transient`, likewise: 502, 503 and 504.
/// - `Failed`: all others from 500 on.
/// - `Fine`: everything else. 404 is an answer.
///
/// ```
/// use tenfold::resilience::{Policy, Verdict, http};
///
/// let judge = |result: &reqwest::Result<reqwest::Response>| match result {
///     Ok(response) => http::verdict(response.status(), response.headers()),
///     Err(_) => Verdict::TRANSIENT,
/// };
/// ```
pub fn verdict(status: StatusCode, headers: &HeaderMap) -> Verdict {
    match status.as_u16() {
        429 => Verdict::Limited { retry_after: retry_after(headers) },
        502..=504 => Verdict::Transient { retry_after: retry_after(headers) },
        500.. => Verdict::Failed,
        _ => Verdict::Fine,
    }
}

/// The time of `Retry-After`, which is in seconds or ends at a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
}

/// Judges responses by [`verdict`]; every error is transient.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByStatus;

impl<B, E> Judge<Response<B>, E> for ByStatus {
    fn judge(&self, result: &Result<Response<B>, E>) -> Verdict {
        match result {
            Ok(response) => verdict(response.status(), response.headers()),
            Err(_) => Verdict::TRANSIENT,
        }
    }
}

/// Sends requests twice whose methods are idempotent: GET, HEAD, OPTIONS, TRACE, PUT and DELETE (RFC 9110, section 9.2.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Idempotent;

impl<B: Clone> Repeat<Request<B>> for Idempotent {
    fn repeat(&self, request: &Request<B>) -> Option<Request<B>> {
        request.method().is_idempotent().then(|| request.clone())
    }
}

/// Responds to calls without a result by [`response`]. A service's own errors stay errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Respond;

impl<B: Default, E> Answer<Response<B>, E> for Respond {
    type Error = E;

    fn answer(&self, error: Error<E>) -> Result<Response<B>, E> {
        match error.into_inner() {
            Ok(error) => Err(error),
            Err(refusal) => Ok(response(&refusal)),
        }
    }
}

/// A response without a body: 429 to what is beyond a rate, 504 to what took too long, and 503 to all else. `Retry-After` is
/// there where the time is known, rounded up and made longer by up to half at random, so that not all come back at once.
///
/// ```
/// use std::time::Duration;
/// use tenfold::resilience::{Refusal, http};
///
/// let refusal = Refusal::Limited { name: "search".into(), retry_after: Some(Duration::from_millis(300)) };
/// let response = http::response::<String>(&refusal);
/// assert_eq!(response.status(), 429);
/// assert_eq!(response.headers()["retry-after"], "1");
/// ```
pub fn response<B: Default>(refusal: &Refusal) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = status(refusal);
    if let Some(wait) = refusal.retry_after() {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let late = fastrand::u64(..=seconds / 2);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from((seconds + late).max(1)));
    }
    response
}

/// The status for a call without a result, for responses of one's own.
pub fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Error::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
