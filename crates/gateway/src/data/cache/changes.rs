//! What answers mean for what is stored when the cache itself did not ask: those to unsafe methods make it invalid, RFC 9111
//! section 4.4, and those to `HEAD` say whether it is still the same, section 4.3.5.

use std::sync::Arc;

use http1::{Request, Response};
use httpcache::{HeadEffect, KeyParts, Lines, Stored, Target, Vary};
use store::{Follower, Mark, Store, Token};

use super::Looked;
use super::facts::{self, Came};
use super::source::Source;
use crate::action::Names;
use crate::cache::{Held, RouteCache, passed_on};
use crate::router::normal_path;
use crate::state::{ServiceState, Shared};

/// A request that passes by the cache of its route, or of other routes that cache what it changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes<'a> {
    /// The route's.
    pub(super) cache: Option<&'a Arc<RouteCache>>,
    /// What keys are made of by all routes of the listener.
    pub(super) keys: &'a [KeyParts],
    /// The name of the service that is asked.
    pub(super) service: &'a str,
    pub(super) came: Came,
    /// Whether the answer to a `HEAD` is about what is stored.
    pub(super) refreshes: bool,
    /// What was purged before it was asked.
    pub(super) token: Token,
}

impl Changes<'_> {
    /// Takes in the head of the final answer.
    pub(crate) fn see(
        &self,
        shared: &Shared,
        (request, asked): (&Request, &[u8]),
        granted: Option<(&Names, &[u8])>,
        response: (&Response, &[u8]),
        from: &ServiceState,
    ) {
        let mut room = Vec::new();
        let fields = facts::fields(request, asked, self.came, granted);
        let target = facts::target(request, asked, self.came, &mut room);
        let facts = httpcache::Request::read(request.method.as_str().as_bytes(), target, fields.clone());
        match facts.method {
            httpcache::Method::Head => {
                let is_own = self.refreshes && from.name.as_str() == self.service;
                let Some(cache) = self.cache.filter(|_| is_own) else { return };
                let (mut key, of) = (Vec::new(), (request, asked, self.came));
                facts::write_key((cache, self.service), &mut key, of, target, fields.clone());
                self.refresh((shared, cache), (key, target, &fields), response);
            }
            method if !method.is_safe() => self.invalidate(shared, &facts, response),
            _ => {}
        }
    }

    fn invalidate(&self, shared: &Shared, facts: &httpcache::Request<'_>, (response, head): (&Response, &[u8])) {
        let changed = httpcache::invalidated(facts, response.status, facts::of_head(&response.fields, head));
        for path in changed {
            // Two ways of writing a path are one key.
            let query = memchr::memchr(b'?', &path).map_or(&b""[..], |at| &path[at..]);
            let Some(normal) = normal_path(&path) else { continue };
            let path_and_query = [&*normal, query].concat();
            let changed = Target { path_and_query: &path_and_query, ..facts.target };
            for key in self.keys {
                let mut beginning = Vec::new();
                key.write_beginning(&mut beginning, changed);
                shared.cache.purge_if_there(Mark::key(&beginning));
            }
        }
    }

    /// Takes over what an answer to `HEAD` says of what is stored.
    fn refresh<'f>(
        &self,
        (shared, cache): (&Shared, &Arc<RouteCache>),
        (key, target, fields): (Vec<u8>, Target<'f>, &(impl httpcache::Fields<'f> + 'f)),
        (response, head): (&Response, &[u8]),
    ) {
        let tiers = shared.cache.look();
        let Looked { response: found, coming, .. } = super::look(&tiers.store, cache, &mut key.clone(), fields, None);
        if found.is_none() && coming.is_none() {
            return;
        }
        let lines = |fields: &mut dyn Iterator<Item = httpcache::Field<'_>>| {
            let mut lines = Vec::new();
            fields.for_each(|(name, value)| http1::write::field(&mut lines, name, value));
            lines
        };
        let heard = Heard {
            key,
            https: target.https,
            host: target.host.into(),
            path_and_query: target.path_and_query.into(),
            asked: lines(&mut fields.clone()),
            status: response.status,
            came: lines(&mut passed_on(facts::of_head(&response.fields, head))),
            token: self.token,
        };
        match (found, coming) {
            (Some((source, stored)), _) => heard.apply(&tiers.store, cache, (source, stored)),
            // What is on disk has to be read before anything can be said of it.
            (None, Some(coming)) => {
                let (tiers, cache) = (Arc::clone(&tiers), Arc::clone(cache));
                tokio::task::spawn_local(async move { heard.apply_to(coming, &tiers.store, &cache).await });
            }
            (None, None) => {}
        }
    }
}

