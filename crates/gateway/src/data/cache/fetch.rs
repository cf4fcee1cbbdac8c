//! Fetching what is to be stored: a task of its own, with a copy of the request that it is for.
//!
//! The copy asks for the whole, or for the part that the client wants if nothing is stored; conditions of the gateway's own take the place
//! of the client's where something is stored. It goes the way of every request: balanced, retried, counted.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http1::{Method, Request, Version};
use httpcache::Stored;
use store::{Begin, Fetch, Lead, Mark, Past};
use tokio::sync::mpsc;

use super::facts::{self, Came};
use super::fill::{Mode, SETTLE_BYTES, Why};
use super::handed::Handed;
use super::source::{About, Source, block_of};
use super::{Fill, Watch, With};
use crate::cache::{Tiers, Ways};
use crate::data::account::Account;
use crate::data::body::RequestBody;
use crate::data::connection::{Link, Peer};
use crate::data::core::{ConnectionState, Core};
use crate::data::ends::{ClientSink, ClientSource};
use crate::data::exchange::{self, Call, Terms};
use crate::data::fallback;
use crate::data::forward::{Outcome, Parts};
use crate::data::local::Local;
use crate::data::scratch::Scratch;
use crate::forwarded::Origin;
use crate::identity::RequestId;
use crate::limits::{Held, Places};
use telemetry::trace::RequestTrace;

/// Fetches under way on a core that no client waits for, or waits for any more, at most.
const REFRESHES_MAX: usize = 128;

/// What a fetch tells of itself, for the account of the request that it is for.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) tries: Cell<u32>,
    pub(super) upstream: Cell<Option<std::net::SocketAddr>>,
    pub(super) service: Cell<Option<usize>>,
    /// What it goes on as, once it is known to be a variant.
    pub(super) next: OnceCell<Fetch>,
}

impl Told {
    fn hear(&self, account: &Account) {
        self.tries.set(account.tries);
        self.upstream.set(account.upstream);
        self.service.set(account.service);
    }
}

/// What a fetch is for.
pub(super) struct For {
    pub(super) tiers: Arc<Tiers>,
    pub(super) lead: Lead,
    /// What is stored and does not do, and whether the question is about it.
    pub(super) known: Option<About>,
    pub(super) validates: bool,
    /// Whether the part is wanted that the request is for.
    pub(super) is_part: bool,
    /// Who takes what is not stored.
    pub(super) to_client: Option<mpsc::Sender<Handed>>,
    /// Who takes what comes before the final answer.
    pub(super) interim: Option<mpsc::Sender<Vec<u8>>>,
    pub(super) told: Rc<Told>,
    /// How responses of the key vary, as far as is known.
    pub(super) kinds: Option<Ways>,
    /// Its place, if no client waits for it.
    pub(super) under_way: Option<UnderWay>,
}

/// A copy of a request.
struct Copy {
    local: Rc<Local>,
    route: usize,
    service: usize,
    /// The head as it came.
    head: Vec<u8>,
    peer: Peer,
    origin: Origin,
    came: Came,
    id: RequestId,
    /// The target that the service is asked for, if it is another.
    target: Option<Vec<u8>>,
    granted: Vec<u8>,
    /// The endpoint that the client's cookie names.
    sticky: Option<u64>,
    /// Places under limits, which the request gives back when it ends, and the fetch with it.
    held: Option<Rc<Vec<Held>>>,
    trace: (Option<RequestTrace>, u128),
    primary: Box<[u8]>,
    waited: Box<[u8]>,
    marks: [Mark; 2],
}

