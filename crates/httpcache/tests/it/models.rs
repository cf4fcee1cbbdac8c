//! Properties, against models that are slow and plain.

use httpcache::{
    Answer, ByteRange, Form, Found, Lookup, Policy, Request, Serve, Stored, Target, UnixTime, Vary, VaryRules, lookup,
    store,
};
use proptest::prelude::*;

use crate::edge::{NOON, Owned, borrowed, date};

const TARGET: Target<'static> = Target { https: true, host: b"example.com", path_and_query: b"/a" };

/// What an origin says about time, and when.
#[derive(Clone, Debug)]
struct Said {
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    expires: Option<i64>,
    date: Option<i64>,
    age: Option<u64>,
    delay_secs: u64,
    later_secs: u64,
}

fn said() -> impl Strategy<Value = Said> {
    let secs = || proptest::option::of(0_u64..200);
    let offset = || proptest::option::of(-100_i64..200);
    (secs(), secs(), offset(), offset(), secs(), 0_u64..5, 0_u64..300).prop_map(
        |(max_age, s_maxage, expires, date, age, delay_secs, later_secs)| Said {
            max_age,
            s_maxage,
            expires,
            date,
            age,
            delay_secs,
            later_secs,
        },
    )
}

impl Said {
    fn fields(&self) -> Owned {
        let mut fields = Owned::new();
        let mut add = |name: &str, value: Option<String>| fields.extend(value.map(|value| (name.to_owned(), value)));
        add("ETag", Some("\"a\"".to_owned()));
        add("Cache-Control", self.max_age.map(|secs| format!("max-age={secs}")));
        add("cache-control", self.s_maxage.map(|secs| format!("x, s-maxage=\"{secs}\"")));
        add("Expires", self.expires.map(date));
        add("Date", self.date.map(date));
        add("Age", self.age.map(|secs| secs.to_string()));
        fields
    }

    /// Age and lifetime in seconds, straight from RFC 9111 sections 4.2.1 and 4.2.3. All here are whole seconds, and the
    /// second that a date may have lasted is less than one.
    fn model(&self) -> (i64, i64) {
        let received = self.delay_secs as i64;
        let date = self.date.unwrap_or(received);
        let expires = self.expires.map(|expires| (expires - date).max(0));
        let said = self.s_maxage.or(self.max_age).map(|secs| secs as i64);
        let lifetime = said.or(expires).unwrap_or(0);
        let apparent = (received - date - 1).max(0);
        let corrected = self.age.unwrap_or(0) as i64 + self.delay_secs as i64;
        (apparent.max(corrected) + self.later_secs as i64, lifetime)
    }
}