/// What was asked by `HEAD`, and what came.
struct Heard {
    /// Of the request, without a variant.
    key: Vec<u8>,
    https: bool,
    host: Box<[u8]>,
    path_and_query: Box<[u8]>,
    /// The fields of the request, as lines.
    asked: Vec<u8>,
    status: u16,
    /// Those of the answer.
    came: Vec<u8>,
    token: Token,
}

impl Heard {
    fn target(&self) -> Target<'_> {
        Target { https: self.https, host: &self.host, path_and_query: &self.path_and_query }
    }

    /// Takes it over for what is being read.
    async fn apply_to(&self, mut coming: Follower, store: &Store, cache: &RouteCache) {
        // How responses vary, the variant, and one more where that has changed meanwhile.
        for _ in 0..3 {
            let outcome = match coming.given_up_at() {
                Some(until) => {
                    tokio::time::timeout_at(until.into(), coming.head()).await.unwrap_or(store::Outcome::Nothing)
                }
                None => coming.head().await,
            };
            let source = match outcome {
                store::Outcome::Hit(hit) => Source::Memory(hit),
                store::Outcome::Stream(reader) => Source::Stream(Box::new(reader)),
                store::Outcome::Declined(_) | store::Outcome::Nothing => return,
            };
            let (source, stored) = match source.stored() {
                // What is being fetched is newer.
                Some(_) if source.is_growing() => return,
                Some(stored) => (source, stored),
                None => {
                    match super::look(store, cache, &mut self.key.clone(), &Lines::new(&self.asked), Some(source)) {
                        Looked { response: Some(found), .. } => found,
                        Looked { coming: Some(next), .. } => {
                            coming = next;
                            continue;
                        }
                        Looked { .. } => return,
                    }
                }
            };
            return self.apply(store, cache, (source, stored));
        }
    }

    fn apply(&self, store: &Store, cache: &RouteCache, (source, mut stored): (Source, Stored)) {
        let received = super::now();
        let answer =
            httpcache::Answer { status: self.status, fields: Lines::new(&self.came), requested: received, received };
        let facts = httpcache::Request::read(b"HEAD", self.target(), Lines::new(&self.asked));
        let effect = httpcache::refresh_by_head(&cache.params.policy, &facts, (&stored, source.block()), &answer);
        let vary = Vary::read(Lines::new(source.block())).unwrap_or_default();
        let meta = match effect {
            HeadEffect::Refreshed(new) if new.keep.is_err_and(httpcache::WhyNot::is_about_request) => return,
            // What varies otherwise now stands where nobody would look for it.
            HeadEffect::Refreshed(new) if new.keep.is_ok() && new.vary == vary => {
                Held::response(received, &new.stored, &new.fields)
            }
            HeadEffect::Refreshed(_) | HeadEffect::Expired => {
                stored.expire(received);
                Held::response(source.fetched(), &stored, source.block())
            }
            HeadEffect::Untouched => return,
        };
        let about = source.about(stored);
        store.refresh(&about.kept, self.token, store::Head { meta, marks: about.marks.to_vec(), body_bytes: None });
    }
}
