//! The paths of the admin listener and their answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http1::guard::Refusal;
use serde_json::{Value, json};
use telemetry::Exposition;
use tokio::sync::watch;
use vocab::Secret;

use crate::change;
use crate::guard::judge;
use crate::openapi::OPENAPI;
use crate::state::AdminState;

/// What `/` answers.
const INDEX: &str = "\
tenfold admin

/healthz               the process answers
/readyz                every component is ready
/metrics               metrics, for Prometheus
/api/status            the process in short
/api/services          services with their endpoints
/api/services/NAME     one service
/api/listeners         listeners
/api/routes            routes, by listener, in the file's order
/api/cache             what the edge cache holds and did
/api/caches            named caches, and what they hold and did
/api/databases         databases, their pools, and what they did
/api/overrides         what was changed at run time
/api/config            the configuration in effect, and its last reload
/api/openapi.json      all of this for programs, and what can be changed
";

pub(crate) type Shared = Arc<dyn AdminState>;

/// The token that requests must bear at this time, if any.
pub(crate) type Token = watch::Receiver<Option<Secret>>;

type Pages = Vec<(&'static str, MethodRouter<Shared>)>;

/// The paths that are for those only who may see everything.
pub(crate) fn guarded() -> Pages {
    let services = || get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.services()));
    let listeners = || get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.listeners()));
    let routes = || get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.routes()));
    let config = || get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.config()));
    let overrides = get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.overrides()));
    vec![
        ("/", get(async || INDEX)),
        ("/metrics", get(metrics)),
        ("/api/status", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.status()))),
        ("/api/services", services()),
        ("/api/services/{service}", get(service)),
        ("/api/services/{service}/breaker", put(change::breaker)),
        ("/api/services/{service}/endpoints", post(change::add)),
        ("/api/services/{service}/endpoints/{address}", patch(change::edit).delete(change::remove)),
        ("/api/services/{service}/endpoints/{address}/overrides", delete(change::reset)),
        ("/api/listeners", listeners()),
        ("/api/routes", routes()),
        ("/api/overrides", overrides.delete(change::reset_all)),
        ("/api/cache", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.cache()))),
        ("/api/cache/purge", post(change::purge)),
        ("/api/caches", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.caches()))),
        ("/api/caches/{cache}/keys/{key}", get(cached_value)),
        ("/api/caches/{cache}/purge", post(change::purge_named)),
        ("/api/databases", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.databases()))),
        ("/api/databases/{database}/clients", get(database_clients)),
        ("/api/databases/{database}/kill", post(change::kill_clients)),
        ("/api/databases/{database}/disable", post(change::disable_database)),
        ("/api/databases/{database}/enable", post(change::enable_database)),
        ("/api/databases/{database}/pause", post(change::pause_database)),
        ("/api/databases/{database}/resume", post(change::resume_database)),
        ("/api/databases/{database}/reconnect", post(change::reconnect_database)),
        ("/api/config", config()),
        ("/api/reload", post(change::reload)),
        ("/api/upgrade", post(change::upgrade)),
        ("/api/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], OPENAPI))),
        // Short forms for people.
        ("/services", services()),
        ("/services/{service}", get(service)),
        ("/listeners", listeners()),
        ("/routes", routes()),
        ("/config", config()),
    ]
}

/// The paths for whoever supervises the process, who needs no token.
pub(crate) fn open(token: Token) -> Pages {
    let alive = async || answer(StatusCode::OK, &json!({"status": "ok"}));
    let ready = async move |State(state): State<Shared>, request: Request| {
        let may_know = judge_request(&token, &request).is_ok();
        readyz(&state, may_know)
    };
    vec![("/healthz", get(alive)), ("/readyz", get(ready))]
}

pub(crate) fn router(state: Shared, token: Token) -> Router {
    let mut router = Router::new();
    for (path, handlers) in guarded() {
        router = router.route(path, handlers);
    }
    router = router
        .fallback(async || error(StatusCode::NOT_FOUND, "no such path; GET / lists them"))
        .method_not_allowed_fallback(async || {
            error(StatusCode::METHOD_NOT_ALLOWED, "not at this path; GET /api/openapi.json tells what is")
        })
        .layer(from_fn_with_state(token.clone(), guard));
    // Below the guard's layer.
    for (path, handlers) in open(token) {
        router = router.route(path, handlers);
    }
    router
        .layer(axum::middleware::map_response(async |mut response: Response| {
            let fields = response.headers_mut();
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }))
        .with_state(state)
}

fn judge_request(token: &Token, request: &Request) -> Result<(), Refusal> {
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    judge(token.borrow().as_ref(), authority, request.headers())
}

async fn guard(State(token): State<Token>, request: Request, next: Next) -> Response {
    match judge_request(&token, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refuse(refusal),
    }
}

pub(crate) fn refuse(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = error(status, refusal.text());
    if refusal == Refusal::Token {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Whether the process is ready; what is missing is only for those who may see everything.
fn readyz(state: &Shared, may_know: bool) -> Response {
    let unready = state.unready();
    if unready.is_empty() {
        return answer(StatusCode::OK, &json!({"status": "ready"}));
    }
    let mut told = json!({"status": "not ready"});
    if may_know {
        let failing = unready.iter().map(|one| json!({"component": one.component, "reason": one.reason}));
        told["failing"] = failing.collect::<Vec<Value>>().into();
    }
    answer(StatusCode::SERVICE_UNAVAILABLE, &told)
}

async fn metrics(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = Exposition::negotiate(accept);
    match format.page(state.registry()) {
        Ok(page) => ([(CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(std::fmt::Error) => error(StatusCode::INTERNAL_SERVER_ERROR, "a collector of metrics failed"),
    }
}

async fn service(State(state): State<Shared>, name: Result<Path<String>, PathRejection>) -> Response {
    match name.ok().and_then(|Path(name)| state.service(&name)) {
        Some(service) => answer(StatusCode::OK, &service),
        None => error(StatusCode::NOT_FOUND, "no service has this name; GET /api/services lists them"),
    }
}

async fn cached_value(State(state): State<Shared>, place: Result<Path<(String, String)>, PathRejection>) -> Response {
    match place.ok().and_then(|Path((cache, key))| state.cached_value(&cache, &key)) {
        Some(value) => answer(StatusCode::OK, &value),
        None => error(StatusCode::NOT_FOUND, "there is no such key, or no such cache; GET /api/caches lists those"),
    }
}

async fn database_clients(State(state): State<Shared>, database: Result<Path<String>, PathRejection>) -> Response {
    match database.ok().and_then(|Path(database)| state.database_clients(&database)) {
        Some(value) => answer(StatusCode::OK, &value),
        None => error(StatusCode::NOT_FOUND, "no database is named so; GET /api/databases lists them"),
    }
}

/// JSON with a line break at its end, indented: people read it with curl.
pub(crate) fn answer(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}

pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    answer(status, &json!({"error": text}))
}
