//! No promise instead of work, and no test that does not run.

use super::{Finding, Tree};

const FORBIDDEN: &[(&str, &str)] = &[
    ("todo!", "do it, or say in an issue what is missing"),
    ("unimplemented!", "do it, or make it impossible to ask for"),
    ("dbg!", "use tracing, or take it out"),
    ("#[ignore]", "a test that does not run proves nothing: mend it or take it out"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources() {
        for (name, line) in &source.markers {
            if let Some((_, instead)) = FORBIDDEN.iter().find(|(forbidden, _)| forbidden == name) {
                findings.push(Finding::new(source.at(*line), format!("{name}: {instead}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tree::invented;
    use super::*;

    #[test]
    fn each_marker_is_found_wherever_it_stands() {
        let count = |code: &str| check(&invented::tree(&[("crates/a/src/lib.rs", code)]).0).len();
        assert_eq!(count("fn f() { todo!() }"), 1);
        assert_eq!(count("fn f() -> u8 { unimplemented!(\"later\") }"), 1);
        assert_eq!(count("fn f() { assert!(dbg!(true)); }"), 1);
        assert_eq!(count("#[cfg(test)] mod tests { #[test] #[ignore = \"slow\"] fn f() {} }"), 1);
        assert_eq!(count("/// todo! in words\nfn f() { let s = \"todo!\"; }"), 0);
        let (tree, _dir) = invented::tree(&[("crates/a/tests/it/main.rs", "#[test] #[ignore] fn f() {}")]);
        assert_eq!(check(&tree).len(), 1);
    }
}
