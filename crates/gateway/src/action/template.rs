//! Paths with places for what an expression's groups matched: `/users/$1`, `/$lang/home`.
//!
//! `$1` is a group by number, of as many digits as follow; `$name` one by name, of as many letters, digits and `_` as
//! follow; `$$` is a dollar sign. Groups are resolved once, so a name that does not exist is an error in the file and
//! not an empty text in a path.

use regex::bytes::Captures;

use crate::pattern::Pattern;

/// A path to be written anew: begins with `/`, in characters that a path may have, without a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<[u8]>),
    Group(usize),
}

/// Why a text is not a usable template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It has no leading slash.
    #[error("does not begin with '/'")]
    Relative,
    /// It has a query.
    #[error("has a query; the request's own is kept as it is")]
    Query,
    /// It has a character that a path cannot have.
    #[error("has a character that a path cannot have")]
    Character,
    /// It has a dot segment, or a broken escape.
    #[error("is not in normal form")]
    Normal,
    /// A dollar sign stands alone.
    #[error("has a '$' without a group; write $$ for a dollar sign")]
    Dollar,
    /// A group that is not there.
    #[error("names the group ${0}, which the expression does not have")]
    Group(String),
}

impl PathTemplate {
    /// Reads a template for the groups of an expression, if there is one.
    ///
    /// # Errors
    /// When it could make something else than a path, or names a group that is not there.
    pub fn new(text: &str, pattern: Option<&Pattern>) -> Result<Self, TemplateError> {
        let character = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
        match text.bytes().find(|&byte| !character(byte)) {
            _ if !text.starts_with('/') => return Err(TemplateError::Relative),
            Some(_) => return Err(TemplateError::Character),
            None if text.contains('?') => return Err(TemplateError::Query),
            None => {}
        }
        let (mut pieces, mut literal, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some(at) = rest.find('$') {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('$') {
                literal.push(b'$');
                rest = behind;
                continue;
            }
            let end = |part: fn(char) -> bool| rest.find(|c| !part(c)).unwrap_or(rest.len());
            let digits = end(|c| c.is_ascii_digit());
            let length = if digits > 0 { digits } else { end(|c| c.is_ascii_alphanumeric() || c == '_') };
            let name = &rest[..length];
            if name.is_empty() {
                return Err(TemplateError::Dollar);
            }
            let group = pattern.and_then(|pattern| pattern.group(name));
            pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            pieces.push(Piece::Group(group.ok_or_else(|| TemplateError::Group(name.to_owned()))?));
            rest = &rest[length..];
        }
        literal.extend_from_slice(rest.as_bytes());
        pieces.push(Piece::Literal(literal.into()));
        // With letters in the places of groups, so that a segment of dots is one of the template's own.
        let filled: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes(|_| b"x")).copied().collect();
        match crate::router::normal_path(&filled) {
            Some(normal) if normal == filled => Ok(Self { text: text.to_owned(), pieces }),
            _ => Err(TemplateError::Normal),
        }
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names a group.
    pub fn has_groups(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Group(_)))
    }

    /// Writes the path, with what the groups matched. Groups that took no part are empty.
    pub(crate) fn write(&self, out: &mut Vec<u8>, captures: Option<&Captures<'_>>) {
        let matched =
            |group: usize| captures.and_then(|captures| captures.get(group)).map_or(&b""[..], |m| m.as_bytes());
        for piece in &self.pieces {
            out.extend_from_slice(piece.bytes(matched));
        }
    }
}

impl Piece {
    fn bytes<'p>(&'p self, matched: impl Fn(usize) -> &'p [u8]) -> &'p [u8] {
        match self {
            Self::Literal(bytes) => bytes,
            Self::Group(group) => matched(*group),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Search;

    #[test]
    fn groups_are_filled_in() {
        let check = |pattern: &str, template: &str, path: &str, expected: &str| {
            let pattern = Pattern::new(pattern).unwrap();
            let template = PathTemplate::new(template, Some(&pattern)).unwrap();
            let search = Search::new(&pattern, 1);
            let mut out = Vec::new();
            template.write(&mut out, Some(&search.captures(0, path.as_bytes()).unwrap()));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("/v([0-9]+)/(.*)", "/$2/v$1", "/v12/a/b", "/a/b/v12");
        check("/(?<lang>[a-z]{2})/(.*)", "/$2/$lang", "/de/home", "/home/de");
        check("/(a)(b)?", "/$1x/$2", "/a", "/ax/");
        check("/(.*)", "/$$1/$1", "/a%2Fb", "/$1/a%2Fb");
        check("/x", "/y", "/x", "/y");
    }

    #[test]
    fn what_cannot_be_a_path_is_refused() {
        let pattern = Pattern::new("/(a)/(?<b>.*)").unwrap();
        let check = |text: &str, expected: TemplateError| {
            assert_eq!(PathTemplate::new(text, Some(&pattern)), Err(expected), "{text}");
        };
        check("x", TemplateError::Relative);
        check("", TemplateError::Relative);
        check("/a b", TemplateError::Character);
        check("/a\r\nX: 1", TemplateError::Character);
        check("/a#b", TemplateError::Character);
        check("/?q=$1", TemplateError::Query);
        check("/a/../$1", TemplateError::Normal);
        check("/100%", TemplateError::Normal);
        check("/$", TemplateError::Dollar);
        check("/$/x", TemplateError::Dollar);
        check("/$3", TemplateError::Group("3".to_owned()));
        check("/$1/$bb", TemplateError::Group("bb".to_owned()));
        assert_eq!(PathTemplate::new("/$1", None), Err(TemplateError::Group("1".to_owned())));
    }
}
