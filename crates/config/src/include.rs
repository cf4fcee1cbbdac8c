//! From paths to one tree: reads the main file and what it includes, and joins their tables.
//!
//! `include` takes paths relative to the file that holds it; `*` may stand in the last part of a path, and its matches
//! come in order of name. A path without `*` must exist; a pattern may match nothing. Nothing is defined twice: a name
//! in two files is an error that shows both places, whichever file comes first.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::diagnostic::{Diagnostic, Sink};
use crate::expand::Expander;
use crate::node::{Entry, Node, Reader, Value};
use crate::source::{Place, Sources};
use crate::syntax;
use crate::value::shortened;

/// Most bytes of all files together. A thousand services need about a tenth of it.
pub(crate) const BYTES_MAX: usize = 4 << 20;

/// Most files of one configuration.
const FILES_MAX: usize = 256;

/// Longest chain of files that include each other.
const DEPTH_MAX: usize = 8;

/// Reads files and keeps what they hold.
pub(crate) struct Includer<'a, 'e> {
    pub(crate) sources: &'a mut Sources,
    pub(crate) sink: &'a mut Sink,
    pub(crate) expander: Expander<'e>,
    /// Canonical paths of the files being read, from the main file inwards.
    open: Vec<PathBuf>,
    /// Canonical paths of all files read, and where they were asked for.
    read: Vec<(PathBuf, Option<Place>)>,
    root: Vec<Entry>,
    /// Where a key is in `root`.
    index: HashMap<String, usize>,
    /// Whether a part is missing, so that references into it must not be checked.
    incomplete: bool,
    bytes_read: usize,
}

impl<'a, 'e> Includer<'a, 'e> {
    pub(crate) fn new(sources: &'a mut Sources, sink: &'a mut Sink, expander: Expander<'e>) -> Self {
        Self {
            sources,
            sink,
            expander,
            open: Vec::new(),
            read: Vec::new(),
            root: Vec::new(),
            index: HashMap::new(),
            incomplete: false,
            bytes_read: 0,
        }
    }

    /// The joined tables of all files; `None` when a file could not be read or parsed, which has been reported.
    pub(crate) fn finish(self) -> Option<Vec<Entry>> {
        (!self.incomplete).then_some(self.root)
    }

