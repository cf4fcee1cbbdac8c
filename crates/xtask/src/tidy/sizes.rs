//! Files and functions stay short enough to be read. What was longer when the rule came stands in a baseline file,
//! which may only shrink: a number there that is higher than the truth is a finding as well.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Finding, Tree};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Lines by `PATH` or `PATH::FUNCTION`, from the root of the repository.
const BASELINE: &str = "crates/xtask/tidy-baseline.toml";

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let path = tree.root().join(BASELINE);
    let baseline = if path.exists() { read(&path)? } else { BTreeMap::new() };
    Ok(compare(&measure(tree), &baseline))
}

fn read(path: &Path) -> Result<BTreeMap<String, usize>> {
    let text = std::fs::read_to_string(path)?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// What is longer than its limit, with the limit.
fn measure(tree: &Tree) -> BTreeMap<String, (usize, usize)> {
    let mut long = BTreeMap::new();
    for source in tree.sources().filter(|source| !source.is_test()) {
        let path = source.path.display();
        if source.lines > FILE_LINES_MAX {
            long.insert(path.to_string(), (source.lines, FILE_LINES_MAX));
        }
        for function in source.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            // Two long functions of one name in one file share an entry; the longer one counts.
            let entry = long.entry(format!("{path}::{}", function.name)).or_insert((0, FUNCTION_LINES_MAX));
            entry.0 = entry.0.max(function.lines);
        }
    }
    long
}

fn compare(long: &BTreeMap<String, (usize, usize)>, baseline: &BTreeMap<String, usize>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, &(lines, limit)) in long {
        match baseline.get(name) {
            None => findings.push(Finding::new(name, format!("{lines} lines, at most {limit}: split it by concept"))),
            Some(&before) if lines > before => {
                findings.push(Finding::new(name, format!("grew from {before} to {lines} lines, and has to shrink")));
            }
            Some(&before) if lines < before => {
                findings.push(Finding::new(BASELINE, format!("{name}: lower {before} to {lines}, it may only shrink")));
            }
            Some(_) => {}
        }
    }
    let gone = baseline.keys().filter(|name| !long.contains_key(*name));
    findings.extend(gone.map(|name| Finding::new(BASELINE, format!("{name}: short enough now, take it out"))));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::invented;
    use super::*;

    /// A function of `inner` + 2 lines.
    fn function(inner: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(inner))
    }

    #[test]
    fn limits_hold_and_tests_are_free() {
        let check = |path: &str, code: &str, expected: &[&str]| {
            let places: Vec<_> =
                check(&invented::tree(&[(path, code)]).0).unwrap().into_iter().map(|f| f.place).collect();
            assert_eq!(places, expected, "{path}");
        };
        check("crates/a/src/lib.rs", &function(68), &[]);
        check("crates/a/src/lib.rs", &function(69), &["crates/a/src/lib.rs::f"]);
        check("crates/a/src/lib.rs", &format!("impl S {{ {} }}", function(69)), &["crates/a/src/lib.rs::f"]);
        check("crates/a/tests/it/main.rs", &function(69), &[]);
        check("crates/a/src/lib.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}", function(600)), &[]);
        check("crates/a/src/lib.rs", &"\n".repeat(500), &[]);
        check("crates/a/src/lib.rs", &"\n".repeat(501), &["crates/a/src/lib.rs"]);
    }

    #[test]
    fn the_baseline_may_only_shrink() {
        let check = |baseline: usize, expected: usize| {
            let text = format!("\"crates/a/src/lib.rs::f\" = {baseline}\n");
            let code = function(88);
            let (tree, _dir) = invented::tree(&[("crates/a/src/lib.rs", &code), (BASELINE, &text)]);
            assert_eq!(super::check(&tree).unwrap().len(), expected, "{baseline}");
        };
        check(90, 0);
        check(89, 1);
        check(91, 1);
        let (tree, _dir) = invented::tree(&[(BASELINE, "\"crates/gone.rs\" = 600\n")]);
        assert_eq!(super::check(&tree).unwrap().len(), 1);
        let (tree, _dir) = invented::tree(&[(BASELINE, "broken")]);
        assert!(super::check(&tree).is_err());
    }
}
