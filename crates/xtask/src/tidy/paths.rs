//! Functions and modules that some crates may not touch, each with what to use instead. What no crate may use stands
//! in `clippy.toml`; here is what depends on the crate.

use super::arrows::{Floor, floor};
use super::{Finding, Tree};

struct Rule {
    /// Every path that begins with this, or ends with it where it begins with `*::`.
    path: &'static str,
    applies: fn(&str) -> bool,
    instead: &'static str,
}

const RULES: &[Rule] = &[
    Rule { path: "std::net::Tcp", applies: is_pure, instead: "a core decides, its shell owns the socket" },
    Rule { path: "std::net::Udp", applies: is_pure, instead: "a core decides, its shell owns the socket" },
    Rule { path: "std::net::ToSocketAddrs", applies: is_pure, instead: "a core decides, its shell resolves names" },
    Rule { path: "std::fs", applies: is_pure, instead: "a core decides, its shell reads and writes" },
    Rule { path: "std::process", applies: is_pure, instead: "a core decides, its shell runs programs" },
    Rule { path: "std::thread", applies: is_pure, instead: "a core decides, its shell runs threads" },
    Rule { path: "std::env", applies: is_pure, instead: "a core is told by its parameters" },
    Rule { path: "std::time::SystemTime", applies: is_pure, instead: "take the time as an argument" },
    Rule { path: "*::SystemTime::now", applies: is_pure, instead: "take the time as an argument" },
    Rule { path: "*::Instant::now", applies: is_pure, instead: "take `now` as an argument" },
    Rule { path: "*::thread::sleep", applies: is_on_workers, instead: "tokio::time::sleep, or a worker stands still" },
];

fn is_pure(name: &str) -> bool {
    matches!(floor(name), Some(Floor::Vocab | Floor::Core))
}

/// Shells whose code runs on the workers that serve requests.
fn is_on_workers(name: &str) -> bool {
    matches!(name, "net" | "gateway" | "admin")
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages() {
        let rules: Vec<_> = RULES.iter().filter(|rule| (rule.applies)(&package.name)).collect();
        for source in tree.sources_of(package) {
            for (path, line) in &source.paths {
                if let Some(rule) = rules.iter().find(|rule| rule.matches(path)) {
                    findings.push(Finding::new(source.at(*line), format!("{path}: {}", rule.instead)));
                }
            }
        }
    }
    findings
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        match self.path.strip_prefix("*::") {
            Some(end) => path == end || path.ends_with(self.path.trim_start_matches('*')),
            None => path.starts_with(self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::invented;
    use super::*;

    #[test]
    fn each_rule_finds_its_path_in_its_crates_only() {
        let check = |name: &str, code: &str, finds: usize| {
            let manifest = format!("crates/{name}/Cargo.toml");
            let file = format!("crates/{name}/src/lib.rs");
            let (tree, _dir) = invented::tree(&[(&manifest, ""), (&file, code)]);
            assert_eq!(check(&tree).len(), finds, "{name}: {code}: {:?}", super::check(&tree));
        };
        check("http1", "use std::net::{IpAddr, TcpStream};", 1);
        check("http1", "use std::net::IpAddr;", 0);
        check("balance", "fn f() { std::fs::read(\"x\").ok(); }", 1);
        check("vocab", "use std::time::Instant; fn f() { Instant::now(); }", 1);
        check("breaker", "use std::time::SystemTime;", 1);
        check("breaker", "use std::thread;", 1);
        check("breaker", "fn f() { std::process::id(); std::env::args(); }", 2);
        check("breaker", "#[cfg(test)] mod tests { fn f() { std::time::Instant::now(); } }", 0);
        check("gateway", "fn f() { std::time::Instant::now(); std::thread::sleep(x); }", 1);
        check("telemetry", "fn f() { std::thread::sleep(x); }", 0);
    }
}
