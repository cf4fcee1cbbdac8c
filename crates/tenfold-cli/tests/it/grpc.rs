//! gRPC through the gateway: a client and a server of tonic, which know nothing of it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use testkit::Tenfold;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::site::{config, page, site};

/// Messages are texts, as they are: no schema has to be compiled for a test.
#[derive(Clone, Copy, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = input.copy_to_bytes(input.remaining());
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

type Texts = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// What the echo server does with a stream of texts.
struct Talk;

impl tonic::server::StreamingService<String> for Talk {
    type Response = String;
    type ResponseStream = Texts;
    type Future = BoxFuture<Response<Texts>, Status>;

    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        Box::pin(async move {
            let deadline = request.metadata().get("grpc-timeout").is_some();
            let texts = request.into_inner().then(move |text| async move {
                match text?.as_str() {
                    "fail" => Err(Status::data_loss("as asked")),
                    "wait" => {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        Ok(String::new())
                    }
                    text => Ok(format!("{text} {deadline}")),
                }
            });
            Ok(Response::new(Box::pin(texts) as Texts))
        })
    }
}

/// A server of `test.Echo`: streams both ways.
#[derive(Clone, Copy)]
struct Echo;

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl<B> Service<http::Request<B>> for Echo
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move { Ok(tonic::server::Grpc::new(Text).streaming(Talk, request).await) })
    }
}

/// Runs a test with servers beside it.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(90), test).await.expect("in time") })
}

/// Starts a server with the health service, whose reporter is returned.
async fn serve() -> (SocketAddr, tonic_health::server::HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(health).add_service(Echo);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, reporter)
}

async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn talk(
    channel: &Channel,
    texts: impl Stream<Item = String> + Send + 'static,
    timeout: Option<Duration>,
) -> Result<Streaming<String>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let mut request = Request::new(texts);
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let path = PathAndQuery::from_static("/test.Echo/Talk");
    client.streaming(request, path, Text).await.map(Response::into_inner)
}

fn texts(texts: &'static [&'static str]) -> impl Stream<Item = String> + Send + 'static {
    tokio_stream::iter(texts.iter().map(|&text| text.to_owned()))
}

const GRPC: &str = "protocol = \"http2\"\npassive_health = \"off\"\n";

#[test]
fn calls_and_streams_and_statuses_pass() {
    run(async {
        let (address, _reporter) = serve().await;
        let site = site(&[address], GRPC);
        let channel = channel(site.address()).await;
        let mut health = HealthClient::new(channel.clone());
        let ask = |service: &str| Request::new(HealthCheckRequest { service: service.to_owned() });
        assert_eq!(health.check(ask("")).await.unwrap().into_inner().status, 1);
        assert_eq!(health.check(ask("nobody")).await.unwrap_err().code(), Code::NotFound);
        let mut answers = talk(&channel, texts(&["a", "b", "fail"]), None).await.unwrap();
        assert_eq!(answers.message().await.unwrap().as_deref(), Some("a false"));
        assert_eq!(answers.message().await.unwrap().as_deref(), Some("b false"));
        let status = answers.message().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::DataLoss, "as asked"));
        // A failed call counts as one, whatever HTTP says.
        let counted = |status: &str| site.metric("http_requests_total", &[status]).unwrap();
        site.wait_until("the count", |_| Ok(counted("status=\"500\"") == 1.0)).unwrap();
        assert_eq!((counted("status=\"200\""), counted("status=\"404\"")), (1.0, 1.0));
    });
}

#[test]
fn what_trailers_say_counts_for_breakers() {
    run(async {
        let (address, _reporter) = serve().await;
        let site = site(&[address], &format!("{GRPC}retry = \"off\"\nbreaker = {{ failures = 2, open_for = \"1h\" }}"));
        let channel = channel(site.address()).await;
        let call = async |said: &'static [&'static str]| {
            let mut answers = talk(&channel, texts(said), None).await?;
            while answers.message().await?.is_some() {}
            Ok(())
        };
        // The head of each says 200, and failures that are not in a row do not count.
        let (mut done, counted) = ([0.0, 0.0], |site: &Tenfold, status| site.metric("http_requests_total", &[status]));
        for well in [true, false, true, false, false] {
            let said: &[&str] = if well { &["a", "b"] } else { &["a", "fail"] };
            let ended: Result<(), Status> = call(said).await;
            assert_eq!(ended.map_err(|status| status.code()), if well { Ok(()) } else { Err(Code::DataLoss) });
            done[usize::from(well)] += 1.0;
            let all = |site: &Tenfold| {
                let now =
                    [counted(site, "status=\"500\"").unwrap_or(0.0), counted(site, "status=\"200\"").unwrap_or(0.0)];
                Ok(now == done)
            };
            site.wait_until("the count", all).unwrap();
        }
        assert_eq!(site.metric("breaker_state", &["state=\"open\""]).unwrap(), 1.0);
        let refused: Result<(), Status> = call(&["a"]).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
        assert_eq!(site.metric("breaker_refusals_total", &[]).unwrap(), 1.0);
    });
}

