//! Raw requests and responses through a gateway, each with what may come of it.
//!
//! A client sends the bytes of a row; an upstream records what arrives and answers by the row's script; a strict
//! reader, written apart from the gateway's codec, reads both sides. A row passes when the gateway refused what is
//! ambiguous, or when what it passed on has exactly one reading and that is the right one.

pub(super) mod judge;
pub(super) mod row;
mod subject;
mod table;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::message::{self, Read};
use testkit::{RawConn, RawUpstream, Script};

use super::subject::{Setting, Subject};
use crate::proof::Verdict;
use judge::Observed;
use row::{Expect, Piece, Row};
use subject::TEXTS;

/// Rows that run side by side; most of a row's time is waiting.
const LANES: usize = 8;
/// Time for the answers of a row: above every timeout of the subject's but one that would be a failure.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long surplus bytes and requests are waited for once all answers are there.
const QUIET: Duration = Duration::from_millis(80);
/// Between two rows of a lane.
const SETTLE: Duration = Duration::from_millis(20);

/// Sends every row, or those of one class, through a subject: `tenfold`, of which the program is given, `nginx` or
/// `haproxy`. Failed rows are printed.
///
/// # Errors
/// When the subject or an upstream cannot be started.
pub(super) fn run(subject: &str, binary: Option<&Path>, class: Option<&str>, _quick: bool) -> Result<Verdict> {
    let upstreams = (0..LANES).map(|_| RawUpstream::start(Script::ok("ok"))).collect::<Result<Vec<_>>>()?;
    let setting = Setting { bare: super::pairs(&upstreams), ..Setting::default() };
    let mut subject = Subject::start(subject, binary, &TEXTS, &setting)?;
    let rows: Vec<Row> = table::rows().into_iter().filter(|row| class.is_none_or(|class| row.class == class)).collect();
    let lanes = setting.bare.iter().zip(&upstreams).enumerate();
    let mut outcomes: Vec<(usize, Result<(), String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .map(|(lane, (&(port, _), upstream))| {
                let rows = rows.iter().enumerate().skip(lane).step_by(LANES);
                scope.spawn(move || {
                    rows.map(|(at, row)| (at, outcome(row, SocketAddr::from(([127, 0, 0, 1], port)), upstream)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a lane panicked")).collect()
    });
    outcomes.sort_by_key(|(at, _)| *at);
    let mut verdict = Verdict::default();
    for (at, outcome) in outcomes {
        verdict.check(rows[at].class, rows[at].name, &outcome);
    }
    verdict.check("process", "still runs", &subject.still_runs());
    Ok(verdict)
}

fn outcome(row: &Row, listener: SocketAddr, upstream: &RawUpstream) -> Result<(), String> {
    upstream.set_script(row.script.clone());
    let seen = exchange(row, listener, upstream).map_err(|error| format!("{error:#}"));
    // Connections that the subject keeps for later are closed, and it gets a moment to see that, so that the next row
    // begins on a connection of its own.
    upstream.clear();
    std::thread::sleep(SETTLE);
    let seen = seen?;
    judge::judge(row, &seen).map_err(|problem| {
        let text = String::from_utf8_lossy(&seen.received[..seen.received.len().min(400)]).into_owned();
        format!("{problem} [received {text:?}, {}]", if seen.ended { "ended" } else { "open" })
    })
}

fn exchange(row: &Row, listener: SocketAddr, upstream: &RawUpstream) -> Result<Observed> {
    let mut conn = RawConn::connect(listener)?;
    for piece in &row.sends {
        match piece {
            Piece::Pause(time) => {
                // Receiving meanwhile keeps what was sent before a reset.
                conn.ends_within(*time)?;
            }
            Piece::Finish => {
                let _ = conn.finish();
            }
            // A gateway may refuse before everything was sent, and then sending fails; what it answered is read below.
            Piece::Bytes(bytes) => {
                let _ = conn.send(bytes);
            }
        }
    }
    let methods = judge::methods(row);
    let begun = Instant::now();
    let mut ended = false;
    while !ended && begun.elapsed() < ANSWER_TIMEOUT && answers(conn.unread(), &methods) < methods.len() {
        ended = conn.ends_within(Duration::from_millis(5))?;
        if refuses(row, conn.unread()) {
            break;
        }
    }
    let may_end = !matches!(row.expect, Expect::Forwarded(_) | Expect::Answered(_) | Expect::Isolated { .. });
    let rest = if may_end && !is_forwarded(row, conn.unread()) { ANSWER_TIMEOUT } else { QUIET };
    ended = conn.ends_within(rest)?;
    Ok(Observed { received: conn.unread().to_vec(), ended, upstream: upstream.received() })
}

/// How many whole answers the bytes hold.
fn answers(bytes: &[u8], methods: &[&str]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    for method in methods {
        let Ok(Read::Whole(_, len)) = message::response(rest, method, false) else { break };
        rest = &rest[len..];
        count += 1;
    }
    count
}

/// Whether the first answer is a refusal, after which no other comes.
fn refuses(row: &Row, bytes: &[u8]) -> bool {
    let Expect::Either(statuses, _) = &row.expect else { return false };
    matches!(message::response(bytes, "GET", false), Ok(Read::Whole(response, _)) if statuses.contains(&response.status))
}

/// Whether a row that may be refused was not.
fn is_forwarded(row: &Row, bytes: &[u8]) -> bool {
    let Expect::Either(statuses, _) = &row.expect else { return false };
    matches!(message::response(bytes, "GET", false), Ok(Read::Whole(response, _)) if !statuses.contains(&response.status))
}
