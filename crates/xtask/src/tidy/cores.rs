//! Cores decide; they do no input or output and know no runtime. Their whole tree of dependencies has to be free of
//! such things, or a core could not be used from a simulator or a library.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::arrows::{Floor, floor};
use super::{Finding, Tree};
use crate::repository;

/// Crates that do input or output, run tasks, or tie a core to a format.
const FORBIDDEN: &[&str] =
    &["tokio", "hyper", "serde", "serde_core", "mio", "socket2", "rustix", "async-io", "futures-executor", "tracing"];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in tree.packages() {
        if matches!(floor(&package.name), Some(Floor::Vocab | Floor::Core)) {
            findings.extend(forbidden_in(&package.name, &tree_of(&package.name)?));
        }
    }
    Ok(findings)
}

/// The names of a crate's normal dependencies, near and far, with the features that building it alone gives.
fn tree_of(name: &str) -> Result<Vec<String>> {
    let mut command = Command::new(repository::cargo());
    command.args(["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = command.current_dir(repository::root()).output().context("cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut names: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn forbidden_in(name: &str, dependencies: &[String]) -> Vec<Finding> {
    let forbidden = dependencies.iter().filter(|dependency| FORBIDDEN.contains(&dependency.as_str()));
    forbidden
        .map(|dependency| Finding::new(name, format!("a core may not depend on {dependency}, near or far")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_far_down_the_tree_is_found() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(forbidden_in("http1", &names(&["http1", "httparse", "memchr"])), []);
        assert_eq!(forbidden_in("http1", &names(&["http1", "tokio"])).len(), 1);
    }

    #[test]
    fn a_tree_of_dependencies_is_read_whole() {
        // xtask depends on rustix only through itself and testkit, and on memchr through serde_json.
        let found = tree_of("xtask").unwrap();
        assert!(
            ["testkit", "rustix", "memchr"].iter().all(|name| found.iter().any(|found| found == name)),
            "{found:?}"
        );
    }
}
