//! The cache engine: bodies and what comes with them, in memory and on disk, for whoever decides what may be kept and for how long.
//!
//! The store knows no HTTP and no clock. An entry is a key, some bytes of metadata, marks that it can be purged by, and a body in chunks.
//! What is fresh is for the owner to read from the metadata.
//!
//! - **Memory** ([`StoreParams::memory_bytes`]): shards under short locks. What stays is decided by a window for what came lately and
//!   admission by frequency, whose mixture is found out while it runs. A hit is a hash, a lock that is nearly always free, a
//!   probe and a reference.
//! - **Disk** ([`DiskParams`]): a log of segments with checksums, which survives the end of the process at any point. Threads of its own
//!   read and write; a core never waits for a disk, unless it wants to.
//! - **Fetching**: one leads, others follow and read the body as it grows ([`Store::begin`]). What is larger than its share of memory streams
//!   through a window at the pace of the slowest reader, and to disk in chunks ([`Writer::write`]).
//! - **Purging** by key, group, tag or prefix, hard or soft ([`Store::purge`]): a number is written beside what is purged, and entries
//!   compare it with their own. It takes the same time however many entries are concerned, holds for fetches that began before, and
//!   survives restarts.
//!
//! The page `docs/architecture/store.md` has the reasons, the format on disk, and what was measured.
//!
//! ```
//! use store::{Begin, Head, How, Lookup, Mark, Outcome, Purge, Store, StoreParams};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let store = Store::open(&StoreParams::new(64 * 1024 * 1024))?;
//! let key = store.key(b"https://example.com/page");
//!
//! // A miss: one fetches, with the marks that are known from the request.
//! let known = [Mark::key(key.bytes()), Mark::group(b"example.com")];
//! let Begin::Lead(lead) = store.begin(key, &known) else { unreachable!("nobody else does") };
//!
//! // Whoever comes now follows, and has what comes when it comes.
//! let Lookup::Coming(follower) = store.lookup(key) else { unreachable!("it is being fetched") };
//!
//! // The origin's head is here. If it must not be shared, it is `lead.decline(note)`.
//! let marks = [&known[..], &[Mark::tag(b"category:7")]].concat();
//! let mut writer = lead.start(Head { meta: "200 ...".into(), marks, body_bytes: Some(11) })?;
//! let Outcome::Stream(mut reader) = follower.head().await else { unreachable!("it has begun") };
//! writer.write(b"hello ").await;
//! assert_eq!(reader.next().await?.as_deref(), Some(&b"hello "[..]));
//! writer.write(b"world").await;
//! writer.finish()?;
//! assert_eq!(reader.next().await?.as_deref(), Some(&b"world"[..]));
//!
//! // A hit: metadata and chunks are there to be written at once.
//! let Lookup::Hit(hit) = store.lookup(key) else { unreachable!("it is stored") };
//! assert_eq!(hit.object.chunks().concat(), b"hello world");
//!
//! // A purge holds when it returns; that it will last can be waited for.
//! let purged = store.purge(Purge::mark(Mark::tag(b"category:7"), How::Hard))?;
//! assert!(purged.lasts().await);
//! assert!(matches!(store.lookup(key), Lookup::Miss));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arena;
mod base;
mod direct;
mod disk;
mod fill;
mod growing;
mod invalidations;
mod key;
mod memory;
#[cfg(test)]
mod model;
mod noted;
mod object;
mod params;
mod pending;
mod policy;
mod pool;
mod purges;
mod reader;
mod seats;
mod shown;
pub mod simulate;
mod stats;
mod store;
mod sync;
mod top;

pub use arena::InFile;
pub use fill::{Lead, LengthError, StartError, Stored, Writer};
pub use invalidations::Invalidations;
pub use key::{Key, Mark};
pub use object::{CHUNK_BYTES, Head, Object};
pub use params::{DiskParams, OpenError, StoreParams};
pub use pending::Past;
pub use purges::{How, Purge, Token, What};
pub use reader::{Begin, Fetch, Follower, Hit, Kept, Lookup, Outcome, ReadError, Reader};
pub use stats::{DiskStats, MemoryStats, Stats};
pub use store::{PurgeError, Purged, Store};
pub use top::TopKey;
