//! The file in which PgBouncer has its users: a line for each, `"name" "secret"`.
//!
//! A quotation mark within a name or secret is doubled. What follows the two on their line is passed over, as PgBouncer does,
//! and so are lines that begin with a semicolon. A line that is anything else is an error here: PgBouncer stops reading there,
//! and whoever stands below cannot log in.

use thiserror::Error;

use super::Stored;

/// A line that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct UserlistError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Most bytes of a name, which is PostgreSQL's own bound and PgBouncer's.
pub const NAME_BYTES_MAX: usize = 127;

/// Names with what is known of their passwords, in the order of the file.
///
/// # Errors
/// At the first line that is not understood, or names somebody again.
pub fn read(text: &str) -> Result<Vec<(String, Stored)>, UserlistError> {
    let mut users: Vec<(String, Stored)> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let fault = |reason| UserlistError { line: number + 1, reason };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let (name, rest) = quoted(line).ok_or(fault("expected a name in quotation marks"))?;
        let (secret, _) = quoted(rest.trim_start()).ok_or(fault("expected a secret in quotation marks"))?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(fault("the name is empty or too long"));
        }
        if !known.insert(name.clone()) {
            return Err(fault("the name is there twice"));
        }
        users.push((name, Stored::parse(&secret)));
    }
    Ok(users)
}

/// What stands between quotation marks at the beginning, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut found = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        found.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                found.push('"');
                rest = after;
            }
            None => return Some((found, after)),
        }
    }
}
