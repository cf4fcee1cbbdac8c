//! Waiting for a fetch, be it begun for this request or for another one.

mod answer;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http1::{Method, Version};
use httpcache::{CacheStatus, UnixTime};
use store::{Begin, Follower, Mark, Past, Store};
use tokio::sync::mpsc;

use self::answer::{Answered, answer_with, good, other_variant, own_answer, primary, stale};
use super::facts::Came;
use super::fetch::{self, For, Told};
use super::fill::{Why, alone};
use super::handed::{Handed, Head, UNDER_WAY_MAX};
use super::source::Source;
use super::{Ask, Decided, Hit, Looked, Waits, With, decide, facts, judge, only_if_cached, part, pass, serve_hit};
use crate::cache::{Held, Tiers};
use crate::data::exchange::Call;
use crate::data::forward::{Outcome, Parts};
use crate::data::io::Wait;
use crate::data::local::Local;

/// How often a request waits for another's fetch that comes to nothing.
const ROUNDS_MAX: usize = 4;

/// How often it waits for others' reads of what it knows, which take no time.
const READS_MAX: usize = 64;

/// Interim heads on their way to a client.
const INTERIM_MAX: usize = 4;

/// What comes first to a request that waits for its own fetch.
enum Either {
    Interim(Vec<u8>),
    Head(store::Outcome),
}

/// What a request found while it waited.
enum Waited {
    /// What may answer it.
    Found(Source),
    /// What is known is good, and this is written with it from now on.
    Good(Bytes),
    /// What came is for this request alone.
    Own(Box<Head>),
    /// There is nothing for it.
    Declined(Why),
    /// Nothing, and it may look again.
    Nothing,
    /// It has waited for as long as it may.
    TimedOut,
    /// Its client has gone.
    Gone,
}

/// What a fetch for this request hands on.
struct Own {
    pieces: mpsc::Receiver<Handed>,
    /// Heads before the final one.
    interim: mpsc::Receiver<Vec<u8>>,
}

/// A request that waits.
struct Waiting {
    ask: Ask,
    status: CacheStatus<'static>,
    since: UnixTime,
    /// Whether the client wants less than the whole. What was for one alone, or too large, will be so again: it is asked for
    /// as the client asks then.
    is_partial: bool,
    /// Whether the client asks for an answer that is perhaps for itself alone: with credentials, or not to be stored.
    wants_own: bool,
    /// The fetch for this request, as long as it waits for that and not for another's.
    own: Option<Own>,
    /// What the fetch that was begun for it last tells of itself.
    told: Option<Rc<Told>>,
    /// Until when it waits for a disk to say what it has, once it does.
    disk_until: Option<Instant>,
    /// It has waited that long, and for no other read.
    reads_are_past: bool,
}

/// What comes next for a request that has waited.
enum Next {
    Answered(Outcome),
    /// It waits for something else.
    Again,
    /// It goes its own way.
    OwnWay,
}

/// Waits for what is fetched, and answers with it; `None` when the request is to go its own way.
pub(super) async fn run<'c>(
    parts: &mut Parts<'_, '_>,
    local: &Rc<Local>,
    call: &mut Call<'c>,
    with: With<'c>,
    (key, ask): (&mut Vec<u8>, Ask),
) -> Option<Outcome> {
    let (status, since, is_partial) = (CacheStatus::default(), super::now(), !wants_whole(parts, call));
    let wants_own = with_facts(parts, call, |facts| facts.wants_own(&with.cache.params.policy));
    let mut waiting = Waiting {
        ask,
        status,
        since,
        is_partial,
        wants_own,
        own: None,
        told: None,
        disk_until: None,
        reads_are_past: false,
    };
    for _ in 0..ROUNDS_MAX {
        let Some(found) = waiting.join(parts, local, call, with, key).await else { break };
        match waiting.take(parts, local, call, with, (key, found)).await {
            Next::Answered(outcome) => {
                account_for(parts, waiting.told.as_deref());
                return Some(outcome);
            }
            Next::Again => {}
            Next::OwnWay => break,
        }
    }
    if waiting.ask.is_only_stored {
        return Some(only_if_cached(parts, with));
    }
    pass(parts, call, with, CacheStatus { collapsed: false, ..waiting.status });
    None
}

