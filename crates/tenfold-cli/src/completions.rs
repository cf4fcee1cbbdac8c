//! `tenfold completions`: a script that teaches a shell this command's arguments.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tenfold", &mut script);
    match std::io::stdout().write_all(&script) {
        // Whoever reads may stop early, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("completions: cannot be written"),
        _ => Ok(ExitCode::SUCCESS),
    }
}
