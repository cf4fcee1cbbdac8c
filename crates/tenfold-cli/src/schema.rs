//! `tenfold schema`: prints the JSON Schema of the configuration.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  tenfold schema > tenfold.schema.json
  Then begin tenfold.toml with the line
  #:schema ./tenfold.schema.json
  so that editors complete and explain its keys.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {}

/// Prints the schema to standard output.
///
/// # Errors
/// When standard output cannot be written to.
pub(crate) fn run(_args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let text = serde_json::to_string_pretty(&config::schema())?;
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
