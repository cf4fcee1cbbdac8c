//! The texts that a configuration was read from, and places in them.

use std::ops::Range;
use std::path::PathBuf;

/// Index of a file within [`Sources`].
pub(crate) type FileId = u16;

/// A stretch of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Place {
    pub(crate) fn new(file: FileId, span: Range<usize>) -> Self {
        // Files are at most 4 MiB, so offsets fit.
        Self { file, start: span.start as u32, end: span.end.max(span.start) as u32 }
    }

    /// The beginning of a file, for what is missing from all of it.
    pub(crate) fn start_of(file: FileId) -> Self {
        Self { file, start: 0, end: 0 }
    }
}

/// A place as people count: lines and columns (in characters) from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Every file that was read, in reading order.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
    secrets: Vec<Place>,
}

#[derive(Clone)]
struct Source {
    path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
}

/// One line around a place, ready to show.
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    /// The marked part, in bytes of `text`.
    pub(crate) marked: Range<usize>,
}

impl Sources {
    pub(crate) fn add(&mut self, path: PathBuf, text: String) -> FileId {
        let after_newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        self.files.push(Source { path, text, line_starts });
        // The include rules keep the number of files far below 65536.
        (self.files.len() - 1) as FileId
    }

    pub(crate) fn hide(&mut self, place: Place) {
        self.secrets.push(place);
    }

    pub(crate) fn text(&self, file: FileId) -> &str {
        &self.files[usize::from(file)].text
    }

    pub(crate) fn path(&self, file: FileId) -> &PathBuf {
        &self.files[usize::from(file)].path
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|file| &file.path)
    }

    pub(crate) fn location(&self, place: Place) -> Location {
        let source = &self.files[usize::from(place.file)];
        let (index, line_start) = source.line_of(place.start as usize);
        let at = floor_boundary(&source.text, place.start as usize);
        let column = source.text[line_start..at].chars().count() + 1;
        Location { file: source.path.clone(), line: index + 1, column }
    }

    /// The number of the line where a place begins, from 1.
    pub(crate) fn line_number(&self, place: Place) -> usize {
        self.files[usize::from(place.file)].line_of(place.start as usize).0 + 1
    }

    /// The line where a place begins; what goes beyond it is cut off.
    pub(crate) fn line(&self, place: Place) -> Line<'_> {
        let source = &self.files[usize::from(place.file)];
        let (index, line_start) = source.line_of(place.start as usize);
        let text = source.line_text(index);
        let within = |offset: u32| {
            let offset = (offset as usize).clamp(line_start, line_start + text.len());
            floor_boundary(text, offset - line_start)
        };
        let marked = within(place.start)..within(place.end).max(within(place.start));
        Line { number: index + 1, text, marked }
    }

    /// Parts of the line where a place begins that must not be shown, in bytes of the line.
    pub(crate) fn hidden(&self, place: Place) -> Vec<Range<usize>> {
        let source = &self.files[usize::from(place.file)];
        let (index, line_start) = source.line_of(place.start as usize);
        let text = source.line_text(index);
        let within = |offset: u32| (offset as usize).clamp(line_start, line_start + text.len()) - line_start;
        let same_line = |secret: &&Place| {
            secret.file == place.file
                && (secret.start as usize) < line_start + text.len()
                && secret.end as usize > line_start
        };
        let mut hidden: Vec<_> =
            self.secrets.iter().filter(same_line).map(|s| within(s.start)..within(s.end)).collect();
        written_secrets(text, &mut hidden);
        hidden
    }

    /// The lines of a file up to the one that holds `offset`, nearest first, each with its start.
    pub(crate) fn lines_before(&self, file: FileId, offset: usize) -> impl Iterator<Item = (usize, &str)> {
        let source = &self.files[usize::from(file)];
        let (index, _) = source.line_of(offset);
        (0..index).rev().map(move |line| (source.line_starts[line], source.line_text(line)))
    }
}

