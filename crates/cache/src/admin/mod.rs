//! Caches of a process, looked at and invalidated by hand: an object that a service mounts in an HTTP server of its own.
//!
//! ```
//! use cache::Cache;
//! use cache::admin::CacheAdmin;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let products: Cache<u64, String> = Cache::builder("product").memory(cache::MIB).build().await?;
//! let stock: Cache<str, i64> = Cache::builder("stock").memory(cache::MIB).build().await?;
//! // A service of tower, for `axum::Router::nest_service("/caches", admin)`.
//! let admin = CacheAdmin::builder().token("0123456789abcdef").keyed(&products).cache(&stock).build()?;
//! let list = http::Request::get("/").header("Authorization", "Bearer 0123456789abcdef").body(String::new())?;
//! assert_eq!(admin.answer(list).await.status(), 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | request | does |
//! |---|---|
//! | `GET` | lists the caches: what each is, holds and has done |
//! | `POST` | invalidates: `{"cache": "product", "key": "7"}`; `tag` or `"everything": true` in place of `key`; `"every_cache": true` in place of `cache` |
//!
//! The path is not looked at, so that it may be mounted anywhere. What is invalidated is so as by the cache's own calls: with
//! [`Coherence::Leased`](crate::Coherence::Leased) the answer comes when all who serve from memory have acknowledged, and 202 in place of 200
//! says that Redis was away and others have not heard of it. A cache without Redis is invalidated in this process alone. A change that was begun
//! goes on to its end though its client goes.
//!
//! The rules for who may ask are those of the admin listener (`http1::guard`). What is special here is that the object does not listen, and
//! so does not know whom it answers. Where it is to answer this machine without a token ([`CacheAdminBuilder::without_token`]), the service has to
//! say, by a [`Peer`] among the request's extensions, that this machine asks. What a proxy says that it has passed on is refused then, for the
//! proxy's peer is not who asks; one that does not say so cannot be told from this machine.

mod change;
mod member;

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http1::guard::{self, Refusal};
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use vocab::Secret;

use self::member::{Member, Typed};
use crate::cache::{Cache, Value};
use crate::error::BuildError;
use crate::key::{Key, ReadKey, owned};

/// Bytes of a body. A key or a tag and the name of a cache need a fraction of that.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Changes under way at once; people make one, and a script some. Each may wait for a lease.
const CHANGES_MAX: usize = 64;
/// What proxies add to what they pass on.
const OF_PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Who sent a request, as the service knows it: to be put among the request's extensions [where there is no
/// token](CacheAdminBuilder::without_token). For a socket in the file
/// system, which only this machine can reach, it is an address of loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Answers requests about the caches of a process. Clones answer for the same ones, which live as long as one of them does.
#[derive(Clone)]
pub struct CacheAdmin(Arc<Shared>);

/// Makes a [`CacheAdmin`].
#[must_use = "a builder does nothing until it is built"]
#[derive(Default)]
pub struct CacheAdminBuilder {
    token: Option<Box<str>>,
    is_open: bool,
    members: Vec<Box<dyn Member>>,
}

