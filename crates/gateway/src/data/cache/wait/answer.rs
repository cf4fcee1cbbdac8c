//! What a request is answered with that has waited.

use bytes::Bytes;
use httpcache::CacheStatus;

use super::super::facts::Came;
use super::super::fill::Why;
use super::super::handed::{self, Head};
use super::super::source::{Source, block_of};
use super::super::{Ask, With, facts, now, part, reply};
use super::{Own, with_facts};
use crate::cache::{CacheResult, Held, RouteCache};
use crate::data::exchange::Call;
use crate::data::forward::{Outcome, Parts};

pub(super) enum Answered {
    Yes(Outcome),
    /// It is not the one that the request wants, which would have this key, and be a part or not.
    OtherVariant(Vec<u8>, bool),
    No,
}

/// Answers with what is being fetched.
pub(super) async fn answer_with(
    parts: &mut Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    (mut source, status, own): (Source, CacheStatus<'_>, Option<&Own>),
) -> Answered {
    let is_part = source.stored().is_some_and(|stored| part::is_one(&stored));
    if own.is_none()
        && let Some(wanted) = other_variant(parts, call, with, &source)
    {
        return Answered::OtherVariant(wanted, is_part);
    }
    let Some(stored) = source.stored() else { return Answered::No };
    let serve = with_facts(parts, call, |facts| httpcache::answer(facts, &stored, source.block(), now()));
    let Some(serve) = serve else {
        // Many who want other parts at once wait for the whole together.
        let wants_whole = own.is_none() && part::fits(with, &stored);
        return if wants_whole { Answered::OtherVariant(primary(parts, call, with), false) } else { Answered::No };
    };
    let status = CacheStatus { ttl_secs: Some(serve.ttl_secs), stored: true, ..status };
    let result = if status.collapsed { CacheResult::Collapsed } else { CacheResult::Miss };
    let answer = reply::Answer { stored: &stored, serve: &serve, status, result, fresh: None };
    Answered::Yes(reply::serve(parts, call, with, (&answer, &mut source)).await)
}

/// The key of the variant that a request wants, if what is being fetched is another one.
pub(super) fn other_variant(
    parts: &Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    source: &Source,
) -> Option<Vec<u8>> {
    let Parts { link, scratch, .. } = parts;
    let (request, head) = (&scratch.request, &link.buffer.filled()[..call.head_len]);
    let mut room = Vec::new();
    let (came, granted) = (Came::of(link, call), call.terms.granted.map(|names| (names, scratch.granted.as_slice())));
    let fields = facts::fields(request, head, came, granted);
    let (target, service) = (facts::target(request, head, came, &mut room), call.service.view.state.name.as_str());
    let vary = httpcache::Vary::read(httpcache::Lines::new(source.block())).unwrap_or_default();
    let mut wanted = Vec::new();
    facts::write_key((with.cache, service), &mut wanted, (request, head, came), target, fields.clone());
    if source.stored().is_some_and(|stored| part::is_one(&stored)) {
        RouteCache::write_part(&mut wanted);
    }
    // What does not vary may stand under the key itself.
    if !vary.is_empty() || *wanted != *source.key() {
        with.cache.write_variant(&mut wanted, &vary, fields);
    }
    (*wanted != *source.key()).then_some(wanted)
}

/// The key of what a request wants, without its variant.
pub(super) fn primary(parts: &Parts<'_, '_>, call: &Call<'_>, with: With<'_>) -> Vec<u8> {
    let mut key = Vec::new();
    let Parts { link, scratch, .. } = parts;
    let (request, head) = (&scratch.request, &link.buffer.filled()[..call.head_len]);
    let mut room = Vec::new();
    let (came, granted) = (Came::of(link, call), call.terms.granted.map(|names| (names, scratch.granted.as_slice())));
    let fields = facts::fields(request, head, came, granted);
    let (target, service) = (facts::target(request, head, came, &mut room), call.service.view.state.name.as_str());
    facts::write_key((with.cache, service), &mut key, (request, head, came), target, fields);
    key
}

/// Answers with what is known, which its origin has just said to be good.
pub(super) async fn good(
    parts: &mut Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    (ask, meta, status): (&mut Ask, &Bytes, CacheStatus<'_>),
) -> Option<Outcome> {
    let (source, known) = ask.known.as_mut()?;
    let Some(Held::Response(_, mut stored, _)) = Held::read(meta) else { return None };
    if let httpcache::Body::Whole(bytes) = known.body() {
        stored.measured(bytes);
    }
    let serve = with_facts(parts, call, |facts| httpcache::answer(facts, &stored, block_of(meta), now()))?;
    let (ttl_secs, forward_status) = (Some(serve.ttl_secs), Some(304));
    let status = CacheStatus { ttl_secs, forward_status, stored: true, ..status };
    let answer =
        reply::Answer { stored: &stored, serve: &serve, status, result: CacheResult::Revalidated, fresh: Some(meta) };
    Some(reply::serve(parts, call, with, (&answer, source)).await)
}

/// Serves what is known in place of a failure, where it may be.
pub(super) async fn stale(
    parts: &mut Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    (ask, why): (&mut Ask, Why),
) -> Option<Outcome> {
    if matches!(why, Why::NotStored | Why::OfRequest) {
        return None;
    }
    let forward = ask.forward;
    let (source, stored) = ask.known.as_mut()?;
    let policy = &with.cache.params.policy;
    let serve =
        with_facts(parts, call, |facts| httpcache::answer_failure(policy, facts, (stored, source.block()), now()))?;
    let status = CacheStatus {
        forward: Some(forward),
        ttl_secs: Some(serve.ttl_secs),
        detail: Some("stale-if-error"),
        ..CacheStatus::default()
    };
    let answer = reply::Answer { stored, serve: &serve, status, result: CacheResult::Stale, fresh: None };
    Some(reply::serve(parts, call, with, (&answer, source)).await)
}

/// Passes on what is for this request alone; `None` when it has to be asked for again.
pub(super) async fn own_answer(
    parts: &mut Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    (head, own, status): (&Head, Option<&mut Own>, CacheStatus<'_>),
) -> Option<Outcome> {
    let own = own?;
    if with_facts(parts, call, |facts| head.is_known_to(facts)) {
        let (head, mut nothing) = head.not_modified();
        return handed::relay(parts, call, with, (&head, &mut nothing, status)).await;
    }
    handed::relay(parts, call, with, (head, &mut own.pieces, status)).await
}
