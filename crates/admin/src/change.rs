//! Requests that change something.
//!
//! Every change says `Content-Type: application/json`, whether it has a body or not, and none has an `Origin`: [`http1::guard`] says why.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::command::{BreakerEdit, Command, DatabaseChange, EndpointEdit, KillOrder, Reason, UpgradeOrder};
use crate::guard::judge_change;
use crate::pages::{Shared, answer, error};

/// Bytes of a body. The largest that makes sense has a fraction of that.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a request that may change something.
pub(crate) struct Body(Bytes);

/// What is wrong with a request: the status, and what is told.
pub(crate) struct Wrong(StatusCode, String);

type Place<T> = Result<Path<T>, PathRejection>;

pub(crate) async fn add(State(state): State<Shared>, service: Place<String>, body: Body) -> Result<Response, Wrong> {
    let (service, endpoint) = (path(service)?, body.read()?);
    Ok(carry_out(&state, Command::Add { service, endpoint }, StatusCode::CREATED).await)
}

pub(crate) async fn edit(
    State(state): State<Shared>,
    place: Place<(String, String)>,
    body: Body,
) -> Result<Response, Wrong> {
    let ((service, address), edit) = (path(place)?, body.read::<EndpointEdit>()?);
    if edit == EndpointEdit::default() {
        return Err(Wrong::body("the body changes nothing: give weight or drain"));
    }
    Ok(carry_out(&state, Command::Edit { service, address, edit }, StatusCode::OK).await)
}

pub(crate) async fn remove(
    State(state): State<Shared>,
    place: Place<(String, String)>,
    body: Body,
) -> Result<Response, Wrong> {
    body.is_none()?;
    let (service, address) = path(place)?;
    Ok(carry_out(&state, Command::Remove { service, address }, StatusCode::OK).await)
}

pub(crate) async fn reset(
    State(state): State<Shared>,
    place: Place<(String, String)>,
    body: Body,
) -> Result<Response, Wrong> {
    body.is_none()?;
    let (service, address) = path(place)?;
    Ok(carry_out(&state, Command::Reset { service, address }, StatusCode::OK).await)
}

pub(crate) async fn breaker(
    State(state): State<Shared>,
    service: Place<String>,
    body: Body,
) -> Result<Response, Wrong> {
    let (service, edit) = (path(service)?, body.read::<BreakerEdit>()?);
    Ok(carry_out(&state, Command::Breaker { service, force: edit.force }, StatusCode::OK).await)
}

pub(crate) async fn reset_all(State(state): State<Shared>, body: Body) -> Result<Response, Wrong> {
    body.is_none()?;
    Ok(carry_out(&state, Command::ResetAll, StatusCode::OK).await)
}

pub(crate) async fn reload(State(state): State<Shared>, body: Body) -> Result<Response, Wrong> {
    body.is_none()?;
    Ok(carry_out(&state, Command::Reload, StatusCode::OK).await)
}

pub(crate) async fn upgrade(State(state): State<Shared>, body: Body) -> Result<Response, Wrong> {
    let order = if body.0.trim_ascii().is_empty() { UpgradeOrder::default() } else { body.read()? };
    Ok(carry_out(&state, Command::Upgrade(order), StatusCode::OK).await)
}

pub(crate) async fn purge(State(state): State<Shared>, body: Body) -> Result<Response, Wrong> {
    Ok(carry_out(&state, Command::Purge(body.read()?), StatusCode::OK).await)
}

pub(crate) async fn purge_named(
    State(state): State<Shared>,
    cache: Place<String>,
    body: Body,
) -> Result<Response, Wrong> {
    let (cache, target) = (path(cache)?, body.read()?);
    Ok(carry_out(&state, Command::PurgeNamed { cache, target }, StatusCode::OK).await)
}

type Changed = Result<Response, Wrong>;

pub(crate) async fn pause_database(State(state): State<Shared>, database: Place<String>, body: Body) -> Changed {
    change_database(&state, database, DatabaseChange::Pause, &body).await
}

pub(crate) async fn resume_database(State(state): State<Shared>, database: Place<String>, body: Body) -> Changed {
    change_database(&state, database, DatabaseChange::Resume, &body).await
}

pub(crate) async fn reconnect_database(State(state): State<Shared>, database: Place<String>, body: Body) -> Changed {
    change_database(&state, database, DatabaseChange::Reconnect, &body).await
}

pub(crate) async fn disable_database(State(state): State<Shared>, database: Place<String>, body: Body) -> Changed {
    change_database(&state, database, DatabaseChange::Disable, &body).await
}

pub(crate) async fn enable_database(State(state): State<Shared>, database: Place<String>, body: Body) -> Changed {
    change_database(&state, database, DatabaseChange::Enable, &body).await
}

pub(crate) async fn kill_clients(State(state): State<Shared>, database: Place<String>, body: Body) -> Changed {
    let order = if body.0.trim_ascii().is_empty() { KillOrder::default() } else { body.read()? };
    if order.client.is_some() && order.server.is_some() {
        return Err(Wrong::body("the body names a client and a server: give one of them"));
    }
    let (database, change) = (path(database)?, DatabaseChange::Kill(order));
    Ok(carry_out(&state, Command::Database { database, change }, StatusCode::OK).await)
}

async fn change_database(state: &Shared, database: Place<String>, change: DatabaseChange, body: &Body) -> Changed {
    body.is_none()?;
    let database = path(database)?;
    Ok(carry_out(state, Command::Database { database, change }, StatusCode::OK).await)
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
                Reason::Forbidden => StatusCode::FORBIDDEN,
                Reason::Failed => StatusCode::INTERNAL_SERVER_ERROR,
                Reason::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            answer(status, &json!({ "error": refused.text }))
        }
    }
}

fn path<T>(place: Place<T>) -> Result<T, Wrong> {
    let Path(place) = place.map_err(|rejection| Wrong(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    Ok(place)
}

impl Wrong {
    fn body(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        error(self.0, &self.1)
    }
}

impl Body {
    fn is_none(&self) -> Result<(), Wrong> {
        match self.0.trim_ascii() {
            b"" | b"{}" => Ok(()),
            _ => Err(Wrong::body("this request takes no body")),
        }
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Wrong> {
        if self.0.trim_ascii().is_empty() {
            return Err(Wrong::body("the body is empty; it has to be a JSON object"));
        }
        serde_json::from_slice(&self.0).map_err(|cause| Wrong::body(format!("the body: {cause}")))
    }
}

impl FromRequest<Shared> for Body {
    type Rejection = Wrong;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Wrong> {
        let wrong = |status, text: &str| Err(Wrong(status, text.to_owned()));
        if let Err(refusal) = judge_change(request.headers()) {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
            return wrong(status, refusal.text());
        }
        match tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            // Who broke the connection off does not hear of it.
            Ok(Err(_)) => wrong(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 16 KiB"),
            Err(_) => wrong(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
        }
    }
}
