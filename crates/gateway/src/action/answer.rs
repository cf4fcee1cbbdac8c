//! Answers that a route gives without its service.

use http1::write;
use vocab::ErrorCode;

use crate::params::FixedParams;

/// An answer, but for what depends on the connection.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Its status.
    pub(crate) status: u16,
    /// Why it is an error, and what people are told unless there is a body.
    pub(crate) error: Option<(ErrorCode, &'static str)>,
    /// Lines of fields, beside those of framing and connection.
    pub(crate) fields: Vec<u8>,
    /// The body. Without one, an error has what the gateway says of it.
    pub(crate) body: Option<Vec<u8>>,
    /// Whether the route's fields for responses are left out, because those here are all there are.
    pub(crate) complete: bool,
    /// Whether another service has refused the request by it.
    pub(crate) refusal: bool,
    /// What an error of status 503 says in `Retry-After`.
    pub(crate) retry_after_secs: u64,
}

impl Prepared {
    /// An answer without a body.
    pub(crate) fn new(status: u16, fields: Vec<u8>) -> Self {
        Self { status, error: None, fields, body: None, complete: false, refusal: false, retry_after_secs: 1 }
    }

    /// An error.
    pub(crate) fn error(code: ErrorCode, message: &'static str) -> Self {
        Self { error: Some((code, message)), ..Self::new(code.status(), Vec::new()) }
    }

    /// The request cannot be served as it is.
    pub(crate) fn bad_request(message: &'static str) -> Self {
        Self::error(ErrorCode::BadRequest, message)
    }

    /// The answer with these settings.
    pub(crate) fn fixed(params: &FixedParams) -> Self {
        let mut fields = Vec::new();
        for line in &params.fields {
            write::field(&mut fields, line.name().as_str().as_bytes(), line.value().as_bytes());
        }
        Self { body: Some(params.body.clone().into_bytes()), ..Self::new(params.status, fields) }
    }
}
