//! Who may ask what shows and changes a running process.
//!
//! With a token, whoever bears it. Without one it is for this machine alone, where two strangers remain: a web page in the
//! operator's browser that sends requests across sites, and one whose name an attacker has pointed at 127.0.0.1 (DNS
//! rebinding). The first shows in `Origin`, the second in `Host`; both must name this machine then.
//!
//! A page can make a browser send a change too, but not one of type `application/json` without asking first, and not without
//! saying where it comes from. So every change says `Content-Type: application/json`, whether it has a body or not, and
//! none has an `Origin`. That holds with a token too: it costs programs nothing.
//!
//! Where a request came from is not looked at: whoever listens sees to it that without a token only this machine can ask.

use std::str;

use vocab::Secret;

use crate::machine::is_loopback;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token is missing or wrong.
    Token,
    /// `Host` does not name this machine.
    Host,
    /// `Origin` does not name this machine.
    Origin,
    /// A change comes from a web page.
    Page,
    /// A change does not say that it is JSON.
    Type,
}

impl Refusal {
    /// The status of the answer. With 401 goes `WWW-Authenticate: Bearer`.
    pub const fn status(self) -> u16 {
        match self {
            Self::Token => 401,
            Self::Host | Self::Origin | Self::Page => 403,
            Self::Type => 415,
        }
    }

    /// What whoever asked is told.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Token => "the token is missing or wrong",
            Self::Host => "without a token only localhost and loopback addresses are answered as host",
            Self::Origin => "pages of other sites are not answered",
            Self::Page => "changes are not taken from web pages",
            Self::Type => "changes are taken with Content-Type: application/json only",
        }
    }
}

/// Judges a request. `authority` is the host of its target, if the target has one; `values` gives the values of a field by its name in
/// lower case.
///
/// # Errors
/// [`Refusal`].
///
/// ```
/// use http1::guard::{Refusal, judge};
///
/// let fields = [("host", "localhost:9900"), ("origin", "https://evil.example")];
/// let values = |name| fields.iter().filter(move |field| field.0 == name).map(|field| field.1.as_bytes());
/// assert_eq!(judge(None, None, values), Err(Refusal::Origin));
/// ```
pub fn judge<'f, I: Iterator<Item = &'f [u8]>>(
    token: Option<&Secret>,
    authority: Option<&str>,
    values: impl Fn(&'static str) -> I,
) -> Result<(), Refusal> {
    if let Some(token) = token {
        return if values("authorization").next().is_some_and(|value| bears(token, value)) {
            Ok(())
        } else {
            Err(Refusal::Token)
        };
    }
    let mut hosts = values("host");
    let host = hosts.next().and_then(|host| str::from_utf8(host).ok());
    if hosts.next().is_some() || !authority.or(host).is_some_and(is_loopback) {
        return Err(Refusal::Host);
    }
    if values("origin").all(is_loopback_origin) { Ok(()) } else { Err(Refusal::Origin) }
}

/// Judges what a change has to be beside that.
///
/// # Errors
/// [`Refusal::Page`] and [`Refusal::Type`].
pub fn judge_change<'f, I: Iterator<Item = &'f [u8]>>(values: impl Fn(&'static str) -> I) -> Result<(), Refusal> {
    if values("origin").next().is_some() {
        return Err(Refusal::Page);
    }
    if values("content-type").next().is_some_and(is_json) { Ok(()) } else { Err(Refusal::Type) }
}

fn bears(token: &Secret, value: &[u8]) -> bool {
    let Some((scheme, given)) = value.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && token.is(given)
}

fn is_loopback_origin(origin: &[u8]) -> bool {
    let Ok(origin) = str::from_utf8(origin) else { return false };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(is_loopback)
}

fn is_json(value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'f>(fields: &'f [(&str, &str)]) -> impl Fn(&'static str) -> Box<dyn Iterator<Item = &'f [u8]> + 'f> {
        move |name| Box::new(fields.iter().filter(move |field| field.0 == name).map(|field| field.1.as_bytes()))
    }

    #[test]
    fn without_a_token_only_this_machine_is_named() {
        let check = |host: &str, expected| assert_eq!(judge(None, None, of(&[("host", host)])), expected, "{host:?}");
        for own in ["localhost", "LOCALHOST:9900", "127.0.0.1:9900", "127.1.2.3", "[::1]:9900", "[::1]"] {
            check(own, Ok(()));
        }
        for stranger in [
            "",
            ":",
            "evil.example",
            "evil.example:9900",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::1",
            "[::1]x",
            "::1",
            "[2001:db8::1]",
            "localhost:9900@evil.example",
            "localhost:99 00",
        ] {
            check(stranger, Err(Refusal::Host));
        }
        assert_eq!(judge(None, None, of(&[])), Err(Refusal::Host));
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(judge(None, None, of(&two)), Err(Refusal::Host));
        // A target that names its host wins over the field, as in RFC 9112.
        assert_eq!(judge(None, Some("evil.example"), of(&two[..1])), Err(Refusal::Host));
        assert_eq!(judge(None, Some("localhost"), of(&two[1..])), Ok(()));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let check = |origin: &str, expected| {
            let fields = [("host", "localhost"), ("origin", origin)];
            assert_eq!(judge(None, None, of(&fields)), expected, "{origin:?}");
        };
        check("http://localhost:9900", Ok(()));
        check("https://127.0.0.1", Ok(()));
        check("null", Err(Refusal::Origin));
        check("https://evil.example", Err(Refusal::Origin));
        check("file://localhost", Err(Refusal::Origin));
    }

    #[test]
    fn a_token_is_all_that_counts_once_there_is_one() {
        let token = Secret::new("s3cret");
        let check = |value: &str, expected| {
            let fields = [("host", "admin.example"), ("authorization", value)];
            assert_eq!(judge(Some(&token), None, of(&fields)), expected, "{value:?}");
        };
        check("Bearer s3cret", Ok(()));
        check("bearer s3cret", Ok(()));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Bearer S3CRET", "Basic s3cret", "s3cret"]
        {
            check(wrong, Err(Refusal::Token));
        }
        assert_eq!(judge(Some(&token), None, of(&[("host", "localhost")])), Err(Refusal::Token));
    }

    #[test]
    fn a_change_is_json_and_no_page_sends_it() {
        let check = |fields: &[(&str, &str)], expected| assert_eq!(judge_change(of(fields)), expected, "{fields:?}");
        check(&[("content-type", "application/json")], Ok(()));
        check(&[("content-type", "Application/JSON ; charset=utf-8")], Ok(()));
        check(&[], Err(Refusal::Type));
        check(&[("content-type", "text/plain")], Err(Refusal::Type));
        check(&[("content-type", "application/jsonp")], Err(Refusal::Type));
        check(&[("content-type", "application/json"), ("origin", "http://localhost")], Err(Refusal::Page));
    }
}
