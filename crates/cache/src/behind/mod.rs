//! Write-behind: writes are acknowledged by a journal on the local disk, and reach the database later, in batches.
//!
//! The problem: a database takes fewer writes than a service makes, or is away for a while, and a queue in memory that stands between them loses
//! what is in it. Here a write is acknowledged after `fdatasync` of a journal, which many writes share. From there it reaches the
//! [`Sink`], or the dead letters, whatever happens to the process or to the power in between; of several writes of a key the last one
//! does, and in order.
//!
//! - `version` tells which write is the later one, whichever instance took it.
//! - `ledger` decides, without clock and I/O: what is dirty, what is under way, what is tried again, which part of the journal is needed.
//! - `record`, `scan`, `journal` and `dead` are the bytes on disk, `disk` is what they ask of one.
//! - `writer` is the one thread that writes, `deliver` the task that brings batches to the sink, `shared` what is between them.
//!
//! The page `docs/cache/write-behind.md` has the guarantees, a table of failures, and costs.
//!
//! ```
//! use std::time::Duration;
//! use cache::behind::{BehindParams, Receipt, Sink, SinkError, Write, WriteBehind};
//!
//! struct Products;
//!
//! impl Sink for Products {
//!     async fn deliver(&self, batch: &[Write]) -> Result<Receipt, SinkError> {
//!         // One statement that writes what is newer than what is there: see `Sink`.
//!         println!("{} products", batch.len());
//!         Ok(Receipt::all())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! # let folder = testkit::TempDir::new()?;
//! # let folder = folder.path();
//! let products = WriteBehind::open(BehindParams::new(folder), Products).await?;
//! products.put("product:7", "{\"price\": 12}").await?;
//! // It lasts, and whoever reads finds it, though the database may not have it yet.
//! assert!(products.dirty(b"product:7").is_none_or(|write| write.value.as_deref() == Some(&b"{\"price\": 12}"[..])));
//! assert_eq!(products.shutdown(Duration::from_secs(10)).await.keys_left, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[allow(clippy::module_inception, reason = "the handle is what the module is called after")]
mod behind;
mod dead;
mod deliver;
mod disk;
mod journal;
mod ledger;
mod params;
mod record;
mod scan;
mod shared;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod simulated;
mod sink;
mod stats;
mod version;
mod writer;

pub use behind::{DeadLetterError, Shutdown, WriteBehind};
pub use dead::DeadLetter;
pub use journal::{Damage, Recovery};
pub use params::{BehindParams, OpenError, WhenFull};
pub use shared::PutError;
pub use sink::{Receipt, Sink, SinkError, Write};
pub use stats::BehindStats;
pub use version::Version;
