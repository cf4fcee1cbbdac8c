//! `tenfold check`: reads the configuration, reports every mistake with its place, and starts nothing.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use config::{Diagnostics, Loaded, PoolEstimate};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  tenfold check                      Check ./tenfold.toml
  tenfold check site.toml --json     The same for programs, another file
  tenfold check --print effective    Show the configuration with all defaults filled in

Exit codes:
  0  the configuration can be used
  1  it cannot; every error is on standard error";

/// What `tenfold check` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The file
    #[arg(default_value = "./tenfold.toml")]
    file: PathBuf,

    /// Print one JSON object with the errors and warnings to standard output
    #[arg(long)]
    json: bool,

    /// Say nothing when the configuration can be used, not even warnings
    #[arg(short, long)]
    quiet: bool,

    /// Print more to standard output, as JSON
    #[arg(long, value_enum, value_name = "WHAT")]
    print: Option<Print>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Print {
    /// The configuration with all defaults filled in and secrets hidden
    Effective,
}

/// What is printed where, and how the command ends.
struct Answer {
    stdout: String,
    stderr: String,
    good: bool,
}

/// Checks the file.
///
/// # Errors
/// When standard output or standard error cannot be written to; a bad configuration is an exit code, not an error.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let loaded = config::load(&args.file, &|name| std::env::var(name).ok());
    let answer = answer(args, loaded, wants_color());
    std::io::stderr().lock().write_all(answer.stderr.as_bytes())?;
    std::io::stdout().lock().write_all(answer.stdout.as_bytes())?;
    Ok(if answer.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether standard error shows colours and they are wanted (<https://no-color.org>).
pub(crate) fn wants_color() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn answer(args: &CheckArgs, loaded: Result<Loaded, Diagnostics>, color: bool) -> Answer {
    let good = loaded.is_ok();
    if args.json {
        return Answer { stdout: answer_json(args, &loaded), stderr: String::new(), good };
    }
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(found) => {
            let errors = found.errors();
            let noun = if errors == 1 { "error" } else { "errors" };
            let stderr = format!("{}{}: {errors} {noun}\n", found.render(color), args.file.display());
            return Answer { stdout: String::new(), stderr, good };
        }
    };
    let stdout = match args.print {
        Some(Print::Effective) => format!("{:#}\n", loaded.effective),
        None if args.quiet => String::new(),
        None => summary(&args.file, &loaded),
    };
    let stderr = if args.quiet { String::new() } else { loaded.warnings.render(color) };
    Answer { stdout, stderr, good }
}

fn answer_json(args: &CheckArgs, loaded: &Result<Loaded, Diagnostics>) -> String {
    let found = match loaded {
        Ok(loaded) => &loaded.warnings,
        Err(found) => found,
    };
    let mut object = json!({
        "ok": loaded.is_ok(),
        "errors": found.errors(),
        "warnings": found.warnings(),
        "findings": found.to_json(),
    });
    if let Ok(loaded) = loaded {
        object["pools"] = loaded.estimates.iter().map(estimate_json).collect();
    }
    if let (Ok(loaded), Some(Print::Effective)) = (loaded, args.print) {
        object["effective"] = loaded.effective.clone();
    }
    format!("{object:#}\n")
}

fn summary(file: &Path, loaded: &Loaded) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let gateway = &loaded.gateway;
    let mut parts = vec![
        count(gateway.listeners().len(), "listener"),
        count(gateway.routes().len(), "route"),
        count(gateway.services().len(), "service"),
    ];
    if !loaded.databases.is_empty() {
        parts.push(count(loaded.databases.len(), "database"));
    }
    parts.push(count(loaded.warnings.warnings(), "warning"));
    let pools: String = loaded.estimates.iter().map(estimate).collect();
    format!("{}: ok ({})\n{pools}", file.display(), parts.join(", "))
}

