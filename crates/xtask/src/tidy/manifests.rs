//! Every crate inherits what is decided once: lints, edition, version, licence.

use super::{Finding, Tree};

const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages() {
        let path = &package.manifest_path;
        let place = path.strip_prefix(tree.root()).unwrap_or(path).display().to_string();
        match std::fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| missing(&text)) {
            Ok(missing) => findings.extend(missing.into_iter().map(|text| Finding::new(&place, text))),
            Err(error) => findings.push(Finding::new(place, error)),
        }
    }
    findings
}

fn missing(text: &str) -> Result<Vec<String>, String> {
    let manifest: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let is_inherited = |table: &str, key: Option<&str>| {
        let mut value = manifest.get(table);
        if let Some(key) = key {
            value = value.and_then(|table| table.get(key));
        }
        value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    let mut missing = Vec::new();
    if !is_inherited("lints", None) {
        missing.push("does not inherit lints: add `[lints]` with `workspace = true`".to_owned());
    }
    let keys = INHERITED.iter().filter(|key| !is_inherited("package", Some(key)));
    missing.extend(keys.map(|key| format!("does not inherit {key}: write `{key}.workspace = true`")));
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::super::tree::invented;
    use super::*;

    #[test]
    fn what_is_not_inherited_is_found() {
        let whole = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
                     rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\
                     [lints]\nworkspace = true\n";
        let count = |text: &str| check(&invented::tree(&[("crates/a/Cargo.toml", text)]).0).len();
        assert_eq!(count(whole), 0);
        assert_eq!(count(&whole.replace("[lints]\nworkspace = true\n", "")), 1);
        assert_eq!(count(&whole.replace("edition.workspace = true", "edition = \"2021\"")), 1);
        assert_eq!(count(&whole.replace("[lints]\nworkspace = true", "[lints]\nworkspace = false")), 1);
        assert_eq!(count("not toml"), 1);
    }
}
