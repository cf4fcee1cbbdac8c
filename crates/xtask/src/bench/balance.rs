//! Instructions per pick of an endpoint. The same loop without picking is subtracted.

use anyhow::Result;
use clap::Args;

use super::callgrind::Costs;
use crate::proof::ProofArgs;

/// Arguments of `bench balance`.
#[derive(Debug, Args)]
pub struct BalanceArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// Names as `pick_cost` takes them.
const ALGORITHMS: &[&str] = &[
    "round_robin",
    "least_connections",
    "random",
    "power_of_two",
    "peak_ewma",
    "ring",
    "maglev",
    "ring_bounded",
    "maglev_bounded",
    "round_robin_spilling",
    "least_connections_spilling",
    "maglev_spilling",
];
/// A pick among 100 endpoints costs at most this.
const INSTRUCTIONS_MAX: f64 = 300.0;

pub(super) fn run(args: &BalanceArgs) -> Result<()> {
    let costs = Costs {
        package: "balance",
        example: "pick_cost",
        options: ["--algorithm", "--picks"],
        names: ALGORITHMS,
        operation: "pick",
        instructions_max: INSTRUCTIONS_MAX,
    };
    costs.judge(&args.proof)
}
