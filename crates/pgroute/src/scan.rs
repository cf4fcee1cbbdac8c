//! The words of a statement, as PostgreSQL's own scanner finds them: chapter 4.1 of its manual, and `scan.l`.
//!
//! Whoever decides where a statement goes must not take a word for one that stands within a string, nor miss one because a string
//! ended sooner than it thought. So strings, quoted names and comments are found exactly: continued strings, escapes, `U&`, dollar
//! quotes, nested comments, operators that begin a comment. Beyond that the scanner is coarse. Numbers fall into pieces where
//! versions of PostgreSQL differ, so that `1into` is two words here, as it was until version 14.
//!
//! Two settings of a session change what a text means. Without `standard_conforming_strings` a backslash escapes in every string.
//! And some encodings of clients have bytes of other characters within one of theirs; nothing is looked into then, which is for
//! the caller to know: [`is_safe_encoding`].

use std::borrow::Cow;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword without quotes.
    Word,
    /// A name in double quotes, which stand in its text.
    Quoted,
    /// A string of any form.
    String,
    /// Digits and dots.
    Number,
    /// A parameter such as `$1`.
    Parameter,
    /// One of `,()[].;:`.
    Mark(u8),
    /// An operator.
    Operator,
    /// What no statement can have, or a string or comment without its end.
    Broken,
}

/// A part of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// What it is.
    pub kind: Kind,
    /// How it stands there.
    pub text: &'t [u8],
    /// Where it begins.
    pub at: usize,
}

impl<'t> Token<'t> {
    /// Whether it is this keyword, which is given in lower case.
    pub fn is_word(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// Whether it is this mark.
    pub fn is_mark(&self, mark: u8) -> bool {
        self.kind == Kind::Mark(mark)
    }

    /// The name that it stands for, folded and cut as PostgreSQL does it, if it can be one. There is none for a name with escapes (`U&"..."`), nor for
    /// bytes that are not UTF-8: what those stand for is not known here.
    pub fn name(&self) -> Option<Cow<'t, str>> {
        let text = std::str::from_utf8(self.text).ok()?;
        let name = match self.kind {
            Kind::Word if text.bytes().any(|byte| byte.is_ascii_uppercase()) => Cow::Owned(text.to_ascii_lowercase()),
            Kind::Word => Cow::Borrowed(text),
            Kind::Quoted => {
                let inner = text.strip_prefix('"')?.strip_suffix('"')?;
                if inner.contains('"') { Cow::Owned(inner.replace("\"\"", "\"")) } else { Cow::Borrowed(inner) }
            }
            _ => return None,
        };
        Some(if name.len() > NAME_BYTES_MAX { cut(&name) } else { name })
    }

    /// The text that a string stands for. `standard_strings` is the session's `standard_conforming_strings`. There is none for strings of bits, for
    /// those with `U&`, and for what is not UTF-8.
    pub fn string(&self, standard_strings: bool) -> Option<String> {
        let text = std::str::from_utf8(self.text).ok().filter(|_| self.kind == Kind::String)?;
        match text.as_bytes() {
            [b'$', ..] => {
                let tag = text[1..].find('$')? + 2;
                Some(text[tag..text.len() - tag].to_owned())
            }
            [b'e' | b'E', ..] => unquoted(&text[1..], true),
            [b'\'', ..] => unquoted(text, !standard_strings),
            _ => None,
        }
    }
}

/// Longest name in bytes, of servers that were built as they usually are; the rest of it does not count.
const NAME_BYTES_MAX: usize = 63;

fn cut<'t>(name: &str) -> Cow<'t, str> {
    Cow::Owned(name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned())
}

/// The text of a string with all its parts, from its first quote on.
fn unquoted(mut text: &str, escapes: bool) -> Option<String> {
    let mut found = String::new();
    loop {
        let inner = text.strip_prefix('\'')?;
        let mut chars = inner.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') if escapes => found.push(escaped(&mut chars)?),
                (at, '\'') if inner[at + 1..].starts_with('\'') => {
                    chars.next();
                    found.push('\'');
                }
                (at, '\'') => break at + 1,
                (_, other) => found.push(other),
            }
        };
        text = &inner[end..];
        if text.is_empty() {
            return Some(found);
        }
        text = &text[continued(text.as_bytes())?..];
    }
}

