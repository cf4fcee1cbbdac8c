//! Answering from the cache, and what is done where that is not possible.
//!
//! A request is answered by what is stored; or it waits for a fetch, its own or that of another request for the same key;
//! or it passes by the cache, on the way of all requests. A fetch is a task of its own, which no client holds up and no
//! client ends: whoever waits reads along from what it stores.

mod changes;
mod facts;
mod fetch;
mod fill;
mod handed;
mod part;
mod reply;
mod source;
mod wait;

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http1::{Framing, Method};
use httpcache::{CacheStatus, Found, KeyParts, Lookup, Serve, Stored, UnixTime};
use store::{Follower, Store};

pub(crate) use changes::Changes;
pub(crate) use fill::Fill;

use self::facts::Came;
use self::source::Source;
use super::exchange::Call;
use super::fallback;
use super::forward::{Outcome, Parts};
use super::local::Local;
use crate::action::Prepared;
use crate::cache::{CacheResult, RouteCache, Ways};
use crate::params::CacheTold;
use crate::router::Route;
use crate::state::ListenerView;

/// The name by which the cache tells of itself, a token.
const NAME: &str = "tenfold";

/// What the answers of an endpoint mean for the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watch<'a> {
    /// They are stored.
    Fill(&'a Fill),
    /// They may make what is stored invalid.
    Changes(Changes<'a>),
}

impl Watch<'_> {
    /// Whether the request's own route has a cache.
    pub(crate) fn is_cached(&self) -> bool {
        match self {
            Self::Fill(_) => true,
            Self::Changes(changes) => changes.cache.is_some(),
        }
    }
}

/// A request that may be answered from a route's cache.
#[derive(Clone, Copy)]
struct With<'r> {
    route: &'r Route,
    cache: &'r Arc<RouteCache>,
    /// What keys are made of by all routes of the listener.
    keys: &'r [KeyParts],
    /// The route's position.
    position: usize,
    /// The position of the service.
    service: usize,
}

/// What the cache makes of a request.
enum Decided {
    /// It passes by.
    Pass(httpcache::Forward),
    /// It is served.
    Serve(Hit),
    /// The origin is asked.
    Ask(Ask),
    /// Nobody may be asked.
    OnlyIfCached,
}

/// Something that is served.
struct Hit {
    source: Source,
    stored: Stored,
    serve: Serve,
    /// Whether it is to be fetched again meanwhile.
    is_stale: bool,
    /// Why the request has waited for it, if another one has fetched it.
    waited: Option<httpcache::Forward>,
    /// Whether it was read from disk for this request.
    from_disk: bool,
    /// How responses of the key vary, if they do.
    kinds: Option<Ways>,
}

impl Hit {
    /// Something fresh that was found at once.
    fn new(source: Source, stored: Stored, serve: Serve) -> Self {
        Self { source, stored, serve, is_stale: false, waited: None, from_disk: false, kinds: None }
    }
}

/// Why the origin is asked, and what is known that does not do by itself.
struct Ask {
    forward: httpcache::Forward,
    known: Option<(Source, Stored)>,
    /// Whether the question is about what is known.
    validates: bool,
    /// Whether it is for the part that the client wants.
    is_part: bool,
    /// Whether the client wants nothing but what is stored, which may be what is coming.
    is_only_stored: bool,
    /// What is being fetched, or read from disk, and may make asking needless.
    coming: Option<Follower>,
    /// How responses of the key vary, if they do.
    kinds: Option<Ways>,
    /// What is asked for, and under which key, if what comes is only being fetched.
    instead: Option<Box<(Vec<u8>, Self)>>,
}

/// A request that has waited for another one's fetch.
#[derive(Clone, Copy)]
struct Waits {
    since: UnixTime,
    forward: httpcache::Forward,
}

/// What there is for a key, and where it stands: behind `key`, if there are variants.
#[derive(Default)]
struct Looked {
    response: Option<(Source, Stored)>,
    /// What is on its way, if there is no response.
    coming: Option<Follower>,
    kinds: Option<Ways>,
}

