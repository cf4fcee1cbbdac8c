//! How old a response is, and how long it is fresh: RFC 9111 section 4.2.
//!
//! Age, section 4.2.3: the larger of what `Date` and what `Age` prove, with the time that the request took, plus the
//! time since. All in milliseconds, where dates prove no more than the second that they name has passed. An `Age` that
//! cannot be read, or comes in several lines, makes the response stale: some cache kept it for a time that nobody knows.
//! Section 5.1 would have it passed over; here nothing is served that may be too old. In a list the first member counts,
//! and what follows a semicolon is a parameter, as structured fields would have it.
//!
//! Lifetime, section 4.2.1: a targeted field alone if one counts; otherwise `s-maxage`, `max-age`, `Expires` less `Date`,
//! what the policy says for the status, its default, and at last a tenth of the time since `Last-Modified`. Those from
//! `Expires` on need nothing but themselves; the default and the heuristic need a status that section 15.1 of RFC 9110
//! names, or `public`. Dates that cannot be read have passed.

use std::time::Duration;

use crate::directive::{Directive as D, Directives, SECS_MAX, delta_seconds};
use crate::field::{Fields, values};
use crate::policy::Policy;
use crate::time::UnixTime;

/// When a response came, as its sender and we saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// When the request was sent.
    pub(crate) requested: UnixTime,
    /// When the response's head was there.
    pub(crate) received: UnixTime,
}

/// What the fields say about time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dates {
    /// When the response was made; when it came, if it does not say.
    pub(crate) date: UnixTime,
    pub(crate) last_modified: Option<UnixTime>,
    /// The first `Expires`; one that cannot be read has passed.
    pub(crate) expires: Option<UnixTime>,
}

impl Dates {
    pub(crate) fn read<'a>(fields: impl Fields<'a>, received: UnixTime) -> Self {
        let first = |name| values(fields.clone(), name).next();
        let date = first("date").and_then(UnixTime::of_http_date);
        Self {
            date: date.unwrap_or(received),
            last_modified: first("last-modified").and_then(UnixTime::of_http_date),
            expires: first("expires").map(|value| UnixTime::of_http_date(value).unwrap_or_default()),
        }
    }
}

/// How old the response was when it came, in milliseconds.
pub(crate) fn initial_age_millis<'a>(fields: impl Fields<'a>, date: UnixTime, times: Times) -> u64 {
    // The date may have been any moment of its second.
    const SECOND_LESS_ONE: u64 = 999;
    let apparent = times.received.millis_since(date).saturating_sub(SECOND_LESS_ONE);
    let delay = times.received.millis_since(times.requested);
    let mut lines = values(fields, "age");
    let age_secs = match (lines.next(), lines.next()) {
        (None, _) => 0,
        (Some(line), None) => age_value(line).unwrap_or(SECS_MAX),
        _ => SECS_MAX,
    };
    apparent.max(u64::from(age_secs) * 1000 + delay)
}

fn age_value(line: &[u8]) -> Option<u32> {
    let first = line.split(|&byte| byte == b',').next()?;
    delta_seconds(first.split(|&byte| byte == b';').next()?.trim_ascii())
}

/// Statuses that may be stored without being told for how long: RFC 9110 section 15.1.
pub(crate) fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Where a lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The response says it.
    Explicit,
    /// The policy says it for the status or for all.
    Policy,
    /// It is a guess from when the representation was modified.
    Heuristic,
}

/// What freshness is computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basis<'a> {
    pub(crate) status: u16,
    pub(crate) directives: &'a Directives<'a>,
    /// Whether a targeted field counts, so that `Expires` does not.
    pub(crate) is_targeted: bool,
    pub(crate) dates: Dates,
}

/// For how many milliseconds a response is fresh, counted from when it was made. Nothing if nobody says.
pub(crate) fn lifetime_millis(basis: &Basis<'_>, policy: &Policy) -> Option<(u64, Source)> {
    let (lifetime, source) =
        explicit(basis).map(|found| (found, Source::Explicit)).or_else(|| implied(basis, policy))?;
    let max = policy.ttl_max.map_or(u64::MAX, millis).min(u64::from(SECS_MAX) * 1000);
    Some((lifetime.min(max), source))
}

fn explicit(basis: &Basis<'_>) -> Option<u64> {
    let directives = basis.directives;
    if let Some(secs) = directives.seconds(D::SMaxage).or_else(|| directives.seconds(D::MaxAge)) {
        return Some(u64::from(secs) * 1000);
    }
    let expires = basis.dates.expires.filter(|_| !basis.is_targeted)?;
    Some(expires.millis_since(basis.dates.date))
}

