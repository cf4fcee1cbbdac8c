//! What databases and their listeners are told, checked.
//!
//! Whoever fills these has parsed and checked them; nothing here can be wrong by itself. Every type has a `Default` where the
//! documentation names one, so that a configuration says only what differs.

mod database;
mod listener;
mod policy;
mod server;
mod user;

pub use database::{DatabaseName, DatabaseParams, LimitParams, PrepareParams, TimeoutParams};
pub use listener::{ConsoleParams, ConsoleUser, Listen, PgListenerParams, PgTls};
pub use pgroute::pool::PoolParams;
pub use policy::{
    CatalogueParams, CausalityParams, CausalityScope, FailoverParams, LeaseParams, ListenParams, Mode, NoReplica, Pid,
    PinPolicy, ReplicaPolicy, RoutePolicy,
};
pub use server::{BackendTls, ReplicaParams, ServerAddress, ServerParams};
pub use user::{AuthMethod, AuthParams, AuthQuery, RuleParams, UserParams};
