//! What the admin listener shows of the running process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use admin::{AdminState, Unready};
use gateway::GatewayView;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use telemetry::trace::Tracer;
use telemetry::{AccessLog, LogHandle, ProcessMetrics, ReloadMetrics};

/// The state of the process.
#[derive(Debug)]
pub(super) struct State {
    gateway: GatewayView,
    registry: Registry,
    /// Counts of reloads.
    pub(super) reloads: Arc<ReloadMetrics>,
    draining: AtomicBool,
    config: Mutex<Config>,
}

/// The configuration in effect, and how the last reload went.
#[derive(Debug)]
struct Config {
    effective: Value,
    last_reload: Value,
}

/// A collector that is used from elsewhere as well.
#[derive(Debug)]
struct SharedCollector(Arc<ReloadMetrics>);

impl Collector for SharedCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }
}

impl State {
    /// Everything runs by the configuration `effective`.
    pub(super) fn new(
        gateway: GatewayView,
        log: &LogHandle,
        access: &AccessLog,
        tracer: &Tracer,
        effective: Value,
    ) -> Self {
        let reloads = Arc::new(ReloadMetrics::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(gateway.clone()));
        registry.register_collector(Box::new(ProcessMetrics::new(env!("CARGO_PKG_VERSION"))));
        registry.register_collector(Box::new(SharedCollector(Arc::clone(&reloads))));
        registry.register_collector(Box::new(access.clone()));
        registry.register_collector(Box::new(tracer.clone()));
        registry.register_collector(Box::new(log.clone()));
        let config = Mutex::new(Config { effective, last_reload: Value::Null });
        Self { gateway, registry, reloads, draining: AtomicBool::new(false), config }
    }

    /// The process is stopping.
    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Another configuration is in effect.
    pub(super) fn reload_succeeded(&self, effective: Value) {
        let last_reload = json!({ "result": "success", "time": unix_seconds(), "error": null });
        *self.lock() = Config { effective, last_reload };
        self.reloads.succeeded(SystemTime::now());
    }

    /// A configuration was refused.
    pub(super) fn reload_failed(&self, error: &str) {
        self.lock().last_reload = json!({ "result": "failure", "time": unix_seconds(), "error": error });
        self.reloads.failed();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Config> {
        // Nothing panics while it is held, so what a poisoned lock guards is whole.
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl AdminState for State {
    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn unready(&self) -> Vec<Unready> {
        if self.draining.load(Ordering::Relaxed) {
            return vec![Unready { component: "process".to_owned(), reason: "it is stopping".to_owned() }];
        }
        let not_ready = self.gateway.not_ready().into_iter();
        not_ready.map(|part| Unready { component: part.component, reason: part.reason }).collect()
    }

    fn services(&self) -> Value {
        self.gateway.services()
    }

    fn service(&self, name: &str) -> Option<Value> {
        self.gateway.service(name)
    }

    fn listeners(&self) -> Value {
        self.gateway.listeners()
    }

    fn routes(&self) -> Value {
        self.gateway.routes()
    }

    fn config(&self) -> Value {
        let config = self.lock();
        json!({ "effective": config.effective, "last_reload": config.last_reload })
    }
}
