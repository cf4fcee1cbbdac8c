//! The examples are run, and print what they say.

#[path = "../../examples/axum_server.rs"]
#[expect(dead_code, reason = "an example has a main of its own")]
mod axum_server;
#[path = "../../examples/cache_cost.rs"]
#[expect(dead_code, reason = "an example has a main of its own")]
mod cache_cost;
#[path = "../../examples/cache_service.rs"]
#[expect(dead_code, reason = "an example has a main of its own")]
mod cache_service;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_every_strategy_of_the_cache() {
    let expected = [
        "stampede: 200 requests, 1 read",
        "read-through: 0 reads, quicker than the database: true",
        "negative: 10 requests for nothing, 1 read",
        "write-through: the next read has it: true",
        "tags: one invalidation, the next read is of the database: true",
        "by hand: invalidated here alone, the next read is of the database: true",
        "write-behind: 100 writes, 99 is read at once, fewer reach the database: true",
        "metrics: true",
        "shutdown: 0 keys left, 99 pieces in the database",
    ];
    let folder = testkit::TempDir::new().unwrap();
    // How quick it is depends on what else the machine does.
    let is_the_same = |(line, expected): (&String, &str)| line == expected || line.starts_with("read-through: 0 reads");
    let lines = cache_service::run(folder.path(), None).await.unwrap();
    assert!(lines.len() == expected.len() && lines.iter().zip(expected).all(is_the_same), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_of_the_cache_can_be_measured() {
    let lines = cache_cost::hits(1, 1000).await.unwrap();
    assert_eq!(lines.len(), 6, "{lines:?}");
    let redis = testkit::Redis::start(&[]).unwrap();
    let url = format!("redis://{}", redis.address());
    let lines = cache_cost::redis(url, 1, std::time::Duration::from_millis(20)).await.unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
}
