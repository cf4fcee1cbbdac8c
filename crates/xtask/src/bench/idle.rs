use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use testkit::{Process, RawConn, procfs};

use super::subject::{Form, Place, Subject};
use crate::proof;

/// Arguments of the hidden command that holds connections in a process of its own: the limit on descriptors holds per
/// process, and its memory must not be mistaken for the subject's.
#[derive(Debug, Args)]
pub struct IdleArgs {
    /// Where to connect
    #[arg(long)]
    address: SocketAddr,
    /// How many connections
    #[arg(long)]
    count: usize,
}

/// Connections in the measured form.
pub(super) const CONNECTIONS: usize = 10_000;
/// What the holder prints once every connection has made its request.
const READY: &str = "every connection is idle";
/// Descriptors beyond the connections: files, pipes, upstream connections.
const SPARE: u64 = 500;

/// Memory that each of 10,000 idle connections adds to a subject, in KiB. The subject starts afresh, since an allocator
/// that has served load holds memory that would hide the growth.
pub(super) fn measure(name: &str, place: Place<'_>) -> Result<f64> {
    proof::raise_descriptor_limit(CONNECTIONS as u64 + SPARE)?;
    let subject = Subject::start(name, Form::Pinned, place)?;
    // One request makes what is made once: pools, tables, the upstream connection.
    let mut first = RawConn::connect((Ipv4Addr::LOCALHOST, subject.port))?;
    first.send("GET /128B HTTP/1.1\r\nHost: idle.test\r\n\r\n")?;
    first.read_response("GET")?;
    std::thread::sleep(Duration::from_millis(500));
    let before = procfs::pss_bytes(&subject.pids())?;

    let mut command = Command::new(std::env::current_exe()?);
    command.args(["idle-connections", "--address", &format!("127.0.0.1:{}", subject.port)]);
    command.args(["--count", &CONNECTIONS.to_string()]);
    let mut holder = Process::spawn("idle connections", command)?;
    let held = holder.wait_for_output(READY, Duration::from_secs(60));
    held.with_context(|| format!("{name}: {}", subject.output()))?;
    // What is released when a connection turns idle may be released a little later.
    std::thread::sleep(Duration::from_secs(1));
    let after = procfs::pss_bytes(&subject.pids())?;
    ensure!(holder.is_running(), "{name}: connections were not kept: {}", holder.output());
    let descriptors: usize = subject.pids().into_iter().map(|pid| procfs::descriptors(pid).unwrap_or(0)).sum();
    ensure!(descriptors >= CONNECTIONS, "{name}: holds {descriptors} descriptors, so it closed idle connections");
    Ok(after.saturating_sub(before) as f64 / 1024.0 / CONNECTIONS as f64)
}

/// Opens the connections, makes a request on each, says so, and holds them until standard input ends.
///
/// # Errors
/// When a connection cannot be made, its request is not answered with 200, or it does not stay open.
pub fn hold(args: &IdleArgs) -> Result<()> {
    proof::raise_descriptor_limit(CONNECTIONS as u64 + SPARE)?;
    let opened = (0..args.count).map(|at| open(at, args.address).with_context(|| format!("connection {at}")));
    let mut connections: Vec<RawConn> = opened.collect::<Result<_>>()?;
    println!("{READY}");
    std::io::stdout().flush()?;
    proof::end_with_standard_input();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        // A connection that the subject closes is no idle connection. A sample tells: subjects close all or none.
        for (at, connection) in connections.iter_mut().enumerate().step_by(97) {
            ensure!(!connection.ends_within(Duration::from_millis(1))?, "connection {at} did not stay open");
        }
    }
}

fn open(at: usize, address: SocketAddr) -> Result<RawConn> {
    // Each source address has ports of its own; eight of them are enough for any number that descriptors allow.
    let source = Ipv4Addr::new(127, 0, 0, 2 + (at % 8) as u8);
    let mut connection = RawConn::connect_from(source.into(), address)?;
    connection.send("GET /128B HTTP/1.1\r\nHost: idle.test\r\n\r\n")?;
    let response = connection.read_response("GET")?;
    ensure!(response.status == 200, "status {}", response.status);
    Ok(connection)
}
