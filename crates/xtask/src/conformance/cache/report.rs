use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::is_of;
use super::results::{Count, Counts, KINDS, Kind, Outcome, Results, Test, count};
use super::suite::{Published, Suite};
use crate::proof::Class;

/// What came of a run, beside what is published.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    subject: String,
    suite: String,
    seconds: f64,
    /// Of required and optimal tests together.
    passed: u64,
    failed: u64,
    not_applicable: u64,
    classes: BTreeMap<&'static str, Class>,
    counts: BTreeMap<&'static str, Count>,
    /// Tests that the client runs although the suite's page does not show them.
    not_shown: Count,
    published: BTreeMap<String, BTreeMap<&'static str, Count>>,
    failures: Vec<Failure>,
    /// Tests whose result is another than the published one of the same subject.
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Failure {
    test: String,
    class: String,
    kind: Kind,
    why: String,
}

#[derive(Debug, Serialize)]
struct Difference {
    test: String,
    kind: Kind,
    here: String,
    published: String,
}

impl Report {
    pub(super) fn new(suite: &Suite, subject: &str, class: Option<&str>, results: &Results, seconds: f64) -> Self {
        let counted: Vec<&Test> = suite.tests.iter().filter(|test| is_of(test, class)).collect();
        let count_all = |results: &Results| by_name(&count(counted.iter().copied(), &suite.tests, results));
        let counts = count_all(results);
        let of_class = |count: &Count| Class { passed: count.passed, failed: count.tests - count.passed };
        let classes: BTreeMap<_, _> = counts.iter().map(|(&name, count)| (name, of_class(count))).collect();
        let judged = || KINDS[..2].iter().map(|&kind| classes[name_of(kind)]);
        let published = suite.published.iter().map(|one| (title(one), count_all(&one.results))).collect();
        let same = suite.published_of(subject);
        Self {
            subject: subject.to_owned(),
            suite: suite.version.clone(),
            seconds,
            passed: judged().map(|class| class.passed).sum(),
            failed: judged().map(|class| class.failed).sum(),
            not_applicable: 0,
            counts,
            not_shown: if class.is_none() { not_shown(&suite.tests, results) } else { Count::default() },
            published,
            failures: failures(&counted, results),
            differences: same.map_or(Vec::new(), |published| differences(&counted, results, &published.results)),
            classes,
        }
    }

    /// The count of a kind.
    pub(super) fn count(&self, kind: Kind) -> Count {
        self.counts.get(name_of(kind)).copied().unwrap_or_default()
    }

    /// Prints it, with what failed if that is wanted.
    pub(super) fn print(&self, with_failures: bool) {
        if with_failures {
            for Failure { test, class, kind, why } in &self.failures {
                println!("{:<10} {class}: {test}: {why}", name_of(*kind));
            }
        }
        println!(
            "\nhttp-cache-tests {}, {:.0} s; in parentheses without those that depend on a failed one",
            self.suite, self.seconds
        );
        println!("{:<28} {:>15} {:>15} {:>15}", "", "required", "optimal", "behaviour");
        print_counts("tests", &self.counts, |count| format!("{}      ", count.tests));
        let passed = |count: Count| format!("{} ({:>3})", count.passed, count.passed_with_dependencies);
        print_counts(&self.subject, &self.counts, passed);
        for (name, counts) in &self.published {
            print_counts(&format!("published: {name}"), counts, passed);
        }
        let Count { tests, passed, .. } = self.not_shown;
        if tests > 0 {
            println!("not counted, since the suite's page does not show them: {passed} of {tests}");
        }
        if !self.differences.is_empty() {
            println!("other than published, in {} tests:", self.differences.len());
        }
        for Difference { test, kind, here, published } in &self.differences {
            println!("  {} {test}: {here}; published: {published}", name_of(*kind));
        }
    }
}

fn print_counts(name: &str, counts: &BTreeMap<&'static str, Count>, cell: impl Fn(Count) -> String) {
    let cells: Vec<String> =
        KINDS.iter().map(|&kind| cell(counts.get(name_of(kind)).copied().unwrap_or_default())).collect();
    println!("{name:<28} {:>15} {:>15} {:>15}", cells[0], cells[1], cells[2]);
}

