//! A client of reqwest with a policy, once around its calls and once as a layer around the client itself, against a server
//! that is busy at first.
//!
//! `cargo run --package tenfold --example reqwest_client`

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use reqwest::{Client, Request, Response};
use tenfold::resilience::{BreakerParams, Policy, RetryParams, Verdict, http};
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in run().await? {
        println!("{line}");
    }
    Ok(())
}

/// A status that is to be tried again is a failure, though it is no error of reqwest's.
fn judge(result: &reqwest::Result<Response>) -> Verdict {
    match result {
        Ok(response) => http::verdict(response.status(), response.headers()),
        Err(error) if error.is_builder() => Verdict::Fine,
        Err(_) => Verdict::TRANSIENT,
    }
}

/// Only what may be done twice is sent twice, and a body that is a stream cannot be.
fn copy(request: &Request) -> Option<Request> {
    if request.method().is_idempotent() { request.try_clone() } else { None }
}

pub(crate) async fn run() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (address, asked) = serve().await?;
    let asked = || asked.swap(0, Ordering::Relaxed);
    let client = Client::builder().no_proxy().build()?;
    let policy = Policy::builder("prices")
        .deadline(Duration::from_secs(20))
        .retry(RetryParams::default())
        .breaker(BreakerParams::default())
        .attempt_timeout(Duration::from_secs(5))
        .build();
    let mut lines = Vec::new();

    // Around a call. What is read within it is bounded and judged as well.
    let url = format!("http://{address}/price");
    let response = policy.call_judged(judge, || client.get(&url).send()).await?;
    lines.push(format!("{}: {} after {} tries", response.status(), response.text().await?, asked()));

    // Around the client. A POST is not sent twice.
    let layer = policy.layer().judged_by(judge).repeated_by(copy);
    let mut service = ServiceBuilder::new().layer(layer).service(client.clone());
    for request in [client.get(&url).build()?, client.post(&url).build()?] {
        let method = request.method().clone();
        let response = service.ready().await?.call(request).await?;
        lines.push(format!("{method} {} after {} tries", response.status(), asked()));
    }
    Ok(lines)
}

/// A server that answers every third request and is busy with the others.
async fn serve() -> std::io::Result<(SocketAddr, Arc<AtomicU32>)> {
    let (asked, total) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let total = Arc::new(total);
    let price = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let is_busy = total.fetch_add(1, Ordering::Relaxed) % 3 != 2;
        async move { if is_busy { (StatusCode::SERVICE_UNAVAILABLE, "busy") } else { (StatusCode::OK, "4.20") } }
    };
    let app = Router::new().route("/price", get(price.clone()).post(price));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok((address, asked))
}
