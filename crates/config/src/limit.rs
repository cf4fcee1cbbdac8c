//! Limits: values of their own, and the tables' way to parameters.

use std::time::Duration;

use gateway::params::{FixedParams, KeyPart, LimitLaw, LimitParams, Prefixes, Rate, RateLaw, Tell};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;
use vocab::{Name, units};

use crate::action::{self, Answer};
use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::{FieldOrCookie, NameValue, field_or_cookie};
use crate::grammar::{Field, Key, Value, wrong_kind};
use crate::habits::nearest;
use crate::node::{Node, Value as NodeValue};
use crate::raw::{AlgorithmWord, RawConfig, RawKey, RawLimit, RawRefusal, RawRoute, TellWord};
use crate::source::Place;
use crate::store;
use crate::value::{invalid, text};

/// A rate, such as `"100/s"`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateText(pub(crate) u32, pub(crate) Duration);

/// A part of a key.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Everyone,
    ClientIp,
    Route,
    Header(String),
    Cookie(String),
}

/// A limit of a route: one that is defined elsewhere, by its name, or one of the route's own.
#[derive(Clone, Debug)]
pub(crate) enum Use {
    Named(Name),
    Own(Box<RawLimit>),
}

impl Value for RateText {
    fn expected() -> String {
        "a rate such as \"100/s\", \"5/m\" or \"1000/10s\", of at least 1".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let (NodeValue::Text { text, .. } | NodeValue::Integer(text, _) | NodeValue::Float(text)) = &node.value else {
            wrong_kind(node, key, &Self::expected(), None, sink);
            return None;
        };
        match units::parse_rate(text) {
            Ok((amount, per)) if amount > 0 && !per.is_zero() => return Some(Self(amount, per)),
            Ok(_) => sink.push(invalid(node, key, "would let nothing pass").allowed(Self::expected())),
            Err(error) => {
                let fix = error.suggestion().map(|text| format!("write \"{text}\""));
                let problem = format!("cannot be read: {error}");
                sink.push(invalid(node, key, &problem).allowed(Self::expected()).fix(fix));
            }
        }
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        units::format_rate(self.0, self.1).into()
    }
}

impl Part {
    const WORDS: [&str; 3] = ["client_ip", "route", "everyone"];
}

impl Value for Part {
    fn expected() -> String {
        "\"client_ip\", \"route\", \"everyone\", { header = \"NAME\" } or { cookie = \"NAME\" }".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Text { text, .. } => match text.as_str() {
                "client_ip" => Some(Self::ClientIp),
                "route" => Some(Self::Route),
                "everyone" => Some(Self::Everyone),
                other => {
                    let fix = match other {
                        "header" | "cookie" => Some(format!("write {{ {other} = \"NAME\" }}")),
                        "ip" | "source" | "remote_addr" | "$remote_addr" | "$binary_remote_addr" => {
                            Some("write \"client_ip\"".to_owned())
                        }
                        "all" | "global" | "none" | "" => Some("write \"everyone\"".to_owned()),
                        _ => nearest(other, Self::WORDS.into_iter()).map(|word| format!("did you mean \"{word}\"?")),
                    };
                    sink.push(invalid(node, key, "is no part of a key").allowed(Self::expected()).fix(fix));
                    None
                }
            },
            NodeValue::Table(entries) => {
                let table = RawKey::read(node, key, sink)?;
                match field_or_cookie(
                    node.place,
                    key,
                    (table.header, table.cookie, entries.len()),
                    &Self::expected(),
                    sink,
                )? {
                    FieldOrCookie::Header(name) => Some(Self::Header(name)),
                    FieldOrCookie::Cookie(name) => Some(Self::Cookie(name)),
                }
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": Self::WORDS }, RawKey::schema(generator)] })
    }

    fn effective(&self) -> Json {
        match self {
            Self::ClientIp => "client_ip".into(),
            Self::Route => "route".into(),
            Self::Everyone => "everyone".into(),
            Self::Header(name) => serde_json::json!({ "header": name }),
            Self::Cookie(name) => serde_json::json!({ "cookie": name }),
        }
    }
}

impl Value for Use {
    fn expected() -> String {
        "the name of a limit, or { rate = \"100/s\" }".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        if matches!(node.value, NodeValue::Table(_)) {
            return RawLimit::read(node, key, sink).map(|limit| Self::Own(Box::new(limit)));
        }
        let written = text(node, key, &Self::expected(), None, sink)?;
        if let Ok((amount, per)) = units::parse_rate(written) {
            let fix = format!("write {{ rate = \"{}\" }}", units::format_rate(amount, per));
            sink.push(invalid(node, key, "is no name").allowed(Self::expected()).fix(fix));
            return None;
        }
        NameValue::read(node, key, sink).map(|name| Self::Named(name.0))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [NameValue::schema(generator), RawLimit::schema(generator)] })
    }

    fn effective(&self) -> Json {
        match self {
            Self::Named(name) => name.as_str().into(),
            Self::Own(limit) => limit.effective(),
        }
    }
}

