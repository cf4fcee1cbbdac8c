//! A gateway held to the standards of what it speaks, row by row: each row says what is sent and what may come of it, and
//! a reader that shares no code with the gateway judges what came. The same rows can be sent through nginx and HAProxy.

mod cache;
mod db;
mod http1;
mod http2;
mod subject;
mod websocket;

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use testkit::{RawUpstream, free_port};

pub use cache::CacheArgs;
pub use db::DbArgs;

use crate::proof::{self, ProofArgs, Verdict};
use subject::Pair;

/// The conformance proofs.
#[derive(Debug, Subcommand)]
pub enum ConformanceCommand {
    /// HTTP/1.1: framing, grammar, connections; requests and responses
    Http1(ConformanceArgs),
    /// HTTP/2 and HPACK: frames, streams, windows, fields; bare and under TLS
    Http2(ConformanceArgs),
    /// WebSocket: octets both ways and every kind of end, over HTTP/1.1 and HTTP/2, bare and under TLS
    Websocket(ConformanceArgs),
    /// HTTP caching, by the public suite, counted as it counts
    Cache(CacheArgs),
    /// Drivers of PostgreSQL through the database proxy: what programs do with them, and 64 clients on four connections
    Db(DbArgs),
}

/// Arguments of a conformance proof.
#[derive(Debug, Args)]
pub struct ConformanceArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// tenfold, nginx or haproxy
    #[arg(long, default_value = "tenfold")]
    subject: String,

    /// Only rows of this class
    #[arg(long)]
    class: Option<String>,
}

/// A proof: the subject's name, Tenfold's program, the class that it is limited to, and whether it is to be short.
type Proof = fn(&str, Option<&Path>, Option<&str>, bool) -> Result<Verdict>;

/// Runs a conformance proof.
///
/// # Errors
/// When something cannot be run, or a row failed.
pub fn run(command: ConformanceCommand) -> Result<()> {
    let (name, proof, args): (_, Proof, _) = match command {
        ConformanceCommand::Http1(args) => ("http1", http1::run, args),
        ConformanceCommand::Http2(args) => ("http2", http2::run, args),
        ConformanceCommand::Websocket(args) => ("websocket", websocket::run, args),
        ConformanceCommand::Cache(args) => return cache::run(&args),
        ConformanceCommand::Db(args) => return db::run(&args),
    };
    let binary = (args.subject == "tenfold").then(proof::release_binary).transpose()?;
    let verdict = proof(&args.subject, binary.as_deref(), args.class.as_deref(), args.proof.quick)?;
    verdict.conclude(&format!("conformance {name}"), &args.proof)
}

/// A free port for each upstream.
fn pairs(upstreams: &[RawUpstream]) -> Vec<Pair> {
    upstreams.iter().map(|upstream| (free_port(), upstream.address())).collect()
}
