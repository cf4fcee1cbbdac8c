//! What is served instead when a service is not asked: its breaker is open, it has no endpoint left, or its bound of
//! requests is reached.
//!
//! Nothing has been sent then, so that another service can be asked in its place, or an answer of the file's be given.
//! What the other service falls back on in turn is not looked at: a chain of them would hide that two are down.

use vocab::ErrorCode;

use super::exchange::{self, Call};
use super::forward::{self, Outcome, Parts};
use super::leave::Refusal;
use super::local::Local;
use super::reply;
use crate::action::Prepared;
use crate::params::FallbackParams;

/// Forwards a request to its service, or to what the service falls back on.
pub(crate) async fn run<'c>(mut parts: Parts<'_, '_>, local: &'c Local, call: &mut Call<'c>) -> Outcome {
    let mut fallen = false;
    loop {
        let outcome = forward::run(parts.again(), call).await;
        let Outcome::Unserved(code, refusal) = outcome else { return outcome };
        let (service, core) = (call.service, parts.link.core.id);
        let fallback = service.view.params.fallback.as_ref().filter(|_| !fallen && parts.body.is_replayable());
        let found = match fallback {
            None => None,
            Some(FallbackParams::Fixed(params)) => {
                service.view.state.metrics.fell_back(core);
                return Outcome::Prepared(Box::new(Prepared::fixed(params)));
            }
            Some(FallbackParams::Service(name)) => local.position(name),
        };
        let Some(index) = found else { return Outcome::Prepared(Box::new(refused(code, refusal))) };
        service.view.state.metrics.fell_back(core);
        fallen = true;
        parts.account.service = Some(index);
        let service = local.service(index);
        let (request, head) = (&parts.scratch.request, &parts.link.buffer.filled()[..call.head_len]);
        let key = exchange::hash_key(service, request, head, call.origin);
        let sticky = exchange::sticky_id(service, request, head);
        *call = Call { service, key, sticky, ..*call };
    }
}

/// What a client is told when the service was not asked, and when it may ask again.
pub(crate) fn refused(code: ErrorCode, Refusal(wait): Refusal) -> Prepared {
    // A second that has begun counts as one, so that nobody comes a moment too early.
    let secs = wait.map_or(1, |wait| wait.as_millis().div_ceil(1_000).max(1) as u64);
    Prepared { retry_after_secs: secs, ..Prepared::error(code, reply::message(code)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clients_are_told_when_to_ask_again() {
        let check = |millis: Option<u64>, expected: u64| {
            let prepared = refused(ErrorCode::BreakerOpen, Refusal(millis.map(Duration::from_millis)));
            assert_eq!((prepared.status, prepared.retry_after_secs), (503, expected), "{millis:?} ms");
        };
        check(None, 1);
        check(Some(1), 1);
        check(Some(1_000), 1);
        check(Some(1_001), 2);
        check(Some(29_500), 30);
    }
}
