//! Instructions of the cache's decision about a request that the store answers. The same loop is subtracted.

use anyhow::Result;
use clap::Args;

use super::callgrind::Costs;
use crate::proof::ProofArgs;

/// Arguments of `bench httpcache`.
#[derive(Debug, Args)]
pub struct HttpcacheArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// Names as `hit_cost` takes them: two parts of a decision, and whole ones.
const CASES: &[&str] =
    &["key", "request", "hit", "hit_sorted_query", "hit_vary", "hit_directive", "not_modified", "range"];
/// A decision costs at most this, a small part of what a request costs the gateway.
const INSTRUCTIONS_MAX: f64 = 2500.0;

pub(super) fn run(args: &HttpcacheArgs) -> Result<()> {
    let costs = Costs {
        package: "httpcache",
        example: "hit_cost",
        options: ["--case", "--decisions"],
        names: CASES,
        operation: "decision",
        instructions_max: INSTRUCTIONS_MAX,
    };
    costs.judge(&args.proof)
}
