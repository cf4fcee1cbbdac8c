//! What the command line may say.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::cache::CacheCommand;
use crate::check::CheckArgs;
use crate::control::breaker::BreakerArgs;
use crate::control::database::DatabaseCommand;
use crate::control::endpoint::EndpointArgs;
use crate::control::reload::ReloadArgs;
use crate::control::routes::RoutesArgs;
use crate::control::status::StatusArgs;
use crate::control::top::TopArgs;
use crate::control::upgrade::UpgradeArgs;
use crate::import::ImportArgs;
use crate::run::RunArgs;
use crate::schema::SchemaArgs;

const EXAMPLES: &str = "\
Examples:
  tenfold demo                       See it at work: three instances, one of which dies and returns
  tenfold run                        Run what ./tenfold.toml says
  tenfold check                      Look for mistakes in ./tenfold.toml
  tenfold status                     Show what runs, and how it is
  tenfold top                        Watch requests, errors and latencies
  tenfold endpoint drain api HOST:PORT --wait 30s
  tenfold upgrade                    Replace the running process by a new one, without losing a connection
  tenfold completions bash           Print completions for a shell

Exit codes:
  0  done
  1  the command failed; the reason is on standard error
  2  the arguments were wrong";

/// The scaling layer for backend services: one binary, one file.
#[derive(Debug, Parser)]
#[command(name = "tenfold", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// End when the process with this id, which must be the parent, ends.
    #[arg(long, hide = true, global = true, value_name = "PID")]
    pub(crate) parent: Option<u32>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in the configuration
    Run(RunArgs),

    /// Report every mistake in a configuration, with its place and its fix
    Check(CheckArgs),

    /// Print the JSON Schema of the configuration
    Schema(SchemaArgs),

    /// Turn a configuration of PgBouncer's into one of Tenfold's
    Import(ImportArgs),

    /// Show what a running process serves, and how it is
    Status(StatusArgs),

    /// Show requests, errors and latencies of a running process, again and again
    Top(TopArgs),

    /// Show which requests go where
    Routes(RoutesArgs),

    /// Change endpoints of a running process: drain, weight, add, remove
    Endpoint(EndpointArgs),

    /// Hold breakers of a running process open or closed
    Breaker(BreakerArgs),

    /// Purge the edge cache of a running process, see what is asked for most, and what a cache of a size would do
    #[command(subcommand, after_help = crate::cache::EXAMPLES)]
    Cache(CacheCommand),

    /// Look at the databases of a running process, and hold or renew their connections
    #[command(subcommand, after_help = crate::control::database::EXAMPLES)]
    Db(DatabaseCommand),

    /// Have a running process read its configuration again
    Reload(ReloadArgs),

    /// Replace a running process by a new one without losing a connection
    Upgrade(UpgradeArgs),

    /// See it at work: three instances behind one address, while one dies and returns
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),

    /// The sample server that `demo` runs three of
    #[command(hide = true)]
    DemoInstance(DemoInstanceArgs),

    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
}

const DEMO_EXAMPLES: &str = "\
Examples:
  tenfold demo                       Run it, then stay up to be tried out, until Ctrl-C
  tenfold demo --once                Run it and end
  tenfold demo --once --seconds 8    The same in a hurry

Exit codes:
  0  every request was answered
  1  a request failed, or the demo could not run
  130  it was interrupted before its end";

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the traffic instead of staying up
    #[arg(long)]
    pub(crate) once: bool,

    /// How long traffic is sent
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(4..=3600))]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct DemoInstanceArgs {
    /// The name that it answers with
    #[arg(long)]
    pub(crate) name: String,

    /// The port that it listens on, at 127.0.0.1
    #[arg(long)]
    pub(crate) port: u16,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tenfold completions bash > ~/.local/share/bash-completion/completions/tenfold
  tenfold completions fish > ~/.config/fish/completions/tenfold.fish";

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_contradict_nothing() {
        Cli::command().debug_assert();
    }

    /// The commands in a text, without what is not for `tenfold`.
    fn commands(text: &str) -> impl Iterator<Item = Vec<&str>> {
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with("tenfold "));
        let parts = lines.map(|line| line.split(" && ").next().unwrap_or(line));
        let parts = parts.map(|line| line.split(['|', '>', '#']).next().unwrap_or(line));
        parts.map(|line| line.split("   ").next().unwrap_or(line).split_whitespace().collect())
    }

    fn help_texts(command: &clap::Command, texts: &mut Vec<String>) {
        texts.extend(command.get_after_help().map(ToString::to_string));
        command.get_subcommands().for_each(|inner| help_texts(inner, texts));
    }

    #[test]
    fn every_example_is_understood() {
        let mut texts = vec![include_str!("../../../docs/control.md").to_owned()];
        help_texts(&Cli::command(), &mut texts);
        let mut count = 0;
        for words in texts.iter().flat_map(|text| commands(text)) {
            count += 1;
            // Values in capitals stand for others, which some of them check.
            let words = words.iter().map(|word| if *word == "HOST:PORT" { "10.0.0.1:80" } else { word });
            let words: Vec<&str> = words.collect();
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{words:?}: {}", parsed.err().map_or_else(String::new, |e| e.to_string()));
        }
        assert!(count > 40, "{count}");
    }

    #[test]
    fn a_demo_has_bounds() {
        let check = |text: &str, expected: bool| {
            let parsed = Cli::try_parse_from(text.split(' '));
            assert_eq!(parsed.is_ok(), expected, "{text}");
        };
        check("tenfold demo", true);
        check("tenfold demo --once --seconds 4", true);
        check("tenfold demo --seconds 3", false);
        check("tenfold demo --seconds x", false);
        check("tenfold demo extra", false);
        check("tenfold", false);
    }
}
