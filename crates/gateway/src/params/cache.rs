//! How a route caches, and what there is to cache in.

use std::path::PathBuf;
use std::time::Duration;

use httpcache::Policy;

/// Fields that the gateway writes anew for each request, in lower case: by them no two requests are alike, so that neither keys
/// nor variants go by them.
pub const CACHE_OWN_FIELDS: [&str; 6] =
    ["forwarded", "traceparent", "x-forwarded-for", "x-forwarded-port", "x-real-ip", "x-request-id"];

/// The `cache` of a route.
#[derive(Clone, Debug)]
pub struct CacheParams {
    /// What decides about requests and responses.
    pub policy: Policy,
    /// Largest body that is stored.
    pub object_bytes_max: u64,
    /// How long a request waits for the head that another one fetches.
    pub collapse_wait: Duration,
    /// For how long requests for a key do not wait for each other whose response was not to be stored.
    pub uncollapsed_for: Duration,
    /// What clients are told of the cache's decisions.
    pub told: CacheTold,
}

/// What clients are told by `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheTold {
    /// Nothing.
    Nothing,
    /// The decision.
    Decision,
    /// The decision, and the key.
    Key,
}

impl Default for CacheParams {
    fn default() -> Self {
        // A response to a POST is seldom what a GET would get, and looking for it would hold up all others.
        let policy = Policy { stores_post: false, ..Policy::default() };
        Self {
            policy,
            object_bytes_max: 8 << 20,
            collapse_wait: Duration::from_secs(5),
            uncollapsed_for: Duration::from_secs(10),
            told: CacheTold::Decision,
        }
    }
}

impl PartialEq for CacheParams {
    fn eq(&self, other: &Self) -> bool {
        // What a policy is made of has no equality; its text holds all of it, and is compared when files are read again.
        format!("{self:?}") == format!("{other:?}")
    }
}

/// What all routes cache in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStoreParams {
    /// Most bytes in memory.
    pub memory_bytes_max: u64,
    /// What keeps more than memory has room for, and outlasts a restart.
    pub disk: Option<CacheDiskParams>,
}

/// A folder for what routes cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDiskParams {
    /// The folder. One process has it at a time.
    pub path: PathBuf,
    /// Most bytes of its files.
    pub bytes_max: u64,
}

impl Default for CacheStoreParams {
    fn default() -> Self {
        Self { memory_bytes_max: 64 << 20, disk: None }
    }
}