impl Waited {
    /// Whether it was being fetched, and not read from disk.
    fn is_of_others(&self) -> bool {
        match self {
            Self::Found(source) => source.is_growing(),
            Self::Declined(_) | Self::TimedOut => true,
            Self::Good(_) | Self::Own(_) | Self::Nothing | Self::Gone => false,
        }
    }
}

impl Ask {
    /// Whether something was known before.
    fn knows(&self, found: &Waited) -> bool {
        let Waited::Found(found) = found else { return false };
        let known = self.known.as_ref();
        !found.is_growing() && known.is_some_and(|(known, _)| known.kept().version() == found.kept().version())
    }
}

impl Waiting {
    /// Waits for another's fetch of a key, or begins one; `None` when neither is of use.
    async fn join(
        &mut self,
        parts: &mut Parts<'_, '_>,
        local: &Rc<Local>,
        call: &Call<'_>,
        with: With<'_>,
        key: &[u8],
    ) -> Option<Waited> {
        let shared = Arc::clone(&parts.link.core.shared);
        let tiers = shared.cache.keep();
        let store = &tiers.store;
        self.status.forward = Some(self.ask.forward);
        // What came last was for one alone, and so will be what comes now.
        let is_apart = shared.apart.has(key, super::now());
        // It would only have others wait for what is not for them.
        let is_alone = self.wants_own && shared.apart.has(&alone(key), super::now());
        if self.is_partial && !self.ask.is_part && is_apart {
            return None;
        }
        let mut coming = self.ask.coming.take();
        for _ in 0..READS_MAX {
            let begun = match coming.take() {
                Some(follower) => Begin::Follow(follower),
                None => self.begin(store, key, &fetch::marks(parts, call, with)),
            };
            match begun {
                Begin::Follow(_) if is_apart || is_alone => return None,
                Begin::Follow(follower) => {
                    let next = self.told.as_ref().and_then(|told| told.next.get());
                    if !next.is_some_and(|next| follower.is_of(next)) {
                        // What was begun for this request came to nothing, and this is for somebody else first.
                        self.own = None;
                    }
                    self.status.collapsed = self.own.is_none();
                    let is_read = follower.given_up_at().is_some();
                    let found = self.follow(parts, with, follower).await;
                    // It is gone without a disk that does not answer. Who comes first fetches for all, whatever is being read.
                    if is_read && matches!(found, Waited::TimedOut) {
                        self.reads_are_past = true;
                        continue;
                    }
                    // Others read from disk what does not do; who fetches it has yet to be decided.
                    if !self.ask.knows(&found) {
                        return Some(found);
                    }
                }
                Begin::Lead(lead) => {
                    if let Some(source) = newer(store, key, &self.ask) {
                        drop(lead);
                        return Some(Waited::Found(source));
                    }
                    if self.ask.known.as_ref().is_some_and(|(known, _)| known.has_newer_on_disk(store)) {
                        // It was found good after this request had read it from there.
                        drop(lead);
                        return Some(Waited::Nothing);
                    }
                    // A fetch is one of the body, which such a client cannot take in place of others.
                    if self.ask.is_only_stored || is_alone || parts.scratch.request.method == Method::Head {
                        return None;
                    }
                    self.status.collapsed = false;
                    let (follower, own, told) = lead_on(parts, local, call, with, (key, lead, (&self.ask, &tiers)));
                    self.told = Some(told);
                    return Some(await_own(parts, call, follower, self.own.insert(own)).await);
                }
            }
        }
        None
    }

    /// The right to fetch a key, or whoever has it, or has what is newer than what is known.
    fn begin(&self, store: &Store, key: &[u8], marks: &[Mark]) -> Begin {
        let known = self.ask.known.as_ref().map(|(known, _)| known.kept());
        store.begin_past(store.key(key), marks, Past { known: known.as_ref(), reads: self.reads_are_past })
    }