    /// Reads a file and what it includes. `asked` is the place of the `include` that names it.
    pub(crate) fn file(&mut self, path: &Path, asked: Option<Place>) {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(path, &error, asked),
        };
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if self.open.contains(&canonical) {
            let message = format!("{} includes itself by way of this file", path.display());
            let fix = "remove one of the includes that form the circle".to_owned();
            return self.sink.push(Diagnostic::error(asked, "include", message).fix(fix));
        }
        if let Some((_, first)) = self.read.iter().find(|(other, _)| *other == canonical) {
            let message = format!("{} is included twice", path.display());
            let diagnostic = Diagnostic::error(asked, "include", message).related(*first, "first included here");
            return self.sink.push(diagnostic);
        }
        if self.read.len() >= FILES_MAX || self.open.len() >= DEPTH_MAX {
            let message = format!("more than {FILES_MAX} files, or files included more than {DEPTH_MAX} deep");
            return self.sink.push(Diagnostic::error(asked, "include", message));
        }
        self.read.push((canonical.clone(), asked));
        self.open.push(canonical);
        self.bytes(path, &bytes, path.parent());
        self.open.pop();
    }

    /// Reads a text that has a name. `base` is the folder of its includes; without it there can be none.
    pub(crate) fn bytes(&mut self, path: &Path, bytes: &[u8], base: Option<&Path>) {
        let before = std::mem::replace(&mut self.incomplete, true);
        self.bytes_read += bytes.len();
        if self.bytes_read > BYTES_MAX {
            let message = format!("the configuration is larger than {} MiB with {}", BYTES_MAX >> 20, path.display());
            return self.sink.push(Diagnostic::error(None, "", message));
        }
        // What is not UTF-8 is shown with replacement characters, after the place where it begins.
        let text = String::from_utf8_lossy(bytes).into_owned();
        let file = self.sources.add(path.to_owned(), text);
        if let Err(error) = std::str::from_utf8(bytes) {
            let start = error.valid_up_to();
            let place = Place::new(file, start..start + char::REPLACEMENT_CHARACTER.len_utf8());
            let message = format!("byte 0x{:02x} is not UTF-8 text", bytes[start]);
            let fix = "save the file as UTF-8".to_owned();
            return self.sink.push(Diagnostic::error(place, "", message).fix(fix));
        }
        let text = self.sources.text(file);
        let (table, errors) = DeTable::parse_recoverable(text);
        if syntax::report(self.sources, file, &errors, self.sink) == syntax::Tree::Unusable {
            return;
        }
        self.incomplete = before;
        let mut reader = Reader { file, sources: self.sources, expander: &mut self.expander, sink: self.sink };
        let entries = reader.table(table.get_ref(), 0);
        for entry in entries {
            match entry.key.as_str() {
                "include" => self.includes(&entry.node, base),
                _ => self.join(entry),
            }
        }
    }

    fn includes(&mut self, node: &Node, base: Option<&Path>) {
        let Value::Array(items) = &node.value else {
            let fix = node.text().map(|text| format!("write include = [\"{text}\"]"));
            let message = format!("expected an array of paths, found {}", node.kind());
            return self.sink.push(Diagnostic::error(node.place, "include", message).fix(fix));
        };
        for item in items {
            match (&item.value, base) {
                (Value::Broken, _) => {}
                (Value::Text { text, .. }, Some(base)) => self.include(text, base, item.place),
                (Value::Text { .. }, None) => {
                    let message = "a configuration that is not a file cannot include others";
                    self.sink.push(Diagnostic::error(item.place, "include", message));
                }
                _ => {
                    let message = format!("expected a path in quotes, found {}", item.kind());
                    self.sink.push(Diagnostic::error(item.place, "include", message));
                }
            }
        }
    }

    fn include(&mut self, pattern: &str, base: &Path, place: Place) {
        let pattern = base.join(pattern);
        let last = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = pattern.parent().unwrap_or(base);
        if folder.to_str().is_some_and(|folder| folder.contains('*')) {
            let message = "'*' may stand only in the last part of a path";
            let fix = "name the folders, such as [\"a/*.toml\", \"b/*.toml\"]".to_owned();
            return self.sink.push(Diagnostic::error(place, "include", message).fix(fix));
        }
        if !last.contains('*') {
            return self.file(&pattern, Some(place));
        }
        match matches(folder, last) {
            Ok(paths) => paths.iter().for_each(|path| self.file(path, Some(place))),
            Err(error) => self.unreadable(folder, &error, Some(place)),
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error, asked: Option<Place>) {
        self.incomplete = true;
        let message = format!("cannot read {}: {error}", path.display());
        let fix = match asked {
            Some(_) => "paths are relative to the file that includes them",
            None => "name the file, such as tenfold check path/to/tenfold.toml",
        };
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let key = if asked.is_some() { "include" } else { "" };
        self.sink.push(Diagnostic::error(asked, key, message).fix(missing.then(|| fix.to_owned())));
    }

    /// Adds a table of one file to those of the files before it.
    fn join(&mut self, entry: Entry) {
        let next = self.root.len();
        let index = *self.index.entry(entry.key.clone()).or_insert(next);
        let Some(before) = self.root.get_mut(index) else {
            return self.root.push(entry);
        };
        match (entry.key.as_str(), &mut before.node.value, entry.node.value) {
            ("route", Value::Array(routes), Value::Array(more)) => routes.extend(more),
            ("listener" | "service", Value::Table(named), Value::Table(more)) => {
                let places: HashMap<_, _> = named.iter().map(|old| (old.key.clone(), old.key_place)).collect();
                for new in more {
                    match places.get(&new.key) {
                        None => named.push(new),
                        Some(old) => {
                            let key = format!("{}.{}", entry.key, shortened(&new.key));
                            self.sink.push(defined_twice(&key, *old, new.key_place));
                        }
                    }
                }
            }
            _ => self.sink.push(defined_twice(&shortened(&entry.key), before.key_place, entry.key_place)),
        }
    }
}

fn defined_twice(key: &str, old: Place, new: Place) -> Diagnostic {
    Diagnostic::error(new, key, "defined in two files")
        .label("defined again here")
        .related(old, "first defined here")
        .fix("give one of them another name, or remove it".to_owned())
}

/// What a file holds, and a byte too much if that is more than a configuration may have.
pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that is too large from one that just fits.
    File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files of `folder` whose names match `pattern`, by name. Hidden files match only a pattern that begins with `.`.
fn matches(folder: &Path, pattern: &str) -> std::io::Result<Vec<PathBuf>> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name_matches(pattern, name) && (!name.starts_with('.') || pattern.starts_with('.')) {
            paths.push(folder.join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether `name` is `pattern` with any text in the place of each `*`.
fn name_matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(name_matches(pattern, name), expected, "{pattern} {name}");
        };
        check("*.toml", "a.toml", true);
        check("*.toml", "a.toml.bak", false);
        check("a*b*c", "abc", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "acb", false);
        check("ab*ba", "aba", false);
        check("*", "anything", true);
        check("plain", "plain", true);
        check("plain", "plainer", false);
    }
}
