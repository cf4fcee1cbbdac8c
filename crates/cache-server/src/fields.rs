//! What requests by HTTP say: keys, lives and tags.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{CACHE_CONTROL, HeaderName};

use crate::engine::millis;
use crate::http::TTL;

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// The key that a target is: whatever is behind its first slash, its query included, with its escapes read.
pub(crate) fn key_of(target: &str) -> Option<Vec<u8>> {
    unescaped(target.strip_prefix('/')?)
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(*high)? * 16 + digit(*low)?) as u8
            }
            (b'%', _) => return None,
            _ => *first,
        };
        bytes.push(byte);
    }
    Some(bytes)
}

/// The tags of `Cache-Tag`, between commas, and of `Surrogate-Key`, between spaces.
pub(crate) fn tags_of(fields: &HeaderMap) -> Vec<Vec<u8>> {
    let lists = [(CACHE_TAG, b','), (SURROGATE_KEY, b' ')];
    let values =
        lists.iter().flat_map(|(name, between)| fields.get_all(name).iter().map(move |value| (value, *between)));
    let tags = values.flat_map(|(value, between)| value.as_bytes().split(move |byte| *byte == between));
    tags.map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The parameters `tag` of a query; `None` if there is an escape that is none.
pub(crate) fn tags_of_query(query: &str) -> Option<Vec<Vec<u8>>> {
    let tags = query.split('&').filter_map(|parameter| parameter.strip_prefix("tag="));
    tags.map(|tag| unescaped(&tag.replace('+', " ")))
        .filter(|tag| tag.as_ref().is_none_or(|tag| !tag.is_empty()))
        .collect()
}

/// The life that is asked for, in milliseconds: `Tenfold-TTL`, or else `max-age`.
pub(crate) fn ttl_of(fields: &HeaderMap) -> Result<Option<u64>, String> {
    if let Some(value) = fields.get(TTL) {
        let text = value.to_str().unwrap_or_default().trim();
        let life = match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => vocab::units::parse_duration(text).ok(),
        };
        let wrong = || "Tenfold-TTL is a time above zero, as 30 or 500ms".to_owned();
        return life.filter(|life| !life.is_zero()).map(|life| Some(millis(life))).ok_or_else(wrong);
    }
    let directives = fields.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(',')).filter_map(|one| one.trim().split_once('='));
    let Some((_, age)) = directives.find(|(name, _)| name.eq_ignore_ascii_case("max-age")) else { return Ok(None) };
    let seconds = age.trim_matches('"').parse::<u64>().ok().filter(|seconds| *seconds > 0);
    let life = seconds.map(|seconds| millis(Duration::from_secs(seconds)));
    life.map(Some).ok_or_else(|| "max-age is a number of seconds above zero".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn fields(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn keys_are_paths_without_their_slash() {
        let check = |path: &str, expected: Option<&[u8]>| assert_eq!(key_of(path).as_deref(), expected, "{path}");
        check("/", Some(b""));
        check("/user:7", Some(b"user:7"));
        check("/a/b//c", Some(b"a/b//c"));
        check("/a%20b%2f%00%FF", Some(b"a b/\0\xff"));
        check("/a?b=1+2&c=%3f", Some(b"a?b=1+2&c=?"));
        for wrong in ["*", "/%", "/%2", "/%zz", "/a%e"] {
            check(wrong, None);
        }
    }

    #[test]
    fn tags_come_in_two_fields_and_in_queries() {
        let found = tags_of(&fields(&[("cache-tag", "a, b c,,"), ("surrogate-key", " d  e ")]));
        assert_eq!(found, [&b"a"[..], b"b c", b"d", b"e"]);
        assert_eq!(tags_of_query("tag=a&x=1&tag=b%20c+d&tag="), Some(vec![b"a".to_vec(), b"b c d".to_vec()]));
        assert_eq!(tags_of_query("tag=%"), None);
        assert_eq!(tags_of_query(""), Some(Vec::new()));
    }

    #[test]
    fn lives_are_above_zero() {
        let check = |of: &[(&'static str, &'static str)], expected: Result<Option<u64>, ()>| {
            assert_eq!(ttl_of(&fields(of)).map_err(|_| ()), expected, "{of:?}");
        };
        check(&[], Ok(None));
        check(&[("tenfold-ttl", "30")], Ok(Some(30_000)));
        check(&[("tenfold-ttl", "500ms")], Ok(Some(500)));
        check(&[("cache-control", "public, Max-Age=60")], Ok(Some(60_000)));
        check(&[("cache-control", "max-age=60"), ("tenfold-ttl", "5s")], Ok(Some(5_000)));
        check(&[("cache-control", "no-transform")], Ok(None));
        for wrong in ["0", "0s", "-1", "soon", ""] {
            check(&[("tenfold-ttl", wrong)], Err(()));
        }
        check(&[("cache-control", "max-age=0")], Err(()));
        check(&[("cache-control", "max-age=x")], Err(()));
    }
}