fn by_name(counts: &Counts) -> BTreeMap<&'static str, Count> {
    counts.iter().map(|(&kind, &count)| (name_of(kind), count)).collect()
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Required => "required",
        Kind::Optimal => "optimal",
        Kind::Behaviour => "behaviour",
    }
}

fn title(published: &Published) -> String {
    // Versions of packages say little after the first dash; some are dates, of which each part counts.
    let (name, version) = (&published.name, published.version.as_str());
    let short = version.split(['-', '+']).next().filter(|short| short.contains('.'));
    format!("{name} {}", short.unwrap_or(version))
}

fn not_shown(tests: &[Test], results: &Results) -> Count {
    let shown: BTreeSet<&str> = tests.iter().map(|test| test.id.as_str()).collect();
    let others = || results.iter().filter(|(id, _)| !shown.contains(id.as_str()));
    let passed = others().filter(|(_, outcome)| **outcome == Outcome::Passed).count() as u64;
    Count { tests: others().count() as u64, passed, passed_with_dependencies: passed }
}

fn failures(tests: &[&Test], results: &Results) -> Vec<Failure> {
    let failed = tests.iter().filter(|test| results.get(&test.id) != Some(&Outcome::Passed));
    let failure = |test: &&Test| Failure {
        test: test.id.clone(),
        class: test.suite.clone(),
        kind: test.kind,
        why: words(results, &test.id),
    };
    failed.map(failure).collect()
}

fn differences(tests: &[&Test], results: &Results, published: &Results) -> Vec<Difference> {
    let has_passed = |results: &Results, id: &str| results.get(id) == Some(&Outcome::Passed);
    let differ = tests.iter().filter(|test| has_passed(results, &test.id) != has_passed(published, &test.id));
    let difference = |test: &&Test| Difference {
        test: test.id.clone(),
        kind: test.kind,
        here: words(results, &test.id),
        published: words(published, &test.id),
    };
    differ.map(difference).collect()
}

fn words(results: &Results, id: &str) -> String {
    results.get(id).map_or_else(|| "not run".to_owned(), Outcome::words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite() -> Suite {
        let json = r#"{"tests": [{"id": "a", "suite": "s"}, {"id": "b", "suite": "s", "kind": "optimal"},
                                 {"id": "c", "suite": "t", "kind": "check"}],
                       "published": [{"file": "nginx.json", "name": "nginx", "version": "1.18.0-6ubuntu2",
                                      "type": "rev-proxy", "results": {"a": true, "b": true}}]}"#;
        Suite::read(Default::default(), "0.4.5".into(), json.as_bytes()).unwrap()
    }

    #[test]
    fn a_run_is_counted_beside_what_is_published() {
        let json =
            r#"{"a": true, "b": ["Assertion", "no"], "c": ["Setup", "retry"], "more": true, "most": ["Setup", "x"]}"#;
        let results: Results = serde_json::from_str(json).unwrap();
        let report = Report::new(&suite(), "nginx", None, &results, 1.0);
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!((report.passed, report.failed), (1, 1));
        assert_eq!(value["classes"]["optimal"], serde_json::json!({"passed": 0, "failed": 1}));
        assert_eq!(value["published"]["nginx 1.18.0"]["optimal"]["passed"], 1);
        assert_eq!((report.not_shown.tests, report.not_shown.passed), (2, 1));
        assert_eq!(report.failures.iter().map(|failure| failure.test.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        let expected = serde_json::json!([{"test": "b", "kind": "optimal", "here": "no", "published": "passed"}]);
        assert_eq!(value["differences"], expected);
        let report = Report::new(&suite(), "tenfold", Some("t"), &results, 1.0);
        assert_eq!((report.count(Kind::Behaviour).tests, report.count(Kind::Required).tests), (1, 0));
        assert!(report.differences.is_empty(), "nothing is published of it");
    }
}
