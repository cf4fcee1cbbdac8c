use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use testkit::{Process, TempDir};

use super::results::{Results, Test};
use crate::{install, repository};

/// Where the pinned version is installed, and what is installed there.
const FOLDER: &str = "tests/cache";
const PACKAGE: &str = "http-cache-tests";
/// A run takes under a minute; its client would wait for ever for a subject that is silent.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Prints what the suite consists of, whichever version it is: it is a program, and only a program can read it.
const DESCRIBE: &str = r#"
import { existsSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const load = async (file) => (await import(pathToFileURL(`${process.cwd()}/${file}`))).default;
const suites = await load("tests/index.mjs");
const index = existsSync("results/index.mjs") ? await load("results/index.mjs") : [];
const published = index
  .filter(({ file }) => existsSync(`results/${file}`))
  .map(({ file, name, version, type }) =>
    ({ file, name, version, type, results: JSON.parse(readFileSync(`results/${file}`, "utf8")) }));
const tests = suites.flatMap((suite) => suite.tests.map((test) => ({
  id: test.id, suite: suite.id, kind: test.kind, browser_only: test.browser_only, depends_on: test.depends_on })));
console.log(JSON.stringify({ tests, published }));
"#;

/// The public suite, in a folder.
#[derive(Debug)]
pub(super) struct Suite {
    folder: PathBuf,
    pub(super) version: String,
    /// Those for caches that are no browsers.
    pub(super) tests: Vec<Test>,
    /// What it publishes of others, browsers left out.
    pub(super) published: Vec<Published>,
}

/// Results that come with the suite.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Published {
    /// The name of its file without the end: `nginx`, say.
    file: String,
    pub(super) name: String,
    pub(super) version: String,
    #[serde(rename = "type")]
    kind: String,
    pub(super) results: Results,
}

#[derive(Deserialize)]
struct Description {
    tests: Vec<Test>,
    published: Vec<Published>,
}