/// Begins to fetch what a request is for.
pub(super) fn begin(
    parts: &Parts<'_, '_>,
    local: &Rc<Local>,
    call: &Call<'_>,
    with: With<'_>,
    (key, of): (&[u8], For),
) {
    let Parts { link, scratch, account, .. } = parts;
    let head = &link.buffer.filled()[..call.head_len];
    let request = &scratch.request;
    let came = Came::of(link, call);
    let granted = call.terms.granted.map(|names| (names, scratch.granted.as_slice()));
    let mut primary = Vec::with_capacity(key.len());
    let mut room = Vec::new();
    let target = facts::target(request, head, came, &mut room);
    let (service, fields) = (call.service.view.state.name.as_str(), facts::fields(request, head, came, granted));
    facts::write_key((with.cache, service), &mut primary, (request, head, came), target, fields);
    let copy = Copy {
        local: Rc::clone(local),
        route: with.position,
        service: with.service,
        head: head.to_vec(),
        peer: link.peer,
        origin: call.origin,
        came,
        id: scratch.id,
        target: target_of(call, scratch, head),
        granted: call.terms.granted.map(|_| scratch.granted.clone()).unwrap_or_default(),
        sticky: call.sticky,
        // Behind a client's back it is the gateway's own.
        held: call.held.filter(|_| of.to_client.is_some()).and_then(Places::share),
        trace: (account.trace, call.trace),
        primary: primary.into(),
        waited: key.into(),
        marks: with.cache.marks_of(target),
    };
    let state = ConnectionState::new(link.core.deadlines.register(), &link.state.listener, false);
    tokio::task::spawn_local(run(Rc::clone(link.core), state, copy, of));
}

/// What the service is asked for, if it is another target than the request's: what the route makes of it, in the form that
/// keys have.
pub(super) fn target_of(call: &Call<'_>, scratch: &Scratch, head: &[u8]) -> Option<Vec<u8>> {
    if call.rewritten {
        return Some(facts::normal_target(&scratch.target).unwrap_or_else(|| scratch.target.clone()));
    }
    facts::normal_target(scratch.request.target.as_origin_form(head, &scratch.request.method))
}

/// Has a stale response fetched again, unless that is under way or too much is.
pub(super) fn refresh(
    parts: &Parts<'_, '_>,
    local: &Rc<Local>,
    call: &Call<'_>,
    with: With<'_>,
    (key, source, (stored, kinds)): (&[u8], &Source, (&Stored, Option<Ways>)),
) {
    let core = parts.link.core;
    let Some(under_way) = UnderWay::begin(core) else { return };
    let tiers = core.shared.cache.keep();
    let store = &tiers.store;
    let known = source.kept();
    let past = Past { known: Some(&known), reads: false };
    let Begin::Lead(lead) = store.begin_past(store.key(key), &marks(parts, call, with), past) else { return };
    let is_newer = |found: Source| found.fetched() > source.fetched();
    if super::find(store, key).is_some_and(is_newer) || source.has_newer_on_disk(store) {
        // Another core has fetched it between the look and the wish.
        return;
    }
    let is_part = super::part::is_one(stored);
    let validates = !is_part && !stored.validators(source.block()).is_empty();
    let known = Some(source.about(*stored));
    let (told, under_way) = (Rc::default(), Some(under_way));
    let of = For { tiers, lead, known, validates, is_part, to_client: None, interim: None, told, kinds, under_way };
    begin(parts, local, call, with, (key, of));
}

/// What a fetch can be purged by before anything has come of it.
pub(super) fn marks(parts: &Parts<'_, '_>, call: &Call<'_>, with: With<'_>) -> [Mark; 2] {
    let Parts { link, scratch, .. } = parts;
    let head = &link.buffer.filled()[..call.head_len];
    let mut room = Vec::new();
    with.cache.marks_of(facts::target(&scratch.request, head, Came::of(link, call), &mut room))
}

/// A fetch that no client waits for counts among those under way.
pub(super) struct UnderWay(Rc<Core>);

