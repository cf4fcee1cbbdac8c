//! Measurements beside peers; see `docs/benchmarks.md`.

mod balance;
mod bare;
mod cache;
mod cachelib;
mod callgrind;
mod db;
mod gateway;
mod h2load;
mod httpcache;
mod idle;
mod l4;
mod library;
mod limit;
mod mirror;
mod overload;
mod report;
mod resp;
mod shared;
mod stampede;
mod store;
mod subject;
mod wrk;

use anyhow::Result;
use clap::Subcommand;

pub use balance::BalanceArgs;
pub use bare::splice_connections;
pub use cache::CacheArgs;
pub use cachelib::CachelibArgs;
pub use db::DbArgs;
pub use gateway::GatewayArgs;
pub use httpcache::HttpcacheArgs;
pub use idle::{IdleArgs, hold as hold_idle_connections};
pub use l4::L4Args;
pub use library::LibraryArgs;
pub use limit::LimitArgs;
pub use mirror::MirrorArgs;
pub use overload::OverloadArgs;
pub use resp::RespArgs;
pub use shared::SharedArgs;
pub use stampede::StampedeArgs;
pub use store::StoreArgs;

/// The benches.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// CPU time per request of whole proxies, and memory per idle connection
    Gateway(GatewayArgs),
    /// CPU time per exchange of proxies that pass TCP through
    L4(L4Args),
    /// CPU time per request of caches, nearly all of which are hits
    Cache(CacheArgs),
    /// 1,000 requests at once for what a cache does not have, or no longer
    Stampede(StampedeArgs),
    /// Instructions per pick of an endpoint
    Balance(BalanceArgs),
    /// Instructions per decision of a limit
    Limit(LimitArgs),
    /// Instructions of the cache's decision about a request that the store answers
    Httpcache(HttpcacheArgs),
    /// Instructions of a call through the pieces of the library
    Library(LibraryArgs),
    /// Hits of the cache library, beside the bare engine, other caches and the bare client of Redis
    Cachelib(CachelibArgs),
    /// Instructions per lookup in the cache store
    Store(StoreArgs),
    /// CPU time per transaction of proxies before PostgreSQL, and memory per idle client
    Db(DbArgs),
    /// CPU time per command of a named cache, beside Redis
    Resp(RespArgs),
    /// How much gets through of a rate that two gateways share
    Shared(SharedArgs),
    /// Latency of requests that are mirrored, beside that of requests that are not
    Mirror(MirrorArgs),
    /// What is left of a service that is offered three times what it can do, with load shedding and without
    Overload(OverloadArgs),
}

/// Runs a bench.
///
/// # Errors
/// When something cannot be run, a request failed, or a bound of the bench is exceeded.
pub fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Gateway(args) => gateway::run(&args),
        BenchCommand::L4(args) => l4::run(&args),
        BenchCommand::Cache(args) => cache::run(&args),
        BenchCommand::Stampede(args) => stampede::run(&args),
        BenchCommand::Balance(args) => balance::run(&args),
        BenchCommand::Limit(args) => limit::run(&args),
        BenchCommand::Httpcache(args) => httpcache::run(&args),
        BenchCommand::Library(args) => library::run(&args),
        BenchCommand::Cachelib(args) => cachelib::run(&args),
        BenchCommand::Store(args) => store::run(&args),
        BenchCommand::Db(args) => db::run(&args),
        BenchCommand::Resp(args) => resp::run(&args),
        BenchCommand::Shared(args) => shared::run(&args),
        BenchCommand::Mirror(args) => mirror::run(&args),
        BenchCommand::Overload(args) => overload::run(&args),
    }
}
