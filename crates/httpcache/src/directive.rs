//! Directives of `Cache-Control`, in requests and responses: RFC 9111 section 5.2.
//!
//! - Names are compared without regard to case, unknown ones are passed over, and a name that is no token, as with a
//!   space before the `=`, is unknown.
//! - Of a directive given twice the first counts; sections 4.2.1 asks for that, or for the response to be stale.
//! - Seconds may be quoted. What is no number of seconds makes 0, so that the response is stale, as section 4.2.1
//!   advises; numbers too large to mean anything count as 2^31, by section 1.2.2.
//! - `no-cache` and `private` with names of fields hide those fields, and nothing else.

use std::borrow::Cow;

use crate::field::members;
use crate::name::alike;

/// The most seconds that anything counts: 68 years.
pub(crate) const SECS_MAX: u32 = 1 << 31;

/// Directives that decide something here. Those with seconds come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Directive {
    MaxAge,
    SMaxage,
    StaleWhileRevalidate,
    StaleIfError,
    MinFresh,
    MaxStale,
    NoCache,
    NoStore,
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    Immutable,
    OnlyIfCached,
}

use Directive as D;

/// How many of the directives have seconds.
const WITH_SECONDS: usize = 6;

impl Directive {
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let (known, directive) = match name.len() {
            6 => ("public", D::Public),
            7 if name[0] | 0x20 == b'm' => ("max-age", D::MaxAge),
            7 => ("private", D::Private),
            8 if name[0] | 0x20 == b's' => ("s-maxage", D::SMaxage),
            8 if name[3] | 0x20 == b's' => ("no-store", D::NoStore),
            8 => ("no-cache", D::NoCache),
            9 if name[1] | 0x20 == b'm' => ("immutable", D::Immutable),
            9 if name[1] | 0x20 == b'a' => ("max-stale", D::MaxStale),
            9 => ("min-fresh", D::MinFresh),
            14 if name[0] | 0x20 == b's' => ("stale-if-error", D::StaleIfError),
            14 => ("only-if-cached", D::OnlyIfCached),
            15 if name[5] | 0x20 == b'r' => ("must-revalidate", D::MustRevalidate),
            15 => ("must-understand", D::MustUnderstand),
            16 => ("proxy-revalidate", D::ProxyRevalidate),
            22 => ("stale-while-revalidate", D::StaleWhileRevalidate),
            _ => return None,
        };
        alike(name, known.as_bytes()).then_some(directive)
    }

    pub(crate) fn has_seconds(self) -> bool {
        (self as usize) < WITH_SECONDS
    }

    pub(crate) fn may_name_fields(self) -> bool {
        matches!(self, D::NoCache | D::Private)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The directives of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directives<'a> {
    present: u16,
    seconds: [u32; WITH_SECONDS],
    /// Lists of fields that `no-cache` and `private` name.
    hidden: Vec<Cow<'a, [u8]>>,
}

impl<'a> Directives<'a> {
    /// Reads all lines of `Cache-Control`.
    pub(crate) fn read(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut directives = Self::default();
        for member in lines.flat_map(members) {
            directives.add(member);
        }
        directives
    }

    /// Adds what one line says.
    pub(crate) fn add_line(&mut self, line: &'a [u8]) {
        for member in members(line) {
            self.add(member);
        }
    }

    fn add(&mut self, member: &'a [u8]) {
        let (name, value) = match member.iter().position(|&byte| byte == b'=') {
            Some(at) => (&member[..at], Some(unquoted(&member[at + 1..]))),
            None => (member, None),
        };
        let Some(directive) = Directive::of(name) else { return };
        match value {
            _ if directive.has_seconds() => {
                // `max-stale` alone takes whatever there is.
                let none = if directive == D::MaxStale { SECS_MAX } else { 0 };
                self.set_seconds(directive, value.map_or(none, |value| delta_seconds(value).unwrap_or(0)));
            }
            Some(names) if directive.may_name_fields() && members(names).next().is_some() => self.hide(names.into()),
            _ => self.set(directive),
        }
    }

    pub(crate) fn set(&mut self, directive: Directive) {
        self.present |= directive.bit();
    }

    pub(crate) fn unset(&mut self, directive: Directive) {
        self.present &= !directive.bit();
    }