impl UnderWay {
    /// A place, unless there are too many.
    pub(super) fn begin(core: &Rc<Core>) -> Option<Self> {
        if core.refreshes.get() >= REFRESHES_MAX {
            return None;
        }
        core.refreshes.set(core.refreshes.get() + 1);
        Some(Self(Rc::clone(core)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.refreshes.set(self.0.refreshes.get() - 1);
    }
}

/// The lines in place of the client's conditions: the gateway's own about what is known, or the client's wish for a part.
fn conditions(about: Option<&About>, wish: Option<(&Request, &[u8])>) -> Vec<u8> {
    let mut lines = Vec::new();
    if let Some((request, head)) = wish {
        super::part::write_wish(&mut lines, request, head);
    }
    if let Some(about) = about {
        about.stored.validators(block_of(&about.meta)).write(&mut lines);
    }
    lines
}

async fn run(core: Rc<Core>, state: ConnectionState, copy: Copy, of: For) {
    let core = &core;
    let Some(listener) = copy.local.listener(&state.listener) else { return };
    let Some(route) = listener.router.routes().get(copy.route) else { return };
    let Some(cache) = &route.cache else { return };
    let mut scratch = core.take_scratch();
    let head_len = copy.head.len();
    // The same head was read before, with the same limits.
    if scratch.request.parse(&copy.head, &listener.limits).is_err() {
        return;
    }
    scratch.request.method = Method::Get;
    // An answer for HTTP/1.0 is one without framing, and without interim ones before it.
    scratch.request.version = Version::Http10;
    scratch.request.expect = http1::Expect::Nothing;
    (scratch.id, scratch.granted) = (copy.id, copy.granted);
    scratch.added.clear();
    let rewritten = copy.target.is_some();
    if let Some(target) = copy.target {
        scratch.target = target;
    }
    let about = of.known.as_ref().filter(|_| of.validates);
    let conditions = conditions(about, of.is_part.then_some((&scratch.request, &copy.head)));
    let fill = Fill {
        tiers: of.tiers,
        core: Rc::clone(core),
        cache: Arc::clone(cache),
        service: Arc::clone(&copy.local.service(copy.service).view.state),
        primary: copy.primary,
        waited: copy.waited,
        came: copy.came,
        known: of.known,
        is_part: of.is_part,
        requested: super::now(),
        mode: RefCell::new(Mode::Waiting(of.lead)),
        to_client: of.to_client,
        interim: of.interim,
        kinds: of.kinds,
        told: Rc::clone(&of.told),
        settled: Cell::new(Some(SETTLE_BYTES)),
        marks: copy.marks,
        endpoint: Cell::new(None),
        under_way: RefCell::new(of.under_way),
    };
    let mut buffer = core.heads.take();
    buffer.extend(&copy.head);
    let (source, sink, deadline) = (ClientSource::Whole, ClientSink::Fill(&fill), &state.deadline);
    let mut link = Link { core, state: &state, source, sink, deadline, buffer, peer: copy.peer, fresh: false };
    let mut body = RequestBody::new(&scratch.request, head_len, None, false);
    let mut account = Account::new(Instant::now());
    account.trace = copy.trace.0;
    account.service = Some(copy.service);
    let service = copy.local.service(copy.service);
    let key = exchange::hash_key(service, &scratch.request, &copy.head, copy.origin);
    let (origin, trace) = (copy.origin, copy.trace.1);
    let terms = Terms { watch: Some(Watch::Fill(&fill)), conditions: Some(&conditions), ..Terms::of(route) };
    // Given back at the end.
    let (sticky, _held, held) = (copy.sticky, copy.held, None);
    let mut call = Call { listener, service, origin, head_len, rewritten, key, sticky, trace, keep: 0, held, terms };
    let parts = Parts { link: &mut link, scratch: &mut scratch, body: &mut body, account: &mut account };
    let outcome = fallback::run(parts, &copy.local, &mut call).await;
    of.told.hear(&account);
    fill.unanswered(match &outcome {
        Outcome::Own(code, _) => Why::Unanswered(*code),
        // A breaker that is open, and a fallback, answer each request at once.
        _ => Why::Failure,
    });
    drop(link);
    core.keep_scratch(scratch);
}
