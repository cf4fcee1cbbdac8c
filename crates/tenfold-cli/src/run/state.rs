//! What the admin listener shows of the running process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use admin::{AdminState, Command, DatabaseChange, Outcome, Reason, Refused, Unready, UpgradeOrder};
use cache_server::CachesView;
use gateway::{GatewayControl, GatewayView};
use net::handover::Draining;
use pgproxy::DatabasesView;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use telemetry::trace::Tracer;
use telemetry::{AccessLog, LogHandle, ProcessMetrics, ReloadMetrics};
use tokio::sync::{mpsc, oneshot};

use super::beginning::Before;
use super::command;
use super::databases;
use super::effective;
use super::named;
use super::upgrade;

/// Where an answer goes.
type Answer = oneshot::Sender<Result<Value, String>>;

/// What was asked for over the admin listener and is done in turn, and where its answer goes.
pub(super) enum Ask {
    /// A reload.
    Reload(Answer),
    /// An upgrade, to this program if one is named.
    Upgrade(Option<PathBuf>, Answer),
    /// A change of a database's pools.
    Database(String, DatabaseChange, oneshot::Sender<Result<Value, Refused>>),
}

/// The state of the process.
#[derive(Debug)]
pub(super) struct State {
    gateway: GatewayView,
    control: GatewayControl,
    caches: CachesView,
    databases: DatabasesView,
    database_rows: databases::Rows,
    asks: mpsc::Sender<Ask>,
    started: SystemTime,
    registry: Registry,
    /// Counts of reloads.
    reloads: Arc<ReloadMetrics>,
    draining: AtomicBool,
    config: Mutex<Config>,
}

/// What tells of the process, each with counts of its own.
pub(super) struct Logs {
    pub(super) log: LogHandle,
    pub(super) access: AccessLog,
    pub(super) tracer: Tracer,
}