/// What stands for itself behind a backslash, or for another character.
fn escaped(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    let found = match chars.next()?.1 {
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        // Bytes, which are characters only if they are of ASCII.
        'x' if chars.clone().next().is_some_and(|(_, next)| next.is_ascii_hexdigit()) => {
            char::from_u32(digits(chars, 16, 0, 2)).filter(char::is_ascii)?
        }
        first @ '0'..='7' => char::from_u32(digits(chars, 8, u32::from(first) - 48, 2)).filter(char::is_ascii)?,
        // Surrogates come in pairs, and are not put together here.
        'u' => char::from_u32(digits(chars, 16, 0, 4))?,
        'U' => char::from_u32(digits(chars, 16, 0, 8))?,
        other => other,
    };
    (found != '\0').then_some(found)
}

/// A number of so many more digits at most, behind those that make `first`.
fn digits(chars: &mut std::str::CharIndices<'_>, radix: u32, first: u32, most: usize) -> u32 {
    let mut value = first;
    for _ in 0..most {
        let Some(digit) = chars.clone().next().and_then(|(_, next)| next.to_digit(radix)) else { break };
        value = value.wrapping_mul(radix) + digit;
        chars.next();
    }
    value
}

/// Finds tokens, one after the other.
///
/// ```
/// use pgroute::scan::{Kind, Scanner};
///
/// let kinds: Vec<_> = Scanner::new(b"SELECT 'it''s', $1 -- all", true).map(|token| token.kind).collect();
/// assert_eq!(kinds, [Kind::Word, Kind::String, Kind::Mark(b','), Kind::Parameter]);
/// ```
#[derive(Clone, Debug)]
pub struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    standard_strings: bool,
    /// Up to here each sign is an operator of its own: they were at the end of one that cannot have them.
    signs_until: usize,
    hint: Option<&'t [u8]>,
}

/// What a comment begins with that speaks to Tenfold: `/* tenfold: primary */`.
const HINT: &[u8] = b"tenfold:";

impl<'t> Scanner<'t> {
    /// Scans `text`. `standard_strings` is the session's `standard_conforming_strings`, which is on unless somebody turned it off.
    pub fn new(text: &'t [u8], standard_strings: bool) -> Self {
        Self { text, at: 0, standard_strings, signs_until: 0, hint: None }
    }

