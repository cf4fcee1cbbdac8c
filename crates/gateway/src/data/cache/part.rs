//! Requests for a part of what is not stored whole.
//!
//! They go out as their clients ask, so that nobody waits for what stands before the part, and no request is made twice. The
//! part that comes is stored beside where the whole would stand, under a key of its own: who wants the whole does not wait
//! for a part. Later ranges within it are answered from it. The second range that does not lie within it has the whole fetched
//! if that may be stored: from then on all are answered. What is larger keeps the part that came last.
//!
//! Parts are not put together. What is asked for in parts and fits is soon there as a whole, and of what does not fit the
//! sum would not fit either.

use http1::Request;
use httpcache::{Body, Fields, Forward, Storable, Stored, UnixTime};
use store::Store;

use super::source::Source;
use super::{Ask, Decided, Waits, With, judge, look};
use crate::cache::RouteCache;

/// Whether a request that nothing is stored for goes out as it is, for one range.
pub(super) fn is_asked<'a>(facts: &httpcache::Request<'_>, fields: impl Fields<'a>) -> bool {
    let is = |name: &[u8], known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    // Several ranges come in a form that cannot be stored, and conditions are for the whole.
    let is_plain = |(name, value): (&[u8], &[u8])| match name {
        name if is(name, "range") => !value.contains(&b','),
        name => !is(name, "if-none-match") && !is(name, "if-modified-since"),
    };
    facts.is_for_part() && fields.into_iter().all(is_plain)
}

/// Decides about such a request, by the part that is stored. `primary` bytes of the key are the same for all variants.
pub(super) fn decide<'a>(
    (store, with): (&Store, With<'_>),
    (key, primary): (&mut Vec<u8>, usize),
    (facts, fields): (&httpcache::Request<'_>, &impl Fields<'a>),
    (waits, marker): (Option<Waits>, Option<Source>),
    mut whole: Ask,
) -> Decided {
    let Ask { coming, .. } = &mut whole;
    if let Some(coming) = coming.take() {
        // The whole may be on disk. If it is being fetched, nobody waits for what stands before the part.
        let (of_whole, forward) = (key.clone(), whole.forward);
        return match decide((store, with), (key, primary), (facts, fields), (waits, marker), whole) {
            Decided::Ask(ask) => {
                let (known, kinds, coming, is_only_stored) = (None, None, Some(coming), ask.is_only_stored);
                let instead = Some(Box::new((std::mem::replace(key, of_whole), ask)));
                let (validates, is_part) = (false, false);
                Decided::Ask(Ask { forward, known, validates, is_part, is_only_stored, coming, kinds, instead })
            }
            decided => decided,
        };
    }
    let variant = key.split_off(primary);
    RouteCache::write_part(key);
    let looked = look(store, with.cache, key, fields, marker);
    match judge(with, facts, looked, waits) {
        Decided::Ask(ask)
            if ask.forward == Forward::Partial && ask.known.as_ref().is_some_and(|(_, part)| fits(with, part)) =>
        {
            key.truncate(primary);
            key.extend_from_slice(&variant);
            Decided::Ask(Ask { forward: Forward::Partial, ..whole })
        }
        // An answer about what is stored would be about the part alone.
        Decided::Ask(ask) => Decided::Ask(Ask { is_part: true, validates: false, ..ask }),
        decided => decided,
    }
}

/// Decides about such a request by what was decided about a part that was read for it. `primary` is the key of the whole.
pub(super) fn ask_after(with: With<'_>, key: &mut Vec<u8>, primary: Vec<u8>, ask: Ask) -> Ask {
    if ask.forward == Forward::Partial && ask.known.as_ref().is_some_and(|(_, part)| fits(with, part)) {
        *key = primary;
        return Ask { known: None, kinds: None, validates: false, ..ask };
    }
    Ask { is_part: true, validates: false, ..ask }
}

/// Whether the whole of a stored part may be stored.
pub(super) fn fits(with: With<'_>, part: &Stored) -> bool {
    matches!(part.body(), Body::Part(part) if part.total.is_some_and(|total| total <= with.cache.params.object_bytes_max))
}

/// Whether a response is a part.
pub(super) fn is_one(stored: &Stored) -> bool {
    matches!(stored.body(), Body::Part(_))
}

/// Whether what came may be stored: the whole, or, if a part was asked for, one that answers what was asked. An origin that
/// sends another one has to be taken at its word by the client alone.
pub(super) fn may_be_stored(
    is_asked: bool,
    facts: &httpcache::Request<'_>,
    (status, new): (u16, &Storable),
    now: UnixTime,
) -> bool {
    match status {
        // It is about the range.
        416 => !is_asked,
        206 => is_asked && httpcache::answer(facts, &new.stored, &new.fields, now).is_some(),
        _ => true,
    }
}

/// Writes the lines by which a client asks for its part.
pub(super) fn write_wish(out: &mut Vec<u8>, request: &Request, head: &[u8]) {
    for (name, value) in super::facts::of_head(&request.fields, head) {
        if name.eq_ignore_ascii_case(b"range") || name.eq_ignore_ascii_case(b"if-range") {
            http1::write::field(out, name, value);
        }
    }
}
