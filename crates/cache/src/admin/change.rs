//! A change that was asked for: what goes, and from which caches. All of it is read before any of it is done.

use futures_util::future::join_all;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Wrong;
use super::member::Member;
use crate::events::Invalidation;
use crate::write::Reach;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    cache: Option<String>,
    #[serde(default)]
    every_cache: bool,
    key: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    everything: bool,
}

/// What each of some caches loses, by their places.
pub(super) struct Change(Vec<(usize, Invalidation)>);

impl Change {
    /// Reads a body.
    pub(super) fn read(body: &[u8], members: &[Box<dyn Member>]) -> Result<Self, Wrong> {
        if body.trim_ascii().is_empty() {
            return Err(Wrong::body("the body is empty; it has to be a JSON object"));
        }
        let raw: Raw = serde_json::from_slice(body).map_err(|cause| Wrong::body(format!("the body: {cause}")))?;
        let concerned = match (raw.cache, raw.every_cache) {
            (Some(name), false) => {
                let at = members.iter().position(|member| member.name() == name);
                vec![at.ok_or_else(|| unknown(&name, members))?]
            }
            (None, true) => (0..members.len()).collect(),
            _ => return Err(Wrong::body("the body: one of cache and every_cache is needed")),
        };
        let of = |member: &dyn Member| match (&raw.key, &raw.tag, raw.everything) {
            (Some(key), None, false) => member.key(key).map_err(Wrong::body),
            (None, Some(tag), false) => Ok(Invalidation::Tag(tag.clone())),
            (None, None, true) => Ok(Invalidation::Everything),
            _ => Err(Wrong::body("the body: one of key, tag and everything is needed")),
        };
        let all = concerned.into_iter().map(|at| Ok((at, of(&*members[at])?)));
        all.collect::<Result<_, Wrong>>().map(Self)
    }

    /// Does it, in all caches at once: how far it has come.
    pub(super) async fn carry_out(&self, members: &[Box<dyn Member>]) -> (StatusCode, Json) {
        let reached = join_all(self.0.iter().map(|(at, what)| members[*at].apply(what))).await;
        let is_done = reached.iter().all(|reach| *reach == Reach::Everywhere);
        let told = self.0.iter().zip(reached).map(|((at, _), reach)| {
            let reach = match reach {
                Reach::Everywhere if members[*at].is_shared() => "everywhere",
                // Nobody tells other instances of the service, whose memory is their own.
                Reach::Everywhere => "process",
                Reach::Here => "here",
            };
            json!({ "name": members[*at].name(), "reach": reach })
        });
        let told = json!({ "caches": told.collect::<Vec<_>>() });
        // What Redis has not heard of yet is accepted, and not done.
        (if is_done { StatusCode::OK } else { StatusCode::ACCEPTED }, told)
    }
}

fn unknown(name: &str, members: &[Box<dyn Member>]) -> Wrong {
    let names = members.iter().map(|member| member.name()).collect::<Vec<_>>().join(", ");
    let there = if names.is_empty() { "there are none".to_owned() } else { format!("there are {names}") };
    Wrong(StatusCode::NOT_FOUND, format!("no cache {name}; {there}"))
}