    /// Waits for another's fetch, for as long as the route allows, or for a disk, for as long as it is of use.
    async fn follow(&mut self, parts: &mut Parts<'_, '_>, with: With<'_>, follower: Follower) -> Waited {
        let until = match follower.given_up_at() {
            Some(given_up_at) => {
                let until = self.disk_until.map_or(given_up_at, |until| until.min(given_up_at));
                *self.disk_until.insert(until)
            }
            None => Instant::now() + with.cache.params.collapse_wait,
        };
        parts.scratch.deadline.set(until);
        head(parts, follower, true).await
    }

    /// Answers with what was found, if that does.
    async fn take(
        &mut self,
        parts: &mut Parts<'_, '_>,
        local: &Rc<Local>,
        call: &Call<'_>,
        with: With<'_>,
        (key, found): (&mut Vec<u8>, Waited),
    ) -> Next {
        let waits = Waits { since: self.since, forward: self.ask.forward };
        let status = self.status;
        if found.is_of_others()
            && let Some(instead) = self.ask.instead.take()
        {
            (*key, self.ask) = *instead;
            return Next::Again;
        }
        let outcome = match found {
            // It says how responses vary, or was perhaps not fetched just now.
            Waited::Found(source) if source.stored().is_none() || self.own.is_none() && !source.is_growing() => {
                let decided = again(parts, call, with, key, (source, waits));
                return self.go_by(parts, local, call, with, (key, decided)).await;
            }
            Waited::Declined(Why::OfRequest) => return Next::Again,
            Waited::Nothing => {
                key.clear();
                let decided = decide(parts, call, with, key, (Some(waits), None));
                return self.go_by(parts, local, call, with, (key, decided)).await;
            }
            Waited::Found(source) => match answer_with(parts, call, with, (source, status, self.own.as_ref())).await {
                Answered::Yes(outcome) => Some(outcome),
                // It is another variant, which is known now.
                Answered::OtherVariant(other, is_part) => {
                    self.ask.is_part = is_part;
                    *key = other;
                    return Next::Again;
                }
                Answered::No => None,
            },
            Waited::Good(meta) => good(parts, call, with, (&mut self.ask, &meta, status)).await,
            Waited::Own(head) => match stale(parts, call, with, (&mut self.ask, head.why)).await {
                Some(outcome) => Some(outcome),
                // The whole was asked for, so that a client that wants a part has to be answered by another request.
                None if self.is_partial && !self.ask.is_part && wants_part(parts, call) => None,
                None => own_answer(parts, call, with, (&head, self.own.as_mut(), status)).await,
            },
            Waited::Declined(why) => match (stale(parts, call, with, (&mut self.ask, why)).await, why) {
                (Some(outcome), _) => Some(outcome),
                (None, Why::Unanswered(code)) => Some(Outcome::Own(code, super::super::reply::message(code))),
                (None, Why::NotStored | Why::OfRequest | Why::Failure) => None,
            },
            Waited::TimedOut => None,
            Waited::Gone => Some(Outcome::Broken),
        };
        outcome.map_or(Next::OwnWay, Next::Answered)
    }

    /// Does what was decided about what was found.
    async fn go_by(
        &mut self,
        parts: &mut Parts<'_, '_>,
        local: &Rc<Local>,
        call: &Call<'_>,
        with: With<'_>,
        (key, decided): (&[u8], Decided),
    ) -> Next {
        match decided {
            Decided::Serve(hit) => {
                let hit = Hit { kinds: hit.kinds.or(self.ask.kinds.take()), ..hit };
                Next::Answered(serve_hit(parts, local, call, with, (key, hit)).await)
            }
            Decided::Ask(other) => {
                // One variant says nothing of the others.
                let known = self.ask.kinds.take().filter(|_| other.is_part == self.ask.is_part);
                self.ask = Ask { kinds: other.kinds.or(known), ..other };
                Next::Again
            }
            Decided::OnlyIfCached => Next::Answered(only_if_cached(parts, with)),
            Decided::Pass(_) => Next::OwnWay,
        }
    }
}

