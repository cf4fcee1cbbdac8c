//! What routes cache: how a request is named, what is written with a response, and what is purged.
//!
//! One store is shared by all cores and outlives configurations. Its entries are named by [`RouteCache::write_key`], so
//! that a purge by host, prefix or URL finds them; variants stand behind the key of what they are variants of.

mod apart;
mod entry;
mod purge;
mod route;
mod tiers;

pub(crate) use apart::Apart;
pub(crate) use entry::{Held, Ways, coded_meta, coded_of};
pub(crate) use purge::purge;
pub use purge::{PurgeBy, PurgeError, PurgeRequest};
pub(crate) use route::{CacheCounts, CacheResult, IDENTITY, RouteCache, VARIANT, is_for_caches, passed_on};
pub(crate) use tiers::{Current, Tiers};