    pub(crate) fn set_seconds(&mut self, directive: Directive, secs: u32) {
        if !self.has(directive) {
            self.set(directive);
            self.seconds[directive as usize] = secs;
        }
    }

    pub(crate) fn hide(&mut self, names: Cow<'a, [u8]>) {
        self.hidden.push(names);
    }

    pub(crate) fn has(&self, directive: Directive) -> bool {
        self.present & directive.bit() != 0
    }

    pub(crate) fn seconds(&self, directive: Directive) -> Option<u32> {
        self.has(directive).then(|| self.seconds[directive as usize])
    }

    /// Lists of names of fields that are not to be stored.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.hidden.iter().map(|names| &**names)
    }
}

/// The text of a value that may be quoted. Nothing that is read here has use for escapes.
fn unquoted(value: &[u8]) -> &[u8] {
    match value.strip_prefix(b"\"") {
        Some(rest) => rest.strip_suffix(b"\"").unwrap_or(rest),
        None => value,
    }
}

/// A number of seconds, of digits alone.
pub(crate) fn delta_seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |number: u32, &byte: &u8| number.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
    Some(value.iter().fold(0, digit).min(SECS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(lines: &[&'a str]) -> Directives<'a> {
        Directives::read(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn seconds() {
        let check = |line: &str, expected: Option<u32>| {
            assert_eq!(read(&[line]).seconds(D::MaxAge), expected, "{line}");
        };
        check("max-age=3600", Some(3600));
        check("foobar, MaX-aGe=3600", Some(3600));
        check("max-age=\"3600\"", Some(3600));
        check("max-age=003600", Some(3600));
        check("max-age=2147483647", Some(SECS_MAX - 1));
        check("max-age=2147483649", Some(SECS_MAX));
        check("max-age=99999999999999999999999", Some(SECS_MAX));
        // What cannot be read makes the response stale.
        for unread in ["max-age", "max-age=", "max-age=-1", "max-age='1'", "max-age=1.0", "max-age=1a", "max-age= 1"] {
            check(unread, Some(0));
        }
        // These are other names.
        for other in ["max-age =1", "xmax-age=1", "max-agex=1", "max_age=1", ""] {
            check(other, None);
        }
        check("max-age=1, max-age=1800", Some(1));
        check("extension=\"max-age=3600\", max-age=1", Some(1));
        check("max-age=1, extension=\"max-age=3600\"", Some(1));
        check("extension=\"max-age=3600", None);
        assert_eq!(read(&["max-age=1800", "max-age=1"]).seconds(D::MaxAge), Some(1800));
    }

    #[test]
    fn every_name_is_known() {
        let names = [
            "max-age",
            "s-maxage",
            "stale-while-revalidate",
            "stale-if-error",
            "min-fresh",
            "max-stale",
            "no-cache",
            "no-store",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
            "immutable",
            "only-if-cached",
        ];
        for (at, name) in names.iter().enumerate() {
            let found = Directive::of(name.to_ascii_uppercase().as_bytes());
            assert_eq!(found.map(|found| found as usize), Some(at), "{name}");
            for wrong in 0..name.len() {
                let mut other = name.as_bytes().to_vec();
                other[wrong] = b'_';
                assert_eq!(Directive::of(&other), None, "{name}");
            }
        }
    }

    #[test]
    fn names_of_fields_hide_only_those() {
        let directives = read(&["no-cache=\"a, b\", private=\"Set-Cookie\""]);
        assert!(!directives.has(D::NoCache) && !directives.has(D::Private));
        assert_eq!(directives.hidden().collect::<Vec<_>>(), [&b"a, b"[..], b"Set-Cookie"]);
        let directives = read(&["no-cache=\"a\", No-CaChE, private=\"\""]);
        assert!(directives.has(D::NoCache) && directives.has(D::Private));
        assert!(read(&["no-store=x"]).has(D::NoStore));
    }

    #[test]
    fn stale_of_any_age() {
        assert_eq!(read(&["max-stale"]).seconds(D::MaxStale), Some(SECS_MAX));
        assert_eq!(read(&["max-stale=5"]).seconds(D::MaxStale), Some(5));
        assert_eq!(read(&["max-stale=x"]).seconds(D::MaxStale), Some(0));
    }
}
