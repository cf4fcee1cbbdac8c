//! Layers on routers of axum, whose services never fail.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode};
use axum::routing::get;
use axum::{Router, error_handling::HandleErrorLayer};
use tenfold::Clock;
use tenfold::resilience::{
    Breaker, BreakerParams, Bulkhead, BulkheadParams, Class, KeyedLimiter, Limiter, Policy, Quota, Rate, Refusal,
    Shedder, ShedderParams, Timeout, http,
};
use tenfold::testing::ManualClock;
use tower::{ServiceBuilder, ServiceExt};

fn ask(clock: &ManualClock, app: &Router, path: &str, tenant: &'static str) -> (StatusCode, Option<HeaderValue>) {
    let request = Request::get(path).header("x-tenant", tenant).body(Body::empty()).unwrap();
    let response = clock.run(app.clone().oneshot(request)).unwrap();
    (response.status(), response.headers().get("retry-after").cloned())
}

fn second_of(quota: u32) -> Quota {
    Quota::gcra(Rate::per_sec(1), quota).unwrap()
}

#[test]
fn each_piece_answers_for_itself() {
    let clock = ManualClock::new();
    let shared = Clock::from(&clock);
    let limiter = Limiter::with_clock("limited", second_of(1), &clock);
    let tenants = KeyedLimiter::with_clock("tenants", second_of(1), 100, &clock).unwrap();
    let breaker = Breaker::with_clock("failing", BreakerParams { failures: Some(1), ..Default::default() }, &clock);
    let full = BulkheadParams { concurrency_max: 1, queue_max: 0, ..BulkheadParams::default() };
    let bulkhead = Bulkhead::with_clock("full", full, &clock);
    let shedder =
        Shedder::with_clock("busy", ShedderParams { limit_start: 1, limit_min: 1, ..Default::default() }, &clock);
    let timeout = Timeout::with_clock("slow", Duration::from_secs(1), &clock);
    let fine = || get(|| async { "fine" });
    let slow = get(move || async move { shared.sleep(Duration::from_secs(2)).await });
    let app = Router::new()
        .route("/limited", fine().layer(limiter.http_layer()))
        .route(
            "/tenants",
            fine().layer(
                tenants.layer_by(|request: &Request<Body>| request.headers().get("x-tenant").cloned()).respond(),
            ),
        )
        .route("/failing", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }).layer(breaker.http_layer()))
        .route("/full", fine().layer(bulkhead.http_layer()))
        .route("/busy", fine().layer(shedder.http_layer()))
        .route("/slow", slow.layer(timeout.http_layer()));
    let _place = bulkhead.try_acquire().unwrap();
    let _busy = shedder.acquire(Class::Exempt).unwrap();
    for (path, tenant, status, says_when) in [
        ("/limited", "", 200, false),
        ("/limited", "", 429, true),
        ("/tenants", "ann", 200, false),
        ("/tenants", "ann", 429, true),
        ("/tenants", "bob", 200, false),
        ("/failing", "", 500, false),
        ("/failing", "", 503, true),
        ("/full", "", 503, false),
        ("/busy", "", 503, false),
        ("/slow", "", 504, false),
    ] {
        let (answered, retry_after) = ask(&clock, &app, path, tenant);
        assert_eq!((answered.as_u16(), retry_after.is_some()), (status, says_when), "{path} {tenant}");
    }
}

#[test]
fn one_layer_on_a_router_is_shared_by_its_routes() {
    let clock = ManualClock::new();
    let policy = Policy::builder_with_clock("api", &clock).limiter(second_of(2)).build();
    let app = Router::new()
        .route("/one", get(|| async { "one" }))
        .route("/two", get(|| async { "two" }))
        .layer(policy.http_layer());
    let statuses = ["/one", "/two", "/one"].map(|path| ask(&clock, &app, path, "").0.as_u16());
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn axums_own_way_of_errors_works_as_well() {
    let clock = ManualClock::new();
    let policy = Policy::builder_with_clock("api", &clock).limiter(second_of(1)).build();
    let handle = |refusal: Refusal| async move { (http::status(&refusal), refusal.to_string()) };
    let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(handle)).layer(policy.layer().once());
    let app = Router::new().route("/one", get(|| async { "one" })).layer(layers);
    let statuses = ["/one", "/one"].map(|path| ask(&clock, &app, path, "").0.as_u16());
    assert_eq!(statuses, [200, 429]);
}
