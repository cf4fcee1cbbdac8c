//! What becomes of an endpoint's answer to a fetch: it is stored, or handed to the client alone whose request it was, or it
//! says that what is stored is good.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http1::{Framing, Request, Response};
use httpcache::{Freshened, Storable, UnixTime};
use store::{Begin, Lead, Mark, Store, Writer};
use tokio::sync::mpsc;
use vocab::ErrorCode;

use super::handed::{Handed, Head};
use super::pace::Pace;
use super::source::{About, block_of};
use super::{facts, part};
use crate::action::Names;
use crate::cache::{Held, RouteCache, passed_on};
use crate::state::ServiceState;

/// A body with a length up to this is stored as fast as it comes. What is longer, or nobody knows how long, may not stay in
/// memory, so that it comes no faster than the client reads whose request it was.
const FREE_BYTES: u64 = 448 * 1024;

/// For how long requests for a key do not wait for each other after a failure of its origin.
const AFTER_FAILURE_MILLIS: u64 = 1_000;

/// A fetch, as the conversation with the endpoint sees it.
pub(crate) struct Fill {
    pub(super) store: Store,
    pub(super) cache: Arc<RouteCache>,
    /// The service whose answers are stored.
    pub(super) service: Arc<ServiceState>,
    /// The key without what tells variants apart, and the key that others wait under.
    pub(super) primary: Box<[u8]>,
    pub(super) waited: Box<[u8]>,
    pub(super) https: bool,
    /// What the question is about.
    pub(super) known: Option<About>,
    /// Whether a part was asked for.
    pub(super) is_part: bool,
    /// When the question was asked.
    pub(super) requested: UnixTime,
    pub(super) mode: RefCell<Mode>,
    /// Who takes what is not stored.
    pub(super) to_client: Option<mpsc::Sender<Handed>>,
    /// How far the client has read whose request it was, and whether that matters.
    pub(super) pace: Rc<Pace>,
    pub(super) is_paced: Cell<bool>,
    /// What everything can be purged by that comes of it.
    pub(super) marks: [Mark; 2],
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
            Self::Unanswered(code) => {
                let at = ErrorCode::ALL.iter().position(|known| *known == code).unwrap_or_default();
                2 + u32::try_from(at).unwrap_or_default()
            }
        }
    }

    /// What a number tells.
    pub(super) fn of_note(note: u32) -> Self {
        match note {
            0 => Self::NotStored,
            1 => Self::Failure,
            at => ErrorCode::ALL.get(at as usize - 2).map_or(Self::Failure, |code| Self::Unanswered(*code)),
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
        from: &Arc<ServiceState>,
    ) {
        let Mode::Waiting(lead) = self.mode.replace(Mode::Silent) else { return };
        let mut room = Vec::new();
        let target = facts::target(request, asked, self.https, &mut room);
        let fields = facts::fields(request, asked, granted);
        let facts = httpcache::Request::read(b"GET", target, fields.clone());
        let came = passed_on(facts::of_head(&response.fields, head));
        let (requested, received) = (self.requested, super::now());
        let answer = httpcache::Answer { status: response.status, fields: came, requested, received };
        let policy = &self.cache.params.policy;
        let marks = || self.cache.marks(target, facts::of_head(&response.fields, head));
        if let Some(about) = self.known.as_ref().filter(|_| response.status == 304) {
            let freshened = httpcache::freshen(policy, &facts, (&about.stored, block_of(&about.meta)), &answer);
            return self.freshened(lead, about, &freshened, &marks());
        }
        // The key is that of another service, which is asked again next time.
        if !Arc::ptr_eq(from, &self.service) {
            return self.hand(Some(lead), (Why::NotStored, "fallback"), (response, head), received);
        }
        let (why, detail) = match httpcache::store(policy, &facts, &answer) {
            Ok(new) if !part::may_be_stored(self.is_part, &facts, (response.status, &new), received) => {
                (Why::NotStored, "part")
            }
            Ok(storable) if !self.is_too_large(response.framing) => {
                let mut key = self.primary.to_vec();
                if part::is_one(&storable.stored) {
                    RouteCache::write_part(&mut key);
                }
                let begun = self.note_kinds(lead, &mut key, &storable, fields);
                self.is_paced.set(!matches!(response.framing, Framing::Length(length) if length <= FREE_BYTES));
                let begun = begun.and_then(|lead| begin(lead, &key, &storable, marks(), response.framing));
                match begun {
                    Ok(writer) => return drop(self.mode.replace(Mode::Storing(writer))),
                    Err(detail) => return self.hand(None, (Why::NotStored, detail), (response, head), received),
                }
            }
            Err(why) if httpcache::is_failure(response.status) => (Why::Failure, why.as_str()),
            Err(why) => (Why::NotStored, why.as_str()),
            Ok(_) => (Why::NotStored, "too-large"),
        };
        self.hand(Some(lead), (why, detail), (response, head), received);
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
        match new.keep {
            Ok(()) => {
                // A 304 need not repeat the tags.
                let mut all = about.marks.to_vec();
                all.extend(marks.iter().filter(|mark| !about.marks.contains(mark)));
                self.store.refresh(&about.kept, lead.token(), store::Head { meta, marks: all, body_bytes: None });
            }
            // What is not to be kept makes room for a word that nothing is there.
            Err(_) => {
                let meta = Held::uncollapsed(UnixTime::default(), Why::NotStored.note());
                if lead.start_as(&about.key, store::Head { meta, ..store::Head::default() }).is_ok_and(is_finished) {
                    tracing::debug!("a response is no longer stored");
                }
            }
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
        let known = super::find(&self.store, key);
        let kinds = known.as_ref().and_then(|known| match Held::read(known.meta()) {
            Some(Held::Kinds(kinds)) => Some(kinds),
            _ => None,
        });
        if kinds.is_none() && storable.vary.is_empty() {
            return Ok(lead);
        }
        let mut kinds = kinds.unwrap_or_default();
        let is_new = kinds.add(&storable.vary);
        let head = store::Head { meta: Held::kinds(&kinds), marks: self.marks.to_vec(), body_bytes: Some(0) };
        if !is_new {
            self.cache.write_variant(key, &storable.vary, fields);
            return Ok(lead);
        }
        if *self.waited != **key {
            self.put(key, head);
            self.cache.write_variant(key, &storable.vary, fields);
            return Ok(lead);
        }
        // Who waits for the key is told how responses vary, and looks for the variant, which is being fetched then.
        self.cache.write_variant(key, &storable.vary, fields);
        let next = match self.store.begin(self.store.key(key), &self.marks) {
            Begin::Lead(next) => Ok(next),
            Begin::Follow(_) => Err("fetched-twice"),
        };
        if !lead.start(head).is_ok_and(is_finished) {
            return Err("no-room");
        }
        next
    }

    /// Stores a word about a key, unless somebody is fetching that.
    fn put(&self, key: &[u8], head: store::Head) {
        if let Begin::Lead(lead) = self.store.begin(self.store.key(key), &[]) {
            let _no_room = lead.start(head).is_ok_and(is_finished);
        }
    }

    /// Hands the answer on to the client whose request it was, and has the others go their own way.
    fn hand(
        &self,
        lead: Option<Lead>,
        (why, detail): (Why, &'static str),
        (response, head): (&Response, &[u8]),
        received: UnixTime,
    ) {
        let apart = match why {
            Why::NotStored => self.cache.params.uncollapsed_for.as_millis() as u64,
            Why::Failure | Why::Unanswered(_) => AFTER_FAILURE_MILLIS,
        };
        self.note(why, received.millis() + apart);
        let handed = self.to_client.as_ref().map(|client| {
            // There is room: nothing was sent before.
            client.try_send(Handed::Head(Box::new(Head::new(response, head, why, detail))))
        });
        if let Some(lead) = lead {
            lead.decline(why.note());
        }
        self.mode.replace(if matches!(handed, Some(Ok(()))) { Mode::Handing } else { Mode::Unwanted });
    }

    /// Notes why others have nothing of what was fetched, and until when they need not wait for each other.
    fn note(&self, why: Why, until_millis: u64) {
        let meta = Held::uncollapsed(UnixTime::from_millis(until_millis), why.note());
        self.put(&RouteCache::note_key(&self.waited), store::Head { meta, ..store::Head::default() });
    }

    /// Takes a piece of the body.
    ///
    /// # Errors
    /// When nobody wants it.
    pub(crate) async fn push(&self, data: &[u8]) -> Result<(), Unwanted> {
        let next = match &mut *self.mode.borrow_mut() {
            Mode::Storing(writer) => {
                writer.append(data);
                let at = writer.body_bytes();
                Next::Pace(at)
            }
            Mode::Handing => Next::Send(self.to_client.clone().ok_or(Unwanted)?),
            Mode::Silent => return Ok(()),
            Mode::Waiting(_) | Mode::Unwanted => return Err(Unwanted),
        };
        match next {
            // A client that is slow is waited for, and one that has gone is gone for the endpoint as well.
            Next::Send(client) => client.send(Handed::Data(Bytes::copy_from_slice(data))).await.map_err(|_| Unwanted),
            Next::Pace(at) => {
                if self.is_paced.get() {
                    self.pace.wait_for(at).await;
                }
                Ok(())
            }
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
            if let Some(client) = &self.to_client {
                let _gone = client.try_send(Handed::Nothing(why));
            }
            // Long enough for those to read it who are told now.
            self.note(why, 0);
            lead.decline(why.note());
        }
    }
}

/// What is left to do with a piece.
enum Next {
    Send(mpsc::Sender<Handed>),
    /// So many bytes have come.
    Pace(u64),
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
        (Framing::Chunked | Framing::UntilClose, _) => None,
    };
    let meta = Held::response(super::now(), &new.stored, &new.fields);
    lead.start_as(key, store::Head { meta, marks, body_bytes }).map_err(|error| {
        tracing::debug!(%error, "a response is not stored");
        "no-room"
    })
}
