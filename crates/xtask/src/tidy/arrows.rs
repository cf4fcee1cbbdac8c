//! Arrows between crates point down the house: `vocab ← cores ← shells ← config ← app`.

use super::tree::{Dependency, Package};
use super::{Finding, Tree};

/// From the ground up, so that a crate may depend on what is lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Floor {
    Vocab,
    Core,
    Shell,
    Config,
    App,
    /// Beside the house: only tests and other tools may lean on it.
    Tool,
}

const FLOORS: &[(&str, Floor)] = &[
    ("vocab", Floor::Vocab),
    ("http1", Floor::Core),
    ("balance", Floor::Core),
    ("breaker", Floor::Core),
    ("limit", Floor::Core),
    ("httpcache", Floor::Core),
    ("preface", Floor::Core),
    ("coding", Floor::Core),
    ("resp", Floor::Core),
    ("pgroute", Floor::Core),
    ("telemetry", Floor::Shell),
    ("net", Floor::Shell),
    ("acme", Floor::Shell),
    ("discovery", Floor::Shell),
    ("limit-redis", Floor::Shell),
    ("store", Floor::Shell),
    ("cache", Floor::Shell),
    ("cache-server", Floor::Shell),
    ("pgproxy", Floor::Shell),
    ("gateway", Floor::Shell),
    ("admin", Floor::Shell),
    ("config", Floor::Config),
    ("tenfold", Floor::App),
    ("tenfold-cli", Floor::App),
    ("testkit", Floor::Tool),
    ("xtask", Floor::Tool),
];

/// Arrows between crates of one floor. Each left side comes after every crate that it may lead to, so there is no cycle.
const BESIDE: &[(&str, &str)] = &[
    ("gateway", "acme"),
    ("gateway", "discovery"),
    ("gateway", "limit-redis"),
    ("limit-redis", "net"),
    ("acme", "net"),
    ("gateway", "net"),
    ("gateway", "store"),
    ("gateway", "telemetry"),
    ("admin", "telemetry"),
    ("cache-server", "net"),
    ("cache-server", "store"),
    ("cache-server", "telemetry"),
    ("pgproxy", "net"),
    ("pgproxy", "telemetry"),
    ("xtask", "testkit"),
];

pub(super) fn floor(name: &str) -> Option<Floor> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|&(_, floor)| floor)
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.packages().iter().flat_map(arrows_of).collect()
}

fn arrows_of(package: &Package) -> Vec<Finding> {
    let Some(from) = floor(&package.name) else {
        let text = "has no floor; give it one in crates/xtask/src/tidy/arrows.rs and in ARCHITECTURE.md";
        return vec![Finding::new(&package.name, text)];
    };
    let inner = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    let wrong = inner.filter(|dependency| !is_allowed(&package.name, from, dependency));
    wrong
        .map(|dependency| {
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            Finding::new(&package.name, format!("a {kind} dependency on {} points up or sideways", dependency.name))
        })
        .collect()
}

fn is_allowed(name: &str, from: Floor, dependency: &Dependency) -> bool {
    let Some(to) = floor(&dependency.name) else { return true };
    let is_dev = dependency.kind.as_deref() == Some("dev");
    let beside = BESIDE.contains(&(name, &dependency.name));
    match to {
        Floor::Tool => beside || is_dev,
        // A tool sees processes from outside; one that knew a crate would have to be rebuilt with it.
        _ if from == Floor::Tool => false,
        // Its own tests turn a crate's features on by a dependency on itself.
        _ => to < from || beside || is_dev && name == dependency.name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::invented;
    use super::*;

    #[test]
    fn only_arrows_down_the_house_pass() {
        let check = |from: &str, kind: Option<&str>, to: &str, passes: bool| {
            let findings = check(&invented::crates(&[(from, kind, to)]));
            assert_eq!(findings.is_empty(), passes, "{from} -> {to}: {findings:?}");
        };
        check("http1", None, "vocab", true);
        check("vocab", None, "http1", false);
        check("http1", None, "balance", false);
        check("gateway", None, "net", true);
        check("net", None, "gateway", false);
        check("net", Some("build"), "gateway", false);
        check("config", None, "gateway", true);
        check("gateway", None, "config", false);
        check("gateway", Some("dev"), "config", false);
        check("tenfold-cli", None, "config", true);
        check("tenfold-cli", Some("dev"), "testkit", true);
        check("tenfold-cli", None, "testkit", false);
        check("xtask", None, "testkit", true);
        check("testkit", Some("dev"), "gateway", false);
        check("tenfold", None, "breaker", true);
        check("tenfold", Some("dev"), "tenfold", true);
        check("tenfold-cli", None, "tenfold", false);
        check("newcomer", None, "vocab", false);
    }

    #[test]
    fn sideways_arrows_have_no_cycle() {
        // Each pass takes away the arrows that lead to a crate without arrows of its own; a cycle would remain.
        let mut left = BESIDE.to_vec();
        for _ in 0..BESIDE.len() {
            let sources: Vec<_> = left.iter().map(|(from, _)| *from).collect();
            left.retain(|(_, to)| sources.contains(to));
        }
        assert_eq!(left, []);
    }
}
