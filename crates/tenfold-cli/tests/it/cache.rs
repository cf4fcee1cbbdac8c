//! `tenfold cache simulate`.

use std::process::{Command, Output};

use testkit::TempDir;

fn simulate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenfold"));
    command.args(["cache", "simulate"]).args(arguments).output().expect("the command runs")
}

#[test]
fn a_trace_is_replayed_and_told_as_a_table_or_json() {
    let folder = TempDir::new().expect("a folder");
    // A loop of 300 keys: what is least recently used is always the next one that is wanted.
    let trace: String = (0..30_000).map(|at| format!("key {}\n", at % 300)).collect();
    let trace = folder.write("trace", trace).expect("written");
    let trace = trace.to_str().expect("text");
    let output = simulate(&["--trace", trace, "--size", "200"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && text.contains("lru        0.00 %"), "{text}");
    let output = simulate(&["--trace", trace, "--size", "200", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["requests"], &report["keys"]), (&30_000.into(), &300.into()));
    let ratio = |policy: &str| report["hit_ratios"][policy].as_f64().expect("a number");
    assert_eq!(ratio("lru"), 0.0);
    assert!(ratio("tenfold") > 0.55 && ratio("tenfold") >= ratio("s3_fifo").max(ratio("arc")), "{report}");
}

#[test]
fn what_is_wrong_with_a_trace_is_said() {
    let folder = TempDir::new().expect("a folder");
    let empty = folder.write("empty", "\n\n").expect("written");
    let empty = empty.to_str().expect("text");
    let check = |arguments: &[&str], code: i32, text: &str| {
        let output = simulate(arguments);
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.code() == Some(code) && said.contains(text), "{arguments:?}: {said}");
    };
    check(&["--trace", empty, "--size", "10"], 1, "has no keys");
    check(&["--trace", "/nowhere/trace", "--size", "10"], 1, "trace /nowhere/trace");
    check(&["--trace", empty, "--size", "0"], 2, "0 is not in");
    check(&["--trace", empty], 2, "--size");
}
