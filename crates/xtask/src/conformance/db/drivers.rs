//! The programs that use the drivers: what they need, and what they say.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use testkit::Process;

use super::site::{Load, Site};
use super::{DRIVER_TIMEOUT, MANY};
use crate::{install, repository};

const FOLDER: &str = "tests/database";
/// Where what they need is put, below the folder of what is built.
const INSTALLED: &str = "target/drivers";

/// A driver.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) name: &'static str,
    program: Program,
    /// What its program does, in this order.
    pub(super) scenarios: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
enum Program {
    Python(&'static str),
    Node(&'static str),
    Rust(&'static str),
    Pgbench,
}

/// All of them.
pub(super) const DRIVERS: [Driver; 7] = [
    Driver {
        name: "psycopg",
        program: Program::Python("psycopg3.py"),
        scenarios: &[
            "connect",
            "tls",
            "simple",
            "extended",
            "prepared",
            "cursor",
            "transaction",
            "savepoint",
            "pipeline",
            "copy",
            "notices",
            "types",
            "settings",
            "cancel",
            "large",
            "two_phase",
            "temporary",
            "locks",
            "timeout",
            "ddl",
            "notify",
            MANY,
        ],
    },
    Driver {
        name: "asyncpg",
        program: Program::Python("asyncpg_driver.py"),
        scenarios: &[
            "connect",
            "tls",
            "simple",
            "extended",
            "prepared",
            "cursor",
            "transaction",
            "savepoint",
            "pipeline",
            "copy",
            "notices",
            "types",
            "settings",
            "cancel",
            "large",
            "two_phase",
            "temporary",
            "locks",
            "timeout",
            "pool",
            "ddl",
            "notify",
            MANY,
        ],
    },
    Driver {
        name: "sqlalchemy",
        program: Program::Python("sqlalchemy_driver.py"),
        scenarios: &[
            "connect",
            "extended",
            "transaction",
            "savepoint",
            "two_phase",
            "cursor",
            "large",
            "settings",
            "timeout",
            "pool",
            MANY,
        ],
    },
    Driver {
        name: "node-postgres",
        program: Program::Node("node_postgres.mjs"),
        scenarios: &[
            "connect",
            "tls",
            "simple",
            "extended",
            "prepared",
            "cursor",
            "transaction",
            "savepoint",
            "pipeline",
            "copy",
            "notices",
            "types",
            "settings",
            "cancel",
            "large",
            "two_phase",
            "temporary",
            "locks",
            "timeout",
            "pool",
            "ddl",
            "notify",
            MANY,
        ],
    },
    Driver {
        name: "tokio-postgres",
        program: Program::Rust("tokio-postgres"),
        scenarios: &[
            "connect",
            "simple",
            "extended",
            "prepared",
            "cursor",
            "transaction",
            "savepoint",
            "pipeline",
            "copy",
            "types",
            "settings",
            "cancel",
            "large",
            "ddl",
            MANY,
        ],
    },
    Driver {
        name: "sqlx",
        program: Program::Rust("sqlx"),
        scenarios: &[
            "connect",
            "tls",
            "simple",
            "extended",
            "prepared",
            "transaction",
            "savepoint",
            "copy",
            "settings",
            "locks",
            "large",
            "ddl",
            "notify",
            "pool",
            MANY,
        ],
    },
    Driver { name: "pgbench", program: Program::Pgbench, scenarios: &[MANY] },
];

/// What a scenario came to.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) scenario: String,
    outcome: String,
    reason: String,
    #[serde(skip)]
    pub(super) load: Option<Load>,
}

impl Outcome {
    /// One of ours: with a problem, or none.
    pub(super) fn of(scenario: &str, problem: Option<String>) -> Self {
        let outcome = if problem.is_none() { "passed" } else { "failed" };
        let reason = problem.unwrap_or_default();
        Self { scenario: scenario.to_owned(), outcome: outcome.to_owned(), reason, load: None }
    }

    /// With the load that it was.
    pub(super) fn with(self, load: Load) -> Self {
        Self { load: Some(load), ..self }
    }

    /// Whether the driver has no such thing.
    pub(super) fn is_absent(&self) -> bool {
        self.outcome == "absent"
    }

    /// Passed, or why not.
    pub(super) fn result(&self) -> Result<(), String> {
        if self.outcome == "passed" { Ok(()) } else { Err(self.reason.clone()) }
    }
}

impl Driver {
    /// Installs what its program needs, where it is missing.
    pub(super) fn install(&self) -> Result<()> {
        install::require(&["/usr/lib/postgresql/15/bin/postgres"])?;
        match self.program {
            Program::Python(_) => install_python(),
            Program::Node(_) => install_node(),
            Program::Rust(_) => build_rust(),
            Program::Pgbench => Ok(()),
        }
    }

    /// Runs scenarios: what each of them came to. One of which nothing is said has failed.
    pub(super) fn run(&self, site: &Site, scenarios: &[&str], quick: bool) -> Result<Vec<Outcome>> {
        if let Program::Pgbench = self.program {
            return Ok(vec![Outcome::of(MANY, site.pgbench(quick)?)]);
        }
        let mut command = match self.program {
            Program::Python(file) => {
                let mut command = Command::new(installed().join("python/bin/python"));
                command.arg("-B").arg(folder().join(file));
                command
            }
            Program::Node(file) => {
                let mut command = Command::new("node");
                command.arg("--no-warnings").arg(folder().join(file));
                command
            }
            Program::Rust(_) | Program::Pgbench => Command::new(installed().join("debug/tenfold-database-drivers")),
        };
        if let Program::Rust(name) = self.program {
            command.arg(name);
        }
        command.args(scenarios).envs(site.variables());
        if quick {
            command.env("QUICK", "1");
        }
        let mut process = Process::spawn(self.name, command)?;
        let ended = process.wait(DRIVER_TIMEOUT);
        let output = process.output();
        let mut said: Vec<Outcome> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for scenario in scenarios.iter().filter(|one| !output.contains(&format!("\"{one}\""))) {
            let end = match &ended {
                Ok(status) => format!("the program ended with {status}"),
                Err(error) => error.to_string(),
            };
            let last: Vec<_> = output.lines().rev().take(3).collect();
            said.push(Outcome::of(scenario, Some(format!("{end}: {}", last.join(" | ")))));
        }
        Ok(said)
    }
}

fn folder() -> PathBuf {
    repository::root().join(FOLDER)
}

fn installed() -> PathBuf {
    repository::root().join(INSTALLED)
}

/// The pinned versions, in an environment of their own, which is made anew when they change.
fn install_python() -> Result<()> {
    install::require(&["/usr/bin/python3", "/usr/lib/python3.11/ensurepip"])?;
    let (wanted, environment) = (folder().join("requirements.txt"), installed().join("python"));
    let (text, stamp) = (std::fs::read_to_string(&wanted)?, environment.join("requirements.txt"));
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == text) {
        return Ok(());
    }
    println!("conformance db: installing drivers of Python with pip in {INSTALLED}/python");
    let mut command = Command::new("/usr/bin/python3");
    succeed(command.args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut command = Command::new(environment.join("bin/pip"));
    succeed(command.args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--requirement"]).arg(&wanted))?;
    std::fs::write(stamp, text).context("the stamp of the environment")
}

fn install_node() -> Result<()> {
    install::require(&["node", "npm"])?;
    if folder().join("node_modules/pg/package.json").is_file() {
        return Ok(());
    }
    println!("conformance db: installing drivers of Node.js with npm in {FOLDER}");
    let mut command = Command::new("npm");
    // Scripts of packages are not needed, and would run as whoever runs this.
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    succeed(command.current_dir(folder()))
}

/// Without optimisation: what is asked of them is whether they work.
fn build_rust() -> Result<()> {
    println!("conformance db: building drivers of Rust");
    let mut command = Command::new(repository::cargo());
    command.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(folder().join("rust/Cargo.toml"));
    command.arg("--target-dir").arg(installed());
    succeed(command.current_dir(Path::new(&repository::root())))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
