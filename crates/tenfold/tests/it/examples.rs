//! The examples are run, and print what they say.

#[path = "../../examples/axum_server.rs"]
#[expect(dead_code, reason = "an example has a main of its own")]
mod axum_server;
#[path = "../../examples/call_cost.rs"]
#[expect(dead_code, reason = "an example has a main of its own")]
mod call_cost;
#[path = "../../examples/plain.rs"]
#[expect(dead_code, reason = "an example has a main of its own")]
mod plain;
#[path = "../../examples/reqwest_client.rs"]
#[expect(dead_code, reason = "an example has a main of its own")]
mod reqwest_client;

use tenfold::Clock;
use tenfold::testing::ManualClock;

#[test]
fn a_policy_around_plain_calls() {
    let expected = [
        "Ok(6) after 1 tries",
        r#"Err(Inner("connection refused")) after 3 tries"#,
        "stock is left alone, after 0 tries",
        "Ok(6) after 1 tries, the breaker is closed",
    ];
    let clock = ManualClock::new();
    assert_eq!(clock.run(plain::run(&Clock::from(&clock))), expected);
}

#[tokio::test]
async fn a_server_of_axum() {
    let expected = [
        "/search ann: 200 OK",
        "/search ann: 200 OK",
        "/search ann: 429 Too Many Requests, try again later",
        "/search bob: 200 OK",
        "/report : 200 OK",
        "/report : 503 Service Unavailable",
        "/quick : 504 Gateway Timeout",
    ];
    assert_eq!(axum_server::run().await.unwrap(), expected);
}

#[tokio::test]
async fn a_client_of_reqwest() {
    let expected =
        ["200 OK: 4.20 after 3 tries", "GET 200 OK after 3 tries", "POST 503 Service Unavailable after 1 tries"];
    assert_eq!(reqwest_client::run().await.unwrap(), expected);
}

#[tokio::test]
async fn every_cost_can_be_measured() {
    for name in ["none", "breaker", "limiter", "bulkhead", "shedder", "retry", "timeout", "policy", "policy_all"] {
        call_cost::make(name, 10).await;
    }
}
