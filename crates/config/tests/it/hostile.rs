//! Whatever the file holds, reading it ends soon and never with a panic.

use std::time::{Duration, Instant};

use config::load_bytes;
use proptest::prelude::*;

use super::env;

const FULL: &str = include_str!("full.toml");

/// Far more than any file of the largest size takes, even unoptimised on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn read(bytes: &[u8]) -> Duration {
    let start = Instant::now();
    match load_bytes(bytes, &env) {
        Ok(loaded) => drop(loaded.warnings.render(false)),
        Err(found) => {
            assert!(found.errors() > 0);
            assert!(found.render(false).len() < 1 << 20);
            found.to_json();
        }
    }
    start.elapsed()
}

#[test]
fn large_files_of_one_pattern_are_read_in_time() {
    let patterns: &[&str] = &[
        "=\n",
        "[",
        "]",
        "{",
        "a={",
        "a.",
        "a=[",
        "\"",
        "'''",
        "x",
        "token",
        "token =",
        "\u{1F600}",
        "\r",
        "\0",
        "#",
        "[[route]]\n",
        "[[route]]\nservice = \"a\"\n",
        "[[route]]\nname = \"a\"\nservice = \"a\"\n",
        "[service.a]\n",
        "a = \"${PATH}${API_PORT}\"\n",
        "a = \"${API_PORT:-",
    ];
    for pattern in patterns {
        let text = pattern.repeat((4 << 20) / pattern.len());
        let took = read(text.as_bytes());
        assert!(took < PATIENCE, "{pattern:?} took {took:?}");
    }
}

#[test]
fn large_files_of_many_names_are_read_in_time() {
    let numbered = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let files = [
        numbered(300_000, &|n| format!("k{n} = 1\n")),
        numbered(100_000, &|n| format!("[service.s{n}]\nx = \"\"\n")),
        numbered(60_000, &|n| format!("[listener.l{n}]\nlisten = \"127.0.0.1:{}\"\n", n % 65_000 + 1)),
        numbered(9_999, &|n| format!("[[route]]\nlistener = \"l\"\npath = \"/{n}\"\nservice = \"s{n}\"\n")),
        numbered(9_999, &|n| format!("[service.s{n}]\nendpoints = [\"10.0.0.1:80\"]\n")),
        format!("[service.a]\nendpoints = [{}]", numbered(9_999, &|n| format!("\"10.0.0.1:{}\", ", n + 1))),
        format!("[service.a]\nendpoints = [{}]", numbered(200_000, &|_| "\"10.0.0.1:80\", ".to_owned())),
        format!("x = {{ {} }}", numbered(200_000, &|n| format!("k{n} = 1, "))),
        format!("{} = 1", "deep.".repeat(70) + "x"),
        format!("[{}a]\n{}b = {}1{}", "t.".repeat(70), "d.".repeat(70), "[".repeat(70), "]".repeat(70)),
    ];
    for text in files {
        let took = read(text.as_bytes());
        assert!(took < PATIENCE, "{}... took {took:?}", &text[..60]);
    }
}

#[test]
fn deep_nesting_is_refused_where_it_begins() {
    let text = format!("x = {}1{}", "[".repeat(40), "]".repeat(40));
    let found = load_bytes(text.as_bytes(), &env).unwrap_err();
    assert!(found.to_string().contains("nested deeper than 32 levels"), "{found}");
}

#[test]
fn larger_files_are_refused() {
    let text = "#".repeat((4 << 20) + 1);
    let found = load_bytes(text.as_bytes(), &env).unwrap_err();
    assert!(found.to_string().contains("larger than 4 MiB"), "{found}");
    assert!(load_bytes(&text.as_bytes()[1..], &env).is_ok());
}

/// A change of a text: a cut, or a piece put in.
#[derive(Clone, Debug)]
enum Edit {
    Cut(usize, usize),
    Insert(usize, String),
    Copy(usize, usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop::sample::select(vec![
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "\n",
        "\r\n",
        "\t",
        "#",
        "${",
        "}",
        "${API_PORT}",
        "-1",
        "99999999999999999999",
        "1.5",
        "true",
        "off",
        "\"off\"",
        "\u{e4}",
        "\u{1F600}",
        "\"\"\"",
        "1979-05-27",
        "nan",
        "0x1f",
    ]);
    prop_oneof![
        (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (any::<usize>(), piece).prop_map(|(at, piece)| Edit::Insert(at, piece.to_owned())),
        (any::<usize>(), any::<usize>(), 1..200_usize).prop_map(|(from, to, length)| Edit::Copy(from, to, length)),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for edit in edits {
        let len = bytes.len().max(1);
        match edit {
            Edit::Cut(at, length) => {
                let at = at % len;
                bytes.drain(at.min(bytes.len())..(at + length).min(bytes.len()));
            }
            Edit::Insert(at, piece) => {
                let at = (at % len).min(bytes.len());
                bytes.splice(at..at, piece.bytes());
            }
            Edit::Copy(from, to, length) => {
                let (from, to) = ((from % len).min(bytes.len()), (to % len).min(bytes.len()));
                let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

/// A value of any kind, as TOML.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|yes| yes.to_string()),
        "[ -~]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', ""))),
        "[0-9]{1,3}(ms|s|m|h|%|KiB|B)".prop_map(|text| format!("\"{text}\"")),
        Just("1.5".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("\"\"".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let key = prop::sample::select(vec!["path", "address", "header", "cookie", "on", "max", "base", "status", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|map| {
                let entries: Vec<_> = map.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                format!("{{ {} }}", entries.join(", "))
            }),
        ]
    })
}

/// The positions of `key = value` lines of the full file.
fn lines() -> Vec<usize> {
    FULL.lines()
        .enumerate()
        .filter(|(_, line)| line.contains(" = ") && !line.starts_with([' ', '#']))
        .map(|(n, _)| n)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes) < PATIENCE);
    }

    #[test]
    fn toml_like_texts_are_read(text in "([a-c.=\\[\\]{}\",'\\n# 0-9-]|route|service|listener|endpoints|\\$\\{|\u{e4}){0,60}") {
        prop_assert!(read(text.as_bytes()) < PATIENCE);
    }

    #[test]
    fn edited_files_are_read(edits in prop::collection::vec(edit(), 1..6)) {
        prop_assert!(read(&edited(FULL, &edits)) < PATIENCE);
    }

    #[test]
    fn any_value_stands_at_any_key(at in prop::sample::select(lines()), value in value()) {
        let line = |(n, line): (usize, &str)| match line.split_once(" = ") {
            Some((key, _)) if n == at => format!("{key} = {value}\n"),
            _ => format!("{line}\n"),
        };
        let text: String = FULL.lines().enumerate().map(line).collect();
        prop_assert!(read(text.as_bytes()) < PATIENCE);
    }
}
