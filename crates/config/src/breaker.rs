//! What keeps requests from a service, from its tables to its parameters.

use std::num::NonZeroU32;
use std::time::Duration;

use ::breaker::{BreakerParams, SlowParams};
use gateway::params::{BreakerScope, FallbackParams, LimitsParams, RetryOn, ServiceBreakerParams};
use vocab::Name;

use crate::action::{self, Answer};
use crate::diagnostic::{Diagnostic, Sink};
use crate::field::FieldText;
use crate::grammar::Field;
use crate::habits::nearest;
use crate::http::RetryCause;
use crate::map::Map;
use crate::quantity::{Int, Share, Time};
use crate::raw::{RawBreaker, RawConfig, RawFallback, RawLimits, RawService, ScopeWord};
use crate::service::check_order;
use crate::source::Place;
use crate::value::{AnyText, List, Off, Or};

/// Share of slow calls that opens a breaker unless the file says otherwise.
const SLOW_RATE: f64 = 0.5;

/// What a fallback answers with unless the file says otherwise.
const STATUS: u32 = 503;
const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// The longest open time, as a multiple of the first.
const OPEN_MAX_TIMES: u32 = 10;

/// Fills in the defaults that depend on other keys.
pub(crate) fn resolve(raw: &mut RawService) {
    if let Some(field) = &mut raw.fallback {
        resolve_fallback(field.place, &mut field.value);
    }
    let Some(field) = &mut raw.breaker else { return };
    let (place, breaker) = (field.place, &mut field.value);
    if breaker.slow_after.is_some() && !breaker.failed.contains(&"slow_rate") {
        breaker.slow_rate.get_or_insert(Field { value: Share(SLOW_RATE), place, set: false });
    }
    let longest = breaker.open_for.value.0 * OPEN_MAX_TIMES;
    breaker.open_max.get_or_insert(Field { value: Time(longest), place, set: false });
    let probes = breaker.probes.value.0;
    breaker.successes.get_or_insert(Field { value: Int(probes), place, set: false });
    // One judge of an endpoint's requests is enough.
    if breaker.scope.value == ScopeWord::Endpoint && !raw.passive_health.set {
        raw.passive_health.value = Or::Word(Off);
    }
}

/// An answer has all its parts; another service has none.
fn resolve_fallback(place: Place, raw: &mut RawFallback) {
    if raw.service.is_some() || raw.failed.contains(&"service") {
        return;
    }
    raw.status.get_or_insert(Field { value: Int(STATUS), place, set: false });
    raw.body.get_or_insert(Field { value: AnyText(String::new()), place, set: false });
    raw.content_type.get_or_insert(Field { value: FieldText(CONTENT_TYPE.to_owned()), place, set: false });
    raw.headers.get_or_insert(Field { value: Map::default(), place, set: false });
}

/// The breaker of a service, or those of its endpoints.
pub(crate) fn params(key: &str, service: &RawService, sink: &mut Sink) -> Option<ServiceBreakerParams> {
    let field = service.breaker.as_ref()?;
    let (raw, key) = (&field.value, format!("{key}.breaker"));
    let scope = match raw.scope.value {
        ScopeWord::Service => BreakerScope::Service,
        ScopeWord::Endpoint => BreakerScope::Endpoint,
    };
    if scope == BreakerScope::Endpoint {
        one_judge(&key, service, raw, sink);
    }
    let open_max = raw.open_max.as_ref()?;
    check_order(&key, ("open_for", &raw.open_for), ("open_max", open_max), sink);
    if let Some(rate) =
        raw.slow_rate.as_ref().filter(|_| raw.slow_after.is_none() && !raw.failed.contains(&"slow_after"))
    {
        let diagnostic = Diagnostic::error(rate.place, format!("{key}.slow_rate"), "nothing says which calls are slow");
        sink.push(diagnostic.fix("add slow_after = \"1s\"".to_owned()));
    }
    let rates = [("failure_rate", &raw.failure_rate), ("slow_rate", &raw.slow_rate)];
    for (name, rate) in rates.into_iter().filter_map(|(name, rate)| Some((name, rate.as_ref()?))) {
        if rate.value.0 == 0.0 {
            let diagnostic =
                Diagnostic::error(rate.place, format!("{key}.{name}"), "the first such call would open it");
            sink.push(diagnostic.allowed("above 0%").fix(format!("remove {name}, or write {name} = \"50%\"")));
        }
    }
    let failures = raw.failures.value.value().map(|failures| failures.0);
    let has_rule = failures.is_some() || raw.failure_rate.is_some() || raw.slow_after.is_some();
    if !has_rule && raw.failed.is_empty() {
        let diagnostic = Diagnostic::error(raw.failures.place, &key, "no rule opens it");
        sink.push(diagnostic.fix("remove failures = \"off\", or add failure_rate = \"50%\"".to_owned()));
    }
    let on = failures_of(&raw.on.value);
    if raw.on.value.1 == 0 {
        let diagnostic = Diagnostic::error(raw.on.place, format!("{key}.on"), "no failure is counted");
        sink.push(diagnostic.fix("name what is counted, such as \"error\"".to_owned()));
    }
    let slow = |after: &Field<Time<1, 3_600_000>>| SlowParams {
        after: after.value.0,
        rate: raw.slow_rate.as_ref().map_or(SLOW_RATE, |rate| rate.value.0),
    };
    let longest: Duration = open_max.value.0;
    let rules = BreakerParams {
        failures,
        failure_rate: raw.failure_rate.as_ref().map(|rate| rate.value.0),
        slow: raw.slow_after.as_ref().map(slow),
        window: raw.window.value.0,
        calls_min: raw.calls_min.value.0,
        open_for: raw.open_for.value.0,
        open_max: longest,
        forget_after: longest,
        probes: raw.probes.value.0,
        successes: raw.successes.as_ref()?.value.0,
    };
    Some(ServiceBreakerParams { scope, on, rules })
}