impl Source {
    fn line_of(&self, offset: usize) -> (usize, usize) {
        let index = self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1);
        (index, self.line_starts[index])
    }

    fn line_text(&self, index: usize) -> &str {
        let end = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        let line = &self.text[self.line_starts[index]..end];
        // One ending and no more: a line of carriage returns would take its length to trim.
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line)
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    (0..=offset).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// What names of keys with secrets end with, in lower case.
const SECRET_KEYS: [&str; 6] = ["token", "headers", "authorization", "api-key", "api_key", "apikey"];

/// Adds what stands behind each `token =` of a line, and the like, and who may use what a URL names. A file with broken syntax has no tree that would tell
/// where its secrets are, so this looks at the text alone and rather hides too much.
fn written_secrets(line: &str, hidden: &mut Vec<Range<usize>>) {
    if let Some((start, end)) = line.find("://").zip(line.rfind('@'))
        && start + 3 < end
    {
        hidden.push(start + 3..end);
    }
    let lower = line.to_ascii_lowercase();
    for (at, key) in SECRET_KEYS.iter().flat_map(|key| lower.match_indices(key)) {
        let after = &line[at + key.len()..];
        let Some(equals) = after.find(['=', ':']) else { continue };
        let between = after[..equals].trim_matches(['"', '\'', ' ', '\t']);
        let Some(start) = after[equals + 1..].find(|c: char| !c.is_whitespace()) else { continue };
        if between.is_empty() {
            let start = at + key.len() + equals + 1 + start;
            hidden.push(start..start + written_value(&line[start..]));
        }
    }
}

/// Length of a value that is closed by the quote it begins with, or else of the whole rest.
fn written_value(text: &str) -> usize {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let one = quote.filter(|quote| !text.starts_with(&quote.to_string().repeat(3)) && !text.contains('\\'));
    one.and_then(|quote| text[1..].find(quote)).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_before_crlf() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml".into(), "one\r\n# \u{e4}\u{1F600} x\r\n".to_owned());
        let x = sources.text(file).find('x').unwrap();
        let place = Place::new(file, x..x + 1);
        assert_eq!(sources.location(place), Location { file: "a.toml".into(), line: 2, column: 6 });
        let line = sources.line(place);
        assert_eq!((line.number, line.text, &line.text[line.marked.clone()]), (2, "# \u{e4}\u{1F600} x", "x"));
    }

    #[test]
    fn places_beyond_the_text_or_inside_a_character_are_moved_to_a_boundary() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml".into(), "\u{1F600}".to_owned());
        for (start, end) in [(0, 9), (1, 2), (4, 4), (9, 12)] {
            let place = Place::new(file, start..end);
            let line = sources.line(place);
            assert!(line.text.get(line.marked.clone()).is_some(), "{start}..{end}");
            assert_eq!(sources.location(place).line, 1);
        }
    }

    #[test]
    fn written_secrets_are_found_without_a_tree() {
        let check = |line: &str, expected: &[&str]| {
            let mut hidden = Vec::new();
            written_secrets(line, &mut hidden);
            let found: Vec<_> = hidden.into_iter().map(|range| &line[range]).collect();
            assert_eq!(found, expected, "{line:?}");
        };
        check("token = \"s3cret", &["\"s3cret"]);
        check("admin = { token = \"s3cret\", on = 1 }", &["\"s3cret\""]);
        check("token = \"s3\\\"cret\" # x", &["\"s3\\\"cret\" # x"]);
        check("token = \"\"\"s3cret\"\"\"", &["\"\"\"s3cret\"\"\""]);
        check("admin = { token=abc }", &["abc }"]);
        check("\"token\" : abc", &["abc"]);
        check("token_count = 1, token = 'a' , token = 'b'", &["'a'", "'b'"]);
        check("tokens_max = 5", &[]);
        check("Authorization = \"Bearer s3cret\"", &["\"Bearer s3cret\""]);
        check("trace = { headers = { X-Api-Key = \"s3cret\"", &["{ X-Api-Key = \"s3cret\"", "\"s3cret\""]);
        check("# a token", &[]);
        check("store = \"redis://shop:s3cret@10.0.0.5", &["shop:s3cret"]);
        check("a = \"redis://:s3@cret@a\", b = \"redis://:other@b\"", &[":s3@cret@a\", b = \"redis://:other"]);
        check("store = \"redis://10.0.0.5\"", &[]);
    }
}