impl Suite {
    /// The pinned version, installed if it is missing, or the one in a folder.
    pub(super) fn open(given: Option<&Path>) -> Result<Self> {
        install::require(&["node", "npm"])?;
        let folder = match given {
            Some(folder) => checkout(folder)?,
            None => pinned()?,
        };
        let package =
            std::fs::read_to_string(folder.join("package.json")).with_context(|| folder.display().to_string())?;
        let package: serde_json::Value = serde_json::from_str(&package)?;
        let version = package["version"].as_str().context("the suite has no version")?.to_owned();
        let mut command = Command::new("node");
        command.args(["--no-warnings", "--input-type=module", "--eval", DESCRIBE]).current_dir(&folder);
        let output = command.output().context("node")?;
        ensure!(output.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
        Self::read(folder, version, &output.stdout)
    }

    /// Reads what the suite consists of.
    pub(super) fn read(folder: PathBuf, version: String, description: &[u8]) -> Result<Self> {
        let mut description: Description = serde_json::from_slice(description).context("the suite's description")?;
        description.tests.retain(|test| !test.browser_only);
        description.published.retain(|published| published.kind != "browser");
        Ok(Self { folder, version, tests: description.tests, published: description.published })
    }

    /// Starts its origin server.
    pub(super) fn serve(&self, port: u16) -> Result<(Process, TempDir)> {
        let dir = TempDir::new()?;
        let pid = dir.path().join("pid").display().to_string();
        let settings = [("protocol", "http"), ("port", &port.to_string()), ("pidfile", &pid)];
        let mut process = Process::spawn("origin", self.node(&["server/server.mjs"], &settings)?)?;
        process.wait_for_port(port, START_TIMEOUT)?;
        Ok((process, dir))
    }

    /// Runs all tests against a port by its command-line client: the results that it prints.
    pub(super) fn run(&self, port: u16) -> Result<Results> {
        let dir = TempDir::new()?;
        let (printed, errors) = (dir.path().join("results"), dir.path().join("errors"));
        let mut command = self.node(&["cli.mjs"], &[("base", &format!("http://127.0.0.1:{port}")), ("id", "")])?;
        command.stdin(Stdio::null()).stdout(File::create(&printed)?).stderr(File::create(&errors)?);
        let mut child = command.spawn().context("node")?;
        let deadline = Instant::now() + RUN_TIMEOUT;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    child.kill()?;
                    child.wait()?;
                    bail!("the client still runs after {RUN_TIMEOUT:?}: does the subject answer everything?");
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let errors = || std::fs::read_to_string(&errors).unwrap_or_default();
        ensure!(status.success(), "the client ended with {status}: {}", errors());
        read_results(&std::fs::read_to_string(&printed)?).with_context(errors)
    }

    /// A program of the suite's. Its settings are what `npm run` would make of the command line and of the package; that
    /// is as much as npm adds.
    fn node(&self, program: &[&str], settings: &[(&str, &str)]) -> Result<Command> {
        let file = program[0];
        let places = [self.folder.join("test-engine").join(file), self.folder.join(file)];
        let place = places.iter().find(|place| place.is_file());
        let place = place.with_context(|| format!("{}: no {file}", self.folder.display()))?;
        let mut command = Command::new("node");
        command.arg("--no-warnings").arg(place).args(&program[1..]).current_dir(&self.folder);
        for (name, value) in settings {
            command.env_remove(format!("npm_config_{name}")).env(format!("npm_package_config_{name}"), value);
        }
        Ok(command)
    }

    /// What it publishes of a subject, by the subject's name here.
    pub(super) fn published_of(&self, subject: &str) -> Option<&Published> {
        self.published.iter().find(|published| published.file == format!("{subject}.json"))
    }
}

/// The results among what the client printed: it says more while it runs when something is odd.
fn read_results(printed: &str) -> Result<Results> {
    let start = printed.lines().position(|line| line == "{").context("the client printed no results")?;
    let text: String = printed.lines().skip(start).collect::<Vec<_>>().join("\n");
    let results: BTreeMap<_, _> = serde_json::from_str(&text).context("the client's results")?;
    ensure!(!results.is_empty(), "the client ran no tests");
    Ok(results)
}

fn pinned() -> Result<PathBuf> {
    let root = repository::root().join(FOLDER);
    let folder = root.join("node_modules").join(PACKAGE);
    if !folder.join("package.json").is_file() {
        println!("conformance cache: {PACKAGE} is missing; installing it with npm in {FOLDER}");
        npm(&root, &["ci"])?;
    }
    Ok(folder)
}

fn checkout(folder: &Path) -> Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    if !folder.join("node_modules").is_dir() {
        println!("conformance cache: installing what the suite needs with npm in {}", folder.display());
        npm(&folder, &["install", "--omit=dev", "--no-package-lock"])?;
    }
    Ok(folder)
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("npm");
    // Scripts of packages are not needed, and would run as whoever runs this.
    command.args(arguments).args(["--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
    let status = command.status().context("npm")?;
    ensure!(status.success(), "npm {}: {status}", arguments.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::results::Outcome;
    use super::*;

    #[test]
    fn a_description_is_read_without_what_concerns_browsers_alone() {
        let text = r#"{"tests": [
            {"id": "a", "suite": "s", "kind": "optimal", "depends_on": ["b"]},
            {"id": "b", "suite": "s"},
            {"id": "c", "suite": "s", "browser_only": true}
          ], "published": [
            {"file": "nginx.json", "name": "nginx", "version": "1", "type": "rev-proxy", "results": {"a": true}},
            {"file": "chrome.json", "name": "Chrome", "version": "1", "type": "browser", "results": {}}
          ]}"#;
        let suite = Suite::read(PathBuf::new(), "0".into(), text.as_bytes()).unwrap();
        assert_eq!(suite.tests.iter().map(|test| test.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(suite.published.len(), 1);
        assert_eq!(suite.published_of("nginx").unwrap().results["a"], Outcome::Passed);
        assert!(suite.published_of("tenfold").is_none());
    }

    #[test]
    fn results_are_found_among_what_is_printed() {
        let printed = "ERROR: something odd\n{\n  \"a\": true,\n  \"b\": [\n    \"Setup\",\n    \"retry\"\n  ]\n}\n";
        let results = read_results(printed).unwrap();
        assert_eq!((&results["a"], &results["b"]), (&Outcome::Passed, &Outcome::Retried));
        for printed in ["", "TypeError: fetch failed\n", "{\n}\n", "{\n  \"a\": true,\n"] {
            assert!(read_results(printed).is_err(), "{printed}");
        }
    }
}