    /// What the first comment so far that speaks to Tenfold says, without spaces around it.
    pub fn hint(&self) -> Option<&'t [u8]> {
        self.hint
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Passes over spaces and comments. `false` when a comment has no end.
    fn skip(&mut self) -> bool {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == b'-' => {
                    let rest = &self.text[self.at..];
                    let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
                    self.at += end;
                    self.note(&rest[2..end]);
                }
                b'/' if self.peek(1) == b'*' => {
                    let Some(len) = comment_len(&self.text[self.at..]) else { return false };
                    self.note(&self.text[self.at + 2..self.at + len - 2]);
                    self.at += len;
                }
                _ => return true,
            }
        }
    }

    fn note(&mut self, comment: &'t [u8]) {
        if self.hint.is_none()
            && let Some(hint) = comment.trim_ascii().strip_prefix(HINT)
        {
            self.hint = Some(hint.trim_ascii());
        }
    }

    /// A string or quoted name from its opening quote to the end of its last part.
    fn quoted(&mut self, quote: u8, escapes: bool) -> bool {
        loop {
            self.at += 1;
            loop {
                let Some(&byte) = self.text.get(self.at) else { return false };
                self.at += match byte {
                    b'\\' if escapes => 2,
                    _ if byte == quote && self.peek(1) == quote => 2,
                    _ if byte == quote => break,
                    _ => 1,
                };
            }
            self.at += 1;
            let Some(next) = continued(&self.text[self.at..]).filter(|_| quote == b'\'') else { return true };
            self.at += next;
        }
    }

    fn dollar(&mut self) -> Kind {
        if self.peek(1).is_ascii_digit() {
            self.at += 1;
            self.take_while(|byte| byte.is_ascii_digit());
            return Kind::Parameter;
        }
        let rest = &self.text[self.at..];
        let tag = 1 + rest[1..].iter().take_while(|&&byte| is_word(byte) && byte != b'$').count();
        if rest.get(tag) != Some(&b'$') {
            self.at += 1;
            return Kind::Broken;
        }
        let delimiter = &rest[..=tag];
        match memchr::memmem::find(&rest[delimiter.len()..], delimiter) {
            Some(end) => {
                self.at += end + 2 * delimiter.len();
                Kind::String
            }
            None => Kind::Broken,
        }
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) {
        self.at += self.text[self.at..].iter().take_while(|&&byte| keep(byte)).count();
    }

    /// An operator: as long as can be, but not into a comment, and without a sign at its end that belongs to what follows. Signs that were
    /// cut off are not measured again, which would take time by the square of their number.
    fn operator(&mut self) {
        if self.at < self.signs_until {
            self.at += 1;
            return;
        }
        let rest = &self.text[self.at..];
        let mut len = rest.iter().take_while(|byte| b"~!@#^&|`?+-*/%<>=".contains(byte)).count();
        let begins_comment = |at: &usize| rest[*at..].starts_with(b"--") || rest[*at..].starts_with(b"/*");
        len = (1..len).find(begins_comment).unwrap_or(len);
        if !rest[..len].iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
            self.signs_until = self.at + len;
            while len > 1 && matches!(rest[len - 1], b'+' | b'-') {
                len -= 1;
            }
        }
        self.at += len;
    }

    fn scan(&mut self, first: u8) -> Kind {
        match first {
            b'\'' => ok(self.quoted(b'\'', !self.standard_strings), Kind::String),
            b'"' => ok(self.quoted(b'"', false), Kind::Quoted),
            b'e' | b'E' if self.peek(1) == b'\'' => {
                self.at += 1;
                ok(self.quoted(b'\'', true), Kind::String)
            }
            b'b' | b'B' | b'x' | b'X' if self.peek(1) == b'\'' => {
                self.at += 1;
                ok(self.quoted(b'\'', false), Kind::String)
            }
            b'n' | b'N' if self.peek(1) == b'\'' => {
                self.at += 1;
                ok(self.quoted(b'\'', !self.standard_strings), Kind::String)
            }
            b'u' | b'U' if self.peek(1) == b'&' && matches!(self.peek(2), b'\'' | b'"') => {
                let quote = self.peek(2);
                self.at += 2;
                let kind = if quote == b'"' { Kind::Quoted } else { Kind::String };
                ok(self.quoted(quote, false), kind)
            }
            b'$' => self.dollar(),
            b'0'..=b'9' => {
                self.take_while(|byte| byte.is_ascii_digit() || byte == b'.');
                Kind::Number
            }
            b',' | b'(' | b')' | b'[' | b']' | b'.' | b';' | b':' => {
                self.at += 1;
                Kind::Mark(first)
            }
            _ if is_word(first) => {
                self.take_while(is_word);
                Kind::Word
            }
            _ if b"~!@#^&|`?+-*/%<>=".contains(&first) => {
                self.operator();
                Kind::Operator
            }
            _ => {
                self.at += 1;
                Kind::Broken
            }
        }
    }
}

impl<'t> Iterator for Scanner<'t> {
    type Item = Token<'t>;

    #[inline]
    fn next(&mut self) -> Option<Token<'t>> {
        if !self.skip() {
            let at = std::mem::replace(&mut self.at, self.text.len());
            return Some(Token { kind: Kind::Broken, text: &self.text[at..], at });
        }
        let at = self.at;
        let kind = self.scan(*self.text.get(at)?);
        self.at = if kind == Kind::Broken { self.text.len() } else { self.at.min(self.text.len()) };
        Some(Token { kind, text: &self.text[at..self.at], at })
    }
}

fn ok(is_whole: bool, kind: Kind) -> Kind {
    if is_whole { kind } else { Kind::Broken }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// The length of a comment with all that are nested in it, if it has an end.
fn comment_len(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match text.get(at..at + 2)? {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

/// How far it is to the quote that continues a string: spaces and comments of one line, with a line's end among them.
fn continued(text: &[u8]) -> Option<usize> {
    let (mut at, mut has_newline) = (0, false);
    loop {
        match *text.get(at)? {
            b'\n' | b'\r' => {
                has_newline = true;
                at += 1;
            }
            b' ' | b'\t' | 0x0b | 0x0c => at += 1,
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at += text[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
            }
            b'\'' if has_newline => return Some(at),
            _ => return None,
        }
    }
}

/// Whether texts in this encoding of a client can be scanned byte by byte: whether no byte of ASCII is ever part of another
/// character.
pub fn is_safe_encoding(client_encoding: &str) -> bool {
    let name: String = client_encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    const UNSAFE: &[&str] = &[
        "big5",
        "gb18030",
        "gbk",
        "johab",
        "mskanji",
        "shiftjis",
        "shiftjis2004",
        "sjis",
        "uhc",
        "win932",
        "win936",
        "win949",
        "win950",
        "windows932",
        "windows936",
        "windows949",
        "windows950",
    ];
    !UNSAFE.contains(&name.to_ascii_lowercase().as_str())
}
