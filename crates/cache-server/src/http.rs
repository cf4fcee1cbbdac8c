//! The same cache over HTTP/1.1, for programs without a client of Redis'.
//!
//! `GET`, `HEAD`, `PUT` and `DELETE /KEY`, and `POST /invalidate?tag=TAG`. Connections are hyper's: these requests are few and plain, and
//! the gateway's own codec is made for passing them on.
//!
//! Without a password the listener is on loopback, where a web page in someone's browser remains: what comes from one names its
//! `Origin` or, where it is a script or an image that the page wants, `Sec-Fetch-Site`; or it calls this machine by a name of its own in
//! `Host`. None of them is answered, and no answer is taken for a script by a browser that says neither.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, IF_NONE_MATCH, ORIGIN,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use store::{Mark, Token};
use tokio::net::TcpStream;

use crate::command::Kind;
use crate::core::{Held, Tether};
use crate::engine::{Entry, NEVER, Tagged};
use crate::fields::{key_of, tags_of, tags_of_query, ttl_of};
use crate::named::Settings;
use crate::tags::TAGS_MAX;

/// Bytes and fields of a head. A key may have most of that.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_FIELDS_MAX: usize = 64;

/// Time for a head, and for the next request on a kept connection, where the cache's own time is longer or there is none.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The life of an entry: seconds that are left of it, or that it is stored for.
pub(crate) const TTL: HeaderName = HeaderName::from_static("tenfold-ttl");
/// What to give with the value that is made after a miss.
const TOKEN: HeaderName = HeaderName::from_static("tenfold-token");
/// The token of before the value was made.
const SINCE: HeaderName = HeaderName::from_static("tenfold-since");

/// What browsers say of where a request comes from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

type Answer = Response<Full<Bytes>>;

