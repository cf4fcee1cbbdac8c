//! Requests that change something.
//!
//! A web page can make a browser send a request here, but not one of this type without asking first, and not without
//! saying where it comes from. So every change says `Content-Type: application/json`, whether it has a body or not, and
//! none has an `Origin`. That holds with a token too: it costs programs nothing.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::command::{Command, EndpointEdit, Reason};
use crate::pages::{Shared, answer, error};

/// Bytes of a body. The largest that makes sense has a fraction of that.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a request that may change something.
pub(crate) struct Body(Bytes);

type Place<T> = Result<Path<T>, PathRejection>;

pub(crate) async fn add(State(state): State<Shared>, service: Place<String>, body: Body) -> Response {
    let (service, endpoint) = match (path(service), body.read()) {
        (Ok(service), Ok(endpoint)) => (service, endpoint),
        (Err(response), _) | (_, Err(response)) => return response,
    };
    carry_out(&state, Command::Add { service, endpoint }, StatusCode::CREATED).await
}

pub(crate) async fn edit(State(state): State<Shared>, place: Place<(String, String)>, body: Body) -> Response {
    let ((service, address), edit) = match (path(place), body.read::<EndpointEdit>()) {
        (Ok(place), Ok(edit)) => (place, edit),
        (Err(response), _) | (_, Err(response)) => return response,
    };
    if edit == EndpointEdit::default() {
        return error(StatusCode::BAD_REQUEST, "the body changes nothing: give weight or drain");
    }
    carry_out(&state, Command::Edit { service, address, edit }, StatusCode::OK).await
}

pub(crate) async fn remove(State(state): State<Shared>, place: Place<(String, String)>, body: Body) -> Response {
    let command = |(service, address)| Command::Remove { service, address };
    without_body(&state, path(place).map(command), &body).await
}

pub(crate) async fn reset(State(state): State<Shared>, place: Place<(String, String)>, body: Body) -> Response {
    let command = |(service, address)| Command::Reset { service, address };
    without_body(&state, path(place).map(command), &body).await
}

pub(crate) async fn reset_all(State(state): State<Shared>, body: Body) -> Response {
    without_body(&state, Ok(Command::ResetAll), &body).await
}

pub(crate) async fn reload(State(state): State<Shared>, body: Body) -> Response {
    without_body(&state, Ok(Command::Reload), &body).await
}

async fn without_body(state: &Shared, command: Result<Command, Response>, body: &Body) -> Response {
    match (command, body.is_empty()) {
        (Ok(command), true) => carry_out(state, command, StatusCode::OK).await,
        (Ok(_), false) => error(StatusCode::BAD_REQUEST, "this request takes no body"),
        (Err(response), _) => response,
    }
}

async fn carry_out(state: &Shared, command: Command, done: StatusCode) -> Response {
    match state.command(command).await {
        Ok(value) => answer(done, &value),
        Err(refused) => {
            let status = match refused.reason {
                Reason::Invalid => StatusCode::BAD_REQUEST,
                Reason::NotFound => StatusCode::NOT_FOUND,
                Reason::Conflict => StatusCode::CONFLICT,
                Reason::Configuration => StatusCode::UNPROCESSABLE_ENTITY,
                Reason::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            answer(status, &json!({ "error": refused.text }))
        }
    }
}

fn path<T>(place: Place<T>) -> Result<T, Response> {
    place.map(|Path(place)| place).map_err(|rejection| error(StatusCode::BAD_REQUEST, &rejection.body_text()))
}

impl Body {
    fn is_empty(&self) -> bool {
        matches!(self.0.trim_ascii(), b"" | b"{}")
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Response> {
        if self.0.trim_ascii().is_empty() {
            return Err(error(StatusCode::BAD_REQUEST, "the body is empty; it has to be a JSON object"));
        }
        serde_json::from_slice(&self.0).map_err(|cause| error(StatusCode::BAD_REQUEST, &format!("the body: {cause}")))
    }
}

impl FromRequest<Shared> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Response> {
        if request.headers().contains_key(ORIGIN) {
            return Err(error(StatusCode::FORBIDDEN, "changes are not taken from web pages"));
        }
        if !is_json(request.headers()) {
            let text = "changes are taken with Content-Type: application/json only";
            return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        match tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            // Who broke the connection off does not hear of it.
            Ok(Err(_)) => Err(error(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 16 KiB")),
            Err(_) => Err(error(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
