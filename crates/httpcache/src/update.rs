//! What is learnt of stored responses afterwards: RFC 9111 sections 3.2, 4.3.4, 4.3.5 and 4.4.

use crate::field::{Fields, Lines, storable, values, write_line};
use crate::freshness::Times;
use crate::name::alike;
use crate::policy::{Policy, SetCookie};
use crate::range::number;
use crate::request::Request;
use crate::store::{Answer, WhyNot, may_be_stored, write_date};
use crate::stored::{Body, Control, Stored};
use crate::validator::EntityTag;
use crate::vary::Vary;

/// A stored response after it was validated. It answers the request in any case.
#[derive(Clone, Debug)]
pub struct Freshened {
    /// The facts, for what is stored.
    pub stored: Stored,
    /// The fields, for what is stored.
    pub fields: Vec<u8>,
    /// What it varies by now.
    pub vary: Vary<'static>,
    /// Whether it may stay in the store. If not, it is removed; but where that [is about the
    /// request](WhyNot::is_about_request), what was stored before stays as it was.
    pub keep: Result<(), WhyNot>,
}

/// Fields that tell of the body as it is stored, which a 304 cannot change: section 3.2.
const OF_THE_BODY: [&str; 4] = ["content-encoding", "content-length", "content-md5", "content-range"];

fn is_any(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|known| alike(name, known.as_bytes()))
}

/// Takes over what a 304 says of the stored response that was asked about.
///
/// A 304 that has another tag than the one asked about must not be used to update anything, section 4.3.4. Servers that
/// change tags on their way out, by a suffix for the coding, send such ones all the same; the origin has compared, and
/// says that nothing changed. So only the age begins anew, and every field stays.
pub fn freshen<'a, I: Fields<'a>>(
    policy: &Policy,
    request: &Request<'_>,
    (stored, block): (&Stored, &[u8]),
    answer: &Answer<I>,
) -> Freshened {
    let lines = Lines::new(block);
    if contradicts(lines, answer.fields.clone()) {
        let mut stored = *stored;
        stored.renew(answer.received);
        let vary = Vary::read(lines).unwrap_or_default();
        return Freshened { stored, fields: block.to_vec(), vary, keep: Ok(()) };
    }
    merge(policy, request, (stored, block), answer)
}

/// Whether the new response is about another representation, by its validators.
fn contradicts<'a, 'b>(old: impl Fields<'a>, new: impl Fields<'b>) -> bool {
    match (values(old.clone(), "etag").next(), values(new.clone(), "etag").next()) {
        (Some(old), Some(new)) => !EntityTag::of(old).matches_weakly(EntityTag::of(new)),
        (None, None) => {
            let dates = (values(old, "last-modified").next(), values(new, "last-modified").next());
            matches!(dates, (Some(old), Some(new)) if old != new)
        }
        _ => false,
    }
}

/// Puts the new fields in the old ones' place.
fn merge<'a, I: Fields<'a>>(
    policy: &Policy,
    request: &Request<'_>,
    (stored, block): (&Stored, &[u8]),
    answer: &Answer<I>,
) -> Freshened {
    let new = Control::read(answer.fields.clone());
    let fields = merged(policy, block, answer, &new);
    let lines = Lines::new(&fields);
    let control = Control::read(lines);
    let times = Times { requested: answer.requested, received: answer.received };
    let (stored, _) =
        Stored::read((stored.status(), &fields, stored.body()), answer.fields.clone(), &control, (policy, times));
    let vary = Vary::read(lines);
    let as_if_new =
        Answer { status: stored.status(), fields: lines, requested: answer.requested, received: answer.received };
    let keep = may_be_stored(policy, request, &as_if_new, &control)
        .and(if vary.is_some() { Ok(()) } else { Err(WhyNot::VaryStar) })
        .and(if stored.can_be_used(&fields, answer.received) { Ok(()) } else { Err(WhyNot::Useless) });
    let vary = vary.unwrap_or_default();
    Freshened { stored, vary, keep, fields }
}

