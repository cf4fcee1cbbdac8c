//! From `tenfold.toml` to checked parameters: every error at once, each with its place and its fix.
//!
//! The way of a configuration: files are read and joined (`include`), parsed into a tree that keeps places (`node`),
//! read into `Raw*` tables (`raw`, whose description is also the JSON Schema and the reference), and converted into
//! the parameters of the parts that run (`convert`). Each step goes on after an error as far as what it found can be
//! trusted.
//!
//! ```
//! let text = r#"
//!     [listener.web]
//!     listen = "127.0.0.1:8080"
//!     [[route]]
//!     service = "api"
//!     [service.api]
//!     endpoints = ["127.0.0.1:9001", "127.0.0.1:9002"]
//! "#;
//! let loaded = config::load_str(text, &|_| None).unwrap();
//! assert_eq!(loaded.gateway.routes()[0].name.as_str(), "api");
//! ```

mod acme;
mod action;
mod address;
mod admin_table;
mod breaker;
mod cache;
mod convert;
mod database;
mod diagnostic;
mod endpoints_file;
mod entry;
mod expand;
mod field;
mod grammar;
mod habits;
mod http;
mod include;
mod limit;
mod map;
mod matching;
mod named_cache;
mod node;
mod quantity;
mod raw;
mod reference;
mod render;
mod resolver;
mod route;
mod served;
mod service;
mod shedding;
mod source;
mod store;
mod stream;
mod syntax;
mod taken;
mod tls;
mod trace;
mod value;
mod warnings;

use std::path::{Path, PathBuf};

pub use address::endpoint_address;
pub use admin_table::{AdminAccess, token_of};
pub use database::PoolEstimate;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use reference::reference;
pub use source::Location;

use diagnostic::Sink;
use expand::Expander;
use grammar::{Key, Value as _};
use include::Includer;
use node::{Node, Value};
use raw::RawConfig;
use source::{Place, Sources};

/// A configuration, ready to run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the gateway does.
    pub gateway: gateway::params::GatewayParams,
    /// Caches for programs in other languages.
    pub caches: Vec<cache_server::CacheParams>,
    /// PostgreSQL databases.
    pub databases: Vec<pgproxy::DatabaseParams>,
    /// Where clients of databases connect.
    pub database_listeners: Vec<pgproxy::PgListenerParams>,
    /// How large pools of databases should be, where the file says what is expected of them.
    pub estimates: Vec<PoolEstimate>,
    /// What is logged.
    pub log: telemetry::LogParams,
    /// Traces, if they are wanted.
    pub trace: Option<telemetry::trace::TraceParams>,
    /// Buckets of durations in metrics.
    pub buckets: telemetry::LatencyBuckets,
    /// The admin listener, unless it is turned off.
    pub admin: Option<admin::AdminParams>,
    /// How the process is replaced by a new one.
    pub upgrade: net::handover::UpgradeParams,
    /// The files that were read, the main file first. A change of any of them changes the configuration.
    pub files: Vec<PathBuf>,
    /// Further files that the configuration names and whose contents count: certificates, keys, tokens, lists of endpoints.
    pub named: Vec<PathBuf>,
    /// The configuration with all defaults filled in; secrets show as `***`.
    pub effective: serde_json::Value,
    /// What is allowed but probably not meant.
    pub warnings: Diagnostics,
}

/// Reads a file and what it includes. `env` gives the values of environment variables.
///
/// # Errors
/// All errors found, with their places.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Diagnostics> {
    read(env, |includer| includer.file(path, None))
}

/// Reads a configuration that is not in a file, so it cannot include any.
///
/// # Errors
/// All errors found, with their places.
pub fn load_str(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Diagnostics> {
    load_bytes(text.as_bytes(), env)
}

/// Reads a configuration from bytes that should be UTF-8, as [`load_str`] does.
///
/// # Errors
/// All errors found, with their places.
pub fn load_bytes(bytes: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Diagnostics> {
    read(env, |includer| includer.bytes(Path::new("tenfold.toml"), bytes, None))
}

/// Reads from a file, and what it includes, where the admin listener is and with which token it is asked; `None` when
/// it is turned off. Whoever asks need not be allowed to read the rest, such as keys, so mistakes elsewhere do not count.
///
/// # Errors
/// What keeps the files from being read, or is wrong about `[admin]`.
pub fn load_admin(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<AdminAccess>, Diagnostics> {
    let (mut sources, mut sink) = (Sources::default(), Sink::default());
    let mut includer = Includer::new(&mut sources, &mut sink, Expander::new(env));
    includer.file(path, None);
    let Some(root) = includer.finish() else {
        return Err(Diagnostics::new(sources, sink));
    };
    let mut sink = Sink::default();
    let access = admin_table::access(&root, &mut tls::Files::new(&sources), &mut sink);
    let found = Diagnostics::new(sources, sink);
    if found.errors() == 0 { Ok(access) } else { Err(found) }
}

/// The grammar of the file as JSON Schema (draft 2020-12).
pub fn schema() -> serde_json::Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<RawConfig>().to_value()
}

fn read(
    env: &dyn Fn(&str) -> Option<String>,
    files: impl FnOnce(&mut Includer<'_, '_>),
) -> Result<Loaded, Diagnostics> {
    let (mut sources, mut sink) = (Sources::default(), Sink::default());
    let mut includer = Includer::new(&mut sources, &mut sink, Expander::new(env));
    files(&mut includer);
    let Some(mut root) = includer.finish() else {
        return Err(Diagnostics::new(sources, sink));
    };
    let files = sources.paths().cloned().collect();
    let lists = endpoints_file::add(&mut root, &mut sources, &mut Expander::new(env), &mut sink);
    let root = Node { value: Value::Table(root), place: Place::start_of(0) };
    let raw = RawConfig::read(&root, &Key::Root, &mut sink);
    let mut named = tls::Files::new(&sources);
    let converted = raw.and_then(|raw| convert::config(raw, &mut named, &mut sink));
    let named = [named.read, lists].concat();
    let found = Diagnostics::new(sources, sink);
    match converted {
        Some(convert::Converted { gateway, caches, databases, log, trace, buckets, admin, upgrade, effective })
            if found.errors() == 0 =>
        {
            let database::Databases { databases, listeners: database_listeners, estimates } = databases;
            Ok(Loaded {
                gateway,
                caches,
                databases,
                database_listeners,
                estimates,
                log,
                trace,
                buckets,
                admin,
                upgrade,
                files,
                named,
                effective,
                warnings: found,
            })
        }
        _ => Err(found),
    }
}
