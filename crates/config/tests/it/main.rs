//! Tests of the configuration from outside.

mod breaker;
mod cache;
mod database;
mod documentation;
mod golden;
mod hostile;
mod shedding;
mod valid;

/// Variables as the tests see them: the same on every machine.
fn env(name: &str) -> Option<String> {
    match name {
        "API_PORT" => Some("9001".to_owned()),
        "BAD_ADDRESS" => Some("nowhere at all".to_owned()),
        "WEIGHT" => Some("3".to_owned()),
        "EMPTY" => Some(String::new()),
        "ADMIN_TOKEN" => Some("0123456789abcdef-from-env".to_owned()),
        "SHORT_TOKEN" => Some("hunter2".to_owned()),
        "INJECTION" => Some("\"\n[service.evil]\nendpoints = [\"10.6.6.6:80\"]\n#".to_owned()),
        _ => None,
    }
}
