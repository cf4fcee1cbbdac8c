//! What Redis has of a key, as an entry of this process: decoded, held to its tags, and with the times that it has left.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::brought::Stale;
use crate::cache::Value;
use crate::codec::{Codec, expanded};
use crate::fence::Ticket;
use crate::inner::{Inner, unix_millis};
use crate::memory::Slot;
use crate::record::Record;
use crate::stats::Count;
use crate::tags::{Tagged, bytes_of, unknown};

/// What was found in Redis.
pub(crate) enum Understood<V> {
    Fresh(Slot<V>),
    /// Good for when the load fails.
    Stale(Stale<V>),
    Useless,
}

/// A record, and the counters of its tags.
struct Decoded<'b> {
    record: Record<'b>,
    tags: Tagged,
}

impl<V: Value> Inner<V> {
    /// Reads what was found in Redis.
    pub(crate) async fn understand(&self, bytes: &[u8], ticket: Ticket) -> Understood<V> {
        let Some(decoded) = self.decoded(bytes) else { return Understood::Useless };
        self.ask_for_tags(std::iter::once(&decoded)).await;
        self.judge(&decoded, ticket)
    }

    /// The same for all that was found at once: tags that are not known are asked for by one question.
    pub(crate) async fn understand_all(&self, found: &[(Option<Vec<u8>>, Ticket)]) -> Vec<Understood<V>> {
        let decoded: Vec<_> = found.iter().map(|(bytes, _)| self.decoded(bytes.as_deref()?)).collect();
        self.ask_for_tags(decoded.iter().flatten()).await;
        let judge = |(decoded, (_, ticket)): (&Option<Decoded<'_>>, &(_, Ticket))| match decoded {
            Some(decoded) => self.judge(decoded, *ticket),
            None => Understood::Useless,
        };
        decoded.iter().zip(found).map(judge).collect()
    }

    fn decoded<'b>(&self, bytes: &'b [u8]) -> Option<Decoded<'b>> {
        match Record::decode(bytes, self.params.schema) {
            Ok(record) => Some(Decoded { tags: self.tags.of(record.tags.iter().copied()), record }),
            Err(why) => {
                self.note_foreign(&why);
                None
            }
        }
    }

    /// Asks for the tags that are not known. They are read after the values, so that what was invalidated before those is seen.
    async fn ask_for_tags<'d>(&self, decoded: impl Iterator<Item = &'d Decoded<'d>>) {
        let (mut names, mut generations, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for decoded in decoded {
            for at in unknown(&decoded.tags) {
                let generation = &decoded.tags.generations()[at];
                if seen.insert(Arc::as_ptr(generation).addr()) {
                    names.push(decoded.record.tags[at]);
                    generations.push(generation);
                }
            }
        }
        let Some(redis) = self.redis().filter(|_| !names.is_empty()) else { return };
        match redis.tags(&names).await {
            Ok(found) => generations.iter().zip(found).for_each(|(of, found)| self.tags.learn(of, found)),
            Err(away) => self.note_away(away),
        }
    }

    fn judge(&self, Decoded { record, tags }: &Decoded<'_>, ticket: Ticket) -> Understood<V> {
        if !unknown(tags).is_empty() || !self.tags.admit(record.version, tags) {
            return Understood::Useless;
        }
        // Nobody is told of the versions of loads. What is invalidated while Redis is away has to be later than all that memory has.
        self.note_clock(record.version);
        let value = match self.value(record) {
            Ok(value) => value,
            Err(why) => {
                self.note_foreign(&why);
                return Understood::Useless;
            }
        };
        let (now, now_millis) = (Instant::now(), unix_millis());
        let stale = if value.is_some() { self.params.stale } else { Duration::ZERO };
        let left = record.left(now_millis, Duration::ZERO);
        let value_bytes = match (&self.params.weigher, &value) {
            (Some(weigher), Some(value)) => weigher(value),
            _ => (size_of::<V>() + record.whole_bytes as usize) as u64,
        };
        let slot = Slot {
            value,
            version: record.version,
            is_unordered: false,
            era: ticket.era,
            fresh_until: now + left,
            stale_until: now + record.left(now_millis, stale),
            took: Duration::from_millis(record.took_millis.into()),
            tags: tags.clone(),
            value_bytes: value_bytes + bytes_of(record.tags.iter().copied()),
        };
        match left.is_zero() {
            false => Understood::Fresh(slot),
            true => Stale::of(slot).map_or(Understood::Useless, Understood::Stale),
        }
    }

    fn value(&self, record: &Record<'_>) -> Result<Option<Arc<V>>, String> {
        if record.negative {
            return Ok(None);
        }
        let whole_bytes = record.whole_bytes as usize;
        if whole_bytes > self.params.value_bytes_max {
            return Err(format!("{whole_bytes} bytes are larger than value_bytes_max"));
        }
        let codec = Codec::of_number(record.codec).ok_or_else(|| format!("codec {} is unknown", record.codec))?;
        let whole = match record.compressed {
            true => Some(expanded(record.body, whole_bytes).map_err(|error| error.to_string())?),
            false => None,
        };
        let value = codec.decode(whole.as_deref().unwrap_or(record.body)).map_err(|error| error.to_string())?;
        Ok(Some(Arc::new(value)))
    }

    fn note_foreign(&self, why: &dyn std::fmt::Display) {
        self.tally.note(Count::Foreign);
        tracing::debug!(cache = &*self.name, %why, "what is in Redis is no entry");
    }
}