#[test]
fn the_gateway_answers_in_terms_of_grpc() {
    run(async {
        let site = site(&[crate::site::dead_address()], GRPC);
        let channel = channel(site.address()).await;
        let status = talk(&channel, texts(&["a"]), None).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the service could not be reached"));
        assert!(status.metadata().get("x-request-id").is_some());
        assert_eq!(site.metric("http_requests_total", &["status=\"502\""]).unwrap(), 1.0);
    });
}

#[test]
fn the_time_that_a_client_gives_is_kept() {
    run(async {
        // A server that takes connections and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = site(&[silent.local_addr().unwrap()], "protocol = \"http2\"\nbreaker = { failures = 1 }\n");
        let stream = tokio::net::TcpStream::connect(site.address()).await.unwrap();
        // tonic would give up by itself at the same moment, so the call is made by hand.
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..3 {
            let request = http::Request::post("http://shop.example.com/test.Echo/Talk");
            let request = request.header("content-type", "application/grpc").header("grpc-timeout", "300m");
            let begun = Instant::now();
            let mut sender = sender.clone().ready().await.unwrap();
            let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
            let response: http::Response<h2::RecvStream> = response.await.unwrap();
            assert_eq!(response.headers()["grpc-status"], "4");
            assert!((300..1500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        }
        // The time that clients give neither takes an endpoint out nor opens a breaker.
        let failures = || site.metric("upstream_failures_total", &[]).unwrap();
        assert_eq!((failures(), site.metric("upstream_healthy", &[]).unwrap()), (3.0, 1.0));
        assert_eq!(site.metric("breaker_state", &["state=\"closed\""]).unwrap(), 1.0);
        // The server is told of it as well.
        let (address, _reporter) = serve().await;
        let site = crate::site::site(&[address], GRPC);
        let channel = channel(site.address()).await;
        let mut answers = talk(&channel, texts(&["a", "wait"]), Some(Duration::from_millis(400))).await.unwrap();
        assert_eq!(answers.message().await.unwrap().as_deref(), Some("a true"));
        let status = answers.message().await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        site.wait_until("the count", |_| Ok(site.metric("http_requests_total", &["status=\"504\""])? == 1.0)).unwrap();
    });
}

#[test]
fn checks_speak_grpc() {
    run(async {
        let (address, mut reporter) = serve().await;
        reporter.set_service_status("shop.Cart", tonic_health::ServingStatus::NotServing).await;
        let check =
            "health = { grpc = true, grpc_service = \"shop.Cart\", interval = \"100ms\", rise = 1, fall = 1 }\n";
        let site = site(&[address], &format!("{GRPC}{check}"));
        let endpoint = || page(&site, "/services/api")["endpoints"][0].clone();
        site.wait_until("the failed check", |_| Ok(endpoint()["health"] != "healthy")).unwrap();
        assert!(endpoint()["cause"].as_str().unwrap().contains("it does not serve (status 2)"), "{}", endpoint());
        reporter.set_service_status("shop.Cart", tonic_health::ServingStatus::Serving).await;
        site.wait_until("the good check", |_| Ok(endpoint()["health"] == "healthy")).unwrap();
        reporter.clear_service_status("shop.Cart").await;
        site.wait_until("the unknown service", |_| Ok(endpoint()["cause"].to_string().contains("gRPC status 5")))
            .unwrap();
        let head = page(&site, "/services/api");
        assert_eq!(head["name"], "api");
    });
}

/// Streams both ways for a minute, over reloads that change what is around them.
#[test]
fn streams_live_through_reloads() {
    run(async {
        let (address, _reporter) = serve().await;
        let mut site = site(&[address], GRPC);
        let channel = channel(site.address()).await;
        let count = std::sync::Arc::new(AtomicU32::new(0));
        let sent = std::sync::Arc::clone(&count);
        let ticks = tokio_stream::iter(0..600).then(move |n| {
            let sent = std::sync::Arc::clone(&sent);
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                sent.fetch_add(1, Ordering::Relaxed);
                n.to_string()
            }
        });
        let mut answers = talk(&channel, ticks, None).await.unwrap();
        let text = std::fs::read_to_string(site.config()).unwrap();
        let mut got = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer, format!("{got} false"));
            got += 1;
            if got % 30 == 0 {
                let other = config(&[address], "");
                let extra = format!("[service.extra-{got}]{}", other.split_once("[service.api]").unwrap().1);
                site.reload(&format!("{text}\n{extra}")).unwrap();
            }
        }
        assert_eq!((got, count.load(Ordering::Relaxed)), (600, 600));
        let reloads = site.metric("config_reloads_total", &["result=\"success\""]).unwrap();
        assert!(reloads >= 15.0, "{reloads} reloads; {}", site.output());
    });
}
