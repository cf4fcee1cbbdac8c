//! Writing TOML as a person would.

use std::time::Duration;

/// A text as a value. What would be a variable in it is none.
pub(super) fn text(value: &str) -> String {
    raw(&value.replace("${", "$${"))
}

/// A text as a value, in which variables stand.
pub(super) fn raw(value: &str) -> String {
    // Strings of JSON are strings of TOML: both escape by the same letters what they must.
    serde_json::Value::from(value).to_string()
}

/// A key of a table.
pub(super) fn key(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_bare { name.to_owned() } else { raw(name) }
}

/// A list of texts.
pub(super) fn list<'v>(values: impl IntoIterator<Item = &'v String>) -> String {
    let values: Vec<_> = values.into_iter().map(|value| text(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A duration, in the unit in which it is short.
pub(super) fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        _ if !millis.is_multiple_of(1000) => format!("\"{millis}ms\""),
        _ if !millis.is_multiple_of(60_000) || millis == 0 => format!("\"{}s\"", millis / 1000),
        _ if !millis.is_multiple_of(3_600_000) => format!("\"{}m\"", millis / 60_000),
        _ => format!("\"{}h\"", millis / 3_600_000),
    }
}

/// The pairs as an inline table; `None` without any.
pub(super) fn table(pairs: &[(&str, String)]) -> Option<String> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
}

/// The name of a variable that holds somebody's password.
pub(super) fn variable(name: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = name.chars().map(upper).collect();
    let mark = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    format!("{mark}{name}_PASSWORD")
}

/// A text with escapes for all that means something in a URL.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