/// Fills in what a limit derives, so that the effective configuration shows it.
fn resolve(raw: &mut RawLimit) {
    store::resolve(raw);
    let bursts = !matches!(raw.algorithm.value, AlgorithmWord::SlidingWindow);
    let Some(rate) = raw.rate.as_ref().filter(|_| bursts && raw.burst.is_none() && !raw.failed.contains(&"burst"))
    else {
        return;
    };
    let RateText(amount, per) = rate.value;
    // What a second gives. A bucket that is filled up in steps holds at least one of them.
    let in_a_second = (f64::from(amount) / per.as_secs_f64()).floor().clamp(1.0, f64::from(u32::MAX)) as u32;
    let burst = match raw.algorithm.value {
        AlgorithmWord::TokenBucket => amount,
        _ => in_a_second,
    };
    raw.burst = Some(Field { value: crate::quantity::Int(burst), place: rate.place, set: false });
}

/// Fills in what all limits of the file derive.
pub(crate) fn resolve_all(raw: &mut RawConfig) {
    raw.limit.value.tables.iter_mut().for_each(|(_, limit)| resolve(limit));
    for route in &mut raw.route.value.0 {
        for used in route.value.limit.iter_mut().flat_map(|limits| &mut limits.value.0) {
            if let Use::Own(limit) = &mut used.value {
                resolve(limit);
            }
        }
    }
}

/// The limits of the file that have names; what is wrong with them is reported.
pub(crate) fn named(raw: &RawConfig, sink: &mut Sink) -> Vec<LimitParams> {
    let tables = raw.limit.value.tables.iter();
    tables.filter_map(|(name, raw)| params(&format!("limit.{}", name.value), &name.value, raw, sink)).collect()
}

/// The limits of a route, of those that have names and its own.
pub(crate) fn of_route(
    key: &str,
    raw: &RawRoute,
    (known, file): (&[LimitParams], &RawConfig),
    sink: &mut Sink,
) -> Vec<LimitParams> {
    let Some(limits) = &raw.limit else { return Vec::new() };
    let several = limits.value.0.len() > 1;
    let mut own = 0;
    let mut found: Vec<LimitParams> = Vec::new();
    for (at, used) in limits.value.0.iter().enumerate() {
        let key = if several { format!("{key}.limit[{at}]") } else { format!("{key}.limit") };
        let params = match &used.value {
            Use::Named(name) => match known.iter().find(|limit| limit.name == *name) {
                Some(limit) => Some(limit.clone()),
                None => {
                    unknown(&key, name, used.place, file, sink);
                    None
                }
            },
            Use::Own(limit) => own_name(&key, raw, &mut own, (known, used.place), sink)
                .and_then(|name| params(&key, &name, limit, sink)),
        };
        let Some(params) = params else { continue };
        if found.iter().any(|other| other.name == params.name) {
            let message = format!("limit {} would take its allowance twice", params.name);
            sink.push(Diagnostic::error(used.place, key, message).fix("remove one of them".to_owned()));
            continue;
        }
        found.push(params);
    }
    found
}

/// The name of a route's own limit: the route's, and for further ones with -2, -3 and so on.
fn own_name(
    key: &str,
    raw: &RawRoute,
    own: &mut u32,
    (known, place): (&[LimitParams], Place),
    sink: &mut Sink,
) -> Option<Name> {
    let route = &raw.name.as_ref()?.value.0;
    *own += 1;
    let text = if *own == 1 { route.to_string() } else { format!("{route}-{own}") };
    let taken = known.iter().any(|limit| limit.name.as_str() == text);
    match text.parse::<Name>() {
        Ok(name) if !taken => Some(name),
        _ => {
            let message = format!("a limit of route {route} would be named {text:?}, which is taken or too long");
            sink.push(Diagnostic::error(place, key, message).fix("define it as [limit.NAME] and name it".to_owned()));
            None
        }
    }
}

fn unknown(key: &str, name: &Name, place: Place, file: &RawConfig, sink: &mut Sink) {
    let limits = &file.limit.value;
    let written = &limits.written;
    if limits.nameless || file.failed.contains(&"limit") || written.iter().any(|known| known == name.as_str()) {
        return;
    }
    let near = nearest(name.as_str(), written.iter().map(String::as_str));
    let fix = near.map_or_else(|| format!("add [limit.{name}]"), |near| format!("did you mean \"{near}\"?"));
    let diagnostic = Diagnostic::error(place, key, format!("no limit is named {:?}", name.as_str()))
        .allowed(if written.is_empty() { "there is no limit yet".to_owned() } else { written.join(", ") })
        .fix(fix);
    sink.push(diagnostic);
}