proptest! {
    #[test]
    fn freshness_is_that_of_the_model(said in said()) {
        let fields = said.fields();
        let (noon, received) = (UnixTime::from_secs(NOON), UnixTime::from_secs(NOON + said.delay_secs));
        let answer = Answer { status: 200, fields: borrowed(&fields), requested: noon, received };
        let policy = Policy::default();
        let request = Request::read(b"GET", TARGET, std::iter::empty());
        let storable = store(&policy, &request, &answer).unwrap();
        let now = UnixTime::from_secs(received.secs() + said.later_secs);
        let (age, lifetime) = said.model();
        // A date in the past proves all but a millisecond of its second.
        let age_found = storable.stored.age_secs(now) as i64;
        prop_assert!((age..=age + 1).contains(&age_found), "{age_found} {age}");
        if age != lifetime && age + 1 != lifetime {
            prop_assert_eq!(storable.stored.is_fresh(now), age < lifetime);
        }
        let found = Found::Response(&storable.stored, &storable.fields);
        match lookup(&policy, &request, found, now) {
            Lookup::Serve(Serve { form, age_secs, ttl_secs }) => {
                prop_assert_eq!((form, age_secs as i64), (Form::Stored, age_found));
                prop_assert!(ttl_secs >= 0 && storable.stored.is_fresh(now));
            }
            Lookup::Revalidate(..) => prop_assert!(!storable.stored.is_fresh(now)),
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(Stored::of_bytes(&storable.stored.to_bytes()), Some(storable.stored));
    }

    #[test]
    fn ranges_are_those_of_the_model(specs in proptest::collection::vec(spec(), 1..5), len in 0_usize..20) {
        let text: Vec<_> = specs.iter().map(|(first, last)| match (first, last) {
            (Some(first), Some(last)) => format!("{first}-{last}"),
            (Some(first), None) => format!("{first}-"),
            (None, last) => format!("-{}", last.unwrap_or(0)),
        }).collect();
        let value = format!("bytes={}", text.join(", "));
        let length = len.to_string();
        let fields: Owned = [("ETag", "\"a\""), ("Content-Length", &length), ("Cache-Control", "max-age=9")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let now = UnixTime::from_secs(NOON);
        let answer = Answer { status: 200, fields: borrowed(&fields), requested: now, received: now };
        let policy = Policy::default();
        let request = Request::read(b"GET", TARGET, [(&b"Range"[..], value.as_bytes())].into_iter());
        let storable = store(&policy, &request, &answer).unwrap();
        let found = Found::Response(&storable.stored, &storable.fields);
        let Lookup::Serve(Serve { form, .. }) = lookup(&policy, &request, found, now) else { panic!("fresh") };
        let wanted = model_of_ranges(&specs, len);
        let bytes = |range: &ByteRange| (range.first..=range.last).collect::<Vec<_>>();
        match form {
            Form::Part(part) => prop_assert_eq!(wanted, Some(vec![bytes(&part.range)])),
            Form::Parts(ranges, total) => {
                prop_assert_eq!(wanted, Some(ranges.iter().map(bytes).collect()));
                prop_assert_eq!(total, len as u64);
            }
            Form::Unsatisfiable(total) => prop_assert_eq!((wanted, total), (Some(vec![]), len as u64)),
            Form::Stored => if let Some(wanted) = wanted {
                // The whole is served instead of several parts that overlap or are as much.
                let mut all = wanted.concat();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                prop_assert!(wanted.len() > 1 && (all.len() < count || count >= len), "{wanted:?}");
            },
            Form::NotModified => prop_assert!(false),
        }
    }

    #[test]
    fn variants_are_those_of_the_model(
        names in proptest::collection::vec("[a-c]", 0..4),
        one in fields(),
        other in fields(),
    ) {
        let vary = Vary::read(borrowed(&vec![("Vary".to_owned(), names.join(" , "))])).unwrap();
        let text = |fields: &Owned| {
            let mut out = Vec::new();
            vary.write_variant(&mut out, borrowed(fields), &VaryRules::default());
            out
        };
        // Each field that is named has the same members on both sides, or is on neither.
        let members = |fields: &Owned, name: &str| {
            let lines: Vec<_> = fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
            (!lines.is_empty()).then(|| {
                let joined = lines.join(",");
                let members = joined.split(',').map(str::trim).filter(|member| !member.is_empty());
                members.map(str::to_owned).collect::<Vec<_>>()
            })
        };
        let same = names.iter().all(|name| members(&one, name) == members(&other, name));
        prop_assert_eq!(text(&one) == text(&other), same);
    }

    #[test]
    fn nothing_panics(fields in proptest::collection::vec((name(), ".{0,20}"), 0..8), later in 0_u64..100) {
        let fields: Owned = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let now = UnixTime::from_secs(NOON);
        let policy = Policy { set_cookie: httpcache::SetCookie::Always, ..Policy::default() };
        let request = Request::read(b"GET", TARGET, borrowed(&fields));
        for status in [200, 206, 404] {
            let answer = Answer { status, fields: borrowed(&fields), requested: now, received: now };
            let Ok(storable) = store(&policy, &request, &answer) else { continue };
            let entry = (&storable.stored, &*storable.fields);
            let then = UnixTime::from_secs(NOON + later);
            let _ = lookup(&policy, &request, Found::Response(entry.0, entry.1), then);
            let fresh = httpcache::freshen(&policy, &request, entry, &answer);
            let _ = httpcache::refresh_by_head(&policy, &request, (&fresh.stored, &fresh.fields), &answer);
            prop_assert_eq!(Stored::of_bytes(&fresh.stored.to_bytes()), Some(fresh.stored));
        }
        let _ = httpcache::invalidated(&Request::read(b"PUT", TARGET, borrowed(&fields)), 200, borrowed(&fields));
    }
}

fn spec() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
    prop_oneof![
        (0_u64..25, 0_u64..25).prop_map(|(first, last)| (Some(first), Some(last))),
        (0_u64..25).prop_map(|first| (Some(first), None)),
        (0_u64..25).prop_map(|suffix| (None, Some(suffix))),
    ]
}

/// The positions that each range asks for, those without any left out. Nothing if the whole is to be served.
fn model_of_ranges(specs: &[(Option<u64>, Option<u64>)], len: usize) -> Option<Vec<Vec<u64>>> {
    if len == 0 || specs.iter().any(|spec| matches!(spec, (Some(first), Some(last)) if first > last)) {
        return None;
    }
    let len = len as u64;
    let asks = |(first, last): &(Option<u64>, Option<u64>), at: u64| match (first, last) {
        (Some(first), last) => at >= *first && last.is_none_or(|last| at <= last),
        (None, suffix) => at + suffix.unwrap_or(0) >= len,
    };
    let positions = specs.iter().map(|spec| (0..len).filter(|&at| asks(spec, at)).collect::<Vec<_>>());
    Some(positions.filter(|positions| !positions.is_empty()).collect())
}

fn fields() -> impl Strategy<Value = Owned> {
    proptest::collection::vec(("[a-d]", "[xy, ]{0,4}"), 0..4)
        .prop_map(|fields| fields.into_iter().map(|(name, value)| (name, value.trim().to_owned())).collect())
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "Cache-Control",
        "CDN-Cache-Control",
        "Age",
        "Date",
        "Expires",
        "ETag",
        "Last-Modified",
        "Vary",
        "Range",
        "If-Range",
        "If-None-Match",
        "If-Modified-Since",
        "Content-Range",
        "Content-Length",
        "Connection",
        "Set-Cookie",
        "Location",
        "Content-Location",
        "Accept-Encoding",
        "Accept-Language",
        "Pragma",
    ])
}
