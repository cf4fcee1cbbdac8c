//! `tenfold import`: turns another program's configuration into one of Tenfold's, and says what has no counterpart.

mod ini;
mod pgbouncer;
mod setting;
mod write;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  tenfold import pgbouncer.ini > tenfold.toml
  tenfold import pgbouncer.ini --userlist userlist.txt > tenfold.toml

The configuration goes to standard output, and what it lacks to standard error, with the lines that it is about. Passwords are
not copied: variables stand for them, and are named.

Exit codes:
  0  the configuration was translated, with what is said on standard error
  1  the file cannot be read as what it should be";

/// What `tenfold import` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// PgBouncer's configuration
    file: PathBuf,

    /// Its users, where `auth_file` names a file that is elsewhere now
    #[arg(long, value_name = "FILE")]
    userlist: Option<PathBuf>,
}

/// What became of a configuration.
#[derive(Debug, Default)]
struct Imported {
    /// That of Tenfold's.
    text: String,
    notes: Vec<Note>,
}

/// Something that the person has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    /// The line that it is about; `None` for the whole file.
    line: Option<usize>,
    text: String,
}

impl Note {
    fn at(line: usize, text: impl Into<String>) -> Self {
        Self { line: Some(line), text: text.into() }
    }

    fn of_all(text: impl Into<String>) -> Self {
        Self { line: None, text: text.into() }
    }
}

/// Translates a file.
///
/// # Errors
/// When it cannot be read, or is no configuration of PgBouncer's.
pub(crate) fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let text = std::fs::read_to_string(&args.file).with_context(|| format!("{shown} cannot be read"))?;
    let imported = import(&text, args.userlist.as_deref()).with_context(|| format!("{shown} cannot be translated"))?;
    let mut stderr = std::io::stderr().lock();
    for Note { line, text } in &imported.notes {
        match line {
            Some(line) => writeln!(stderr, "{shown}:{line}: {text}")?,
            None => writeln!(stderr, "{shown}: {text}")?,
        }
    }
    std::io::stdout().lock().write_all(imported.text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn import(text: &str, userlist: Option<&Path>) -> anyhow::Result<Imported> {
    let file = ini::parse(text)?;
    anyhow::ensure!(
        file.section("databases").is_some() || file.section("pgbouncer").is_some(),
        "it has neither [databases] nor [pgbouncer]"
    );
    pgbouncer::translate(&file, userlist)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "tests/import";

    /// A variable has the same value everywhere.
    fn env(name: &str) -> Option<String> {
        name.ends_with("_PASSWORD").then(|| "a-password".to_owned())
    }

    #[test]
    fn every_file_is_translated_as_written_down() {
        let update = std::env::var("TENFOLD_GOLDEN").is_ok_and(|mode| mode == "update");
        let mut count = 0;
        for entry in std::fs::read_dir(FOLDER).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            if path.extension().is_none_or(|extension| extension != "ini") {
                continue;
            }
            count += 1;
            let userlist = path.with_extension("userlist");
            let userlist = userlist.is_file().then_some(userlist.as_path());
            let text = std::fs::read_to_string(&path).expect("it is text");
            let imported = import(&text, userlist).expect("it can be translated");
            let line = |note: &Note| match note.line {
                Some(line) => format!("{line}: {}\n", note.text),
                None => format!("{}\n", note.text),
            };
            let notes: String = imported.notes.iter().map(line).collect();
            for (extension, found) in [("toml", &imported.text), ("notes", &notes)] {
                let answer = path.with_extension(extension);
                if update {
                    std::fs::write(&answer, found).expect("it can be written");
                    continue;
                }
                let expected = std::fs::read_to_string(&answer).unwrap_or_default();
                assert_eq!(expected, *found, "{}: TENFOLD_GOLDEN=update writes it again", answer.display());
            }
            // What comes out can be used as it is, and shows no password.
            config::load_str(&imported.text, &env).unwrap_or_else(|found| panic!("{}\n{found}", path.display()));
            for secret in ["hunter2", "hunter3"] {
                assert!(!imported.text.contains(secret) && !notes.contains(secret), "{}", path.display());
            }
        }
        assert!(count >= 4, "{count}");
    }

    #[test]
    fn what_is_something_else_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = import(text, None).expect_err(text);
            assert!(format!("{error:#}").contains(expected), "{text}: {error:#}");
        };
        check("", "neither [databases] nor [pgbouncer]");
        check("upstream api {\n}\n", "line 1");
        check("[databases]\nshop\n", "line 2");
        check("[databases\n", "line 1");
    }
}
