//! Instructions that a piece of the library adds to a call that is ready at once. The call alone is subtracted.

use anyhow::Result;
use clap::Args;

use super::callgrind::Costs;
use crate::proof::ProofArgs;

/// Arguments of `bench library`.
#[derive(Debug, Args)]
pub struct LibraryArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// Names as `call_cost` takes them: pieces, the policy that most have, and one with all of them.
const PIECES: &[&str] = &["breaker", "limiter", "bulkhead", "shedder", "retry", "timeout", "policy", "policy_all"];
/// A call through all of them costs about 1,300, readings of the clock included: a third of a microsecond.
const INSTRUCTIONS_MAX: f64 = 1_600.0;

pub(super) fn run(args: &LibraryArgs) -> Result<()> {
    let costs = Costs {
        package: "tenfold",
        example: "call_cost",
        options: ["--piece", "--calls"],
        names: PIECES,
        operation: "call",
        instructions_max: INSTRUCTIONS_MAX,
    };
    costs.judge(&args.proof)
}