fn params(key: &str, name: &Name, raw: &RawLimit, sink: &mut Sink) -> Option<LimitParams> {
    let law = law(key, raw, sink)?;
    let shared = match (&law, &raw.rate) {
        (LimitLaw::Rate(law), Some(rate)) => {
            let RateText(amount, per) = rate.value;
            store::shared(key, raw, (Rate { amount, per }, law.burst()), sink)?
        }
        _ => store::refuse(key, raw, sink).then_some(None)?,
    };
    let parts = raw.key.value.0.iter().filter_map(|part| match &part.value {
        Part::Everyone => None,
        Part::ClientIp => Some(KeyPart::ClientIp),
        Part::Route => Some(KeyPart::Route),
        Part::Header(name) => Some(KeyPart::Header(name.clone())),
        Part::Cookie(name) => Some(KeyPart::Cookie(name.clone())),
    });
    let prefixes = Prefixes { ipv4_bits: raw.ipv4_prefix.value.0 as u8, ipv6_bits: raw.ipv6_prefix.value.0 as u8 };
    Some(LimitParams {
        name: name.clone(),
        key: parts.collect(),
        law,
        shared,
        keys_max: raw.keys_max.value.0,
        prefixes,
        shadow: raw.shadow.value.0,
        tell: match raw.tell.value {
            TellWord::Always => Tell::Always,
            TellWord::Refused => Tell::Refused,
            TellWord::Never => Tell::Never,
        },
        refusal: match &raw.refusal {
            Some(refusal) => Some(self::refusal(key, &refusal.value, sink)?),
            None => None,
        },
    })
}

fn law(key: &str, raw: &RawLimit, sink: &mut Sink) -> Option<LimitLaw> {
    let (rate, max) = match (&raw.rate, &raw.concurrency) {
        (Some(rate), None) => (rate, None),
        (None, Some(max)) => return concurrency(key, raw, max.value.0, sink),
        (Some(rate), Some(max)) => (rate, Some(max)),
        (None, None) => {
            if !raw.failed.iter().any(|key| matches!(*key, "rate" | "concurrency")) {
                let diagnostic = Diagnostic::error(raw.place, key, "one of `rate` and `concurrency` is needed");
                sink.push(diagnostic.fix("add rate = \"100/s\"".to_owned()));
            }
            return None;
        }
    };
    if let Some(max) = max {
        let message = "a limit has a rate or a concurrency, not both";
        let diagnostic = Diagnostic::error(max.place, format!("{key}.concurrency"), message);
        sink.push(diagnostic.related(rate.place, "the rate").fix("make two limits of them".to_owned()));
        return None;
    }
    let RateText(amount, per) = rate.value;
    let (amount, burst) = (Rate { amount, per }, raw.burst.as_ref().map(|burst| burst.value.0));
    let law = match raw.algorithm.value {
        AlgorithmWord::Gcra => RateLaw::gcra(amount, burst?),
        AlgorithmWord::TokenBucket => RateLaw::token_bucket(amount, burst?),
        AlgorithmWord::SlidingWindow => {
            if let Some(burst) = &raw.burst {
                let message = "a window lets as many come at once as in all of its time";
                let diagnostic = Diagnostic::error(burst.place, format!("{key}.burst"), message);
                sink.push(diagnostic.fix("remove it, or use gcra".to_owned()));
                return None;
            }
            RateLaw::sliding_window(amount)
        }
    };
    let everyone = raw.key.value.0.iter().all(|part| matches!(part.value, Part::Everyone));
    let checked = law.and_then(|law| if everyone { Ok(law) } else { law.check_keys().map(|()| law) });
    match checked {
        Ok(law) => Some(LimitLaw::Rate(law)),
        Err(error) => {
            sink.push(Diagnostic::error(rate.place, format!("{key}.rate"), error.to_string()));
            None
        }
    }
}

fn concurrency(key: &str, raw: &RawLimit, max: u32, sink: &mut Sink) -> Option<LimitLaw> {
    if let Some(burst) = &raw.burst {
        let diagnostic = Diagnostic::error(burst.place, format!("{key}.burst"), "only a rate has a burst");
        sink.push(diagnostic.fix("remove it".to_owned()));
        return None;
    }
    Some(LimitLaw::Concurrency(max))
}

fn refusal(key: &str, raw: &RawRefusal, sink: &mut Sink) -> Option<FixedParams> {
    let RawRefusal { status, body, content_type, headers, .. } = raw;
    let status = (status.value.0, status.place);
    action::fixed(&format!("{key}.refusal"), &Answer { status, body, content_type, headers }, sink)
}