struct Shared {
    token: Option<Secret>,
    members: Vec<Box<dyn Member>>,
    changes: Arc<Semaphore>,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wrong(StatusCode, String);

impl CacheAdminBuilder {
    /// Has everybody who asks bear a token, `Authorization: Bearer TOKEN`: at least 16 visible ASCII characters. It is needed unless
    /// [`without_token`](Self::without_token) is called.
    pub fn token(mut self, token: impl Into<Box<str>>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Answers this machine without a token, where the service says by a [`Peer`] who asks.
    ///
    /// A proxy on this machine is this machine too. Of what it passes on, only that is refused which says so by a field such as `Forwarded` or
    /// `X-Forwarded-For`, or names another host. nginx with no more than `proxy_pass http://127.0.0.1:8080` adds no field, and names the host
    /// that it passes on to: whoever reaches it is answered. Behind such a proxy set a [`token`](Self::token).
    pub fn without_token(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Adds a cache, to be invalidated by tag and as a whole.
    pub fn cache<K: Key + ?Sized + 'static, V: Value>(mut self, cache: &Cache<K, V>) -> Self {
        self.members.push(Box::new(Typed { cache: cache.clone(), read: None }));
        self
    }

    /// Adds a cache whose keys are text, bytes or numbers, to be invalidated by key as well.
    pub fn keyed<K, V: Value>(self, cache: &Cache<K, V>) -> Self
    where
        K: ReadKey + ?Sized + 'static,
        K::Owned: std::borrow::Borrow<K>,
    {
        self.keyed_by(cache, |text| K::from_bytes(text.as_bytes()).ok_or("it is not one of this cache's type"))
    }

    /// The same for keys of a type of its own, which `read` makes of what people write: `str::parse`, or `serde_json::from_str`.
    pub fn keyed_by<K, V, T, E>(
        mut self,
        cache: &Cache<K, V>,
        read: impl Fn(&str) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        K: Key + ?Sized + 'static,
        V: Value,
        T: std::borrow::Borrow<K>,
        E: fmt::Display,
    {
        let read = move |text: &str| match read(text) {
            Ok(key) => Ok(owned(key.borrow())),
            Err(error) => Err(error.to_string()),
        };
        self.members.push(Box::new(Typed { cache: cache.clone(), read: Some(Box::new(read)) }));
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// [`BuildError`] for a token that is too short, for none and for one beside [`without_token`](Self::without_token), and for two caches of one
    /// name.
    pub fn build(self) -> Result<CacheAdmin, BuildError> {
        let Self { token, is_open, mut members } = self;
        let why = match token.as_deref() {
            Some(_) if is_open => Some("there is one, and without_token says that there is none"),
            Some(token) if !Secret::may_be(token) => Some("at least 16 visible ASCII characters are needed"),
            None if !is_open => Some("there is none: set one, or have this machine answered by without_token"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(BuildError { cache: "all".to_owned(), field: "token", why: why.to_owned() });
        }
        members.sort_by(|a, b| a.name().cmp(b.name()));
        if let Some(two) = members.windows(2).find(|two| two[0].name() == two[1].name()) {
            let why = "it was added twice, or another one has its name".to_owned();
            return Err(BuildError { cache: two[0].name().to_owned(), field: "cache", why });
        }
        let changes = Arc::new(Semaphore::new(CHANGES_MAX));
        Ok(CacheAdmin(Arc::new(Shared { token: token.map(Secret::new), members, changes })))
    }
}

impl CacheAdmin {
    /// Begins to make one.
    pub fn builder() -> CacheAdminBuilder {
        CacheAdminBuilder::default()
    }

    /// Answers a request, at whatever path it came.
    pub async fn answer<B: Body>(&self, request: Request<B>) -> Response<String> {
        let (head, body) = request.into_parts();
        let told = match self.judge(&head) {
            Err(wrong) => Err(wrong),
            Ok(()) => match head.method {
                Method::GET | Method::HEAD => Ok((StatusCode::OK, self.list())),
                Method::POST => self.change(&head.headers, body).await,
                _ => Err(Wrong(StatusCode::METHOD_NOT_ALLOWED, "GET lists the caches, POST invalidates".to_owned())),
            },
        };
        let (status, told) = told.unwrap_or_else(|Wrong(status, text)| (status, json!({ "error": text })));
        let mut response = Response::new(format!("{told:#}\n"));
        *response.status_mut() = status;
        let fields =
            [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
        let of_status = match status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            StatusCode::METHOD_NOT_ALLOWED => Some((ALLOW, "GET, HEAD, POST")),
            _ => None,
        };
        let fields = fields.into_iter().chain(of_status);
        response.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }

    /// Whether whoever asks may.
    fn judge(&self, head: &http::request::Parts) -> Result<(), Wrong> {
        let forbidden = |text: &str| Err(Wrong(StatusCode::FORBIDDEN, text.to_owned()));
        let token = self.0.token.as_ref();
        if token.is_none() {
            let is_here = head.extensions.get::<Peer>().map(|peer| peer.0.to_canonical().is_loopback());
            match is_here {
                Some(true) => {}
                Some(false) => return forbidden("without a token only this machine is answered"),
                None => return forbidden("there is no token, and the service does not say who asks"),
            }
            if OF_PROXIES.iter().any(|name| head.headers.contains_key(HeaderName::from_static(name))) {
                return forbidden("without a token nothing is answered that a proxy has passed on");
            }
        }
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        let judged =
            guard::judge(token, authority, |name| head.headers.get_all(name).iter().map(HeaderValue::as_bytes));
        judged.map_err(Wrong::from)
    }

    fn list(&self) -> Json {
        self.0.members.iter().map(|member| member.told()).collect()
    }

    async fn change<B: Body>(&self, fields: &HeaderMap, body: B) -> Result<(StatusCode, Json), Wrong> {
        guard::judge_change(|name| fields.get_all(name).iter().map(HeaderValue::as_bytes))?;
        let body = match tokio::time::timeout(BODY_TIMEOUT, whole(body)).await {
            Ok(body) => body?,
            Err(_) => {
                return Err(Wrong(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned()));
            }
        };
        let Ok(place) = Arc::clone(&self.0.changes).try_acquire_owned() else {
            let text = format!("{CHANGES_MAX} changes are under way: try again later");
            return Err(Wrong(StatusCode::SERVICE_UNAVAILABLE, text));
        };
        // Keys are read by the service's own code, whose mistakes are not to cost the connection.
        let read = || change::Change::read(&body, &self.0.members);
        let change = catch_unwind(AssertUnwindSafe(read)).map_err(|_| {
            Wrong(
                StatusCode::INTERNAL_SERVER_ERROR,
                "what reads the cache's keys panicked, and nothing was changed".to_owned(),
            )
        })??;
        let shared = Arc::clone(&self.0);
        // A client that goes does not leave it half done.
        let done = tokio::spawn(async move {
            let told = change.carry_out(&shared.members).await;
            drop(place);
            told
        });
        let told = done.await;
        told.map_err(|_| Wrong(StatusCode::INTERNAL_SERVER_ERROR, "the change did not come to its end".to_owned()))
    }
}

/// Reads a body whole.
async fn whole<B: Body>(body: B) -> Result<Vec<u8>, Wrong> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(frame) = frame else {
            // Who broke it off does not hear of it.
            return Err(Wrong::body("the body broke off"));
        };
        let Ok(mut data) = frame.into_data() else { continue };
        if bytes.len() + data.remaining() > BODY_BYTES_MAX {
            return Err(Wrong(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 16 KiB".to_owned()));
        }
        while data.has_remaining() {
            let piece = data.chunk();
            bytes.extend_from_slice(piece);
            let taken = piece.len();
            data.advance(taken);
        }
    }
    Ok(bytes)
}

impl Wrong {
    fn body(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
        Self(status, refusal.text().to_owned())
    }
}

impl<B> tower_service::Service<Request<B>> for CacheAdmin
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let admin = self.clone();
        Box::pin(async move { Ok(admin.answer(request).await) })
    }
}

impl fmt::Debug for CacheAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.members.iter().map(|member| member.name()).collect::<Vec<_>>();
        f.debug_struct("CacheAdmin").field("caches", &names).finish_non_exhaustive()
    }
}

impl fmt::Debug for CacheAdminBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheAdminBuilder").field("caches", &self.members.len()).finish_non_exhaustive()
    }
}
