//! Active checks: asking an endpoint whether it is well, over and over.

mod grpc;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use http1::{HeadScan, Limits, Method, Response};
use net::Stream;
use net::tls::{ClientTls, ServerName};
use preface::proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{AbortOnDrop, Event};
use crate::params::{CheckKind, CheckParams, Protocol};
use crate::state::ServiceState;

/// Bounds on what a check reads: enough for any page made for checks.
const LIMITS: Limits = Limits { bytes_max: 16 * 1024, fields_max: 100 };
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Whom to ask.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The `Host` to send unless the check names another.
    pub(super) host: String,
    /// What it speaks.
    pub(super) protocol: Protocol,
    /// TLS, and the name to verify.
    pub(super) tls: Option<(ClientTls, ServerName<'static>)>,
    /// The version of the PROXY protocol that it wants to hear first.
    pub(super) announced: Option<proxy::Version>,
}

/// Checks an endpoint until the result is dropped.
pub(super) fn start(
    service: Arc<ServiceState>,
    endpoint: u64,
    mut target: Target,
    params: CheckParams,
    events: mpsc::Sender<Event>,
) -> AbortOnDrop {
    target.address.set_port(params.port.unwrap_or(target.address.port()));
    AbortOnDrop(tokio::spawn(async move {
        // Checks of many endpoints that began together must not stay together.
        tokio::time::sleep(params.interval.mul_f64(fastrand::f64() * 0.1)).await;
        loop {
            let begun = tokio::time::Instant::now();
            let result = match tokio::time::timeout(params.timeout, check(&target, &params.kind)).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {:?}", params.timeout)),
            };
            let event = Event::Checked { service: Arc::clone(&service), endpoint, result };
            if events.send(event).await.is_err() {
                return;
            }
            tokio::time::sleep_until(begun + params.interval.mul_f64(0.9 + fastrand::f64() * 0.2)).await;
        }
    }))
}

/// Asks once.
async fn check(target: &Target, kind: &CheckKind) -> Result<(), String> {
    let mut socket = TcpStream::connect(target.address).await.map_err(|error| format!("cannot connect: {error}"))?;
    if let Some(version) = target.announced {
        // The check is nobody's but this process's own.
        let mut header = Vec::new();
        proxy::write(version, None, &mut header);
        socket.write_all(&header).await.map_err(|error| format!("cannot send: {error}"))?;
    }
    if *kind == CheckKind::Tcp {
        return Ok(());
    }
    let stream = match &target.tls {
        None => Stream::Bare(socket),
        Some((tls, name)) => tls.connect(name.clone(), socket).await.map_err(|error| format!("no TLS: {error}"))?,
    };
    match kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http { .. } if target.protocol == Protocol::Http2 => http2(target, stream, kind).await,
        CheckKind::Http { .. } => http(target, stream, kind).await,
        CheckKind::Grpc { service } => grpc::check(&target.host, target.tls.is_some(), stream, service).await,
    }
}

/// GETs a path over HTTP/2.
async fn http2(target: &Target, stream: Stream, kind: &CheckKind) -> Result<(), String> {
    let CheckKind::Http { path, host, statuses, body_contains } = kind else { return Ok(()) };
    let host = host.as_deref().unwrap_or(&target.host);
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let request = Request::builder().uri(format!("{scheme}://{host}{path}")).header("user-agent", "tenfold-check");
    let request = request.header("accept", "*/*").body(()).map_err(|error| format!("cannot ask: {error}"))?;
    let text = body_contains.as_deref().unwrap_or_default();
    let is_there = |body: &[u8]| memchr::memmem::find(body, text.as_bytes()).is_some();
    let answer = stream::ask(stream, request, None, BODY_BYTES_MAX, is_there).await?;
    let status = answer.head.status().as_u16();
    judge_status(status, statuses)?;
    if is_there(&answer.body) { Ok(()) } else { Err(lacks(status, text)) }
}

fn judge_status(status: u16, statuses: &[(u16, u16)]) -> Result<(), String> {
    let is_healthy = statuses.iter().any(|&(first, last)| (first..=last).contains(&status));
    if is_healthy { Ok(()) } else { Err(format!("status {status}")) }
}

fn lacks(status: u16, text: &str) -> String {
    format!("status {status}, but the body does not contain {text:?}")
}

/// GETs a path.
async fn http(target: &Target, mut stream: Stream, kind: &CheckKind) -> Result<(), String> {
    let CheckKind::Http { path, host, statuses, body_contains } = kind else { return Ok(()) };
    let host = host.as_deref().unwrap_or(&target.host);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tenfold-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| format!("cannot send: {error}"))?;
    let (status, mut body) = read_head(&mut stream).await?;
    judge_status(status, statuses)?;
    let Some(text) = body_contains else { return Ok(()) };
    while memchr::memmem::find(&body, text.as_bytes()).is_none() {
        let read = if body.len() < BODY_BYTES_MAX { stream.read_buf(&mut body).await } else { Ok(0) };
        if read.map_err(|error| format!("cannot read: {error}"))? == 0 {
            return Err(lacks(status, text));
        }
    }
    Ok(())
}

/// Reads the final response's head: its status, and what came of the body with it.
async fn read_head(stream: &mut Stream) -> Result<(u16, Vec<u8>), String> {
    let mut bytes = Vec::with_capacity(4096);
    let (mut scan, mut response) = (HeadScan::default(), Response::default());
    loop {
        let found = scan.advance(&bytes, &LIMITS).map_err(|error| format!("invalid answer: {error}"))?;
        if let Some((start, end)) = found {
            let parsed = response.parse(&bytes[start..end], &LIMITS, &Method::Get);
            parsed.map_err(|error| format!("invalid answer: {error}"))?;
            bytes.drain(..end);
            if !response.is_interim() {
                return Ok((response.status, bytes));
            }
            scan = HeadScan::default();
            continue;
        }
        if stream.read_buf(&mut bytes).await.map_err(|error| format!("cannot read: {error}"))? == 0 {
            return Err("closed without an answer".to_owned());
        }
    }
}