/// Answers a request by its route's cache, or by its service.
pub(crate) async fn or_service<'c>(
    mut parts: Parts<'_, '_>,
    local: &'c Rc<Local>,
    call: &mut Call<'c>,
    (listener, route, service): (&'c ListenerView, &'c Route, usize),
) -> Outcome {
    let keys = listener.router.keys();
    if let Some(cache) = &route.cache {
        let with = With { route, cache, keys, position: listener.router.position(route), service };
        if let Some(outcome) = run(&mut parts, local, call, with).await {
            return outcome;
        }
    } else if !keys.is_empty() && !httpcache::Method::of(parts.scratch.request.method.as_str().as_bytes()).is_safe() {
        // What it changes may be stored by another route.
        let (came, token) = (Came::of(parts.link, call), parts.link.core.shared.cache.look().store.token());
        let service = call.service.view.state.name.as_str();
        let changes = Changes { cache: None, keys, service, came, refreshes: false, token };
        call.terms.watch = Some(Watch::Changes(changes));
    }
    fallback::run(parts, local, call).await
}

/// Answers a request by the cache; `None` when it goes on to its service, on the way of all.
async fn run<'c>(parts: &mut Parts<'_, '_>, local: &Rc<Local>, call: &mut Call<'c>, with: With<'c>) -> Option<Outcome> {
    let mut key = std::mem::take(&mut parts.scratch.key);
    key.clear();
    let outcome = match decide(parts, call, with, &mut key, (None, None)) {
        Decided::Serve(hit) => Some(serve_hit(parts, local, call, with, (&key, hit)).await),
        Decided::OnlyIfCached => Some(only_if_cached(parts, with)),
        // Apart, so that what is served does not carry the memory of what waits.
        Decided::Ask(ask) => Box::pin(wait::run(parts, local, call, with, (&mut key, ask))).await,
        Decided::Pass(forward) => {
            pass(parts, call, with, CacheStatus { forward: Some(forward), ..CacheStatus::default() });
            None
        }
    };
    parts.scratch.key = key;
    outcome
}

/// Answers a request that wants nothing but what is stored.
fn only_if_cached(parts: &Parts<'_, '_>, with: With<'_>) -> Outcome {
    with.route.state.cached.add(parts.link.core.id, CacheResult::Bypass, 0);
    Outcome::Prepared(Box::new(Prepared::new(504, Vec::new())))
}

/// Has a request pass by the cache, which still sees what comes of it.
fn pass<'c>(parts: &mut Parts<'_, '_>, call: &mut Call<'c>, with: With<'c>, status: CacheStatus<'_>) {
    let Parts { link, scratch, .. } = parts;
    with.route.state.cached.add(link.core.id, CacheResult::Bypass, 0);
    tell(&mut scratch.added, with.cache, &status);
    // What the answer depends on that lets a request pass by is no part of the key.
    let refreshes = status.forward != Some(httpcache::Forward::Bypass) && scratch.request.method == Method::Head;
    if refreshes && let Some(target) = fetch::target_of(call, scratch, &link.buffer.filled()[..call.head_len]) {
        scratch.target = target;
        call.rewritten = true;
    }
    let (service, token) = (call.service.view.state.name.as_str(), link.core.shared.cache.look().store.token());
    let came = Came::of(link, call);
    let (cache, keys) = (Some(with.cache), with.keys);
    call.terms.watch = Some(Watch::Changes(Changes { cache, keys, service, came, refreshes, token }));
}

/// Adds what a client is told of a decision.
fn tell(out: &mut Vec<u8>, cache: &RouteCache, status: &CacheStatus<'_>) {
    if cache.params.told != CacheTold::Nothing {
        status.write_line(out, NAME);
    }
}

/// The time, as responses tell it.
fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis(since.as_millis() as u64)
}

