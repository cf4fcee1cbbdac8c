//! What becomes of an endpoint's answer to a fetch: it is stored, or handed to the client alone whose request it was, or it
//! says that what is stored is good.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http1::{Framing, Request, Response};
use httpcache::{Freshened, Lines, Storable, UnixTime, Vary};
use store::{Begin, Lead, Mark, Writer};
use tokio::sync::mpsc;
use vocab::ErrorCode;

use super::facts::Came;
use super::fetch::{Told, UnderWay};
use super::handed::{Handed, Head};
use super::source::{About, block_of};
use super::{facts, part};
use crate::action::Names;
use crate::cache::{Held, RouteCache, Tiers, Ways, passed_on};
use crate::data::core::Core;
use crate::state::ServiceState;

/// After so many bytes it is awaited that the disk has taken them: a disk that is slower than the origin slows it, rather
/// than not getting what is too much at once. Less than a tenth of what may wait to be written.
pub(super) const SETTLE_BYTES: u64 = 1 << 20;

/// How long a disk may take for that, before its fetch goes on without it.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// For how long requests for a key do not wait for each other after a failure of its origin.
const AFTER_FAILURE_MILLIS: u64 = 1_000;

/// A fetch, as the conversation with the endpoint sees it.
pub(crate) struct Fill {
    pub(super) core: Rc<Core>,
    pub(super) tiers: Arc<Tiers>,
    pub(super) cache: Arc<RouteCache>,
    /// The service whose answers are stored.
    pub(super) service: Arc<ServiceState>,
    /// The key without what tells variants apart, and the key that others wait under.
    pub(super) primary: Box<[u8]>,
    pub(super) waited: Box<[u8]>,
    /// How the request for it came.
    pub(super) came: Came,
    /// What the question is about.
    pub(super) known: Option<About>,
    /// Whether a part was asked for.
    pub(super) is_part: bool,
    /// When the question was asked.
    pub(super) requested: UnixTime,
    pub(super) mode: RefCell<Mode>,
    /// Who takes what is not stored.
    pub(super) to_client: Option<mpsc::Sender<Handed>>,
    /// The client whose request it is takes what comes before the final answer, if it can.
    pub(super) interim: Option<mpsc::Sender<Vec<u8>>>,
    /// How responses of the key vary, as far as was known when it began.
    pub(super) kinds: Option<Ways>,
    /// What the request hears for which it was begun.
    pub(super) told: Rc<Told>,
    /// After how many bytes the disk is waited for next, if it still is.
    pub(super) settled: Cell<Option<u64>>,
    /// What everything can be purged by that comes of it.
    pub(super) marks: [Mark; 2],
    /// Id of the service's endpoint that has answered.
    pub(super) endpoint: Cell<Option<u64>>,
    /// Its place among those that no client waits for, once there is none.
    pub(super) under_way: RefCell<Option<UnderWay>>,
}

/// What is done with the answer.
pub(super) enum Mode {
    /// It is awaited.
    Waiting(Lead),
    /// It is stored.
    Storing(Writer),
    /// It is handed on.
    Handing,
    /// It has no body that anybody wants.
    Silent,
    /// Nobody wants it.
    Unwanted,
}

/// Why a fetch has nothing for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// What came is for one alone.
    NotStored,
    /// What came is for one alone, as that one has asked. It says nothing of what others get.
    OfRequest,
    /// The origin's answer was a failure of its own.
    Failure,
    /// There was no answer.
    Unanswered(ErrorCode),
}

impl Why {
    /// The number by which others are told.
    pub(super) fn note(self) -> u32 {
        match self {
            Self::NotStored => 0,
            Self::Failure => 1,
            Self::OfRequest => 2,
            Self::Unanswered(code) => {
                let at = ErrorCode::ALL.iter().position(|known| *known == code).unwrap_or_default();
                3 + u32::try_from(at).unwrap_or_default()
            }
        }
    }

    /// What a number tells.
    pub(super) fn of_note(note: u32) -> Self {
        match note {
            0 => Self::NotStored,
            1 => Self::Failure,
            2 => Self::OfRequest,
            at => ErrorCode::ALL.get(at as usize - 3).map_or(Self::Failure, |code| Self::Unanswered(*code)),
        }
    }
}

/// Nobody takes the body any more.
#[derive(Debug)]
pub(crate) struct Unwanted;

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("key", &self.waited.escape_ascii().to_string()).finish_non_exhaustive()
    }
}

