//! The reference part of the documentation, from the schema.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// Every table with its keys, values, defaults and purposes, as Markdown.
pub fn reference() -> String {
    let schema = crate::schema();
    let mut text = String::new();
    table(&mut text, &schema, &schema);
    // In the order in which they are first named, which is the file's own.
    for definition in schema["$defs"].as_object().into_iter().flat_map(|definitions| definitions.values()) {
        table(&mut text, &schema, definition);
    }
    text
}

fn table(text: &mut String, root: &Json, table: &Json) {
    let title = table["title"].as_str().unwrap_or_default();
    let about = table["description"].as_str().unwrap_or_default();
    let _ = write!(text, "### {title}\n\n{about}\n\n| key | value | default | meaning |\n|---|---|---|---|\n");
    let required: Vec<_> = table["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    for (key, property) in table["properties"].as_object().into_iter().flatten() {
        let default = match &property["default"] {
            _ if required.contains(&key.as_str()) => "required".to_owned(),
            Json::Null => String::new(),
            Json::Object(map) if map.is_empty() => "`{}`".to_owned(),
            default => format!("`{default}`"),
        };
        let about = property["description"].as_str().unwrap_or_default();
        let _ = writeln!(text, "| `{key}` | {} | {default} | {about} |", value(root, property).replace('|', "\\|"));
    }
    text.push('\n');
}

/// What a value may be, in words.
fn value(root: &Json, schema: &Json) -> String {
    if let Some(words) = schema["x-value"].as_str() {
        return words.to_owned();
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let table = root.pointer(reference.trim_start_matches('#'));
        return format!("table {}", table.and_then(|table| table["title"].as_str()).unwrap_or(reference));
    }
    if let Some(choices) = schema["enum"].as_array() {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(word) = schema.get("const") {
        return format!("`{word}`");
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        let in_words = |form: &Json| match &form["items"] {
            items if forms.contains(items) => "a list of them".to_owned(),
            _ => value(root, form),
        };
        return forms.iter().map(in_words).collect::<Vec<_>>().join(", or ");
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => format!("{} to {}", schema["minimum"], schema["maximum"]),
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("array") => format!("list, each {}", value(root, &schema["items"])),
        Some("object") => format!("{} by name", value(root, &schema["additionalProperties"])),
        Some(other) => other.replace("string", "text"),
        None => String::new(),
    }
}