/// What is expected of a database, and what its pools are for that.
fn estimate(estimate: &PoolEstimate) -> String {
    let PoolEstimate { database, per_second, time, busy, suggested, size } = estimate;
    let time = vocab::units::format_duration(*time);
    format!(
        "database.{database}: {per_second}/s of {time} each keep {busy:.1} connections busy on average; \
         with {suggested} few clients wait, and the pool has {size}\n"
    )
}

fn estimate_json(estimate: &PoolEstimate) -> serde_json::Value {
    json!({
        "database": estimate.database,
        "per_second": estimate.per_second,
        "seconds": estimate.time.as_secs_f64(),
        "busy": estimate.busy,
        "suggested": estimate.suggested,
        "size": estimate.size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[listener.web]\nlisten = \"127.0.0.1:8080\"\n[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"127.0.0.1:9001\"]\n";

    fn check(text: &str, flags: &str) -> Answer {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: CheckArgs,
        }
        let words = std::iter::once("check").chain(flags.split_whitespace());
        let args = <Alone as clap::Parser>::parse_from(words).args;
        answer(&args, config::load_str(text, &|_| None), false)
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let answer = check(GOOD, "");
        assert_eq!(answer.stdout, "./tenfold.toml: ok (1 listener, 1 route, 1 service, 0 warnings)\n");
        assert_eq!((answer.stderr.as_str(), answer.good), ("", true));
    }

    #[test]
    fn warnings_do_not_fail_and_can_be_silenced() {
        let text = GOOD.replace("9001", "8080");
        let answer = check(&text, "site.toml");
        assert!(answer.good && answer.stdout.starts_with("site.toml: ok") && answer.stdout.contains("1 warning)"));
        assert!(answer.stderr.starts_with("warning: service.api.endpoints[0]: "), "{}", answer.stderr);
        let quiet = check(&text, "--quiet");
        assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str(), quiet.good), ("", "", true));
    }

    #[test]
    fn pools_are_told_what_they_need() {
        let text = "[database.shop]\nlisten = \"127.0.0.1:6432\"\nprimary = \"postgres://db1/shop\"\n\
                    expect = { rate = \"2000/s\", time = \"4ms\" }\n\
                    auth = { method = \"trust\" }\n";
        let told = check(text, "");
        let expected = "./tenfold.toml: ok (0 listeners, 0 routes, 0 services, 1 database, 0 warnings)\n\
                        database.shop: 2000/s of 4ms each keep 8.0 connections busy on average; with 14 few clients wait, \
                        and the pool has 14\n";
        assert_eq!((told.stdout.as_str(), told.stderr.as_str(), told.good), (expected, "", true));
        let json: serde_json::Value = serde_json::from_str(&check(text, "--json").stdout).unwrap();
        assert_eq!((&json["pools"][0]["busy"], &json["pools"][0]["suggested"]), (&8.0.into(), &14.into()));
    }

    #[test]
    fn errors_fail_even_quietly() {
        let text = GOOD.replace("api\"", "apii\"");
        for flags in ["", "--quiet", "--print effective"] {
            let answer = check(&text, flags);
            assert!(!answer.good && answer.stdout.is_empty());
            assert!(
                answer.stderr.contains("tenfold.toml:4:11") && answer.stderr.ends_with("./tenfold.toml: 1 error\n")
            );
        }
    }

    #[test]
    fn programs_get_one_object() {
        let parsed = |text: &str, flags: &str| -> serde_json::Value {
            let answer = check(text, flags);
            assert_eq!(answer.stderr, "");
            serde_json::from_str(&answer.stdout).unwrap()
        };
        let bad = parsed(&GOOD.replace("api\"", "apii\""), "--json");
        assert_eq!((&bad["ok"], &bad["errors"], &bad["findings"][0]["line"]), (&false.into(), &1.into(), &4.into()));
        let good = parsed(GOOD, "--json --print effective");
        assert_eq!(
            (&good["ok"], &good["effective"]["service"]["api"]["balance"]),
            (&true.into(), &"least_connections".into())
        );
    }
}
