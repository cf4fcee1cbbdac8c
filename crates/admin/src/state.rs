use std::pin::Pin;

use prometheus_client::registry::Registry;
use serde_json::Value;

use crate::command::{Command, Refused};

/// What comes of a command: what is served afterwards, or why nothing changed.
pub type Outcome<'a> = Pin<Box<dyn Future<Output = Result<Value, Refused>> + Send + 'a>>;

/// What the admin listener shows and commands. Every method but [`command`](Self::command) is called once per request
/// for it and answers from memory: it neither waits nor blocks. Secrets are left out by whoever implements it.
pub trait AdminState: Send + Sync + 'static {
    /// The metrics to scrape.
    fn registry(&self) -> &Registry;

    /// The components that keep the process from serving; none when it is ready.
    fn unready(&self) -> Vec<Unready>;

    /// The process in short.
    fn status(&self) -> Value;

    /// All services, an array of objects.
    fn services(&self) -> Value;

    /// One service with its endpoints; `None` when no service has this name.
    fn service(&self, name: &str) -> Option<Value>;

    /// All listeners, an array of objects.
    fn listeners(&self) -> Value;

    /// All routes, an array of objects, by listener, in the file's order.
    fn routes(&self) -> Value;

    /// What was changed at run time, an array of objects.
    fn overrides(&self) -> Value;

    /// What the edge cache holds and did.
    fn cache(&self) -> Value;

    /// The named caches, an array of objects.
    fn caches(&self) -> Value;

    /// The databases, an array of objects.
    fn databases(&self) -> Value;

    /// The clients of a database, an array of objects; `None` when there is no such database.
    fn database_clients(&self, database: &str) -> Option<Value>;

    /// The value of a key in a named cache; `None` when there is no such key or cache.
    fn cached_value(&self, cache: &str, key: &str) -> Option<Value>;

    /// The configuration in effect and the result of the last reload, with its error's text if it failed.
    fn config(&self) -> Value;

    /// Carries a command out, and completes when requests that begin from then on go by it.
    fn command(&self, command: Command) -> Outcome<'_>;
}

/// A component that is not ready, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// The component, as `service api` or `listener web`.
    pub component: String,
    /// What is missing.
    pub reason: String,
}
