//! Where writes go in the end: a database, as a rule.

use bytes::Bytes;

use super::version::Version;

/// One write, as the sink is told it. It may be told it again, and again after newer ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What is written.
    pub key: Bytes,
    /// Which write of the key this is. The sink keeps it beside the value.
    pub version: Version,
    /// The value, or none for a key that is removed. The sink keeps the version of a removal too, for as long as an older write
    /// may still come.
    pub value: Option<Bytes>,
}

/// Where writes go.
///
/// **It has to be idempotent by key and version**: a write takes effect only if its version is above the one that is there. In SQL:
///
/// ```sql
/// INSERT INTO product (key, version, value) VALUES ($1, $2, $3)
/// ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value
/// WHERE excluded.version > product.version
/// ```
///
/// Then a write that is told twice, after a crash or a lost answer, changes nothing, and of several instances the latest write
/// stands. A batch has each key once. No two deliveries of one key are under way at a time; of different keys, up to
/// [`lanes`](super::BehindParams::lanes) batches are.
pub trait Sink: Send + Sync + 'static {
    /// Writes a batch, and returns once that lasts. It need not be one transaction: what failed half-way is told again.
    ///
    /// # Errors
    /// When the batch, or a part of it, was not written.
    fn deliver(&self, batch: &[Write]) -> impl Future<Output = Result<Receipt, SinkError>> + Send;

    /// Hears of writes that become dead letters, each by the reason that stands beside it, before they are no longer dirty.
    fn given_up(&self, _writes: &[Write]) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What became of the writes of a batch: all took effect, but for those that are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    pub(super) newer: Vec<(usize, Version)>,
    pub(super) refused: Vec<(usize, String)>,
}

impl Receipt {
    /// All took effect, or nobody looked whether something newer was there.
    pub fn all() -> Self {
        Self::default()
    }

    /// The write at this place of the batch did nothing, as a newer version was there. What this instance writes from now on is above it.
    #[must_use]
    pub fn superseded(mut self, index: usize, by: Version) -> Self {
        self.newer.push((index, by));
        self
    }

    /// The same for a batch of which the one it was about is a part, by the places of that in the whole.
    pub(crate) fn at_places(self, places: &[usize]) -> Self {
        let newer = self.newer.into_iter().filter_map(|(index, by)| Some((*places.get(index)?, by)));
        let refused = self.refused.into_iter().filter_map(|(index, reason)| Some((*places.get(index)?, reason)));
        Self { newer: newer.collect(), refused: refused.collect() }
    }

    /// Whether the write at this place is what the sink has now.
    pub(crate) fn took_effect(&self, index: usize) -> bool {
        self.newer.iter().all(|(at, _)| *at != index) && self.refused.iter().all(|(at, _)| *at != index)
    }

    /// The write at this place of the batch will never be taken, whatever the reason is. It goes to the dead letters.
    #[must_use]
    pub fn refused(mut self, index: usize, reason: impl Into<String>) -> Self {
        self.refused.push((index, reason.into()));
        self
    }
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The sink cannot be reached, or has too much to do. Nothing is wrong with the writes; everything waits, and is tried again.
    #[error("the sink is unavailable: {0}")]
    Unavailable(String),
    /// Something may be wrong with one of the writes. The batch is halved until it stands alone, and then given so many tries.
    #[error("the sink failed: {0}")]
    Failed(String),
}
