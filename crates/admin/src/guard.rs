//! Who may ask the admin listener.
//!
//! With a token, whoever bears it. Without one the listener is on loopback, where two strangers remain: a web page in the
//! operator's browser that sends requests across sites, and one whose name an attacker has pointed at 127.0.0.1 (DNS
//! rebinding). The first shows in `Origin`, the second in `Host`; both must name this machine then.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use http1::machine::is_loopback;
use vocab::Secret;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The token is missing or wrong.
    Token,
    /// `Host` does not name this machine.
    Host,
    /// `Origin` does not name this machine.
    Origin,
}

/// Judges a request by its header fields. `authority` is the host of its target, if the target has one.
pub(crate) fn judge(token: Option<&Secret>, authority: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    if let Some(token) = token {
        return if bears(token, headers) { Ok(()) } else { Err(Refusal::Token) };
    }
    let host = authority.or_else(|| headers.get(HOST)?.to_str().ok());
    if !host.is_some_and(is_loopback) || headers.get_all(HOST).iter().count() > 1 {
        return Err(Refusal::Host);
    }
    let local = headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(is_loopback_origin));
    if local { Ok(()) } else { Err(Refusal::Origin) }
}

fn bears(token: &Secret, headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(AUTHORIZATION) else { return false };
    let Some((scheme, given)) = value.as_bytes().split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && token.is(given)
}

fn is_loopback_origin(origin: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    #[test]
    fn without_a_token_only_this_machine_is_named() {
        let check = |host: &str, expected| {
            assert_eq!(judge(None, None, &headers(&[(HOST, host)])), expected, "{host:?}");
        };
        check("localhost", Ok(()));
        check("LOCALHOST:9900", Ok(()));
        check("127.0.0.1:9900", Ok(()));
        check("127.1.2.3", Ok(()));
        check("[::1]:9900", Ok(()));
        check("[::1]", Ok(()));
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
        assert_eq!(judge(None, None, &HeaderMap::new()), Err(Refusal::Host));
        let mut two = headers(&[(HOST, "localhost")]);
        two.append(HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(judge(None, None, &two), Err(Refusal::Host));
        // A target that names its host wins over the field, as in RFC 9112.
        assert_eq!(judge(None, Some("evil.example"), &headers(&[(HOST, "localhost")])), Err(Refusal::Host));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let check = |origin: &str, expected| {
            let fields = headers(&[(HOST, "localhost"), (ORIGIN, origin)]);
            assert_eq!(judge(None, None, &fields), expected, "{origin:?}");
        };
        check("http://localhost:9900", Ok(()));
        check("https://127.0.0.1", Ok(()));
        check("null", Err(Refusal::Origin));
        check("https://evil.example", Err(Refusal::Origin));
        check("file://localhost", Err(Refusal::Origin));
    }

    #[test]
    fn a_token_is_all_that_counts_once_there_is_one() {
        let check = |value: &str, expected| {
            let fields = headers(&[(HOST, "admin.example"), (AUTHORIZATION, value)]);
            assert_eq!(judge(Some(&Secret::new("s3cret")), None, &fields), expected, "{value:?}");
        };
        check("Bearer s3cret", Ok(()));
        check("bearer s3cret", Ok(()));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Bearer S3CRET", "Basic s3cret", "s3cret"]
        {
            check(wrong, Err(Refusal::Token));
        }
        assert_eq!(judge(Some(&Secret::new("s3cret")), None, &headers(&[(HOST, "localhost")])), Err(Refusal::Token));
    }
}
