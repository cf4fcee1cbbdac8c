//! Commands about caches.

mod simulate;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use simulate::SimulateArgs;

use crate::control::cache::{PurgeArgs, TopArgs};
use crate::control::named_cache::{DelArgs, GetArgs, ListArgs};
use crate::control::service_cache::InvalidateArgs;

/// What the commands look like.
pub(crate) const EXAMPLES: &str = "\
Examples:
  tenfold cache purge --tag product-7                        Whatever carries the tag
  tenfold cache purge --url https://shop.example.com/cart    One URL, with its variants
  tenfold cache purge --prefix shop.example.com/img/         Whatever lies under a path
  tenfold cache purge --host shop.example.com --soft         Stale, rather than gone
  tenfold cache top                                          What is asked for most
  tenfold cache list                                         Caches of [cache.NAME], and what they hold
  tenfold cache get sessions user:7                          The value of a key in one of them
  tenfold cache del sessions user:7                          Remove it
  tenfold cache del sessions --tag tenant-3                  Remove whatever carries a tag
  tenfold cache list --at http://127.0.0.1:8080/caches       Caches that a service has by the library
  tenfold cache invalidate product --key 7 --at http://127.0.0.1:8080/caches
  tenfold cache invalidate product --tag category:7 --at http://127.0.0.1:8080/caches --token-file token
  tenfold cache invalidate --every-cache --all --at http://127.0.0.1:8080/caches

What is purged softly is served where its service fails, or while it is fetched again.";

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show the hit ratio that a cache of a size would have had
    Simulate(SimulateArgs),
    /// Have what the edge cache of a running process has stored gone, or stale
    Purge(PurgeArgs),
    /// Show what the edge cache of a running process is asked for most
    Top(TopArgs),
    /// Show the named caches of a running process, or with --at those of a service, and what they hold
    List(ListArgs),
    /// Show the value of a key in a named cache of a running process
    Get(GetArgs),
    /// Remove from a named cache of a running process: a key, whatever carries a tag, or everything
    Del(DelArgs),
    /// Invalidate in caches that a service has by the library, in all of its instances: a key, whatever carries a tag, or everything
    Invalidate(InvalidateArgs),
}

/// Runs one of them.
///
/// # Errors
/// As the command has them.
pub(crate) fn run(command: &CacheCommand) -> anyhow::Result<ExitCode> {
    match command {
        CacheCommand::Simulate(args) => simulate::run(args),
        CacheCommand::Purge(args) => crate::control::cache::purge(args),
        CacheCommand::Top(args) => crate::control::cache::top(args),
        CacheCommand::List(args) => crate::control::named_cache::list(args),
        CacheCommand::Get(args) => crate::control::named_cache::get(args),
        CacheCommand::Del(args) => crate::control::named_cache::del(args),
        CacheCommand::Invalidate(args) => crate::control::service_cache::invalidate(args),
    }
}
