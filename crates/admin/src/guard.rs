//! Who may ask the admin listener: what [`http1::guard`] says of the fields as axum has them.

use axum::http::{HeaderMap, HeaderValue};
use http1::guard::{self, Refusal};
use vocab::Secret;

/// Judges a request by its header fields. `authority` is the host of its target, if the target has one.
pub(crate) fn judge(token: Option<&Secret>, authority: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    guard::judge(token, authority, |name| headers.get_all(name).iter().map(HeaderValue::as_bytes))
}

/// Judges what a change has to be beside that.
pub(crate) fn judge_change(headers: &HeaderMap) -> Result<(), Refusal> {
    guard::judge_change(|name| headers.get_all(name).iter().map(HeaderValue::as_bytes))
}
