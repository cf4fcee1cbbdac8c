//! Caching strategies for services in Rust: in memory and in Redis, without stampedes, and without old values that come back.
//!
//! ```
//! use std::time::Duration;
//! use cache::Cache;
//!
//! # #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! # struct Product { name: String }
//! # async fn from_database(id: u64) -> Result<Product, std::io::Error> { Ok(Product { name: format!("product {id}") }) }
//! # async fn to_database(product: &Product) -> Result<(), std::io::Error> { Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let products: Cache<u64, Product> = Cache::builder("product")
//!     .memory(64 * cache::MIB)
//!     .ttl(Duration::from_secs(300))
//!     .refresh_ahead()
//!     .build()
//!     .await?;
//! // Cache-aside: of all who miss at once, one loads.
//! let product = products.get_or_load(&7, || from_database(7)).await?;
//! assert_eq!(product.name, "product 7");
//! // Write-through: the database first, then the cache.
//! let renamed = Product { name: "better".to_owned() };
//! products.write_through(&7, renamed, async |product| to_database(&product).await).await?;
//! assert_eq!(products.get(&7).await.map(|product| product.name.clone()), Some("better".to_owned()));
//! // The same code with `.redis("redis://...")` shares what is cached with all other instances.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The parts: single flight in a process (`flight`) and leases among processes (`redis`); who may put what into memory (`fence`), and
//! serve it (`hold`); tags as generations (`tags`); lives of entries (`life`); what Redis holds (`record`, `codec`). How they fit together, what is proved
//! and what happens when something fails: `docs/architecture/cache.md`. Write-behind, with a journal of its own, is in [`behind`].

#[cfg(feature = "admin")]
pub mod admin;
pub mod behind;
mod brought;
mod builder;
mod cache;
mod codec;
mod error;
mod events;
mod fence;
mod flight;
mod hit;
mod hold;
mod hot;
mod inner;
mod key;
mod leave;
mod life;
mod load;
mod memory;
mod name;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
#[doc(hidden)]
pub mod planted;
mod record;
mod redis;
mod refresh;
mod stats;
mod sync;
mod tags;
mod times;
mod understand;
mod write;
mod write_behind;

pub use builder::{Builder, Coherence};
pub use cache::{Cache, Value, Versioned};
pub use codec::Codec;
pub use error::{BuildError, Error};
pub use events::Invalidation;
pub use key::{Key, ReadKey};
pub use load::WarmUp;
pub use stats::{LOAD_BOUNDS, Stats};
pub use write::Reach;
pub use write_behind::{Delivery, ValueSink};

/// 2^20 bytes.
pub const MIB: u64 = 1 << 20;
/// 2^30 bytes.
pub const GIB: u64 = 1 << 30;