impl Fill {
    /// Takes in the head of the final answer.
    pub(crate) fn see(
        &self,
        (request, asked): (&Request, &[u8]),
        granted: Option<(&Names, &[u8])>,
        (response, head): (&Response, &[u8]),
        (from, endpoint): (&Arc<ServiceState>, u64),
    ) {
        let is_own = Arc::ptr_eq(from, &self.service);
        self.endpoint.set(is_own.then_some(endpoint));
        let Mode::Waiting(lead) = self.mode.replace(Mode::Silent) else { return };
        let mut room = Vec::new();
        let target = facts::target(request, asked, self.came, &mut room);
        let fields = facts::fields(request, asked, self.came, granted);
        let facts = httpcache::Request::read(b"GET", target, fields.clone());
        let came = passed_on(facts::of_head(&response.fields, head));
        let (requested, received) = (self.requested, super::now());
        let answer = httpcache::Answer { status: response.status, fields: came, requested, received };
        let policy = &self.cache.params.policy;
        let marks = || self.cache.marks(target, facts::of_head(&response.fields, head));
        // The key is that of another service, which is asked again next time.
        if !is_own {
            return match response.status {
                // It was not asked by a client, but whether something is good that it never gave.
                304 => self.decline(lead, Why::NotStored),
                _ => self.hand(Some(lead), (Why::NotStored, "fallback"), (response, head), received),
            };
        }
        if let Some(about) = self.known.as_ref().filter(|_| response.status == 304) {
            let freshened = httpcache::freshen(policy, &facts, (&about.stored, block_of(&about.meta)), &answer);
            return self.freshened(lead, about, &freshened, &marks());
        }
        let known = self.known.as_ref().map(|about| (&about.stored, block_of(&about.meta)));
        let is_failure = httpcache::is_failure(response.status);
        let serves = |known| httpcache::answer_failure(policy, &facts, known, received).is_some();
        let (why, detail) = match httpcache::store(policy, &facts, &answer) {
            // What is stored is better than that, whether or not it could be stored for a while.
            Ok(_) if is_failure && known.is_some_and(serves) => (Why::Failure, "stale-if-error"),
            Ok(new) if !part::may_be_stored(self.is_part, &facts, (response.status, &new), received) => {
                (Why::NotStored, "part")
            }
            Ok(new) if facts::varies_by_own(&new.vary) => (Why::NotStored, "vary-own"),
            Ok(storable) if !self.is_too_large(response.framing) => {
                let mut key = self.primary.to_vec();
                if part::is_one(&storable.stored) {
                    RouteCache::write_part(&mut key);
                }
                let begun = self.note_kinds(lead, &mut key, &storable, fields);
                let begun = begun.and_then(|lead| begin(lead, &key, &storable, marks(), response.framing));
                match begun {
                    Ok(writer) => return drop(self.mode.replace(Mode::Storing(writer))),
                    Err(detail) => return self.hand(None, (Why::NotStored, detail), (response, head), received),
                }
            }
            Err(why) if is_failure => (Why::Failure, why.as_str()),
            Err(why) if why.is_about_request() => (Why::OfRequest, why.as_str()),
            Err(why) => (Why::NotStored, why.as_str()),
            Ok(_) => (Why::NotStored, "too-large"),
        };
        if why == Why::NotStored {
            self.forget_known();
        }
        self.hand(Some(lead), (why, detail), (response, head), received);
    }

    /// Whether anybody wants what comes before the final answer.
    pub(crate) fn takes_interim(&self) -> bool {
        self.interim.is_some()
    }

    /// Takes an interim head, which is for the client alone whose request it is.
    pub(crate) fn interim(&self, head: &[u8]) {
        if let Some(client) = &self.interim {
            // They are hints, and a client that has not taken those before misses nothing.
            let _full_or_gone = client.try_send(head.to_vec());
        }
    }

    /// Forgets what is being fetched again behind its clients' backs, and may not be stored any more: it would be served
    /// stale for as long as it may be.
    fn forget_known(&self) {
        if let Some(about) = self.known.as_ref().filter(|_| self.to_client.is_none()) {
            self.tiers.store.remove(self.tiers.store.key(&about.key));
        }
    }

    fn is_too_large(&self, framing: Framing) -> bool {
        matches!(framing, Framing::Length(length) if length > self.cache.params.object_bytes_max)
    }