/// Serves a connection to its end.
pub(crate) async fn serve(held: Held, tether: Rc<Tether>, socket: TcpStream) {
    let settings = held.seat.cache.settings();
    let timeout = settings.params.idle_timeout.map_or(HEAD_TIMEOUT, |timeout| timeout.min(HEAD_TIMEOUT));
    // A client that takes nothing of its answer is cut by the kernel, which has it by then.
    let _best_effort = socket2::SockRef::from(&socket).set_tcp_user_timeout(Some(settings.params.stall_timeout));
    drop(settings);
    let held = &held;
    let service = service_fn(|request| async move {
        let mut answer = answer(held, request).await;
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    if tether.is_ending.get() {
        connection.as_mut().graceful_shutdown();
    }
    let ended = loop {
        tokio::select! {
            ended = &mut connection => break ended,
            () = tether.told.notified() => connection.as_mut().graceful_shutdown(),
        }
    };
    if let Err(error) = ended {
        held.cells().cut.increment();
        tracing::debug!(cache = %held.seat.cache.name, %error, "a connection broke");
    }
}

async fn answer(held: &Held, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let cache = Arc::clone(&held.seat.cache);
    let (method, fields) = (&head.method, &head.headers);
    if let Err((status, text)) = admit(&cache.settings(), head.uri.authority().map(|host| host.as_str()), fields) {
        held.cells().errors.increment();
        let mut answer = told(status, text);
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        return answer;
    }
    let target = head.uri.path_and_query().map_or(head.uri.path(), |target| target.as_str());
    let Some(key) = key_of(target).filter(|key| !key.is_empty()) else {
        return told(StatusCode::BAD_REQUEST, "a path is a slash and a key, with escapes such as %20");
    };
    let kind = match (method, head.uri.path()) {
        (&Method::GET | &Method::HEAD, _) => Kind::Get,
        (&Method::PUT, _) => Kind::Set,
        (&Method::DELETE, _) => Kind::Del,
        (&Method::POST, "/invalidate") => Kind::Invalidate,
        (_, path) => {
            let text = "GET, HEAD, PUT and DELETE /KEY, and POST /invalidate?tag=TAG";
            let mut answer = told(StatusCode::METHOD_NOT_ALLOWED, text);
            let allowed = if path == "/invalidate" { "GET, HEAD, PUT, DELETE, POST" } else { "GET, HEAD, PUT, DELETE" };
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return answer;
        }
    };
    held.cells().commands[kind as usize].increment();
    let answer = match kind {
        Kind::Get => Ok(get(held, &key, *method == Method::HEAD)),
        Kind::Set => put(held, &key, fields, body).await,
        Kind::Del => Ok(delete(held, &key)),
        _ => invalidate(held, head.uri.query().unwrap_or_default()),
    };
    answer.unwrap_or_else(|(status, text)| {
        held.cells().errors.increment();
        told(status, text)
    })
}

type Refused = (StatusCode, String);

fn refused<T>(status: StatusCode, text: impl Into<String>) -> Result<T, Refused> {
    Err((status, text.into()))
}

/// Whether whoever asks may.
fn admit(settings: &Settings, authority: Option<&str>, fields: &HeaderMap) -> Result<(), Refused> {
    if let Some(password) = &settings.params.password {
        let given = fields.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
        let bears = given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case(b"Bearer ") && password.is(given));
        return if bears { Ok(()) } else { refused(StatusCode::UNAUTHORIZED, "the password is missing or wrong") };
    }
    let host = authority.or_else(|| fields.get(HOST)?.to_str().ok());
    let is_here = host.is_some_and(::http1::machine::is_loopback) && fields.get_all(HOST).iter().count() == 1;
    let is_of_a_page = fields.contains_key(ORIGIN)
        || fields.get_all(FETCH_SITE).iter().any(|site| site != "none" && site != "same-origin");
    if is_of_a_page || !is_here {
        return refused(StatusCode::FORBIDDEN, "without a password only programs on this machine are answered");
    }
    Ok(())
}

fn get(held: &Held, key: &[u8], is_head: bool) -> Answer {
    let settings = held.seat.cache.settings();
    let engine = &settings.engine;
    // Before the look, so that whoever finds nothing and makes the value hears of what is invalidated meanwhile.
    let token = engine.token();
    let now = engine.now();
    let found = engine.slot(key, now).entry().map(|entry| (Arc::clone(&entry.value), entry.deadline));
    held.cells().found(found.is_some());
    let Some((value, deadline)) = found else {
        let mut answer = told(StatusCode::NOT_FOUND, "there is no such key");
        answer.headers_mut().insert(TOKEN, token.number().into());
        return answer;
    };
    let len = value.len();
    let body = if is_head { Bytes::new() } else { Bytes::from_owner(value) };
    let mut answer = Response::new(Full::new(body));
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    fields.insert(CONTENT_LENGTH, len.into());
    if deadline != NEVER {
        fields.insert(TTL, ((deadline - now).div_ceil(1000)).into());
    }
    answer
}

async fn put(held: &Held, key: &[u8], fields: &HeaderMap, body: Incoming) -> Result<Answer, Refused> {
    let cache = &held.seat.cache;
    let (max, timeout, ttl) = {
        let settings = cache.settings();
        (settings.bounds.part_bytes_max, settings.params.stall_timeout, settings.ttl)
    };
    let tags = tags_of(fields);
    if tags.len() > TAGS_MAX {
        return refused(StatusCode::BAD_REQUEST, format!("an entry has at most {TAGS_MAX} tags"));
    }
    let life = match ttl_of(fields) {
        Ok(life) => life.or(ttl),
        Err(text) => return refused(StatusCode::BAD_REQUEST, text),
    };
    let since = match fields.get(SINCE).map(|value| value.to_str().ok().and_then(|text| text.parse::<u64>().ok())) {
        None => None,
        Some(Some(number)) => Some(Token::from_number(number)),
        Some(None) => return refused(StatusCode::BAD_REQUEST, "Tenfold-Since is no token"),
    };
    if since.is_some() && tags.is_empty() {
        return refused(StatusCode::BAD_REQUEST, "Tenfold-Since is about Cache-Tag, and there are no tags");
    }
    let is_new_only = fields.get(IF_NONE_MATCH).is_some_and(|value| value == "*");
    let value = whole(body, max, timeout).await?;
    let settings = cache.settings();
    let (engine, now) = (&settings.engine, settings.engine.now());
    let mut slot = engine.slot(key, now);
    if is_new_only && slot.entry().is_some() {
        return refused(StatusCode::PRECONDITION_FAILED, "the key is there");
    }
    let tagged = (!tags.is_empty()).then(|| {
        let since = since.unwrap_or_else(|| engine.token());
        Box::new(Tagged { since, marks: tags.iter().map(|tag| Mark::tag(tag)).collect() })
    });
    let deadline = life.map_or(NEVER, |life| now.saturating_add(life));
    let stored = slot.put(Entry { value, deadline, tagged });
    let evicted = slot.release();
    held.cells().evicted.add(evicted);
    if !stored {
        return refused(StatusCode::PRECONDITION_FAILED, "one of the tags was invalidated since");
    }
    held.cells().stored.increment();
    Ok(empty())
}

/// A body, which may come slowly but has to come on.
async fn whole(body: Incoming, max: usize, timeout: Duration) -> Result<Arc<[u8]>, Refused> {
    let (mut body, mut value) = (Limited::new(body, max), Vec::new());
    loop {
        let frame = match tokio::time::timeout(timeout, body.frame()).await {
            Ok(None) => return Ok(value.into()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) if error.is::<http_body_util::LengthLimitError>() => {
                let text = format!("the value is longer than value_bytes_max, which is {max}");
                return refused(StatusCode::PAYLOAD_TOO_LARGE, text);
            }
            Ok(Some(Err(_))) => return refused(StatusCode::BAD_REQUEST, "the value did not come whole"),
            Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the value did not come on"),
        };
        if let Some(data) = frame.data_ref() {
            value.extend_from_slice(data);
        }
    }
}

fn delete(held: &Held, key: &[u8]) -> Answer {
    let settings = held.seat.cache.settings();
    let was_there = settings.engine.slot(key, settings.engine.now()).remove();
    if was_there { empty() } else { told(StatusCode::NOT_FOUND, "there is no such key") }
}

fn invalidate(held: &Held, query: &str) -> Result<Answer, Refused> {
    let Some(tags) = tags_of_query(query).filter(|tags| !tags.is_empty()) else {
        return refused(StatusCode::BAD_REQUEST, "the query names no tag: POST /invalidate?tag=TAG");
    };
    let settings = held.seat.cache.settings();
    tags.iter().for_each(|tag| settings.engine.invalidate(tag));
    held.cells().invalidations.add(tags.len() as u64);
    Ok(empty())
}

fn empty() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn told(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text.into() + "\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