/// Breakers of endpoints judge by the requests that two other rules judge by: there is to be one of them.
fn one_judge(key: &str, service: &RawService, raw: &RawBreaker, sink: &mut Sink) {
    let passive = service.passive_health.value.value().map(|_| ("passive_health", service.passive_health.place));
    let outlier = service.outlier.as_ref().map(|outlier| ("outlier", outlier.place));
    for (other, place) in [passive, outlier].into_iter().flatten() {
        let message = format!("{other} takes endpoints out by the same requests");
        let diagnostic = Diagnostic::error(raw.scope.place, format!("{key}.scope"), message);
        let fix = format!("remove {other}, or keep it and write scope = \"service\"");
        sink.push(diagnostic.related(place, "the other rule").fix(fix));
    }
}

/// Failures by name.
pub(crate) fn failures_of(list: &List<RetryCause>) -> RetryOn {
    let mut on = RetryOn::default();
    for cause in &list.0 {
        match cause.value {
            RetryCause::Error => on.error = true,
            RetryCause::Timeout => on.timeout = true,
            RetryCause::InvalidHeader => on.invalid_header = true,
            RetryCause::Status(status) if on.statuses.contains(&status) => {}
            RetryCause::Status(status) => on.statuses.push(status),
        }
    }
    on
}

/// The bounds of a service.
pub(crate) fn limits(raw: &RawLimits) -> LimitsParams {
    LimitsParams {
        requests_max: raw.requests_max.as_ref().and_then(|max| NonZeroU32::new(max.value.0)),
        retries_max: raw.retries_max.as_ref().and_then(|max| NonZeroU32::new(max.value.0)),
    }
}

/// What a service falls back on; `None` when something is wrong, which is reported.
pub(crate) fn fallback(key: &str, raw: &RawFallback, sink: &mut Sink) -> Option<FallbackParams> {
    let key = format!("{key}.fallback");
    let RawFallback { status, body, content_type, headers, .. } = raw;
    if let Some(service) = &raw.service {
        let set = [
            ("status", status.as_ref().map(|field| field.place)),
            ("body", body.as_ref().map(|field| field.place)),
            ("content_type", content_type.as_ref().map(|field| field.place)),
            ("headers", headers.as_ref().map(|field| field.place)),
        ];
        if let Some((name, place)) = set.into_iter().find_map(|(name, place)| Some((name, place?))) {
            let message = "another service is asked, or an answer given, not both";
            let diagnostic = Diagnostic::error(place, format!("{key}.{name}"), message);
            sink.push(diagnostic.related(service.place, "the service").fix("remove one of them".to_owned()));
            return None;
        }
        return Some(FallbackParams::Service(service.value.0.clone()));
    }
    // Absent is what could not be read, which has been reported.
    let (status, body) = (status.as_ref()?, body.as_ref()?);
    let status = (status.value.0, status.place);
    let answer = Answer { status, body, content_type: content_type.as_ref()?, headers: headers.as_ref()? };
    action::fixed(&key, &answer, sink).map(FallbackParams::Fixed)
}

/// A fallback on no other service, at its place. `None` when it only follows from an error that was reported before.
pub(crate) fn no_fallback(raw: &RawConfig, service: &Name, name: &Name) -> Option<Diagnostic> {
    let services = &raw.service.value;
    let (_, table) = services.tables.iter().find(|(field, _)| field.value == *service)?;
    let field = table.fallback.as_ref()?.value.service.as_ref()?;
    let key = format!("service.{service}.fallback.service");
    if service == name {
        let diagnostic = Diagnostic::error(field.place, key, "a service is no fallback of its own");
        return Some(diagnostic.fix("name another service, or write status and body".to_owned()));
    }
    if services.nameless || raw.failed.contains(&"service") || services.written.iter().any(|w| w == name.as_str()) {
        return None;
    }
    let others = services.written.iter().map(String::as_str).filter(|other| *other != service.as_str());
    let near = nearest(name.as_str(), others);
    let fix = near.map_or_else(|| format!("add [service.{name}]"), |near| format!("did you mean \"{near}\"?"));
    let diagnostic = Diagnostic::error(field.place, key, format!("no service is named {name:?}"));
    Some(diagnostic.allowed(services.written.join(", ")).fix(fix))
}
