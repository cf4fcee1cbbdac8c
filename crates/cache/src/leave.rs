//! By whose leave a miss is loaded: what Redis has already, whoever has the lease, or nobody's when Redis is away.

use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;

use crate::brought::{Brought, Stale};
use crate::cache::Value;
use crate::fence::Ticket;
use crate::inner::Inner;
use crate::memory::Slot;
use crate::record::VERSION_BYTES;
use crate::redis::{Acquired, Lease, Redis};
use crate::stats::Count;
use crate::understand::Understood;

/// How often what others have stored is looked at, if it turns out to be useless each time.
const USELESS_MAX: u32 = 3;
/// Leases of others that may end without a value. Whoever has waited for so many loads by itself, or all would load one after the other what
/// nobody may keep.
const BARREN_MAX: u32 = 2;

/// What a load is for.
pub(crate) struct Wanted<'k, V> {
    pub(crate) key: &'k [u8],
    /// That there is nothing will not do.
    pub(crate) value: bool,
    /// What is served meanwhile, where the load is ahead of its end.
    pub(crate) current: Option<Slot<V>>,
    /// What is served if the load fails, and it is still good then.
    pub(crate) stale: Option<Stale<V>>,
}

/// How Redis was left: what the load may do with its result.
pub(crate) enum Leave<V> {
    /// There is a result already.
    Found(Brought<V>),
    /// The load begins at this version, and stores under a lease if there is one.
    Load { ticket: Ticket, version: u64, lease: Option<Lease>, written: bool },
}

impl<V: Value> Inner<V> {
    /// Leave to load without Redis.
    pub(crate) fn alone(&self, key: &[u8]) -> Leave<V> {
        let version = self.own_version();
        match self.ticket(key) {
            Ok(ticket) => Leave::Load { ticket, version, lease: None, written: false },
            Err(dirty) => Leave::Found(Brought::dirty(dirty)),
        }
    }

    /// Looks in Redis, and takes the lease or waits for who has it.
    pub(crate) async fn ask_redis(&self, redis: &Redis, wanted: &mut Wanted<'_, V>) -> Leave<V> {
        let key = wanted.key;
        let mut seen = match &wanted.current {
            Some(slot) => slot.version.to_be_bytes().to_vec(),
            None => match self.look_into_redis(redis, wanted).await {
                Ok(seen) => seen,
                Err(leave) => return leave,
            },
        };
        let (mut useless, mut barren, mut awaited) = (0, 0, Vec::new());
        loop {
            // Both before Redis is asked, so that nothing is missed in between. Much may have been written behind while another one's load
            // was waited for.
            let ticket = match self.ticket(key) {
                Ok(ticket) => ticket,
                Err(dirty) => return Leave::Found(Brought::dirty(dirty)),
            };
            let mut rung = std::pin::pin!(redis.bell(key).notified());
            rung.as_mut().enable();
            match redis.acquire(key, &seen).instrument(self.redis_span("acquire")).await {
                Ok(Acquired::Lead { lease, version, written, old }) => {
                    self.note_clock(version);
                    if wanted.stale.is_none()
                        && !self.params.stale.is_zero()
                        && !old.is_empty()
                        && let Understood::Stale(old) = self.understand(&old, ticket).await
                    {
                        wanted.stale = Some(old);
                    }
                    return Leave::Load { ticket, version, lease: Some(lease), written };
                }
                Ok(Acquired::Value { bytes, is_old }) => {
                    if let Some(found) = self.taken(wanted, ticket, (&bytes, is_old)).await {
                        self.tally.note(Count::Coalesced);
                        return Leave::Found(found);
                    }
                    (seen, useless) = (prefix(&bytes), useless + 1);
                    if useless >= USELESS_MAX {
                        return self.alone(key);
                    }
                }
                Ok(Acquired::Busy { left, token }) => {
                    match wanted.current.take() {
                        Some(current) if Instant::now() < current.fresh_until => {
                            return Leave::Found(Brought::of(&current));
                        }
                        _ => {}
                    }
                    barren += u32::from(!awaited.is_empty() && awaited != token);
                    if barren >= BARREN_MAX {
                        return self.alone(key);
                    }
                    awaited = token;
                    let _rung_or_over = tokio::time::timeout(left + Duration::from_millis(1), rung).await;
                }
                Err(away) => {
                    self.note_away(away);
                    return self.alone(key);
                }
            }
        }
    }

    /// Reads what Redis has: the beginning of what will not do, or how to go on without asking for more.
    async fn look_into_redis(&self, redis: &Redis, wanted: &mut Wanted<'_, V>) -> Result<Vec<u8>, Leave<V>> {
        let key = wanted.key;
        let ticket = self.ticket(key).map_err(|dirty| Leave::Found(Brought::dirty(dirty)))?;
        match redis.read_one(key).instrument(self.redis_span("read")).await {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(bytes)) => match self.taken(wanted, ticket, (&bytes, false)).await {
                Some(found) => Err(Leave::Found(found)),
                None => Ok(prefix(&bytes)),
            },
            Err(away) => {
                self.note_away(away);
                Err(self.alone(key))
            }
        }
    }

    /// Takes what is in Redis, if it will do. What is old is not kept, and for whoever asked before it was read.
    async fn taken(
        &self,
        wanted: &Wanted<'_, V>,
        ticket: Ticket,
        (bytes, is_old): (&[u8], bool),
    ) -> Option<Brought<V>> {
        let Understood::Fresh(slot) = self.understand(bytes, ticket).await else { return None };
        if wanted.value && slot.value.is_none() {
            return None;
        }
        self.tally.note(Count::RedisHit);
        let brought = Brought::of(&slot);
        if is_old {
            return Some(Brought { is_confirmed: false, ..brought });
        }
        self.keep(wanted.key, ticket, slot);
        Some(brought)
    }
}

/// What a script compares to tell one value from another.
fn prefix(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(VERSION_BYTES)].to_vec()
}