/// What another core has stored between the look and the wish. A word of how responses vary is new where a request looks
/// for more behind it.
fn newer(store: &Store, key: &[u8], ask: &Ask) -> Option<Source> {
    super::find(store, key).filter(|source| match Held::read(source.meta()) {
        Some(Held::Response(fetched, ..)) => ask.known.as_ref().is_none_or(|(known, _)| known.fetched() != fetched),
        Some(Held::Kinds) => true,
        None => false,
    })
}

/// Has the key fetched for this request.
fn lead_on(
    parts: &Parts<'_, '_>,
    local: &Rc<Local>,
    call: &Call<'_>,
    with: With<'_>,
    (key, lead, (ask, tiers)): (&[u8], store::Lead, (&Ask, &Arc<Tiers>)),
) -> (Follower, Own, Rc<Told>) {
    let follower = lead.follow();
    let (sender, pieces) = mpsc::channel(UNDER_WAY_MAX);
    let told = Rc::new(Told::default());
    let known = ask.known.as_ref().map(|(source, stored)| source.about(*stored));
    let (validates, is_part, to_client) = (ask.validates, ask.is_part, Some(sender));
    let (heads, interim) = mpsc::channel(INTERIM_MAX);
    let heads = (parts.scratch.request.version == Version::Http11).then_some(heads);
    let (kinds, tiers) = (ask.kinds.clone(), Arc::clone(tiers));
    let (told_of, under_way) = (Rc::clone(&told), None);
    let of = For { tiers, lead, known, validates, is_part, to_client, interim: heads, told: told_of, kinds, under_way };
    fetch::begin(parts, local, call, with, (key, of));
    (follower, Own { pieces, interim }, told)
}

/// Waits for the fetch that was begun for this request, which has its own times.
async fn await_own(parts: &mut Parts<'_, '_>, call: &Call<'_>, follower: Follower, own: &mut Own) -> Waited {
    let mut head = pin!(follower.head());
    let waited = loop {
        let either = poll_fn(|cx| match own.interim.poll_recv(cx) {
            Poll::Ready(Some(interim)) => Poll::Ready(Either::Interim(interim)),
            _ => head.as_mut().poll(cx).map(Either::Head),
        });
        match until(parts, pin!(either), false).await {
            Ok(Either::Interim(interim)) => {
                let Parts { link, scratch, account, .. } = &mut *parts;
                let wait = Wait::after(&scratch.deadline, call.listener.params.write_timeout);
                if link.sink.interim(&interim, wait).await.is_err() {
                    return Waited::Gone;
                }
                account.head_sent += interim.len() as u64;
            }
            Ok(Either::Head(outcome)) => break found(outcome),
            Err(waited) => break waited,
        }
    };
    let is_stored = matches!(&waited, Waited::Found(source) if !source.is_on_disk());
    if is_stored || matches!(waited, Waited::TimedOut | Waited::Gone) {
        return waited;
    }
    // What is for this request alone was sent before anybody was told, and so was that what a disk has is good.
    match own.pieces.try_recv() {
        Ok(Handed::Head(head)) => Waited::Own(head),
        Ok(Handed::Good(meta)) => Waited::Good(meta),
        Ok(Handed::Nothing(why)) => Waited::Declined(why),
        Ok(Handed::Data(_) | Handed::End(_)) | Err(_) => waited,
    }
}

/// Waits for a head, and says what it is.
async fn head(parts: &mut Parts<'_, '_>, follower: Follower, bounded: bool) -> Waited {
    let head = pin!(follower.head());
    until(parts, head, bounded).await.map_or_else(|waited| waited, found)
}

