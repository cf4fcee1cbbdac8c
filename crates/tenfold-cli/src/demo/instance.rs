//! The sample server: it keeps no state and says which instance answered.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use anyhow::Context;
use axum::Json;
use axum::http::Uri;
use axum::routing::get;
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::args::DemoInstanceArgs;

pub(crate) fn run(args: &DemoInstanceArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args)).map(|()| ExitCode::SUCCESS)
}

async fn serve(args: &DemoInstanceArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .await
        .with_context(|| format!("demo instance {}: port {} cannot be listened on", args.name, args.port))?;
    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for an acknowledgement; where the option fails they are slower and still right.
        let _ = stream.set_nodelay(true);
    });
    let name = args.name.clone();
    let router = axum::Router::new()
        .route("/health", get(async || "ok\n"))
        .fallback(async move |uri: Uri| Json(answer(&name, uri.path())));
    axum::serve(listener, router).await.with_context(|| format!("demo instance {}: stopped", args.name))
}

fn answer(name: &str, path: &str) -> Value {
    json!({"instance": name, "path": path})
}
