//! The form of PgBouncer's configuration: sections of `key = value`, and values of databases that are pairs again.

use anyhow::{Context, bail};

/// A file: its sections in their order.
#[derive(Debug, Default)]
pub(super) struct File {
    sections: Vec<(String, Vec<Entry>)>,
    /// Lines that name further files.
    pub(super) includes: Vec<Entry>,
}

/// A setting, and the line that it is in.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) line: usize,
}

impl File {
    /// The settings of a section, if it is there.
    pub(super) fn section(&self, name: &str) -> Option<&[Entry]> {
        self.sections.iter().find(|(known, _)| known == name).map(|(_, entries)| entries.as_slice())
    }

    /// Names of all sections.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }
}

/// Reads a file. As in PgBouncer, only lines that begin with `;` or `#` are comments.
///
/// # Errors
/// At the first line that is neither a section, a setting, a comment nor an include.
pub(super) fn parse(text: &str) -> anyhow::Result<File> {
    let mut file = File::default();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, line) = (number + 1, line.trim());
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix("%include") {
            file.includes.push(Entry { key: String::new(), value: name.trim().to_owned(), line: number });
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').with_context(|| format!("line {number}: the section is not closed"))?;
            // A section that comes again goes on.
            if file.section(name.trim()).is_none() {
                file.sections.push((name.trim().to_owned(), Vec::new()));
            } else {
                let at = file.sections.iter().position(|(known, _)| known == name.trim());
                let again = file.sections.remove(at.unwrap_or_default());
                file.sections.push(again);
            }
            continue;
        }
        let (key, value) = setting(line).with_context(|| format!("line {number}: there is no `=`"))?;
        let Some((_, entries)) = file.sections.last_mut() else { bail!("line {number}: a setting before any section") };
        entries.push(Entry { key, value, line: number });
    }
    Ok(file)
}

/// A key, which may stand in quotation marks, and its value.
fn setting(line: &str) -> Option<(String, String)> {
    let (key, rest) = match line.strip_prefix('"') {
        Some(rest) => quoted(rest, '"')?,
        None => {
            let at = line.find('=')?;
            (line[..at].trim().to_owned(), &line[at..])
        }
    };
    Some((key, rest.trim_start().strip_prefix('=')?.trim().to_owned()))
}

/// What stands up to a mark, which is doubled within, and what follows.
fn quoted(text: &str, mark: char) -> Option<(String, &str)> {
    let (mut found, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once(mark)?;
        found.push_str(before);
        match after.strip_prefix(mark) {
            Some(after) => {
                found.push(mark);
                rest = after;
            }
            None => return Some((found, after)),
        }
    }
}

/// The pairs of a connection string.
///
/// # Errors
/// Where it is no such pair; what is said holds no value.
pub(super) fn pairs(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').context("there is a word without `=`")?;
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('\'') {
            Some(inner) => quoted(inner, '\'').context("a quotation mark is not closed")?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        pairs.push((key.trim().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_are_pgbouncers() {
        let file = parse("; no\n[databases]\n# no\n\"my \"\"db\"\"\" = host=a ; port=1\n[x]\na=b\n[databases]\nc =\n")
            .unwrap();
        let entries: Vec<_> =
            file.section("databases").unwrap().iter().map(|e| (e.key.as_str(), e.value.as_str(), e.line)).collect();
        assert_eq!(entries, [("my \"db\"", "host=a ; port=1", 4), ("c", "", 8)]);
        let found = pairs("host=a password = 'it''s = b' port=1").unwrap();
        let expected = [("host", "a"), ("password", "it's = b"), ("port", "1")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(pairs("host='a").is_err() && pairs("host").is_err());
    }
}
