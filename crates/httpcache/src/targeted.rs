//! Directives for caches like this one: targeted fields, RFC 9213.
//!
//! `Tenfold-CDN-Cache-Control` comes before `CDN-Cache-Control`, and the first of them that is valid and not empty takes
//! the place of `Cache-Control` and `Expires` altogether. They are dictionaries of structured fields, read by `sfv`: one
//! octet that does not belong there, or a known directive with a value of another type, and the field counts as if it
//! were not there. Seconds are integers; the others are true, or name fields by a string where they may. Names are in
//! lower case, since keys of dictionaries are.

use std::convert::Infallible;

use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef};

use crate::directive::{Directive, Directives, SECS_MAX};
use crate::field::{Fields, values};

/// The fields for this cache, the one that counts most first.
const TARGETS: [&str; 2] = ["tenfold-cdn-cache-control", "cdn-cache-control"];

/// What the first targeted field that counts says.
pub(crate) fn read<'a>(fields: impl Fields<'a>) -> Option<Directives<'static>> {
    TARGETS.iter().find_map(|target| {
        let lines: Vec<_> = values(fields.clone(), target).collect();
        // RFC 9651 section 4.2: several lines are one.
        if lines.is_empty() { None } else { parse(&lines.join(&b", "[..])) }
    })
}

fn parse(value: &[u8]) -> Option<Directives<'static>> {
    let value = value.trim_ascii();
    sfv::Parser::new(value).parse_dictionary_with_visitor(Reader::default()).ok().flatten()
}

#[derive(Default)]
struct Reader {
    directives: Directives<'static>,
    /// A bit for each directive whose last value is of a wrong type.
    wrong: u16,
    is_empty_until_now: Emptiness,
}

#[derive(Default, PartialEq, Eq)]
enum Emptiness {
    #[default]
    Empty,
    HasMembers,
}

/// The value of a known directive.
struct Value<'r>(&'r mut Reader, Directive);

impl Reader {
    fn mark(&mut self, directive: Directive, wrong: bool) {
        let bit = 1 << directive as u16;
        self.wrong = if wrong { self.wrong | bit } else { self.wrong & !bit };
    }
}

impl<'de> DictionaryVisitor<'de> for Reader {
    type Out = Option<Directives<'static>>;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        self.is_empty_until_now = Emptiness::HasMembers;
        let directive = Directive::of(key.as_str().as_bytes());
        Ok(directive.map(|directive| {
            // Of a key given twice the last counts.
            self.directives.unset(directive);
            self.mark(directive, false);
            Value(self, directive)
        }))
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        let counts = self.wrong == 0 && self.is_empty_until_now == Emptiness::HasMembers;
        Ok(counts.then_some(self.directives))
    }
}

impl<'de> EntryVisitor<'de> for Value<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        self.0.mark(self.1, true);
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Value<'_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = Self::Out>, Infallible> {
        let Self(reader, directive) = self;
        match value {
            BareItemFromInput::Integer(secs) if directive.has_seconds() => {
                let secs = i64::from(secs).clamp(0, i64::from(SECS_MAX));
                reader.directives.set_seconds(directive, secs as u32);
            }
            BareItemFromInput::Boolean(true) if !directive.has_seconds() => reader.directives.set(directive),
            BareItemFromInput::Boolean(false) if !directive.has_seconds() => {}
            BareItemFromInput::String(names) if directive.may_name_fields() => {
                reader.directives.hide(names.as_str().as_bytes().to_vec().into());
            }
            _ => reader.mark(directive, true),
        }
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Directive as D;

    fn read_all(lines: &[(&str, &str)]) -> Option<Directives<'static>> {
        read(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    #[test]
    fn what_is_no_dictionary_does_not_count() {
        let check = |value: &str, expected: Option<Option<u32>>| {
            let found = read_all(&[("CDN-Cache-Control", value)]);
            assert_eq!(found.map(|found| found.seconds(D::MaxAge)), expected, "{value}");
        };
        check("max-age=3600", Some(Some(3600)));
        check("foobar, max-age=3600", Some(Some(3600)));
        check("max-age=3600;a=b", Some(Some(3600)));
        check("max-age=99999999999", Some(Some(SECS_MAX)));
        check("max-age=-1", Some(Some(0)));
        check("max-age=1, max-age=5", Some(Some(5)));
        check("max-age=\"1\", max-age=5", Some(Some(5)));
        check("max-age=5, max-age=\"1\"", None);
        check("no-store", Some(None));
        check("foo", Some(None));
        for wrong in [
            "",
            " ",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age=1.5",
            "max-age",
            "max-age=(1)",
            "MaX-aGe=1",
            "max-age =100",
            "max-age= 100",
            "no-store=1",
            "max-age=1,",
            "max-age=1234567890123456",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn the_nearer_target_wins_if_it_is_valid() {
        let age = |lines: &[(&str, &str)]| read_all(lines).and_then(|found| found.seconds(D::MaxAge));
        let cdn = ("cdn-cache-control", "max-age=1");
        assert_eq!(age(&[cdn, ("TENFOLD-CDN-Cache-Control", "max-age=2")]), Some(2));
        assert_eq!(age(&[cdn, ("TENFOLD-CDN-Cache-Control", "&")]), Some(1));
        assert_eq!(age(&[cdn, ("Tenfold-CDN-Cache-Control", "")]), Some(1));
        assert_eq!(age(&[("Cache-Control", "max-age=1")]), None);
        assert_eq!(age(&[("CDN-Cache-Control", "public"), ("CDN-Cache-Control", "max-age=3")]), Some(3));
    }

    #[test]
    fn fields_are_named_by_strings() {
        let found = read_all(&[("CDN-Cache-Control", "private=\"set-cookie\", no-cache=?0, max-age=1")]).unwrap();
        assert!(!found.has(D::Private) && !found.has(D::NoCache));
        assert_eq!(found.hidden().collect::<Vec<_>>(), [b"set-cookie"]);
    }
}
