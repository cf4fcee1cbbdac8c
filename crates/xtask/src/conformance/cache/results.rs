use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// A test of the suite.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Test {
    pub(super) id: String,
    /// The group that it belongs to.
    pub(super) suite: String,
    #[serde(default)]
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) browser_only: bool,
    /// Tests without which this one says nothing.
    #[serde(default)]
    depends_on: Vec<String>,
}

/// What a test is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// What the standard demands.
    #[default]
    Required,
    /// What a good cache does and none has to.
    Optimal,
    /// What caches do in one way or another; there is no right and wrong.
    #[serde(rename(deserialize = "check"))]
    Behaviour,
}

/// The kinds, in the order in which they are shown.
pub(super) const KINDS: [Kind; 3] = [Kind::Required, Kind::Optimal, Kind::Behaviour];

/// Results by test, as the suite's client writes them and as they are published.
pub(super) type Results = BTreeMap<String, Outcome>;

/// What came of a test by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub(super) enum Outcome {
    Passed,
    /// Failed, and how.
    Failed(String),
    /// It came to nothing before what it is about.
    NotSetUp(String),
    /// The cache sent a request twice, so that what followed cannot be told.
    Retried,
}

/// An outcome in JSON: `true`, or what kind of error there was, and its words.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Passed(bool),
    Error(Vec<Option<String>>),
}

impl From<Written> for Outcome {
    fn from(written: Written) -> Self {
        let words: Vec<String> = match written {
            Written::Passed(true) => return Self::Passed,
            Written::Passed(false) => Vec::new(),
            Written::Error(words) => words.into_iter().flatten().collect(),
        };
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["Setup", "retry"] => Self::Retried,
            ["Setup", words] => Self::NotSetUp(words.to_owned()),
            // An assertion speaks for itself; of other errors the name says most.
            ["Assertion", words] => Self::Failed(words.to_owned()),
            ref other => Self::Failed(other.join(": ")),
        }
    }
}

impl Outcome {
    /// In words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Failed(words) => words.clone(),
            Self::NotSetUp(words) => format!("not set up: {words}"),
            Self::Retried => "a request was sent twice".to_owned(),
        }
    }
}

/// Tests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    /// All of them.
    pub(super) tests: u64,
    /// Those whose result is that they passed.
    pub(super) passed: u64,
    /// Those of them that depend on none which did not pass, which is what the suite's own page shows as passed.
    pub(super) passed_with_dependencies: u64,
}

/// Counts by kind.
pub(super) type Counts = BTreeMap<Kind, Count>;

/// Counts the results of tests. Dependencies may lead to tests that are not counted, so `all` are given as well.
pub(super) fn count<'t>(tests: impl Iterator<Item = &'t Test>, all: &[Test], results: &Results) -> Counts {
    let by_id: HashMap<&str, &Test> = all.iter().map(|test| (test.id.as_str(), test)).collect();
    let mut counts: Counts = KINDS.iter().map(|&kind| (kind, Count::default())).collect();
    for test in tests {
        let count = counts.entry(test.kind).or_default();
        count.tests += 1;
        count.passed += u64::from(results.get(&test.id) == Some(&Outcome::Passed));
        count.passed_with_dependencies += u64::from(holds(&test.id, &by_id, results, all.len()));
    }
    counts
}

/// Whether a test passed, and all that it depends on. Chains longer than there are tests are circles.
fn holds(id: &str, tests: &HashMap<&str, &Test>, results: &Results, depth: usize) -> bool {
    let Some(test) = tests.get(id).filter(|_| depth > 0) else { return false };
    results.get(id) == Some(&Outcome::Passed) && test.depends_on.iter().all(|on| holds(on, tests, results, depth - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(id: &str, kind: Kind, depends_on: &[&str]) -> Test {
        let depends_on = depends_on.iter().map(|&on| on.to_owned()).collect();
        Test { id: id.to_owned(), suite: "s".to_owned(), kind, browser_only: false, depends_on }
    }

    #[test]
    fn outcomes_are_read_as_they_are_written() {
        let check = |json: &str, expected: Outcome| {
            assert_eq!(serde_json::from_str::<Outcome>(json).unwrap(), expected, "{json}");
        };
        check("true", Outcome::Passed);
        check("false", Outcome::Failed(String::new()));
        check(r#"["Assertion", "Response 2 comes from cache"]"#, Outcome::Failed("Response 2 comes from cache".into()));
        check(r#"["Setup", "retry"]"#, Outcome::Retried);
        check(r#"["Setup", "Response 1 status is 502"]"#, Outcome::NotSetUp("Response 1 status is 502".into()));
        check(r#"["TypeError", "Cannot read"]"#, Outcome::Failed("TypeError: Cannot read".into()));
        check(r#"["FetchError", null]"#, Outcome::Failed("FetchError".into()));
        assert!(serde_json::from_str::<Outcome>("{}").is_err());
    }

    #[test]
    fn tests_count_by_kind_and_dependencies_apart() {
        let tests = [
            test("base", Kind::Optimal, &[]),
            test("leans", Kind::Required, &["base"]),
            test("leans-on-it", Kind::Required, &["leans"]),
            test("alone", Kind::Required, &[]),
            test("check", Kind::Behaviour, &["missing"]),
            test("round", Kind::Behaviour, &["about"]),
            test("about", Kind::Behaviour, &["round"]),
        ];
        let failed = Outcome::Failed("no".into());
        let mut results: Results = tests.iter().map(|test| (test.id.clone(), Outcome::Passed)).collect();
        results.insert("base".into(), failed);
        let of = |tests, passed, passed_with_dependencies| Count { tests, passed, passed_with_dependencies };
        let counts = count(tests.iter(), &tests, &results);
        assert_eq!(counts[&Kind::Required], of(3, 3, 1));
        assert_eq!(counts[&Kind::Optimal], of(1, 0, 0));
        assert_eq!(counts[&Kind::Behaviour], of(3, 3, 0));
        // Of one group alone the dependencies are looked at all the same.
        let counts = count(tests[1..2].iter(), &tests, &results);
        assert_eq!((counts[&Kind::Required], counts[&Kind::Optimal]), (of(1, 1, 0), of(0, 0, 0)));
        assert_eq!(count(tests.iter(), &tests, &Results::new())[&Kind::Required], of(3, 0, 0));
    }

    #[test]
    fn kinds_are_the_suites_and_required_where_none_is_said() {
        let test: Test = serde_json::from_str(r#"{"id": "a", "suite": "s", "kind": "check"}"#).unwrap();
        assert_eq!(test.kind, Kind::Behaviour);
        let test: Test = serde_json::from_str(r#"{"id": "a", "suite": "s"}"#).unwrap();
        assert_eq!((test.kind, test.browser_only), (Kind::Required, false));
    }
}