/// The configuration in effect, and how the last reload went.
#[derive(Debug)]
struct Config {
    effective: Value,
    last_reload: Value,
    last_upgrade: Value,
    /// The process before this one, while it has connections.
    predecessor: Value,
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
    /// Everything runs by the configuration `effective`. What is asked for goes to `asks`.
    pub(super) fn new(
        (view, control): (GatewayView, GatewayControl),
        (caches, databases): (CachesView, DatabasesView),
        Logs { log, access, tracer }: Logs,
        effective: Value,
        asks: mpsc::Sender<Ask>,
    ) -> Self {
        let started = SystemTime::now();
        let reloads = Arc::new(ReloadMetrics::default());
        reloads.started(started);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(view.clone()));
        registry.register_collector(Box::new(caches.clone()));
        let database_rows = databases::Rows::new(databases.clone(), &effective);
        registry.register_collector(Box::new(database_rows.clone()));
        registry.register_collector(Box::new(ProcessMetrics::new(env!("CARGO_PKG_VERSION"))));
        registry.register_collector(Box::new(SharedCollector(Arc::clone(&reloads))));
        registry.register_collector(Box::new(access));
        registry.register_collector(Box::new(tracer));
        registry.register_collector(Box::new(log));
        let (last_reload, last_upgrade, predecessor) = (Value::Null, Value::Null, Value::Null);
        let config = Mutex::new(Config { effective, last_reload, last_upgrade, predecessor });
        let draining = AtomicBool::new(false);
        Self {
            gateway: view,
            control,
            caches,
            databases,
            database_rows,
            asks,
            started,
            registry,
            reloads,
            draining,
            config,
        }
    }

    /// The process is stopping.
    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Another configuration is in effect.
    pub(super) fn reload_succeeded(&self, effective: Value) {
        self.database_rows.follow(&effective);
        let last_reload = json!({ "result": "success", "time": unix_seconds(), "error": null });
        let mut config = self.lock();
        (config.effective, config.last_reload) = (effective, last_reload);
        drop(config);
        self.reloads.succeeded(SystemTime::now());
    }

    /// A configuration was refused.
    pub(super) fn reload_failed(&self, error: &str) {
        self.lock().last_reload = json!({ "result": "failure", "time": unix_seconds(), "error": error });
        self.reloads.failed();
    }

    /// No other process has taken over.
    pub(super) fn upgrade_failed(&self, error: &str) {
        self.lock().last_upgrade = json!({ "result": "failure", "time": unix_seconds(), "error": error });
    }

    /// Notes how far the process before this one is, until it has ended.
    pub(super) async fn watch(self: Arc<Self>, before: Before, draining: Option<Draining>) {
        let Some(mut draining) = draining else { return };
        self.lock().predecessor = before.shown(0);
        while let Some(connections) = draining.next().await {
            self.lock().predecessor = before.shown(connections);
        }
        self.lock().predecessor = Value::Null;
        tracing::info!(before = ?before, "the process before this one has ended");
    }

    /// How the last reload went; null when there was none.
    pub(super) fn last_reload(&self) -> Value {
        self.lock().last_reload.clone()
    }

    async fn ask(&self, ask: impl FnOnce(Answer) -> Ask, failed: Reason) -> Result<Value, Refused> {
        let stopping = || Refused::new(Reason::Stopping, "the process is stopping");
        let (done, answered) = oneshot::channel();
        self.asks.send(ask(done)).await.map_err(|_| stopping())?;
        let result = answered.await.map_err(|_| stopping())?;
        result.map_err(|error| Refused::new(failed, error))
    }

    async fn upgrade(&self, order: UpgradeOrder) -> Result<Value, Refused> {
        let admin = self.lock().effective["admin"].clone();
        let program = match order.binary {
            None => None,
            // Whoever may ask could otherwise run any program as this user.
            Some(_) if admin["token"].is_null() && admin["token_file"].is_null() => {
                let text = "another binary is taken only where the admin listener has a token";
                return Err(Refused::new(Reason::Forbidden, text));
            }
            Some(binary) => Some(upgrade::program(&binary).map_err(|error| Refused::new(Reason::Invalid, error))?),
        };
        self.ask(|answer| Ask::Upgrade(program, answer), Reason::Failed).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Config> {
        // Nothing panics while it is held, so what a poisoned lock guards is whole.
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_seconds() -> u64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl AdminState for State {
    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn unready(&self) -> Vec<Unready> {
        if self.is_draining() {
            return vec![Unready { component: "process".to_owned(), reason: "it is stopping".to_owned() }];
        }
        let not_ready = self.gateway.not_ready().into_iter();
        not_ready.map(|part| Unready { component: part.component, reason: part.reason }).collect()
    }

    fn status(&self) -> Value {
        let unready = self.unready();
        let named = |list: &Value| list.as_array().map_or(0, Vec::len);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started": seconds(self.started),
            "state": if self.is_draining() { "stopping" } else { "running" },
            "ready": unready.is_empty(),
            "failing": unready
                .iter()
                .map(|one| json!({"component": one.component, "reason": one.reason}))
                .collect::<Vec<_>>(),
            "listeners": named(&self.gateway.listeners()),
            "routes": named(&self.gateway.routes()),
            "services": named(&self.gateway.services()),
            "overrides": named(&self.gateway.overrides()),
            "last_reload": self.last_reload(),
            "last_upgrade": self.lock().last_upgrade.clone(),
            "predecessor": self.lock().predecessor.clone(),
        })
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

    fn overrides(&self) -> Value {
        self.gateway.overrides()
    }

    fn cache(&self) -> Value {
        self.gateway.cache()
    }

    fn caches(&self) -> Value {
        self.caches.list()
    }

    fn databases(&self) -> Value {
        databases::list(&self.databases)
    }

    fn database_clients(&self, database: &str) -> Option<Value> {
        databases::clients(&self.databases, database)
    }

    fn cached_value(&self, cache: &str, key: &str) -> Option<Value> {
        named::value(&self.caches, cache, key)
    }

    fn config(&self) -> Value {
        let overrides = self.gateway.overrides();
        let config = self.lock();
        let effective = effective::with_overrides(&config.effective, &overrides);
        json!({ "effective": effective, "overrides": overrides, "last_reload": config.last_reload })
    }

    fn command(&self, command: Command) -> Outcome<'_> {
        Box::pin(async move {
            if self.is_draining() {
                return Err(Refused::new(Reason::Stopping, "the process is stopping"));
            }
            match command {
                Command::Reload => self.ask(Ask::Reload, Reason::Configuration).await,
                Command::Upgrade(order) => self.upgrade(order).await,
                Command::Database { database, change } => {
                    if !databases::is_known(&self.databases, &database) {
                        return Err(Refused::new(Reason::NotFound, format!("no database is named {database:?}")));
                    }
                    let stopping = || Refused::new(Reason::Stopping, "the process is stopping");
                    let (done, answered) = oneshot::channel();
                    self.asks.send(Ask::Database(database, change, done)).await.map_err(|_| stopping())?;
                    answered.await.map_err(|_| stopping())?
                }
                Command::PurgeNamed { cache, target } => named::purge(&self.caches, &cache, &target),
                other => command::change(&self.control, &self.gateway, other).await,
            }
        })
    }
}
