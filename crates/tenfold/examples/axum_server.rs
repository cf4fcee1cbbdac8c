//! A server of axum behind layers: a rate for each tenant, a bulkhead for what is expensive, a deadline and adaptive shedding
//! for the rest. It serves itself a few requests, prints how they were answered, and ends.
//!
//! `cargo run --package tenfold --example axum_server`

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::routing::get;
use tenfold::resilience::{Bulkhead, BulkheadParams, KeyedLimiter, Policy, Quota, QuotaError, Rate, ShedderParams};
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in run().await? {
        println!("{line}");
    }
    Ok(())
}

/// What the reports of this example tell each other, so that two of them meet.
#[derive(Default)]
struct Reports {
    begun: Notify,
    released: Notify,
}

fn app(reports: Arc<Reports>) -> Result<Router, QuotaError> {
    let tenants =
        KeyedLimiter::new("tenant", Quota::gcra(Rate { amount: 2, per: Duration::from_secs(60) }, 2)?, 10_000)?;
    let tenant = |request: &Request| -> Option<HeaderValue> { request.headers().get("x-tenant").cloned() };
    let expensive = BulkheadParams { concurrency_max: 1, queue_max: 0, ..BulkheadParams::default() };
    let everything = Policy::builder("api").deadline(Duration::from_secs(5)).shedder(ShedderParams::default()).build();
    let brief = Policy::builder("quick").deadline(Duration::from_millis(20)).build();
    Ok(Router::new()
        .route("/report", get(report).layer(Bulkhead::new("reports", expensive).http_layer()))
        .route("/quick", get(std::future::pending::<()>).layer(brief.http_layer()))
        .route("/search", get(|| async { "found" }))
        // What is added last is outermost: who is above its rate is refused before anything else.
        .layer(everything.http_layer())
        .layer(tenants.layer_by(tenant).respond())
        .with_state(reports))
}

async fn report(State(reports): State<Arc<Reports>>) -> &'static str {
    reports.begun.notify_one();
    reports.released.notified().await;
    "report"
}

pub(crate) async fn run() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let reports = Arc::new(Reports::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(axum::serve(listener, app(Arc::clone(&reports))?).into_future());

    let client = reqwest::Client::builder().no_proxy().build()?;
    let ask = async |path: &str, tenant: &'static str| {
        let mut request = client.get(format!("http://{address}{path}"));
        if !tenant.is_empty() {
            request = request.header("x-tenant", tenant);
        }
        let response = request.send().await?;
        let status = response.status();
        let again = if response.headers().contains_key("retry-after") { ", try again later" } else { "" };
        Ok::<_, reqwest::Error>(format!("{path} {tenant}: {status}{again}"))
    };

    let mut lines = Vec::new();
    for tenant in ["ann", "ann", "ann", "bob"] {
        lines.push(ask("/search", tenant).await?);
    }
    let (first, second) = tokio::join!(ask("/report", ""), async {
        reports.begun.notified().await;
        let answer = ask("/report", "").await;
        reports.released.notify_one();
        answer
    });
    lines.extend([first?, second?]);
    lines.push(ask("/quick", "").await?);
    server.abort();
    Ok(lines)
}