fn merged<'a, I: Fields<'a>>(policy: &Policy, block: &[u8], answer: &Answer<I>, new: &Control<'_>) -> Vec<u8> {
    let old = Lines::new(block);
    let has_tag = values(old, "etag").next().is_some();
    let stays = |name: &[u8]| is_any(name, &OF_THE_BODY) || has_tag && is_any(name, &["etag"]);
    let leaves = |name: &[u8]| policy.set_cookie == SetCookie::Stripped && is_any(name, &["set-cookie"]);
    let news = || {
        let news = storable(answer.fields.clone(), new.directives.hidden());
        news.filter(|(name, _)| !stays(name) && !leaves(name))
    };
    let mut out = Vec::with_capacity(block.len() + 256);
    for (name, value) in old {
        // The old date would make the response as old as it was.
        let is_replaced = is_any(name, &["date"]) || news().any(|(found, _)| alike(found, name));
        if !is_replaced {
            write_line(&mut out, name, value);
        }
    }
    let mut has_date = false;
    for (name, value) in news() {
        has_date |= is_any(name, &["date"]);
        write_line(&mut out, name, value);
    }
    if !has_date {
        write_date(&mut out, answer.received);
    }
    out
}

/// What an answer to a `HEAD` means for what `GET` stored.
#[derive(Clone, Debug)]
pub enum HeadEffect {
    /// It is the same representation, and is as fresh as the answer says.
    Refreshed(Box<Freshened>),
    /// It has changed: [`Stored::expire`] makes it stale.
    Expired,
    /// Nothing.
    Untouched,
}

/// Takes over what an answer to a `HEAD` says of the stored response that the request selects.
///
/// Whatever validators and length the answer has must be those of what is stored, section 4.3.5. An answer without any
/// counts as the same.
pub fn refresh_by_head<'a, I: Fields<'a>>(
    policy: &Policy,
    request: &Request<'_>,
    (stored, block): (&Stored, &[u8]),
    answer: &Answer<I>,
) -> HeadEffect {
    match answer.status {
        200 => {}
        404 | 410 => return HeadEffect::Expired,
        _ => return HeadEffect::Untouched,
    }
    if stored.status() != 200 {
        return HeadEffect::Untouched;
    }
    let old = |name| values(Lines::new(block), name).next();
    let new = |name| values(answer.fields.clone(), name).next();
    let same_tag = new("etag")
        .is_none_or(|new| old("etag").is_some_and(|old| EntityTag::of(old).matches_weakly(EntityTag::of(new))));
    let same_date = new("last-modified").is_none_or(|new| old("last-modified") == Some(new));
    let same_length = match (new("content-length").and_then(number), stored.body()) {
        (Some(new), Body::Whole(old)) => new == old,
        _ => true,
    };
    if same_tag && same_date && same_length {
        HeadEffect::Refreshed(Box::new(merge(policy, request, (stored, block), answer)))
    } else {
        HeadEffect::Expired
    }
}

/// What is invalid after a response: paths with queries of the request's own origin, the request's first. Whatever has a
/// key that begins as [`KeyParts::write_beginning`](crate::KeyParts::write_beginning) writes it for one of them is
/// removed or made stale, before the response itself is stored.
///
/// Section 4.4: after an unsafe method that did not fail, what it was about, and what `Location` and `Content-Location`
/// name at the same origin.
pub fn invalidated<'a>(request: &Request<'_>, status: u16, fields: impl Fields<'a>) -> Vec<Vec<u8>> {
    if request.method.is_safe() || !(200..400).contains(&status) {
        return Vec::new();
    }
    let mut paths = vec![request.target.path_and_query.to_vec()];
    for name in ["location", "content-location"] {
        let path = values(fields.clone(), name).next().and_then(|value| request.target.resolve(value));
        if let Some(path) = path.filter(|path| !paths.contains(path)) {
            paths.push(path);
        }
    }
    paths
}