fn implied(basis: &Basis<'_>, policy: &Policy) -> Option<(u64, Source)> {
    if let Some(ttl) = policy.status_ttl(basis.status) {
        return Some((millis(ttl), Source::Policy));
    }
    if !is_heuristically_cacheable(basis.status) && !basis.directives.has(D::Public) {
        return None;
    }
    if let Some(ttl) = policy.default_ttl {
        return Some((millis(ttl), Source::Policy));
    }
    let since = basis.dates.date.millis_since(basis.dates.last_modified?);
    Some(((since / 10).min(millis(policy.heuristic_max)), Source::Heuristic))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_700_000_000;

    fn lines<'a>(fields: &'a [(&'a str, &'a str)]) -> impl Fields<'a> {
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    #[test]
    fn age_when_it_came() {
        let check = |fields: &[(&str, &str)], date: u64, expected: u64| {
            let times =
                Times { requested: UnixTime::from_secs(NOON), received: UnixTime::from_millis(NOON * 1000 + 200) };
            let found = initial_age_millis(lines(fields), UnixTime::from_secs(date), times);
            assert_eq!(found, expected, "{fields:?}");
        };
        check(&[], NOON, 200);
        check(&[("Age", "30")], NOON, 30_200);
        check(&[("Age", "30")], NOON - 100, 99_201);
        check(&[("Age", "30")], NOON + 100, 30_200);
        check(&[], NOON - 1, 201);
        check(&[("Age", "7200, 0")], NOON, 7_200_200);
        check(&[("Age", "0,7200")], NOON, 200);
        check(&[("Age", "7200;foo=bar")], NOON, 7_200_200);
        let unknown = u64::from(SECS_MAX) * 1000 + 200;
        for wrong in ["abc", "-7200", "7200.0", "", ",1", "99999999999", "2147483648"] {
            check(&[("Age", wrong)], NOON, unknown);
        }
        check(&[("Age", "0"), ("age", "0")], NOON, unknown);
    }

    #[test]
    fn lifetimes_in_their_order() {
        let expires = (NOON + 60, "Expires", 60);
        let check = |status: u16, control: &'static str, dates: Dates, policy: &Policy, expected: Option<u64>| {
            let directives = Directives::read([control.as_bytes()].into_iter());
            let basis = Basis { status, directives: &directives, is_targeted: false, dates };
            let found = lifetime_millis(&basis, policy).map(|(found, _)| found / 1000);
            assert_eq!(found, expected, "{status} {control} {dates:?}");
        };
        let at = UnixTime::from_secs;
        let none = Dates { date: at(NOON), ..Dates::default() };
        let full = Dates { last_modified: Some(at(NOON - 1000)), expires: Some(at(expires.0)), ..none };
        let guess = Dates { expires: None, ..full };
        let plain = Policy::default();
        check(200, "max-age=5, s-maxage=7", full, &plain, Some(7));
        check(200, "max-age=5", full, &plain, Some(5));
        check(200, "", full, &plain, Some(60));
        check(599, "", full, &plain, Some(60));
        check(200, "", Dates { expires: Some(UnixTime::default()), ..none }, &plain, Some(0));
        check(200, "", guess, &plain, Some(100));
        check(599, "", guess, &plain, None);
        check(599, "public", guess, &plain, Some(100));
        check(200, "", none, &plain, None);
        let long_ago = Dates { last_modified: Some(at(1)), ..none };
        check(200, "", long_ago, &plain, Some(24 * 60 * 60));
        let later = Dates { last_modified: Some(at(NOON + 9)), ..none };
        check(200, "", later, &plain, Some(0));
        let ttl = |first, last, secs| crate::StatusTtl { first, last, ttl: Duration::from_secs(secs) };
        let own = Policy {
            default_ttl: Some(Duration::from_secs(3)),
            status_ttls: vec![ttl(404, 404, 2), ttl(500, 599, 1)],
            ttl_max: Some(Duration::from_secs(50)),
            ..Policy::default()
        };
        check(200, "", guess, &own, Some(3));
        check(404, "", guess, &own, Some(2));
        check(503, "", none, &own, Some(1));
        check(201, "", guess, &own, None);
        check(200, "", full, &own, Some(50));
        check(404, "max-age=9", none, &own, Some(9));
    }
}
