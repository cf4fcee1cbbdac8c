//! Instructions of a lookup in the cache store, and of storing 1 KiB. The same loop, with the name of a key, is subtracted.

use anyhow::Result;
use clap::Args;

use super::callgrind::Costs;
use crate::proof::ProofArgs;

/// Arguments of `bench store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// Names as `hit_cost` takes them.
const LOOKUPS: &[&str] = &["one", "hit", "purged", "miss"];
/// A lookup costs at most this. A hit with its hash takes about half of it.
const INSTRUCTIONS_MAX: f64 = 1_500.0;

pub(super) fn run(args: &StoreArgs) -> Result<()> {
    let costs = Costs {
        package: "store",
        example: "hit_cost",
        options: ["--what", "--lookups"],
        names: LOOKUPS,
        operation: "lookup",
        instructions_max: INSTRUCTIONS_MAX,
    };
    costs.judge(&args.proof)
}
