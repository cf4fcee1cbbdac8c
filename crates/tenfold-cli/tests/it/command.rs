//! Arguments, exit codes, and what is printed where.

use std::process::{Command, Output};

fn tenfold(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenfold")).args(arguments).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn help_shows_examples_and_exit_codes_and_hides_what_is_internal() {
    let help = tenfold(&["--help"]);
    let shown = text(&help.stdout);
    assert_eq!(help.status.code(), Some(0));
    assert!(shown.contains("Examples:") && shown.contains("Exit codes:"), "{shown}");
    assert!(!shown.contains("demo-instance") && !shown.contains("--parent"), "{shown}");
}

#[test]
fn wrong_arguments_exit_with_two() {
    for arguments in [&["nope"][..], &[], &["demo", "--seconds", "1"], &["completions"]] {
        let output = tenfold(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = tenfold(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("completions"), "{shell}");
    }
}

#[test]
fn an_error_tells_its_causes() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = tenfold(&["demo-instance", "--name", "x", "--port", &port]);
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let first = format!("error: demo instance x: port {port} cannot be listened on\n  caused by: ");
    assert!(shown.starts_with(&first), "{shown}");
}

#[test]
fn a_child_of_another_parent_does_not_start() {
    // Its port is taken, so that it ends either way; what it says tells why.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = tenfold(&["--parent=1", "demo-instance", "--name", "x", "--port", &port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("has ended"), "{}", text(&output.stderr));
}