    /// Puts what was stored into its own place, with what the origin says of it now. Those who wait find it there.
    fn freshened(&self, lead: Lead, about: &About, new: &Freshened, marks: &[Mark]) {
        let meta = Held::response(super::now(), &new.stored, &new.fields);
        if let Some(client) = &self.to_client {
            // There is room: nothing was sent before. A client that has gone needs nothing.
            let _gone = client.try_send(Handed::Good(meta.clone()));
        }
        let vary = Vary::read(Lines::new(block_of(&about.meta))).unwrap_or_default();
        match new.keep {
            // It stands where its way of varying had it, and nobody would look for it there.
            Ok(()) if new.vary != vary => self.tiers.store.remove(self.tiers.store.key(&about.key)),
            // It says nothing of what others get.
            Err(why) if why.is_about_request() => {}
            Ok(()) => {
                // A 304 need not repeat the tags.
                let mut all = about.marks.to_vec();
                all.extend(marks.iter().filter(|mark| !about.marks.contains(mark)));
                // Those who wait have it now, and who comes before a disk has written it as well.
                lead.refresh(&about.kept, store::Head { meta, marks: all, body_bytes: None });
            }
            Err(_) => self.tiers.store.remove(self.tiers.store.key(&about.key)),
        }
    }

    /// Remembers how responses of the key vary, and makes `key` that of this one, which is what is fetched from then on.
    fn note_kinds<'a>(
        &self,
        lead: Lead,
        key: &mut Vec<u8>,
        storable: &Storable,
        fields: impl httpcache::Fields<'a>,
    ) -> Result<Lead, &'static str> {
        let store = &self.tiers.store;
        let known = super::find(store, key);
        let kinds = known.as_ref().and_then(|known| Ways::of(known.meta()));
        // What is on disk alone was read when this began.
        let kinds = kinds.or_else(|| self.kinds.clone().filter(|_| known.is_none()));
        if kinds.is_none() && storable.vary.is_empty() {
            return Ok(lead);
        }
        let mut kinds = kinds.map(|kinds| kinds.to_kinds()).unwrap_or_default();
        let is_new = kinds.add(&storable.vary);
        let head = store::Head { meta: Held::kinds(&kinds), marks: self.marks.to_vec(), body_bytes: Some(0) };
        if !is_new {
            self.cache.write_variant(key, &storable.vary, fields);
            return Ok(lead);
        }
        if *self.waited != **key {
            if let Err(error) = store.put(store.key(key), lead.token(), head, &[]) {
                tracing::debug!(%error, "how responses vary is not stored");
            }
            self.cache.write_variant(key, &storable.vary, fields);
            return Ok(lead);
        }
        // Who waits for the key is told how responses vary, and looks for the variant, which is being fetched then.
        self.cache.write_variant(key, &storable.vary, fields);
        let next = match store.begin(store.key(key), &self.marks) {
            Begin::Lead(next) => Ok(next),
            Begin::Follow(_) => Err("fetched-twice"),
        };
        if let Ok(next) = &next {
            let _there_is_one_for_each_fetch = self.told.next.set(next.fetch());
        }
        if !lead.start(head).is_ok_and(is_finished) {
            return Err("no-room");
        }
        next
    }

    /// Hands the answer on to the client whose request it was, and has the others go their own way.
    fn hand(
        &self,
        lead: Option<Lead>,
        (why, detail): (Why, &'static str),
        (response, head): (&Response, &[u8]),
        received: UnixTime,
    ) {
        let uncollapsed_for = self.cache.params.uncollapsed_for.as_millis() as u64;
        let apart = match why {
            Why::NotStored => Some(uncollapsed_for),
            Why::OfRequest => {
                // Others who ask as this one does need not wait for each other; all others do.
                let until = UnixTime::from_millis(received.millis() + uncollapsed_for);
                self.core.shared.apart.note(&alone(&self.waited), until);
                None
            }
            // What is stored is served instead, to all who wait.
            Why::Failure | Why::Unanswered(_) if self.known.is_some() => None,
            Why::Failure | Why::Unanswered(_) => Some(AFTER_FAILURE_MILLIS),
        };
        if let Some(apart) = apart {
            self.core.shared.apart.note(&self.waited, UnixTime::from_millis(received.millis() + apart));
        }
        let handed = self.to_client.as_ref().map(|client| {
            // There is room: nothing was sent before.
            client.try_send(Handed::Head(Box::new(Head::new((response, head), (why, detail), self.endpoint.get()))))
        });
        if let Some(lead) = lead {
            lead.decline(why.note());
        }
        self.mode.replace(if matches!(handed, Some(Ok(()))) { Mode::Handing } else { Mode::Unwanted });
    }

    /// Has nothing for anybody.
    fn decline(&self, lead: Lead, why: Why) {
        if let Some(client) = &self.to_client {
            let _gone = client.try_send(Handed::Nothing(why));
        }
        lead.decline(why.note());
    }

    /// Takes a piece of the body.
    ///
    /// # Errors
    /// When nobody wants it.
    pub(crate) async fn push(&self, data: &[u8]) -> Result<(), Unwanted> {
        // Whoever drops this half-way wants none of it any more, and neither do those who read along.
        match self.mode.replace(Mode::Silent) {
            Mode::Storing(mut writer) => {
                // Readers who are slow are waited for where nothing keeps what they have not read.
                writer.write(data).await;
                let bytes = writer.body_bytes();
                if bytes > self.cache.params.object_bytes_max {
                    writer.forgo();
                    self.settled.set(None);
                }
                if !self.is_wanted(&writer) {
                    return Err(Unwanted);
                }
                self.settle(bytes).await;
                self.mode.replace(Mode::Storing(writer));
                Ok(())
            }
            Mode::Handing => {
                self.mode.replace(Mode::Handing);
                let client = self.to_client.as_ref().ok_or(Unwanted)?;
                // A client that is slow is waited for, and one that has gone is gone for the endpoint as well.
                client.send(Handed::Data(Bytes::copy_from_slice(data))).await.map_err(|_| Unwanted)
            }
            Mode::Silent => Ok(()),
            mode @ (Mode::Waiting(_) | Mode::Unwanted) => {
                self.mode.replace(mode);
                Err(Unwanted)
            }
        }
    }

    /// Whether somebody reads what comes, or will. For whoever comes later a few are fetched on, after their clients have gone.
    fn is_wanted(&self, writer: &Writer) -> bool {
        let has_client = self.to_client.as_ref().is_some_and(|client| !client.is_closed());
        if has_client || writer.has_readers() {
            return true;
        }
        let mut under_way = self.under_way.borrow_mut();
        if writer.is_stored() && under_way.is_none() {
            *under_way = UnderWay::begin(&self.core);
        }
        writer.is_stored() && under_way.is_some()
    }

    /// Has the disk keep up with what comes.
    async fn settle(&self, bytes: u64) {
        let is_due = self.tiers.disk.is_some() && self.settled.get().is_some_and(|at| bytes >= at);
        if is_due {
            let kept_up = tokio::time::timeout(SETTLE_MAX, self.tiers.store.flush()).await.is_ok();
            self.settled.set(kept_up.then_some(bytes + SETTLE_BYTES));
        }
    }

    /// Ends the body well.
    pub(crate) async fn finish(&self, trailers: &[u8]) {
        match self.mode.replace(Mode::Silent) {
            Mode::Storing(writer) => {
                if let Err(error) = writer.finish() {
                    tracing::debug!(%error, "a response is not stored");
                }
            }
            Mode::Handing => {
                if let Some(client) = &self.to_client {
                    let _gone = client.send(Handed::End(trailers.to_vec())).await;
                }
            }
            Mode::Waiting(_) | Mode::Silent | Mode::Unwanted => {}
        }
    }

    /// Tells all who wait that there was no answer, unless there was one.
    pub(super) fn unanswered(&self, why: Why) {
        if let Mode::Waiting(lead) = self.mode.replace(Mode::Silent) {
            self.decline(lead, why);
        }
    }
}

/// The name under which it is noted that requests for a key go apart that want their answers for themselves.
pub(super) fn alone(key: &[u8]) -> Vec<u8> {
    [key, b"alone"].concat()
}

/// Ends a body that has none.
fn is_finished(writer: Writer) -> bool {
    writer.finish().is_ok()
}

/// Begins to store a response; or why not, as a token.
fn begin(lead: Lead, key: &[u8], new: &Storable, marks: Vec<Mark>, framing: Framing) -> Result<Writer, &'static str> {
    let body_bytes = match (framing, new.stored.body()) {
        // What is said of its place has to be true.
        (_, httpcache::Body::Part(part)) => Some(part.range.len()),
        (Framing::Length(length), _) => Some(length),
        (Framing::Empty, _) => Some(0),
        // Its place says how much it is, where the framing does not.
        (_, httpcache::Body::Whole(length)) => Some(length),
        (Framing::Chunked | Framing::UntilClose, httpcache::Body::Unmeasured) => None,
    };
    let meta = Held::response(super::now(), &new.stored, &new.fields);
    lead.start_as(key, store::Head { meta, marks, body_bytes }).map_err(|error| {
        tracing::debug!(%error, "a response is not stored");
        "no-room"
    })
}
