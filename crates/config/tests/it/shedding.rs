//! What a file says of load shedding and priorities.

use std::time::Duration;

use config::{Loaded, load_str};
use gateway::params::{Class, GatewayParams, GradientParams, PriorityParams, SheddingParams};

fn loaded(route: &str, service: &str) -> GatewayParams {
    let text = format!(
        "[listener.web]\nlisten = \":8080\"\n[[route]]\nservice = \"api\"\n{route}\n\
         [service.api]\nendpoints = [\"10.0.0.1:80\"]\n{service}\n"
    );
    let Loaded { gateway, .. } = load_str(&text, &super::env).unwrap_or_else(|found| panic!("{found}\n{text}"));
    gateway
}

fn shedding(service: &str) -> Option<SheddingParams> {
    loaded("", service).services()[0].shedding.clone()
}

#[test]
fn nothing_is_shed_unless_the_file_says_so() {
    assert_eq!(shedding(""), None);
    let expected =
        SheddingParams { gradient: GradientParams::default(), waiting_max: 100, wait: Duration::from_millis(100) };
    assert_eq!(shedding("shedding = {}"), Some(expected));
}

#[test]
fn every_key_arrives() {
    let found = shedding(
        "shedding = { limit_min = 2, limit_start = 30, limit_max = 40, tolerance = 1.5, low_share = \"50%\", \
         normal_share = \"80%\", queue_max = 0, queue_timeout = \"20ms\" }",
    );
    let gradient = GradientParams {
        limit_min: 2,
        limit_start: 30,
        limit_max: 40,
        tolerance: 1.5,
        shares: [0.5, 0.8, 1.0],
        ..GradientParams::default()
    };
    assert_eq!(found, Some(SheddingParams { gradient, waiting_max: 0, wait: Duration::from_millis(20) }));
}

#[test]
fn the_limit_starts_within_its_bounds() {
    let check = |table: &str, expected: u32| {
        assert_eq!(shedding(table).unwrap().gradient.limit_start, expected, "{table}");
    };
    check("shedding = { limit_max = 10 }", 10);
    check("shedding = { limit_min = 50 }", 50);
    check("shedding = { limit_start = 9 }", 9);
}

#[test]
fn priorities() {
    let check = |route: &str, expected: PriorityParams| {
        assert_eq!(loaded(route, "").routes()[0].priority, expected, "{route}");
    };
    let field = |class, most| PriorityParams { class, header: Some(("importance".to_owned(), most)) };
    check("", PriorityParams::only(Class::Normal));
    check("priority = \"exempt\"", PriorityParams::only(Class::Exempt));
    check("priority = { class = \"low\" }", PriorityParams::only(Class::Low));
    check("priority = { header = \"Importance\" }", field(Class::Normal, Class::Normal));
    check(
        "priority = { class = \"low\", header = \"Importance\", header_max = \"critical\" }",
        field(Class::Low, Class::Critical),
    );
}