/// What a head means.
fn found(outcome: store::Outcome) -> Waited {
    match outcome {
        store::Outcome::Hit(hit) => Waited::Found(Source::Memory(hit)),
        store::Outcome::Stream(reader) => Waited::Found(Source::Stream(Box::new(reader))),
        store::Outcome::Declined(note) => Waited::Declined(Why::of_note(note)),
        store::Outcome::Nothing => Waited::Nothing,
    }
}

/// Waits for something, unless the client goes or, if it is bounded, the time is over.
async fn until<F: Future>(
    parts: &mut Parts<'_, '_>,
    mut what: Pin<&mut F>,
    bounded: bool,
) -> Result<F::Output, Waited> {
    let Parts { link, scratch, .. } = parts;
    poll_fn(|cx| {
        if let Poll::Ready(came) = what.as_mut().poll(cx) {
            return Poll::Ready(Ok(came));
        }
        if link.sink.is_gone(cx) {
            return Poll::Ready(Err(Waited::Gone));
        }
        match bounded {
            true => scratch.deadline.poll_expired(cx).map(|_| Err(Waited::TimedOut)),
            false => Poll::Pending,
        }
    })
    .await
}

/// Decides about what was found by waiting, as about what is found at once.
fn again(
    parts: &Parts<'_, '_>,
    call: &Call<'_>,
    with: With<'_>,
    key: &mut Vec<u8>,
    (source, waits): (Source, Waits),
) -> Decided {
    let Some(stored) = source.stored() else {
        // It says how responses vary, and what is looked for stands under another key.
        key.clear();
        return decide(parts, call, with, key, (Some(waits), Some(source)));
    };
    let is_part = part::is_one(&stored);
    if other_variant(parts, call, with, &source).is_some() {
        key.clear();
        return decide(parts, call, with, key, (Some(waits), None));
    }
    let looked = Looked { response: Some((source, stored)), ..Looked::default() };
    match with_facts(parts, call, |facts| judge(with, facts, looked, Some(waits))) {
        // What was not fetched meanwhile was read, or waits to be written.
        Decided::Serve(hit) => Decided::Serve(Hit { from_disk: hit.waited.is_none(), ..hit }),
        Decided::Ask(ask) if is_part => Decided::Ask(part::ask_after(with, key, primary(parts, call, with), ask)),
        other => other,
    }
}

/// Whether the client's request has no condition, and is not for a part.
fn wants_whole(parts: &Parts<'_, '_>, call: &Call<'_>) -> bool {
    let head = &parts.link.buffer.filled()[..call.head_len];
    !facts::of_head(&parts.scratch.request.fields, head).any(|(name, _)| httpcache::is_conditional(name))
}

/// Whether the client's request is for a part.
fn wants_part(parts: &Parts<'_, '_>, call: &Call<'_>) -> bool {
    let head = &parts.link.buffer.filled()[..call.head_len];
    facts::of_head(&parts.scratch.request.fields, head).any(|(name, _)| name.eq_ignore_ascii_case(b"range"))
}

/// Reads what of the request matters to a cache.
fn with_facts<T>(parts: &Parts<'_, '_>, call: &Call<'_>, then: impl FnOnce(&httpcache::Request<'_>) -> T) -> T {
    let Parts { link, scratch, .. } = parts;
    let (request, head) = (&scratch.request, &link.buffer.filled()[..call.head_len]);
    let mut room = Vec::new();
    let (came, granted) = (Came::of(link, call), call.terms.granted.map(|names| (names, scratch.granted.as_slice())));
    let fields = facts::fields(request, head, came, granted);
    let target = facts::target(request, head, came, &mut room);
    then(&httpcache::Request::read(request.method.as_str().as_bytes(), target, fields))
}

/// Puts what a fetch tells of itself into the account of its request.
fn account_for(parts: &mut Parts<'_, '_>, told: Option<&Told>) {
    let Some(told) = told else { return };
    let account = &mut *parts.account;
    account.tries = account.tries.max(told.tries.get());
    account.upstream = told.upstream.get().or(account.upstream);
    account.service = told.service.get().or(account.service);
}
