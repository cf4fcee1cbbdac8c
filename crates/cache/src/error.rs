//! What can go wrong, when a cache is built and when it is used.

use std::error::Error as StdError;
use std::sync::Arc;

/// Why a call did not succeed. Clones are cheap: all who waited for one load have the same error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loader failed, and there was no old value to serve.
    #[error("cache {cache}: the load failed: {source}")]
    Load {
        /// The cache.
        cache: Arc<str>,
        /// The loader's own error.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The database write failed. The cache holds no value of the key.
    #[error("cache {cache}: the write failed: {source}")]
    Save {
        /// The cache.
        cache: Arc<str>,
        /// The write's own error.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// As many loads as may be are under way, and none ended in time.
    #[error("cache {cache}: {loads_max} loads are under way")]
    Busy {
        /// The cache.
        cache: Arc<str>,
        /// How many may be.
        loads_max: usize,
    },
    /// A value is larger than the cache keeps.
    #[error("cache {cache}: a value of {bytes} bytes is larger than value_bytes_max, {bytes_max}")]
    TooLarge {
        /// The cache.
        cache: Arc<str>,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A value cannot be written by the codec.
    #[error("cache {cache}: a value cannot be encoded: {why}")]
    Encode {
        /// The cache.
        cache: Arc<str>,
        /// What the codec says.
        why: Arc<str>,
    },
    /// What is asked for needs something that the builder was not given.
    #[error("cache {cache}: it was built without {lacks}")]
    Unequipped {
        /// The cache.
        cache: Arc<str>,
        /// The method of the builder.
        lacks: &'static str,
    },
    /// What is asked for needs Redis, which is away. Nothing was written to the database.
    #[error("cache {cache}: Redis is away")]
    Away {
        /// The cache.
        cache: Arc<str>,
    },
    /// The key was written behind, and the database does not have that yet. What is written by other ways meanwhile would be undone.
    #[error("cache {cache}: the database does not have yet what was written behind")]
    Dirty {
        /// The cache.
        cache: Arc<str>,
    },
    /// The database has what was written, but Redis was lost, and others may serve what was before until it is back. With
    /// [`Coherence::Leased`](crate::Coherence::Leased) alone, for a write that took longer than [`lease`](crate::Builder::lease).
    #[error("cache {cache}: the value was written, but Redis was lost before all instances were told")]
    Unconfirmed {
        /// The cache.
        cache: Arc<str>,
    },
}

impl Error {
    /// The error of the caller's own loader or write, if it is of this type.
    ///
    /// ```
    /// # fn show(error: cache::Error) {
    /// if let Some(error) = error.inner::<std::io::Error>() {
    ///     println!("the database: {}", error.kind());
    /// }
    /// # }
    /// ```
    pub fn inner<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Self::Load { source, .. } | Self::Save { source, .. } => source.downcast_ref(),
            _ => None,
        }
    }
}

/// What is wrong with how a cache was to be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cache {cache}: {field}: {why}")]
pub struct BuildError {
    /// The cache.
    pub cache: String,
    /// The method of the builder that was given the wrong value.
    pub field: &'static str,
    /// What is wrong, and what is allowed.
    pub why: String,
}
