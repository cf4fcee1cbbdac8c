//! Named caches for programs in any language: `[cache.NAME]` of the configuration, over Redis' protocol and HTTP.
//!
//! A cache is memory of so many bytes, in shards, which all cores share; a connection belongs to one core. Commands
//! are Redis' own where it has them, and a few of Tenfold's for tags. `docs/cache/other-languages.md` lists them.
//!
//! ```no_run
//! # async fn start(params: cache_server::CacheParams) -> Result<(), net::listen::ListenError> {
//! use cache_server::Caches;
//!
//! let (mut caches, parts) = Caches::new(2);
//! // Each part runs on the runtime of its core.
//! # drop(parts);
//! let prepared = caches.prepare(&[params], &mut Default::default())?;
//! caches.commit(prepared).await;
//! # Ok(())
//! # }
//! ```

mod about;
mod command;
mod connection;
mod core;
mod engine;
mod expiry;
mod fields;
mod http;
mod metrics;
mod named;
mod outbox;
mod params;
mod resident;
mod server;
mod session;
mod strings;
mod tags;
mod view;

pub use params::{CacheParams, MEMORY_BYTES_MIN, VALUE_SHARE};
pub use server::{Caches, CorePart, Prepared};
pub use view::{CacheHandle, CachesView, FoundValue};
