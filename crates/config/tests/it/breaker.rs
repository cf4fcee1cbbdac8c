//! What a service says of breakers, bounds and fallbacks.

use std::time::Duration;

use breaker::{BreakerParams, SlowParams};
use config::{Loaded, load_str};
use gateway::params::{BreakerScope, FallbackParams, LimitsParams, RetryOn, ServiceParams};

fn service(table: &str) -> ServiceParams {
    let text = format!(
        "[listener.web]\nlisten = \":8080\"\n[[route]]\nservice = \"api\"\n[service.api]\nendpoints = [\"10.0.0.1:80\"]\n\
         {table}\n[service.spare]\nendpoints = [\"10.0.0.2:80\"]\n[[route]]\npath = \"/spare\"\nservice = \"spare\"\n"
    );
    let Loaded { gateway, .. } = load_str(&text, &super::env).unwrap_or_else(|found| panic!("{found}\n{text}"));
    gateway.services()[0].clone()
}

#[test]
fn nothing_is_kept_back_unless_the_file_says_so() {
    let service = service("");
    assert_eq!((service.breaker, service.limits, service.fallback), (None, LimitsParams::default(), None));
}

#[test]
fn an_empty_table_is_five_failures_in_a_row() {
    let service = service("breaker = {}");
    let breaker = service.breaker.unwrap();
    assert_eq!(breaker.rules, BreakerParams::default());
    assert_eq!(breaker.scope, BreakerScope::Service);
    let statuses = vec![500, 502, 503, 504];
    assert_eq!(breaker.on, RetryOn { error: true, timeout: true, invalid_header: true, statuses });
    assert!(service.health.passive.is_some());
}

#[test]
fn what_is_not_said_is_derived() {
    let table = "breaker = { scope = \"endpoint\", slow_after = \"1s\", open_for = \"3s\", probes = 4 }";
    let service = service(table);
    let rules = service.breaker.unwrap().rules;
    assert_eq!(rules.slow, Some(SlowParams { after: Duration::from_secs(1), rate: 0.5 }));
    assert_eq!((rules.open_max, rules.forget_after), (Duration::from_secs(30), Duration::from_secs(30)));
    assert_eq!((rules.probes, rules.successes), (4, 4));
    assert_eq!(service.health.passive, None, "endpoints are judged once");
}

#[test]
fn every_key_arrives() {
    let table = "breaker = { failures = \"off\", failure_rate = \"25%\", slow_after = \"2s\", slow_rate = \"80%\", \
                 window = \"20s\", calls_min = 50, open_for = \"10s\", open_max = \"2m\", probes = 2, successes = 3, \
                 on = [\"timeout\", \"http_429\"] }\nlimits = { requests_max = 500, retries_max = 20 }\n\
                 fallback = { service = \"spare\" }";
    let service = service(table);
    let breaker = service.breaker.unwrap();
    let expected = BreakerParams {
        failures: None,
        failure_rate: Some(0.25),
        slow: Some(SlowParams { after: Duration::from_secs(2), rate: 0.8 }),
        window: Duration::from_secs(20),
        calls_min: 50,
        open_for: Duration::from_secs(10),
        open_max: Duration::from_secs(120),
        forget_after: Duration::from_secs(120),
        probes: 2,
        successes: 3,
    };
    assert_eq!(breaker.rules, expected);
    assert_eq!(breaker.on, RetryOn { timeout: true, statuses: vec![429], ..RetryOn::default() });
    let limits = [service.limits.requests_max, service.limits.retries_max].map(|max| max.map(|max| max.get()));
    assert_eq!(limits, [Some(500), Some(20)]);
    assert_eq!(service.fallback, Some(FallbackParams::Service("spare".parse().unwrap())));
}

#[test]
fn a_fallback_may_be_an_answer() {
    let fixed = |table: &str| match service(table).fallback {
        Some(FallbackParams::Fixed(fixed)) => fixed,
        other => panic!("{other:?}"),
    };
    let empty = fixed("fallback = {}");
    assert_eq!((empty.status, empty.fields.len(), empty.body.as_str()), (503, 0, ""));
    let table =
        "fallback = { status = 200, body = \"[]\", content_type = \"application/json\", headers = { Age = \"1\" } }";
    let answer = fixed(table);
    let fields: Vec<_> = answer.fields.iter().map(|line| (line.name().as_str(), line.value())).collect();
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    assert_eq!(fields, [("Content-Type", "application/json"), ("Age", "1")]);
}
