//! The paths of the admin listener and their answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use telemetry::Exposition;

use crate::guard::{Refusal, judge};
use crate::state::AdminState;

/// What `/` answers.
const INDEX: &str = "\
tenfold admin

/healthz          the process answers
/readyz           every component is ready
/metrics          metrics, for Prometheus
/services         services with their endpoints
/services/NAME    one service
/listeners        listeners
/routes           routes, by listener, in the file's order
/config           the configuration in effect, and its last reload
";

type Shared = Arc<dyn AdminState>;

pub(crate) fn router(state: Shared, token: Option<Arc<str>>) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/services", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.services())))
        .route("/services/{name}", get(service))
        .route("/listeners", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.listeners())))
        .route("/routes", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.routes())))
        .route("/config", get(async |State(state): State<Shared>| answer(StatusCode::OK, &state.config())))
        .fallback(async || error(StatusCode::NOT_FOUND, "no such path; GET / lists them"))
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered"))
        .layer(from_fn_with_state(token, guard))
        // Below the guard's layer: whoever supervises the process needs no token to ask whether it is alive.
        .route("/healthz", get(async || answer(StatusCode::OK, &json!({"status": "ok"}))))
        .layer(axum::middleware::map_response(async |mut response: Response| {
            let fields = response.headers_mut();
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }))
        .with_state(state)
}

async fn guard(State(token): State<Option<Arc<str>>>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    match judge(token.as_deref(), authority, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Refusal::Token) => {
            let mut response = error(StatusCode::UNAUTHORIZED, "the token is missing or wrong");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Err(Refusal::Host) => {
            error(StatusCode::FORBIDDEN, "without a token only localhost and loopback addresses are answered as host")
        }
        Err(Refusal::Origin) => error(StatusCode::FORBIDDEN, "pages of other sites are not answered"),
    }
}

async fn readyz(State(state): State<Shared>) -> Response {
    let unready = state.unready();
    if unready.is_empty() {
        return answer(StatusCode::OK, &json!({"status": "ready"}));
    }
    let failing: Vec<Value> =
        unready.iter().map(|one| json!({"component": one.component, "reason": one.reason})).collect();
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "failing": failing}))
}

async fn metrics(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = Exposition::negotiate(accept);
    match format.page(state.registry()) {
        Ok(page) => ([(CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(std::fmt::Error) => error(StatusCode::INTERNAL_SERVER_ERROR, "a collector of metrics failed"),
    }
}

async fn service(State(state): State<Shared>, Path(name): Path<String>) -> Response {
    match state.service(&name) {
        Some(service) => answer(StatusCode::OK, &service),
        None => error(StatusCode::NOT_FOUND, "no service has this name; GET /services lists them"),
    }
}

/// JSON with a line break at its end, indented: people read it with curl.
fn answer(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}

fn error(status: StatusCode, text: &str) -> Response {
    answer(status, &json!({"error": text}))
}
