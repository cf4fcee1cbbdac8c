//! Octets of WebSockets through a gateway: those of RFC 6455 and those that it forbids, in both directions.
//!
//! A gateway that has passed the handshake is a pipe. So a row says which octets each side sends and how the connection
//! ends, and passes when both sides have got exactly what the other sent. Each row goes over an upgrade of HTTP/1.1 and over
//! an extended CONNECT of HTTP/2 (RFC 8441), bare and under TLS; the upstream is always one of HTTP/1.1.

mod ends;
mod frames;
mod row;
mod tunnel;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::{Authority, RawUpstream, Script, Step};

use super::http2::{TEXTS, setting};
use super::subject::Subject;
use crate::proof::Verdict;
use row::{Act, Row};
use tunnel::{Over, Tunnel};

/// Rows that run side by side.
const LANES: usize = 4;
/// Time for whatever is awaited.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long surplus octets are waited for.
const QUIET: Duration = Duration::from_millis(30);
/// Between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Sends every row, or those of one class, through a subject. Failed rows are printed. The short form leaves out what is
/// long.
///
/// # Errors
/// When the subject or an upstream cannot be started.
pub(super) fn run(subject: &str, binary: Option<&Path>, class: Option<&str>, quick: bool) -> Result<Verdict> {
    let upstreams = (0..LANES).map(|_| RawUpstream::start(Script::ok("ok"))).collect::<Result<Vec<_>>>()?;
    let authority = Authority::new("conformance")?;
    let setting = setting(&upstreams, &authority)?;
    let overs = match subject {
        // It speaks one version per socket without TLS, and no WebSocket over HTTP/2 at all.
        "nginx" => &[Over::Tls1][..],
        // Over HTTP/2 it makes a key of its own and checks the answer to it, which scripts do not know.
        "haproxy" => &[Over::Bare1, Over::Tls1],
        _ => &Over::ALL,
    };
    let mut subject = Subject::start(subject, binary, &TEXTS, &setting)?;
    let rows: Vec<Row> = frames::rows()
        .into_iter()
        .chain(ends::rows())
        .filter(|row| class.is_none_or(|class| row.class == class) && !(quick && row.is_long()))
        .collect();
    let cases: Vec<(&Row, Over)> = rows.iter().flat_map(|row| overs.iter().map(move |&over| (row, over))).collect();
    let mut outcomes: Vec<(usize, Result<(), String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LANES)
            .map(|lane| {
                let cases = cases.iter().enumerate().skip(lane).step_by(LANES);
                let (setting, file, upstream) = (&setting, authority.file(), &upstreams[lane]);
                scope.spawn(move || {
                    let run = |(at, &(row, over)): (usize, &(&Row, Over))| {
                        let pairs = if over.is_tls() { &setting.tls } else { &setting.bare };
                        let address = SocketAddr::from(([127, 0, 0, 1], pairs[lane].0));
                        (at, outcome(row, over, address, &file, upstream).map_err(|error| format!("{error:#}")))
                    };
                    cases.map(run).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a lane panicked")).collect()
    });
    outcomes.sort_by_key(|(at, _)| *at);
    let mut verdict =
        Verdict { not_applicable: (rows.len() * (Over::ALL.len() - overs.len())) as u64, ..Verdict::default() };
    for (at, outcome) in outcomes {
        let (row, over) = cases[at];
        verdict.check(row.class, &format!("{} (over {})", row.name, over.told()), &outcome);
    }
    verdict.check("process", "still runs", &subject.still_runs());
    Ok(verdict)
}

fn outcome(row: &Row, over: Over, address: SocketAddr, authority: &Path, upstream: &RawUpstream) -> Result<()> {
    let switch = [row::SWITCH.as_bytes(), &row.with_answer].concat();
    let steps = [Step::AwaitHead, Step::Send(switch)].into_iter().chain(row.steps.iter().cloned());
    upstream.set_script(Script::new(steps));
    let result = exchange(row, over, address, authority, upstream);
    upstream.clear();
    std::thread::sleep(LOOK_AGAIN);
    result
}

fn exchange(row: &Row, over: Over, address: SocketAddr, authority: &Path, upstream: &RawUpstream) -> Result<()> {
    let mut tunnel = Tunnel::open(over, address, authority, &row.with_request).context("handshake")?;
    for act in &row.acts {
        match act {
            Act::Send(bytes) => tunnel.send(bytes)?,
            Act::Dribble(bytes) => {
                for byte in bytes {
                    tunnel.send(&[*byte])?;
                }
            }
            Act::Receive(count) => {
                ensure!(tunnel.receive(*count, TIMEOUT)?, "{} octets came, expected {count}", tunnel.received().len());
            }
            Act::Finish => tunnel.finish()?,
            Act::Reset => {
                // What was received is looked at first, since nothing can be received behind a reset.
                compare("the client", tunnel.received(), &row.down(), row.is_cut)?;
                tunnel.reset()?;
                return await_upstream(row, upstream);
            }
            Act::AwaitEnd => ensure!(tunnel.ends_within(TIMEOUT)?, "the client is not told of the end"),
            Act::AwaitArrival => await_upstream(row, upstream)?,
        }
    }
    tunnel.ends_within(QUIET)?;
    compare("the client", tunnel.received(), &row.down(), row.is_cut)?;
    let deadline = Instant::now() + TIMEOUT;
    while arrived(upstream).len() < row.up().len() && Instant::now() < deadline && !row.is_cut {
        std::thread::sleep(LOOK_AGAIN);
    }
    compare("the upstream", &arrived(upstream), &row.up(), row.is_cut)
}

/// Waits until the upstream has got everything and then the end of its connection.
fn await_upstream(row: &Row, upstream: &RawUpstream) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !upstream.all_ended() && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
    ensure!(upstream.all_ended(), "the upstream is not told of the end");
    compare("the upstream", &arrived(upstream), &row.up(), row.is_cut)
}

/// What arrived behind the handshake.
fn arrived(upstream: &RawUpstream) -> Vec<u8> {
    let received = upstream.received();
    let bytes = received.into_iter().find(|bytes| !bytes.is_empty()).unwrap_or_default();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    end.map_or_else(Vec::new, |end| bytes[end + 4..].to_vec())
}

/// Whether the octets are those that were sent; where the connection was cut, a beginning of them is enough.
fn compare(who: &str, found: &[u8], expected: &[u8], is_cut: bool) -> Result<()> {
    let fits = if is_cut { expected.starts_with(found) } else { found == expected };
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    ensure!(fits, "{who} got {} octets of {}, the first that differs at {differs:?}", found.len(), expected.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_rows_and_each_has_its_own_name() {
        let rows: Vec<Row> = frames::rows().into_iter().chain(ends::rows()).collect();
        assert!(rows.len() >= 60, "{} rows", rows.len());
        let mut names: Vec<_> = rows.iter().map(|row| (row.class, row.name.clone())).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    #[test]
    fn what_is_not_the_same_is_told() {
        assert!(compare("x", b"abc", b"abc", false).is_ok());
        assert!(compare("x", b"ab", b"abc", false).is_err());
        assert!(compare("x", b"ab", b"abc", true).is_ok());
        assert!(compare("x", b"ax", b"abc", true).is_err());
    }
}
