//! Real servers and raw clients for tests. Everything here speaks to a process from outside, through sockets, signals
//! and `/proc`; nothing knows the inside of Tenfold.
//!
//! - [`Tenfold`] runs the `tenfold` binary on a configuration; [`nginx`], [`haproxy`], [`varnish`] and [`dnsmasq`] run the peers,
//!   [`Redis`] a store, [`Relay`] a network to it that can be slow or break, and [`Postgres`] a database with its replicas.
//! - [`RawConn`] is a client that sends any bytes and reads responses strictly; [`RawUpstream`] is a server that
//!   records what arrived and answers from a [`Script`]; [`message`] is the strict reader that both share.
//! - [`Collector`] takes traces, and reads them by the types that OpenTelemetry publishes.
//! - [`http2`] writes and reads frames of HTTP/2 by hand; [`http2::Http2Conn`] is a client of them.
//! - [`Origin`] is a sample service that says which instance answered; [`Load`] sends it idempotent requests, and
//!   [`Steady`] at a known rate.
//! - [`SlotServer`] is a service that can do so much and no more; [`OpenLoop`] offers it more.
//! - [`CacheOrigin`] is what caches stand before; [`Burst`] asks for something on many connections at once.
//! - [`coherence`] has processes share a cache while everything breaks, and [`history`] checks what they read and wrote.
//! - [`AcmeServer`] is an authority that issues certificates by ACME, and verifies all that it is sent.
//! - [`DnsServer`] is a name server whose records, and whose temper, change while it runs.
//! - [`HeldThreads`] stand still, as if a disk did not answer.
//! - [`Process`], [`TempDir`], [`free_port`] and [`procfs`] are what these are built from.
//!
//! Every guard cleans up when dropped: processes are killed by pid and reaped, folders removed, threads told to stop.
//!
//! ```no_run
//! use testkit::{Origin, RawConn, Tenfold, free_port};
//!
//! let origin = Origin::start("a").unwrap();
//! let (port, admin) = (free_port(), free_port());
//! let tenfold = Tenfold::start(&format!(
//!     "[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
//!      [listener.web]\nlisten = \"127.0.0.1:{port}\"\n\
//!      [[route]]\nlistener = \"web\"\nservice = \"api\"\n\
//!      [service.api]\nendpoints = [\"{}\"]\n",
//!     origin.address(),
//! ))
//! .unwrap();
//! let mut client = RawConn::connect(([127, 0, 0, 1], port)).unwrap();
//! client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").unwrap();
//! let response = client.read_response("GET").unwrap();
//! assert_eq!(response.status, 200);
//! assert_eq!(response.fields.get("x-instance"), Some("a"));
//! assert_eq!(tenfold.metric("http_requests_total", &["status=\"200\""]).unwrap(), 1.0);
//! ```

mod acme;
mod burst;
mod cache_origin;
mod certs;
pub mod coherence;
mod collector;
mod curl;
mod dns;
mod held;
pub mod history;
pub mod http2;
mod isolation;
mod load;
pub mod message;
mod open_loop;
mod origin;
mod peer;
mod pg;
mod port;
mod postgres;
mod process;
pub mod procfs;
mod raw;
mod redis;
mod registers;
mod relay;
mod resp;
mod script;
mod slots;
mod steady;
mod storm;
mod temp;
mod tenfold;
mod upstream;
mod wire;

pub use acme::{AcmeMood, AcmeOptions, AcmeServer};
pub use burst::Burst;
pub use cache_origin::CacheOrigin;
pub use certs::{Authority, Issued};
pub use collector::{Collector, Span};
pub use curl::{Curl, CurlAnswer};
pub use dns::{DnsData, DnsMood, DnsQuestion, DnsServer};
pub use held::HeldThreads;
pub use isolation::Isolation;
pub use load::{Counts, Histogram, Load, LoadParams, Report};
pub use open_loop::{Offered, OpenLoop};
pub use origin::{Origin, serve as serve_origin};
pub use peer::{dnsmasq, haproxy, nginx, varnish};
pub use pg::{PgAnswer, PgClient, PgMessage, PgMessages};
pub use port::{free_port, is_listening};
pub use postgres::{Postgres, PostgresOptions};
pub use process::Process;
pub use raw::RawConn;
pub use redis::Redis;
pub use registers::{MustSee, Registers};
pub use relay::{Relay, Way};
pub use resp::{Reply, RespClient};
pub use rustix::process::Signal;
pub use script::{Script, Step};
pub use slots::SlotServer;
pub use steady::{Steady, SteadyParams, Window};
pub use storm::{Blow, Storm, StormParams};
pub use temp::TempDir;
pub use tenfold::Tenfold;
pub use upstream::RawUpstream;
pub use wire::client_hello;
