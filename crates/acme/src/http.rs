//! The way to the authority: HTTP/1.1 under TLS, a connection for each request.
//!
//! An order takes a dozen requests, in which a connection that was kept and has gone stale costs more than it saves:
//! what it carried may have been taken already. Everything has a bound, and what the authority says about waiting is
//! noted, because it is lost otherwise.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use net::tls::{ClientTls, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Time for a request, from the name to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of an answer. Chains have some kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How much of a failure's text is logged.
const SHOWN_CHARS_MAX: usize = 200;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A client of an authority.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    tls: ClientTls,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen of the authority.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Whether the last answer was one that it gave in its right mind.
    pub(crate) reached: bool,
    /// When it wants to be asked again, by its last refusal.
    pub(crate) asked: Option<SystemTime>,
}

impl Http {
    /// A client that has asked nothing yet.
    pub(crate) fn new(tls: &ClientTls) -> Self {
        Self { tls: tls.clone(), seen: Arc::default() }
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, answer: Option<&Response<Bytes>>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answer) = answer else {
            *seen = Seen::default();
            return;
        };
        let status = answer.status();
        seen.reached = !status.is_server_error();
        if status.is_client_error() || status.is_server_error() {
            seen.asked = retry_after(answer.headers(), SystemTime::now());
        }
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move {
            let asked = tokio::time::timeout(TIMEOUT, ask(&http.tls, request)).await;
            let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}").into()));
            http.note(asked.as_ref().ok());
            let answer = asked.and_then(understood).map_err(instant_acme::Error::Other)?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

/// An answer, unless it is a failure that is not told in the authority's own words: what stands in front of it may
/// answer, too, and its pages would only be found not to be JSON.
fn understood(answer: Response<Bytes>) -> Result<Response<Bytes>, BoxError> {
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if status.is_server_error() || status.is_client_error() && !kind.contains("json") {
        let text: String = String::from_utf8_lossy(answer.body()).chars().take(SHOWN_CHARS_MAX).collect();
        return Err(format!("the authority answers {status}: {text:?}").into());
    }
    Ok(answer)
}

async fn ask(tls: &ClientTls, mut request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, BoxError> {
    let uri = std::mem::take(request.uri_mut());
    // The authority names the URLs, and might name one without TLS.
    let Some(authority) = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTPS)) else {
        return Err(format!("{uri}: is not an https URL").into());
    };
    let failed = |error: &dyn std::fmt::Display| BoxError::from(format!("{authority}: {error}"));
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
    let port = authority.port_u16().unwrap_or(443);
    let socket = TcpStream::connect((host, port)).await.map_err(|error| failed(&error))?;
    let stream = tls.connect(name, socket).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // Ends with this future.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| failed(&error))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// When a refusal wants to be asked again: RFC 9110 section 10.2.3.
fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let value = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u32>() {
        Ok(secs) => Some(now + Duration::from_secs(u64::from(secs))),
        Err(_) => httpdate::parse_http_date(value).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let check = |value: &'static str, expected: Option<u64>| {
            let mut fields = HeaderMap::new();
            fields.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let found = retry_after(&fields, now).map(|at| at.duration_since(now).unwrap().as_secs());
            assert_eq!(found, expected, "{value:?}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Sun, 09 Sep 2001 01:47:40 GMT", Some(60));
        check("soon", None);
        check("99999999999999999999", None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
