//! The cache engine.

mod base;
mod disk;
mod fill;
mod growing;
mod key;
mod memory;
mod object;
mod params;
mod pending;
mod policy;
mod purges;
mod reader;
pub mod simulate;
mod stats;
mod store;
mod sync;
mod top;

pub use fill::{Lead, LengthError, StartError, Stored, Writer};
pub use key::{Key, Mark};
pub use object::{CHUNK_BYTES, Head, Object};
pub use params::{DiskParams, OpenError, StoreParams};
pub use purges::{How, Purge, Token, What};
pub use reader::{Begin, Follower, Hit, Kept, Lookup, Outcome, ReadError, Reader};
pub use stats::{DiskStats, MemoryStats, Stats};
pub use store::{PurgeError, Purged, Store};
pub use top::TopKey;