/// Decides about a request, and writes its key. What is known of how its responses vary need not be in memory yet.
fn decide(
    parts: &Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    key: &mut Vec<u8>,
    (waits, marker): (Option<Waits>, Option<Source>),
) -> Decided {
    let Parts { link, scratch, .. } = parts;
    let (request, head) = (&scratch.request, &link.buffer.filled()[..call.head_len]);
    let policy = &with.cache.params.policy;
    if !matches!(request.method, Method::Get | Method::Head) {
        return Decided::Pass(httpcache::Forward::Method);
    }
    let mut room = Vec::new();
    let (came, granted) = (Came::of(link, call), call.terms.granted.map(|names| (names, scratch.granted.as_slice())));
    let target = facts::target(request, head, came, &mut room);
    // What has a body or changes protocols is more than its key says.
    if request.framing != Framing::Empty
        || request.upgrade
        || policy.bypasses(target, facts::sent(request, head, granted))
    {
        return Decided::Pass(httpcache::Forward::Bypass);
    }
    let (fields, service) = (facts::fields(request, head, came, granted), call.service.view.state.name.as_str());
    facts::write_key((with.cache, service), key, (request, head, came), target, fields.clone());
    let (tiers, primary) = (link.core.shared.cache.look(), key.len());
    let store = &tiers.store;
    let (of_part, of_whole) = match marker {
        Some(marker) if RouteCache::is_of_part(marker.key()) => (Some(marker), None),
        marker => (None, marker),
    };
    let looked = look(store, with.cache, key, &fields, of_whole);
    let facts = httpcache::Request::read(request.method.as_str().as_bytes(), target, fields.clone());
    match judge(with, &facts, looked, waits) {
        Decided::Ask(ask) if ask.known.is_none() && part::is_asked(&facts, fields.clone()) => {
            part::decide((store, with), (key, primary), (&facts, &fields), (waits, of_part), ask)
        }
        decided => decided,
    }
}

/// Decides about a request by what there is for it.
fn judge(with: With<'_>, facts: &httpcache::Request<'_>, looked: Looked, waits: Option<Waits>) -> Decided {
    let now = now();
    let Looked { mut response, coming, kinds } = looked;
    // What was fetched since the request began is good enough for it, however short its life.
    if let (Some((source, stored)), Some(waits)) = (&response, waits)
        && source.fetched() >= waits.since
        && let Some(serve) = httpcache::answer(facts, stored, source.block(), now)
        && let Some((source, stored)) = response.take()
    {
        return Decided::Serve(Hit { waited: Some(waits.forward), ..Hit::new(source, stored, serve) });
    }
    let found = match &response {
        Some((source, stored)) => Found::Response(stored, source.block()),
        None if kinds.is_some() => Found::OtherVariants,
        None => Found::Nothing,
    };
    let mut is_only_stored = false;
    let (forward, validates) = match httpcache::lookup(&with.cache.params.policy, facts, found, now) {
        Lookup::Serve(serve) => match response {
            Some((source, stored)) => {
                return Decided::Serve(Hit { kinds, ..Hit::new(source, stored, serve) });
            }
            None => return Decided::Pass(httpcache::Forward::UriMiss),
        },
        Lookup::ServeStale(serve, _) => match response {
            Some((source, stored)) => {
                return Decided::Serve(Hit { is_stale: true, kinds, ..Hit::new(source, stored, serve) });
            }
            None => return Decided::Pass(httpcache::Forward::UriMiss),
        },
        Lookup::OnlyIfCached if coming.is_none() => return Decided::OnlyIfCached,
        // It may be on disk.
        Lookup::OnlyIfCached => {
            is_only_stored = true;
            (httpcache::Forward::UriMiss, false)
        }
        Lookup::Revalidate(forward, _) => (forward, true),
        Lookup::Fetch(forward) => (forward, false),
        // The whole is fetched anew in place of what a part lacks.
        Lookup::Complete(..) => (httpcache::Forward::Partial, false),
    };
    let is_excluded = matches!(forward, httpcache::Forward::Bypass | httpcache::Forward::Method);
    if is_excluded || facts.method == httpcache::Method::Head && coming.is_none() {
        return Decided::Pass(forward);
    }
    let (known, is_part) = (response, false);
    Decided::Ask(Ask { forward, known, validates, is_part, is_only_stored, coming, kinds, instead: None })
}

