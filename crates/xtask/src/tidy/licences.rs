//! Licences of everything that is built stand on the list of `deny.toml`. `cargo xtask deny` runs cargo-deny itself,
//! which knows advisories and sources too; building that takes minutes, so this check stands in for it at every run.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Finding, Tree};
use crate::repository;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let text = std::fs::read_to_string(tree.root().join("deny.toml")).context("deny.toml")?;
    let allowed = allowed_in(&text)?;
    let mut command = Command::new(repository::cargo());
    command.args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.current_dir(tree.root()).output().context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata.packages.iter().filter_map(|package| finding(package, &allowed)).collect())
}

fn allowed_in(deny: &str) -> Result<Vec<String>> {
    let table: toml::Table = deny.parse().context("deny.toml")?;
    let list = table.get("licenses").and_then(|licences| licences.get("allow")).and_then(toml::Value::as_array);
    let names = list.context("deny.toml: no licenses.allow")?.iter().filter_map(toml::Value::as_str);
    Ok(names.map(str::to_owned).collect())
}

fn finding(package: &Package, allowed: &[String]) -> Option<Finding> {
    let place = format!("{} {}", package.name, package.version);
    let Some(licence) = &package.license else { return Some(Finding::new(place, "names no licence")) };
    (!is_allowed(licence, allowed)).then(|| Finding::new(place, format!("{licence} is not allowed by deny.toml")))
}

/// Whether an SPDX expression can be met by allowed licences alone. `/` is the old way to write `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) == Some(true) && rest.is_empty()
}

/// `None` when the words are no expression.
fn any_of(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut met = all_of(words, allowed)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        met |= all_of(words, allowed)?;
    }
    Some(met)
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut met = one(words, allowed)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        met &= one(words, allowed)?;
    }
    Some(met)
}

fn one(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = any_of(words, allowed)?;
            let [")", rest @ ..] = *words else { return None };
            *words = rest;
            Some(met)
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(allowed.iter().any(|allowed| *allowed == format!("{name} WITH {exception}")))
        }
        [name, rest @ ..] if !matches!(*name, ")" | "AND" | "OR" | "WITH") => {
            *words = rest;
            Some(allowed.iter().any(|allowed| allowed == name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_allowed_licences_alone() {
        let allowed = allowed_in("[licenses]\nallow = [\"MIT\", \"Unicode-3.0\"]\n").unwrap();
        let check = |expression: &str, expected: bool| {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        };
        check("MIT", true);
        check("MIT OR Apache-2.0", true);
        check("Apache-2.0/MIT", true);
        check("GPL-3.0", false);
        check("MIT AND GPL-3.0", false);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("Apache-2.0 WITH LLVM-exception OR Apache-2.0", false);
        check("", false);
        check("MIT OR", false);
        check("(MIT", false);
        assert!(allowed_in("[licenses]").is_err());
    }

    #[test]
    fn a_package_without_a_licence_is_found() {
        let package = |license: Option<&str>| Package {
            name: "a".into(),
            version: "1.0.0".into(),
            license: license.map(Into::into),
        };
        let allowed = ["MIT".to_owned()];
        assert_eq!(finding(&package(Some("MIT")), &allowed), None);
        assert!(finding(&package(Some("GPL-2.0")), &allowed).is_some());
        assert!(finding(&package(None), &allowed).is_some());
    }
}
