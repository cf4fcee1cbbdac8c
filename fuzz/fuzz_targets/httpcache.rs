//! What a cache reads of heads that anyone may have written: directives, targeted fields, dates, tags, ranges, `Vary`.
//!
//! The first byte of an input chooses the status, and how much later the request comes; the rest are lines of two heads,
//! `name: value`, with an empty line between them. No lines make anything panic; what is stored is read back as it was;
//! what is served is fresh or may be stale, and lies within what is stored; a variant fits the request that made it.

#![no_main]

use httpcache::{
    Answer, Body, Field, Form, Found, Lookup, Policy, Request, Serve, SetCookie, Storable, Stored, Target, UnixTime,
    freshen, invalidated, lookup, refresh_by_head, store,
};
use libfuzzer_sys::fuzz_target;

const TARGET: Target<'static> = Target { https: true, host: b"example.com:443", path_and_query: b"/a/b?c=1&a=2" };
const NOON: u64 = 1_700_000_000;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, text)) = input.split_first() else { return };
    let middle = text.windows(2).position(|pair| pair == b"\n\n").unwrap_or(text.len());
    let (asked, said) = (fields(&text[..middle]), fields(text.get(middle + 2..).unwrap_or_default()));
    let status = [200, 206, 304, 404][usize::from(choice & 3)];
    let policy = Policy { set_cookie: SetCookie::Always, ..Policy::default() };
    let noon = UnixTime::from_secs(NOON);
    let request = Request::read(b"GET", TARGET, asked.clone());
    for path in invalidated(&Request::read(b"PUT", TARGET, asked.clone()), 201, said.clone()) {
        assert!(path == TARGET.path_and_query || path.first() == Some(&b'/'));
    }
    let answer = Answer { status, fields: said, requested: noon, received: noon };
    let Ok(storable) = store(&policy, &request, &answer) else { return };
    let later = UnixTime::from_secs(NOON + u64::from(choice >> 2));
    look(&policy, &request, &storable, later);
    let entry = (&storable.stored, &*storable.fields);
    let answer = Answer { status: 304, ..answer };
    let fresh = freshen(&policy, &request, entry, &answer);
    assert_eq!(Stored::of_bytes(&fresh.stored.to_bytes()), Some(fresh.stored));
    let _ = refresh_by_head(&policy, &request, entry, &Answer { status: 200, ..answer });
    let variant = |fields| {
        let mut out = Vec::new();
        storable.vary.write_variant(&mut out, fields, &policy.vary);
        out
    };
    assert_eq!(variant(asked.clone()), variant(asked));
});

fn look(policy: &Policy, request: &Request<'_>, storable: &Storable, later: UnixTime) {
    let Storable { stored, fields, .. } = storable;
    assert_eq!(Stored::of_bytes(&stored.to_bytes()), Some(*stored));
    match lookup(policy, request, Found::Response(stored, fields), later) {
        Lookup::Serve(serve) => within(&serve, stored),
        Lookup::ServeStale(serve, _) => {
            assert!(!stored.is_fresh(later));
            within(&serve, stored);
        }
        Lookup::Revalidate(_, validators) => assert!(!validators.is_empty()),
        Lookup::Fetch(_) | Lookup::Complete(..) | Lookup::OnlyIfCached => {}
    }
}

fn within(serve: &Serve, stored: &Stored) {
    let limits = match stored.body() {
        Body::Unmeasured => None,
        Body::Whole(len) => Some((0, len)),
        Body::Part(part) => Some((part.range.first, part.range.last + 1)),
    };
    let holds = |range: httpcache::ByteRange| {
        let (start, end) = limits.expect("parts are served of what is measured");
        assert!(start <= range.first && range.first <= range.last && range.last < end, "{range:?} {limits:?}");
    };
    match &serve.form {
        Form::Part(part) => holds(part.range),
        Form::Parts(ranges, _) => ranges.iter().copied().for_each(holds),
        Form::Stored | Form::NotModified | Form::Unsatisfiable(_) => {}
    }
}

fn fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> + Clone {
    let lines = head.split(|&byte| byte == b'\n');
    lines.filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let value = line[colon + 1..].trim_ascii();
        // Heads with a lone carriage return or a zero octet never come so far.
        (!value.iter().any(|byte| matches!(byte, b'\r' | 0))).then_some((&line[..colon], value))
    })
}
