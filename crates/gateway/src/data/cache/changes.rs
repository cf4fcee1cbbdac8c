//! What answers mean for what is stored when the cache itself did not ask: those to unsafe methods make it invalid, RFC 9111
//! section 4.4, and those to `HEAD` say whether it is still the same, section 4.3.5.

use http1::{Request, Response};
use httpcache::{HeadEffect, Target};
use store::{Mark, Store, Token};

use super::facts;
use crate::action::Names;
use crate::cache::{Held, RouteCache, passed_on};
use crate::router::normal_path;
use crate::state::Shared;

/// A request that passes by the cache of its route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes<'a> {
    pub(super) cache: &'a RouteCache,
    /// The name of the service that is asked.
    pub(super) service: &'a str,
    pub(super) https: bool,
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
    ) {
        let mut room = Vec::new();
        let fields = facts::fields(request, asked, granted);
        let target = facts::target(request, asked, self.https, &mut room);
        let facts = httpcache::Request::read(request.method.as_str().as_bytes(), target, fields.clone());
        match facts.method {
            httpcache::Method::Head => {
                let mut key = Vec::new();
                self.cache.write_key(&mut key, target, fields.clone(), self.service);
                self.refresh(&shared.cache.look().store, &facts, (&mut key, &fields), response);
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
            let mut beginning = Vec::new();
            let changed = Target { path_and_query: &path_and_query, ..facts.target };
            self.cache.params.policy.key.write_beginning(&mut beginning, changed);
            let url = Mark::key(&beginning);
            shared.cache.purge_if_there(url);
        }
    }

    fn refresh<'f>(
        &self,
        store: &Store,
        facts: &httpcache::Request<'_>,
        (key, fields): (&mut Vec<u8>, &impl httpcache::Fields<'f>),
        (response, head): (&Response, &[u8]),
    ) {
        let Some((source, mut stored)) = super::look(store, self.cache, key, fields, None).response else { return };
        let received = super::now();
        let came = passed_on(facts::of_head(&response.fields, head));
        let answer = httpcache::Answer { status: response.status, fields: came, requested: received, received };
        let policy = &self.cache.params.policy;
        let effect = httpcache::refresh_by_head(policy, facts, (&stored, source.block()), &answer);
        let meta = match effect {
            HeadEffect::Refreshed(new) if new.keep.is_ok() => Held::response(received, &new.stored, &new.fields),
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
