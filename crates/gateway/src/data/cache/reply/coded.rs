//! Sending what is stored plain to a client that takes it compressed.
//!
//! What is stored stays plain, so that ranges, validators and clients without codings have what they need of one entry. What was
//! compressed of something in memory is kept beside it, in memory too, and sent from then on. It says of which version of the plain entry it was made,
//! and is looked for only when that one has been found and is good: so what makes the plain one stale, replaces, validates or
//! purges it, does so with all its forms at once.

use coding::{Coding, Effort};
use http1::write;
use store::{Head, Hit};

use super::{Broken, Plan, Way};
use crate::cache::{RouteCache, coded_meta, coded_of};
use crate::compress::Treatment;
use crate::data::cache::source::Source;
use crate::data::core::Core;
use crate::data::encode::Encoding;
use crate::data::ends::ClientSink;
use crate::data::io::Stalled;
use crate::data::relay;

/// What a body is sent as.
pub(super) enum Coded<'c> {
    /// As it is.
    No,
    /// As it is compressed now.
    Anew(Box<Encoding<'c>>),
    /// As it was compressed before.
    Kept(Hit),
}

impl Coded<'_> {
    /// Its length, where it is known before it is sent.
    pub(super) fn bytes(&self) -> Option<u64> {
        if let Self::Kept(hit) = self { Some(hit.object.body_bytes()) } else { None }
    }
}

/// The form of a response in a coding, if it is kept.
pub(super) fn find(core: &Core, source: &Source, (coding, effort): (Coding, Effort)) -> Option<Hit> {
    let Source::Memory(plain) = source else { return None };
    let tiers = core.shared.cache.look();
    let hit = tiers.store.in_memory(tiers.store.key(&key_of(plain, coding, effort)))?;
    (coded_of(hit.object.meta()) == Some(plain.object.version())).then_some(hit)
}

/// Keeps a form that was made.
pub(super) fn keep(core: &Core, plain: &Hit, treatment: &Treatment, body: &[u8]) {
    let Some(coding) = treatment.coding else { return };
    let store = &core.shared.cache.look().store;
    let head = Head {
        meta: coded_meta(plain.object.version()),
        marks: plain.object.marks().to_vec(),
        body_bytes: Some(body.len() as u64),
    };
    // A purge between the two is one of the plain response, without which this is not found.
    let key = key_of(plain, coding, treatment.effort);
    if let Err(error) = store.put_in_memory(store.key(&key), store.token(), head, body) {
        tracing::debug!(%error, "a compressed form is not kept");
    }
}

fn key_of(plain: &Hit, coding: Coding, effort: Effort) -> Vec<u8> {
    let mut key = Vec::with_capacity(plain.object.key().len() + 3);
    key.extend_from_slice(plain.object.key());
    RouteCache::write_coded(&mut key, coding, effort);
    key
}

impl Way<'_, '_> {
    /// Sends a body through an encoding. It is begun only for a whole one.
    pub(super) async fn run_coded(
        &mut self,
        source: &mut Source,
        plan: &Plan,
        encoding: &mut Encoding<'_>,
    ) -> Result<(), Broken> {
        let end = match plan {
            Plan::Range(_, end) => *end,
            Plan::Nothing | Plan::Parts(..) => return Ok(()),
        };
        if let ClientSink::Stream(responder) = self.sink {
            responder.begin(self.out, false).map_err(Broken::Client)?;
            self.out.clear();
        }
        match source {
            Source::Memory(hit) => {
                for chunk in hit.object.chunks() {
                    self.push_coded(chunk, encoding).await?;
                }
            }
            Source::Stream(reader) => {
                reader.seek(0);
                let mut at = 0;
                while let Some(bytes) = self.next(reader, Some(encoding)).await? {
                    self.push_coded(&bytes, encoding).await?;
                    at += bytes.len() as u64;
                }
                if end.is_some_and(|end| at < end) {
                    return Err(Broken::Origin);
                }
            }
        }
        self.sent += encoding.finish((self.sink, self.out), true, self.wait).await?;
        if let ClientSink::Wire(_) = self.sink {
            self.out.extend_from_slice(write::LAST_CHUNK);
        }
        self.flush(&[]).await
    }

    async fn push_coded(&mut self, data: &[u8], encoding: &mut Encoding<'_>) -> Result<(), Broken> {
        self.sent += encoding.push(data, (self.sink, self.out), self.wait).await?;
        Ok(())
    }

    /// Sends what an encoding holds back, before anything is waited for.
    pub(super) async fn flush_coded(&mut self, encoding: Option<&mut Encoding<'_>>) -> Result<(), Broken> {
        if let Some(encoding) = encoding.filter(|encoding| encoding.holds_back()) {
            self.sent += encoding.flush((self.sink, self.out), self.wait).await?;
        }
        self.flush(&[]).await
    }
}

impl From<relay::Broken> for Broken {
    fn from(broken: relay::Broken) -> Self {
        match broken {
            relay::Broken::Client => Self::Gone,
            relay::Broken::Unread => Self::Client(Stalled::TimedOut),
            relay::Broken::Upstream(_) | relay::Broken::OutOfTime => Self::Origin,
        }
    }
}
