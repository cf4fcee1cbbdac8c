//! As much of JSON Schema as the description of the admin listener uses. A keyword that is not known here is an error,
//! so that none is passed over.

use serde_json::Value;

/// Checks a value against a schema of the document `root`.
pub(crate) fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |problem: String| Err(format!("{at}: {problem}: {value}"));
    for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "description" | "required" => {}
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
                check(root, target, value, at)?;
            }
            "type" if !types(wanted).iter().any(|kind| is(kind, value)) => return fail(format!("is no {wanted}")),
            "type" => {}
            "const" if wanted != value => return fail(format!("is not {wanted}")),
            "const" => {}
            "enum" if !wanted.as_array().unwrap().contains(value) => return fail(format!("is none of {wanted}")),
            "enum" => {}
            "minimum" if value.as_f64().is_some_and(|n| n < wanted.as_f64().unwrap()) => {
                return fail(format!("is less than {wanted}"));
            }
            "maximum" if value.as_f64().is_some_and(|n| n > wanted.as_f64().unwrap()) => {
                return fail(format!("is more than {wanted}"));
            }
            "minimum" | "maximum" => {}
            "pattern" => {
                assert_eq!(wanted, "^[A-Za-z0-9_.-]{1,64}$", "the only pattern that is known here");
                let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
                if value.as_str().is_some_and(|text| text.is_empty() || text.len() > 64 || !text.chars().all(plain)) {
                    return fail("does not match".to_owned());
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, item, &format!("{at}[{index}]"))?;
                }
            }
            "properties" => {
                for key in schema["required"].as_array().into_iter().flatten() {
                    if value.as_object().is_some_and(|map| !map.contains_key(key.as_str().unwrap())) {
                        return fail(format!("lacks {key}"));
                    }
                }
                for (key, inner) in value.as_object().into_iter().flatten() {
                    match wanted.get(key) {
                        Some(schema) => check(root, schema, inner, &format!("{at}.{key}"))?,
                        None if schema["additionalProperties"] == false => return fail(format!("has {key} too")),
                        None => {}
                    }
                }
            }
            "additionalProperties" => assert!(schema.get("properties").is_some(), "{at}: it needs properties"),
            other => panic!("{at}: the keyword {other} is not known here"),
        }
    }
    Ok(())
}

fn types(wanted: &Value) -> Vec<&str> {
    match wanted {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let schema = serde_json::json!({
        "type": "object",
        "properties": { "n": { "type": ["integer", "null"], "minimum": 0 }, "a": { "type": "array", "items": { "enum": ["x"] } } },
        "required": ["n"],
        "additionalProperties": false,
    });
    let check = |text: &str| check(&Value::Null, &schema, &serde_json::from_str(text).unwrap(), "$").is_ok();
    assert!(check("{\"n\": 1, \"a\": [\"x\"]}") && check("{\"n\": null}"));
    for wrong in ["[]", "{}", "{\"n\": -1}", "{\"n\": \"1\"}", "{\"n\": 1, \"a\": [\"y\"]}", "{\"n\": 1, \"b\": 2}"] {
        assert!(!check(wrong), "{wrong}");
    }
}
