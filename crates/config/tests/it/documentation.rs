//! The documentation and the schema say what the reader does.

use serde_json::Value as Json;

const PATH: &str = "../../docs/configuration.md";
const BEGIN: &str = "<!-- reference: begin -->\n";
const END: &str = "<!-- reference: end -->";

fn page() -> String {
    std::fs::read_to_string(PATH).unwrap()
}

fn env(name: &str) -> Option<String> {
    let known = [
        "TENFOLD_ADMIN_TOKEN",
        "TENFOLD_CACHE_PASSWORD",
        "WEB_PASSWORD",
        "REPORT_PASSWORD",
        "POOLER_PASSWORD",
        "MONITOR_PASSWORD",
        "OPS_PASSWORD",
    ];
    known.contains(&name).then(|| "0123456789abcdef".to_owned())
}

#[test]
fn the_reference_is_up_to_date() {
    let page = page();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (reference, after) = rest.split_once(END).unwrap();
    let expected = format!("\n{}", config::reference());
    if std::env::var("TENFOLD_GOLDEN").is_ok_and(|mode| mode == "update") {
        std::fs::write(PATH, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(reference, expected, "run with TENFOLD_GOLDEN=update");
}

/// Every page, with its path.
fn pages(folder: &std::path::Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut all = vec![("README.md".to_owned(), std::fs::read_to_string("../../README.md").unwrap())];
    pages(std::path::Path::new("../../docs"), &mut all);
    let examples = |page: &str| -> Vec<String> {
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let examples: Vec<_> =
        all.iter().flat_map(|(path, page)| examples(page).into_iter().map(move |text| (path, text))).collect();
    assert!(examples.len() >= 12, "{}", examples.len());
    // A page may show the tables that it is about alone.
    let rest = "\n[listener.web]\nlisten = \":8080\"\n[[route]]\nservice = \"api\"\n\
                [service.api]\nendpoints = [\"10.0.0.1:80\"]\n";
    for (path, mut example) in examples {
        if !example.contains("[listener") {
            example.push_str(rest);
        }
        // Files that an example names are there for tests under another folder.
        let example = &example.replace("\"certs/", "\"tests/certs/");
        let loaded = config::load_str(example, &env).unwrap_or_else(|found| panic!("{path}: {found}\n{example}"));
        assert!(loaded.warnings.is_empty(), "{path}: {}\n{example}", loaded.warnings);
        let schema = config::schema();
        valid(&schema, &schema, &loaded.effective, "").unwrap();
    }
}

#[test]
fn every_key_is_in_the_reference() {
    let (page, schema) = (config::reference(), config::schema());
    let tables = std::iter::once(&schema).chain(schema["$defs"].as_object().unwrap().values());
    let mut count = 0;
    for table in tables {
        for (key, property) in table["properties"].as_object().unwrap() {
            count += 1;
            assert!(page.contains(&format!("| `{key}` |")), "{key}");
            assert!(!property["description"].as_str().unwrap_or_default().is_empty(), "{key} has no description");
        }
    }
    assert!(count > 80, "{count}");
}

/// Checks a value against the parts of JSON Schema that the schema uses.
fn valid(root: &Json, schema: &Json, value: &Json, at: &str) -> Result<(), String> {
    let fail = |problem: String| Err(format!("{at}: {value} {problem}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').unwrap();
        return valid(root, root.pointer(pointer).ok_or(format!("no {reference}"))?, value, at);
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        let errors: Vec<_> = forms.iter().filter_map(|form| valid(root, form, value, at).err()).collect();
        return if errors.len() < forms.len() { Ok(()) } else { fail(errors.join("; ")) };
    }
    if let Some(word) = schema.get("const").filter(|word| *word != value) {
        return fail(format!("is not {word}"));
    }
    if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
        return fail("is not a choice".to_owned());
    }
    match schema["type"].as_str() {
        Some("object") => {
            let Some(map) = value.as_object() else { return fail("is no object".to_owned()) };
            for key in schema["required"].as_array().into_iter().flatten() {
                if !map.contains_key(key.as_str().unwrap()) {
                    return fail(format!("lacks {key}"));
                }
            }
            for (key, value) in map {
                let schema = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
                if *schema == Json::Bool(false) {
                    return fail(format!("has the unknown key {key}"));
                }
                valid(root, schema, value, &format!("{at}.{key}"))?;
            }
            Ok(())
        }
        Some("array") => {
            let Some(items) = value.as_array() else { return fail("is no array".to_owned()) };
            items.iter().try_for_each(|item| valid(root, &schema["items"], item, at))
        }
        Some("integer") => match value.as_i64() {
            Some(n) if n >= schema["minimum"].as_i64().unwrap() && n <= schema["maximum"].as_i64().unwrap() => Ok(()),
            _ => fail("is no integer in range".to_owned()),
        },
        Some("number") => match value.as_f64() {
            Some(n) if n >= schema["minimum"].as_f64().unwrap() && n <= schema["maximum"].as_f64().unwrap() => Ok(()),
            _ => fail("is no number in range".to_owned()),
        },
        Some("boolean") if !value.is_boolean() => fail("is no boolean".to_owned()),
        Some("string") if !value.is_string() => fail("is no string".to_owned()),
        _ => Ok(()),
    }
}

#[test]
fn the_schema_agrees_with_the_reader() {
    let schema = config::schema();
    let full = config::load_str(include_str!("full.toml"), &super::env).unwrap();
    valid(&schema, &schema, &full.effective, "").unwrap();
    let bad = |pointer: &str, value: Json| {
        let mut effective = full.effective.clone();
        *effective.pointer_mut(pointer).unwrap() = value;
        assert!(valid(&schema, &schema, &effective, "").is_err(), "{pointer}");
    };
    bad("/listener/web/connections_max", 0.into());
    bad("/service/api/balance", "least_conn".into());
    bad("/service/api/keep_host", "yes".into());
    bad("/service/api/endpoints", "10.0.0.1:80".into());
    bad("/service/api/health", serde_json::json!({ "paht": "/" }));
    bad("/listener/web", serde_json::json!({ "idle_timeout": "1s" }));
}

#[test]
fn every_default_of_the_schema_is_valid() {
    let schema = config::schema();
    let tables = std::iter::once(&schema).chain(schema["$defs"].as_object().unwrap().values());
    let mut count = 0;
    for (key, property) in tables.flat_map(|table| table["properties"].as_object().unwrap()) {
        if let Some(default) = property.get("default") {
            count += 1;
            valid(&schema, property, default, key).unwrap();
        }
    }
    assert!(count > 40, "{count}");
}
