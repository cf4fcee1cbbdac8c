use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

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
    /// The database to log in to, as `postgres`; a request of HTTP is made without one
    #[arg(long)]
    database: Option<String>,
}

/// Connections in the measured form.
pub(super) const CONNECTIONS: usize = 10_000;
/// What the holder prints once every connection has made its request.
const READY: &str = "every connection is idle";
/// Descriptors beyond the connections: files, pipes, upstream connections.
pub(super) const SPARE: u64 = 500;

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

    let held = hold_elsewhere(subject.port, CONNECTIONS, None);
    let mut holder = held.with_context(|| format!("{name}: {}", subject.output()))?;
    // What is released when a connection turns idle may be released a little later.
    std::thread::sleep(Duration::from_secs(1));
    let after = procfs::pss_bytes(&subject.pids())?;
    ensure!(holder.is_running(), "{name}: connections were not kept: {}", holder.output());
    let descriptors: usize = subject.pids().into_iter().map(|pid| procfs::descriptors(pid).unwrap_or(0)).sum();
    ensure!(descriptors >= CONNECTIONS, "{name}: holds {descriptors} descriptors, so it closed idle connections");
    Ok(after.saturating_sub(before) as f64 / 1024.0 / CONNECTIONS as f64)
}

/// Has a process of its own hold connections, and waits until all of them are idle.
pub(super) fn hold_elsewhere(port: u16, count: usize, database: Option<&str>) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["idle-connections", "--address", &format!("127.0.0.1:{port}"), "--count", &count.to_string()]);
    if let Some(database) = database {
        command.args(["--database", database]);
    }
    let mut holder = Process::spawn("idle connections", command)?;
    holder.wait_for_output(READY, Duration::from_secs(120))?;
    Ok(holder)
}

/// Opens the connections, makes a request on each, says so, and holds them until standard input ends.
///
/// # Errors
/// When a connection cannot be made, its request is not answered with 200, or it does not stay open.
pub fn hold(args: &IdleArgs) -> Result<()> {
    proof::raise_descriptor_limit(CONNECTIONS as u64 + SPARE)?;
    let opened = (0..args.count).map(|at| open(at, args).with_context(|| format!("connection {at}")));
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

fn open(at: usize, args: &IdleArgs) -> Result<RawConn> {
    // Each source address has ports of its own; eight of them are enough for any number that descriptors allow.
    let source = Ipv4Addr::new(127, 0, 0, 2 + (at % 8) as u8);
    let mut connection = RawConn::connect_from(source.into(), args.address)?;
    if let Some(database) = &args.database {
        log_in(&mut connection, database)?;
        return Ok(connection);
    }
    connection.send("GET /128B HTTP/1.1\r\nHost: idle.test\r\n\r\n")?;
    let response = connection.read_response("GET")?;
    ensure!(response.status == 200, "status {}", response.status);
    Ok(connection)
}

/// Logs in to a database that asks for no password, and waits until it takes queries.
fn log_in(connection: &mut RawConn, database: &str) -> Result<()> {
    /// `ReadyForQuery`, outside of a transaction.
    const READY_FOR_QUERY: &[u8] = b"Z\0\0\0\x05I";
    let fields = format!("user\0postgres\0database\0{database}\0\0");
    let version = (3_u32 << 16).to_be_bytes();
    let length = u32::try_from(8 + fields.len())?.to_be_bytes();
    connection.send([&length, &version, fields.as_bytes()].concat())?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !connection.unread().ends_with(READY_FOR_QUERY) {
        let came = connection.receive_by(deadline)? && !connection.has_ended();
        ensure!(came, "no login: {:?}", String::from_utf8_lossy(connection.unread()));
    }
    Ok(())
}
