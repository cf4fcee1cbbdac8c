//! Instructions per decision of a limit. The same loop, with the hash of an address, is subtracted.

use anyhow::Result;
use clap::Args;

use super::callgrind::Costs;
use crate::proof::ProofArgs;

/// Arguments of `bench limit`.
#[derive(Debug, Args)]
pub struct LimitArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// Names as `check_cost` takes them.
const LIMITS: &[&str] = &[
    "single_gcra",
    "keyed_gcra",
    "keyed_token_bucket",
    "keyed_sliding_window",
    "keyed_flood",
    "keyed_concurrency",
    "lease",
];
/// A decision costs at most this.
const INSTRUCTIONS_MAX: f64 = 600.0;

pub(super) fn run(args: &LimitArgs) -> Result<()> {
    let costs = Costs {
        package: "limit",
        example: "check_cost",
        options: ["--limit", "--checks"],
        names: LIMITS,
        operation: "decision",
        instructions_max: INSTRUCTIONS_MAX,
    };
    costs.judge(&args.proof)
}
