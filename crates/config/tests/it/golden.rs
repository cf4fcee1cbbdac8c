//! Mistakes that people make, and what they are told: `tests/golden/NAME.toml` and `NAME.stderr`.
//!
//! `TENFOLD_GOLDEN=update` writes the answers again; read the difference before it is committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FOLDER: &str = "tests/golden";

fn names(extension: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let wanted = files.filter(|path| path.extension().is_some_and(|e| e == extension));
    wanted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn told(path: &Path) -> String {
    match config::load(path, &super::env) {
        Err(diagnostics) => {
            assert!(diagnostics.errors() > 0, "{}", path.display());
            diagnostics.render(false)
        }
        Ok(loaded) => {
            let warnings = loaded.warnings.render(false);
            assert!(!warnings.is_empty(), "{}: there is no mistake in it", path.display());
            warnings
        }
    }
}

#[test]
fn every_mistake_is_told_as_written_down() {
    let update = std::env::var("TENFOLD_GOLDEN").is_ok_and(|mode| mode == "update");
    let mut differences = Vec::new();
    for name in names("toml") {
        let path = Path::new(FOLDER).join(format!("{name}.toml"));
        let answer = path.with_extension("stderr");
        let actual = told(&path);
        if update {
            std::fs::write(&answer, &actual).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&answer)
            .unwrap_or_else(|error| panic!("{}: {error}; run with TENFOLD_GOLDEN=update", answer.display()));
        if expected != actual {
            differences.push(format!("--- {name}: expected\n{expected}--- {name}: found\n{actual}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn no_golden_file_is_unused() {
    let (mistakes, answers) = (names("toml"), names("stderr"));
    assert!(mistakes.len() >= 45, "only {} mistakes are covered", mistakes.len());
    assert_eq!(mistakes, answers);
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let folder_of_one = path.is_dir() && mistakes.contains(path.file_name().unwrap().to_str().unwrap());
        let known = path.extension().is_some_and(|e| e == "toml" || e == "stderr");
        assert!(folder_of_one || known, "{} belongs to no test", path.display());
    }
}

#[test]
fn every_error_names_its_place_key_and_fix_for_programs_too() {
    for name in names("toml") {
        let path = Path::new(FOLDER).join(format!("{name}.toml"));
        let Err(diagnostics) = config::load(&path, &super::env) else { continue };
        let json = diagnostics.to_json();
        let text = diagnostics.render(false);
        assert_eq!(json.as_array().unwrap().len(), diagnostics.iter().count());
        for found in json.as_array().unwrap().iter().filter(|found| !found["file"].is_null()) {
            let place = format!("{}:{}:{}", found["file"].as_str().unwrap(), found["line"], found["column"]);
            assert!(text.contains(&place), "{name}: {place} is not in\n{text}");
            assert!(text.contains(found["message"].as_str().unwrap()), "{name}: {found}");
        }
    }
}

#[test]
fn colour_is_there_only_when_asked_for() {
    let path = Path::new(FOLDER).join("several_mistakes.toml");
    let diagnostics = config::load(&path, &super::env).unwrap_err();
    assert!(diagnostics.render(true).contains('\u{1b}'));
    assert!(diagnostics.render(false).is_ascii());
}