/// Finds what there is for a key in memory, or what is on its way. Behind it comes what tells its variant apart, if it has
/// variants. `marker` says how responses vary, where that is known.
fn look<'a>(
    store: &Store,
    cache: &RouteCache,
    key: &mut Vec<u8>,
    fields: &impl httpcache::Fields<'a>,
    marker: Option<Source>,
) -> Looked {
    let primary = key.len();
    let source = match marker {
        Some(marker) => marker,
        None => match store.lookup(store.key(key)) {
            store::Lookup::Hit(hit) => Source::Memory(hit),
            store::Lookup::Coming(coming) => return Looked { coming: Some(coming), ..Looked::default() },
            store::Lookup::Miss => return Looked::default(),
        },
    };
    if let Some(stored) = source.stored() {
        return Looked { response: Some((source, stored)), ..Looked::default() };
    }
    let Some(kinds) = Ways::of(source.meta()) else { return Looked::default() };
    let (mut response, mut coming): (Option<(Source, Stored)>, _) = (None, None);
    // The newest way of varying comes last, so that its key is left.
    for vary in kinds.iter().rev() {
        key.truncate(primary);
        cache.write_variant(key, &vary, fields.clone());
        let source = match store.lookup(store.key(key)) {
            store::Lookup::Hit(hit) => Source::Memory(hit),
            store::Lookup::Coming(follower) => {
                coming = Some((key.clone(), follower));
                continue;
            }
            store::Lookup::Miss => continue,
        };
        let Some(stored) = source.stored() else { continue };
        // Of equals the newest way.
        if response.as_ref().is_none_or(|(_, best)| Stored::latest([&stored, best]) == Some(0)) {
            response = Some((source, stored));
        }
    }
    // What is here need not be waited for.
    let coming = coming.filter(|_| response.is_none()).map(|(at, follower)| {
        *key = at;
        follower
    });
    Looked { response, coming, kinds: Some(kinds) }
}

/// What is in memory under a key. What is being fetched, or read from disk, has to be waited for.
fn find(store: &Store, key: &[u8]) -> Option<Source> {
    store.in_memory(store.key(key)).map(Source::Memory)
}

/// Serves what is stored, and has it fetched again if it is stale.
async fn serve_hit(
    parts: &mut Parts<'_, '_>,
    local: &Rc<Local>,
    call: &Call<'_>,
    with: With<'_>,
    (key, hit): (&[u8], Hit),
) -> Outcome {
    let Hit { mut source, stored, serve, is_stale, waited, from_disk, kinds } = hit;
    if is_stale {
        fetch::refresh(parts, local, call, with, (key, &source, (&stored, kinds)));
    }
    let result = match waited {
        Some(_) => CacheResult::Collapsed,
        None if is_stale || serve.ttl_secs < 0 => CacheResult::Stale,
        None => CacheResult::Hit,
    };
    let (ttl_secs, collapsed) = (Some(serve.ttl_secs), waited.is_some());
    let detail = from_disk.then_some("disk");
    let status = CacheStatus { ttl_secs, forward: waited, collapsed, detail, ..CacheStatus::default() };
    let answer = reply::Answer { stored: &stored, serve: &serve, status, result, fresh: None };
    reply::serve(parts, call, with, (&answer, &mut source)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_cache<'a, 'p: 'a, 's: 'p, 'c: 'a, F>(
        _: impl FnOnce(&'a mut Parts<'p, 's>, &'a Rc<Local>, &'a mut Call<'c>, With<'c>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    fn of_fallback<'a, 'p: 'a, 's: 'p, 'c: 'a, F>(
        _: impl FnOnce(Parts<'p, 's>, &'c Local, &'a mut Call<'c>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn other_exchanges_are_not_larger_for_it() {
        let (cache, other) = (of_cache(run), of_fallback(fallback::run));
        assert!(cache <= other, "{cache} bytes for what the cache answers, {other} for what a service answers");
    }
}
