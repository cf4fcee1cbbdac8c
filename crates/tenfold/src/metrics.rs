//! Metrics of what a service uses of this crate, as pages for Prometheus or within a registry that the service has.
//!
//! ```
//! use tenfold::metrics::Metrics;
//! use tenfold::resilience::{Breaker, BreakerParams};
//!
//! let breaker = Breaker::new("payments", BreakerParams::default());
//! let metrics = Metrics::default();
//! metrics.watch(&breaker);
//! // With the `Accept` of whoever scrapes; the answer says what its `Content-Type` is.
//! let page = metrics.page(None);
//! assert_eq!(page.content_type, "text/plain; version=0.0.4; charset=utf-8");
//! assert!(page.text.contains("app_breaker_open{breaker=\"payments\"} 0"));
//! // Or with all else that the service counts:
//! let mut registry = prometheus_client::registry::Registry::default();
//! registry.register_collector(metrics.collector());
//! ```
//!
//! Whatever is watched is watched for as long as the [`Metrics`] live. A name must be given once only to things of one kind; Prometheus refuses a
//! page that repeats a row. Nothing is counted for the metrics' sake: a scrape reads what is counted anyway.

#[cfg(feature = "cache")]
mod cache;
mod family;
#[cfg(feature = "resilience")]
mod resilience;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use telemetry::Exposition;

use family::Sample;
pub use family::{FAMILIES, Family, Kind};

/// Things whose metrics are shown. Clones show the same ones.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<Source>>>);

/// Something that can be watched: made from a reference to a cache, or to a piece of `resilience`.
pub struct Source(Box<Show>);

/// Adds the samples of now.
type Show = dyn Fn(&mut Vec<Sample>) + Send + Sync;

/// A page of metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it is, for the response's `Content-Type`.
    pub content_type: &'static str,
    /// Its text.
    pub text: String,
}

impl Metrics {
    /// Shows something from now on.
    pub fn watch(&self, source: impl Into<Source>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(source.into());
    }

    /// The page of now, in the format that a scraper's `Accept` asks for.
    pub fn page(&self, accept: Option<&str>) -> Page {
        let mut registry = Registry::default();
        registry.register_collector(self.collector());
        let format = Exposition::negotiate(accept);
        // Only a collector could fail, and to write into memory does not.
        Page { content_type: format.content_type(), text: format.page(&registry).unwrap_or_default() }
    }

    /// For a registry of `prometheus-client` with more in it.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.clone())
    }

    fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().for_each(|source| (source.0)(&mut samples));
        samples
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        family::encode(&self.samples(), &mut encoder)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("samples", &self.samples().len()).finish()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}
