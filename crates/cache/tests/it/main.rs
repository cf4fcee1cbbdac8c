//! The cache as its users see it, in memory and with a real Redis.

mod admin;
mod away;
mod behind;
mod build;
mod coherence;
mod events;
mod leased;
mod memory;
mod mistakes;
mod order;
mod processes;
mod race;
mod redis;
mod strategies;
mod transport;
mod write_behind;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache::{Builder, Cache};
use serde::{Deserialize, Serialize};

/// What tests cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    category: u64,
}

fn product(id: u64, name: &str) -> Product {
    Product { id, name: name.to_owned(), category: id % 10 }
}

/// A cache in memory alone.
fn in_memory() -> Builder<u64, Product> {
    Cache::builder("product").memory(cache::MIB).ttl(Duration::from_secs(60)).jitter(0.0)
}

/// Counts loads.
#[derive(Clone, Debug, Default)]
struct Loads(Arc<AtomicU64>);

impl Loads {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Loads a product after some time.
    async fn load(&self, id: u64, name: &str, time: Duration) -> io::Result<Product> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(time).await;
        Ok(product(id, name))
    }

    async fn now(&self, id: u64, name: &str) -> io::Result<Product> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(product(id, name))
    }

    async fn fail(&self) -> io::Result<Product> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::other("the database is down"))
    }
}
