//! The list of what Tenfold fails, with a reason for each. It stands in a document, between two marks, and has to stay true in both
//! directions: a failure that is not on it is an error, and so is a test on it that passes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::results::{Kind, Outcome, Results, Test};
use crate::repository;

const DOCUMENT: &str = "docs/cache-conformance.md";
const BEGIN: &str = "<!-- known failures: begin -->";
const END: &str = "<!-- known failures: end -->";
const HEADER: &str = "| test | kind | reason |\n|---|---|---|\n";

/// Reasons by test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known(BTreeMap<String, String>);

impl Known {
    /// Reads the list from the document.
    pub(super) fn read() -> Result<Self> {
        let (_, list, _) = split(&std::fs::read_to_string(path())?)?;
        Ok(Self::parse(&list))
    }

    fn parse(list: &str) -> Self {
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.strip_suffix('|')?.splitn(3, '|').map(str::trim);
            let (id, reason) = (cells.next()?.trim_end_matches('`'), cells.nth(1)?);
            Some((id.to_owned(), reason.to_owned()))
        };
        Self(list.lines().filter_map(row).collect())
    }

    /// What is not true of it, in words. Tests of which there is no right and wrong have no place on it.
    pub(super) fn differences<'t>(&self, tests: impl Iterator<Item = &'t Test>, results: &Results) -> Vec<String> {
        let mut differences = Vec::new();
        for test in tests {
            let (id, failed) = (&test.id, failure(test, results));
            match (self.0.get(id), failed) {
                (None, Some(failure)) => differences.push(format!("{id} fails, and is not on the list: {failure}")),
                (Some(_), None) => differences.push(format!("{id} is on the list, and does not fail")),
                (Some(reason), Some(_)) if reason.is_empty() => differences.push(format!("{id} has no reason")),
                _ => {}
            }
        }
        differences
    }

    /// Tests on the list that the suite does not have.
    pub(super) fn strangers(&self, tests: &[Test]) -> Vec<String> {
        let is_one = |id: &String| tests.iter().any(|test| test.id == *id);
        self.0
            .keys()
            .filter(|id| !is_one(id))
            .map(|id| format!("{id} is on the list, and the suite has no such test"))
            .collect()
    }

    /// Writes what fails into the document, with the reasons that are known.
    pub(super) fn rewrite(&self, tests: &[Test], results: &Results) -> Result<()> {
        let (before, _, after) = split(&std::fs::read_to_string(path())?)?;
        let text = format!("{before}{BEGIN}\n{}{END}{after}", self.table(tests, results));
        std::fs::write(path(), text).with_context(|| DOCUMENT.to_owned())
    }

    fn table(&self, tests: &[Test], results: &Results) -> String {
        let failed = tests.iter().filter(|test| failure(test, results).is_some());
        let row = |test: &Test| {
            let kind = if test.kind == Kind::Required { "required" } else { "optimal" };
            let reason = self.0.get(&test.id).map_or("", String::as_str);
            format!("| `{}` | {kind} | {reason} |\n", test.id)
        };
        let rows: String = failed.map(row).collect();
        if rows.is_empty() { "None.\n".to_owned() } else { format!("{HEADER}{rows}") }
    }
}

fn failure(test: &Test, results: &Results) -> Option<String> {
    match results.get(&test.id) {
        _ if test.kind == Kind::Behaviour => None,
        Some(Outcome::Passed) => None,
        Some(outcome) => Some(outcome.words()),
        None => Some("it was not run".to_owned()),
    }
}

fn path() -> PathBuf {
    repository::root().join(DOCUMENT)
}

/// What is before the list, the list, and what is after it.
fn split(document: &str) -> Result<(String, String, String)> {
    let marks = || format!("{DOCUMENT} has no list between {BEGIN} and {END}");
    let (before, rest) = document.split_once(BEGIN).with_context(marks)?;
    let (list, after) = rest.split_once(END).with_context(marks)?;
    Ok((before.to_owned(), list.to_owned(), after.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests() -> Vec<Test> {
        let json = r#"[{"id": "a", "suite": "s"}, {"id": "b", "suite": "s", "kind": "optimal"},
                       {"id": "c", "suite": "s"}, {"id": "d", "suite": "s", "kind": "check"}]"#;
        serde_json::from_str(json).unwrap()
    }

    fn results(passed: &[&str]) -> Results {
        let outcome = |id: &str| match passed.contains(&id) {
            true => Outcome::Passed,
            false => Outcome::Failed("no".to_owned()),
        };
        ["a", "b", "c", "d"].into_iter().map(|id| (id.to_owned(), outcome(id))).collect()
    }

    #[test]
    fn the_list_is_true_in_both_directions_or_not() {
        let list =
            "\n| test | kind | reason |\n|---|---|---|\n| `a` | required | It's so; see a|b. |\n| `b` | optimal | |\n";
        let known = Known::parse(list);
        assert_eq!(known.0["a"], "It's so; see a|b.");
        let check = |passed: &[&str], expected: &[&str]| {
            assert_eq!(known.differences(tests().iter(), &results(passed)), expected);
        };
        check(&["c"], &["b has no reason"]);
        check(&["b", "c", "d"], &["b is on the list, and does not fail"]);
        check(
            &["a", "b"],
            &[
                "a is on the list, and does not fail",
                "b is on the list, and does not fail",
                "c fails, and is not on the list: no",
            ],
        );
        let missing = known.differences(tests()[2..3].iter(), &Results::new());
        assert_eq!(missing, ["c fails, and is not on the list: it was not run"]);
        assert_eq!(known.strangers(&tests()[1..]), ["a is on the list, and the suite has no such test"]);
        assert_eq!(Known::default().differences(tests().iter(), &results(&["a", "b", "c"])), Vec::<String>::new());
    }

    #[test]
    fn a_list_that_is_written_keeps_reasons_and_is_read_as_it_was() {
        let known =
            Known(BTreeMap::from([("a".into(), "For a reason.".into()), ("b".into(), "It passes now.".into())]));
        let table = known.table(&tests(), &results(&["b", "d"]));
        assert_eq!(table, format!("{HEADER}| `a` | required | For a reason. |\n| `c` | required |  |\n"));
        let expected = Known(BTreeMap::from([("a".into(), "For a reason.".into()), ("c".into(), String::new())]));
        assert_eq!(Known::parse(&table), expected);
        assert_eq!(known.table(&tests(), &results(&["a", "b", "c"])), "None.\n");
    }

    #[test]
    fn the_document_has_the_list() {
        Known::read().unwrap();
    }
}
