//! Frames and fields of HTTP/2 through a gateway, each with what may come of it.
//!
//! The rows follow RFC 9113 (and RFC 7540 where it asked for more), RFC 7541 and RFC 8441, section by section. What an error
//! of the connection asks for is met by GOAWAY with one of the codes and the end of the connection, or by the mere end; what
//! an error of a stream asks for, by its reset or any of these. All that the server sends is read strictly, and so is all
//! that reaches the upstream. Where the connection is to live, it has to answer a ping.

mod judge;
mod row;
mod subject;
mod table;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use testkit::http2::{Heard, Http2Conn, frame};
use testkit::{Authority, RawConn, RawUpstream, Script};

use super::subject::{Setting, Subject};
use crate::proof::Verdict;
use judge::Seen;
use row::{Act, Over, Row};
pub(super) use subject::TEXTS;

/// Rows that run side by side; most of a row's time is waiting.
const LANES: usize = 8;
/// Time for whatever is awaited.
const TIMEOUT: Duration = Duration::from_secs(6);
/// Time for what decides about a row: no server takes as long to refuse.
const DECISION: Duration = Duration::from_secs(4);
/// How long surplus octets are waited for.
const QUIET: Duration = Duration::from_millis(60);
/// Between two rows of a lane, twice.
const SETTLE: Duration = Duration::from_millis(15);
/// The ping that asks whether a connection lives.
const ARE_YOU_THERE: [u8; 8] = *b"tenfold?";
/// Name in the certificate.
const HOST: &str = "localhost";

/// Sends every row, or those of one class, through a subject. Failed rows are printed.
///
/// # Errors
/// When the subject or an upstream cannot be started.
pub(super) fn run(subject: &str, binary: Option<&Path>, class: Option<&str>, quick: bool) -> Result<Verdict> {
    let upstreams = (0..LANES).map(|_| RawUpstream::start(Script::ok("ok"))).collect::<Result<Vec<_>>>()?;
    let authority = Authority::new("conformance")?;
    let setting = setting(&upstreams, &authority)?;
    let is_tenfold = subject == "tenfold";
    let mut subject = Subject::start(subject, binary, &TEXTS, &setting)?;
    let rows: Vec<(Row, bool)> = cases(quick).filter(|(row, _)| class.is_none_or(|class| row.class == class)).collect();
    let mut outcomes: Vec<(usize, Result<Passed, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LANES)
            .map(|lane| {
                let rows = rows.iter().enumerate().skip(lane).step_by(LANES);
                let (setting, authority, upstream) = (&setting, authority.file(), &upstreams[lane]);
                scope.spawn(move || {
                    let run = |(at, (row, tls)): (usize, &(Row, bool))| {
                        let port = if *tls { setting.tls[lane].0 } else { setting.bare[lane].0 };
                        let address = SocketAddr::from(([127, 0, 0, 1], port));
                        (at, outcome(row, tls.then_some(authority.as_path()), address, upstream))
                    };
                    rows.map(run).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a lane panicked")).collect()
    });
    outcomes.sort_by_key(|(at, _)| *at);
    let mut verdict = Verdict::default();
    for (at, outcome) in outcomes {
        let (row, tls) = &rows[at];
        let name = format!("{} ({}{})", row.name, row.rule, if *tls { ", TLS" } else { "" });
        match (outcome, row.deviates.filter(|_| is_tenfold)) {
            (Ok(Passed::NotApplicable), _) => verdict.not_applicable += 1,
            // The list of what is known has to stay true.
            (Ok(_), Some(why)) => verdict.check(row.class, &name, &Err(format!("passes, which was not known: {why}"))),
            (Err(_), Some(why)) => {
                println!("known deviation, {}: {name}: {why}", row.class);
                *verdict.notes.entry("known deviations".to_owned()).or_default() += 1;
            }
            (Ok(Passed::As { other_code, whole_connection }), None) => {
                let mut note =
                    |text: &str, holds| *verdict.notes.entry(text.to_owned()).or_default() += u64::from(holds);
                note("ended with another code", other_code);
                note("ended for a stream", whole_connection);
                verdict.check(row.class, &name, &Ok(()));
            }
            (Err(problem), None) => verdict.check(row.class, &name, &Err(problem)),
        }
    }
    verdict.check("process", "still runs", &subject.still_runs());
    Ok(verdict)
}

/// Listeners with and without TLS in front of the upstreams.
pub(super) fn setting(upstreams: &[RawUpstream], authority: &Authority) -> Result<Setting> {
    let issued = authority.issue("server", &[HOST])?;
    let both = issued.certificate.with_extension("both");
    std::fs::write(&both, [std::fs::read(&issued.certificate)?, std::fs::read(&issued.key)?].concat())?;
    let certificate = [issued.certificate, issued.key, both].map(|path| path.display().to_string());
    Ok(Setting { bare: super::pairs(upstreams), tls: super::pairs(upstreams), certificate })
}

/// The rows, each without and with TLS as it says. The short form leaves out what is only repeated under TLS.
fn cases(quick: bool) -> impl Iterator<Item = (Row, bool)> {
    table::rows().into_iter().flat_map(move |row| {
        let over: &[bool] = match row.over {
            Over::Bare => &[false],
            Over::Both if quick => &[false],
            Over::Both => &[false, true],
            Over::Tls(_) => &[true],
        };
        over.iter().map(move |&tls| (row.clone(), tls)).collect::<Vec<_>>()
    })
}

/// How a row passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    As {
        /// The connection ended with a code that is not the rule's.
        other_code: bool,
        /// The connection ended where the reset of a stream would have done.
        whole_connection: bool,
    },
    /// The server takes longer frames than the row supposes.
    NotApplicable,
}

fn outcome(row: &Row, tls: Option<&Path>, address: SocketAddr, upstream: &RawUpstream) -> Result<Passed, String> {
    upstream.set_script(row.script.clone());
    let result = played(row, tls, address, upstream);
    // The client is gone by now. What it has left behind gets a moment to arrive, and is forgotten; so are connections
    // that the subject keeps for later, whose end it gets a moment to see.
    std::thread::sleep(SETTLE);
    upstream.clear();
    std::thread::sleep(SETTLE);
    result
}

fn played(row: &Row, tls: Option<&Path>, address: SocketAddr, upstream: &RawUpstream) -> Result<Passed, String> {
    let failed = |error: anyhow::Error| format!("{error:#}");
    let mut conn = connect(row, tls, address).map(Http2Conn::new).map_err(failed)?;
    let acted = act(row, &mut conn);
    let lives = conclude(row, &mut conn).map_err(failed)?;
    let (heard, ended) = (conn.heard(), conn.has_ended());
    let upstream = upstream.received();
    let seen = Seen { heard, wrong: conn.wrong(), ended, lives, unread: conn.unread(), upstream };
    let reached: Vec<String> = seen.upstream.iter().map(|bytes| bytes.escape_ascii().to_string()).collect();
    let told = |problem: String| {
        format!(
            "{problem} [{}, {}; upstream: {reached:?}]",
            shown(heard, ended),
            if lives { "alive" } else { "silent" }
        )
    };
    if row.tests_frame_size && heard.setting(frame::setting::MAX_FRAME_SIZE).is_some_and(|size| size > 1 << 14) {
        return Ok(Passed::NotApplicable);
    }
    // What stopped the row in the middle says more than what did not come after.
    let stopped = acted.as_ref().err().map_or_else(String::new, |error| format!(", stopped: {error:#}"));
    let exact = judge::judge(row, &seen).map_err(|problem| told(problem + &stopped))?;
    // Whoever ends a connection may do so before the row has come to its end.
    acted.or_else(|error| if ended { Ok(()) } else { Err(told(format!("{error:#}"))) })?;
    Ok(Passed::As { other_code: !exact, whole_connection: ended && row.may.reset.is_some() })
}

fn connect(row: &Row, tls: Option<&Path>, address: SocketAddr) -> Result<RawConn> {
    let Some(authority) = tls else { return RawConn::connect(address) };
    let protocols = if let Over::Tls(protocols) = row.over { protocols } else { &["h2"] };
    let conn = RawConn::connect_tls(address, authority, HOST, protocols)?;
    if protocols.contains(&"h2") && conn.alpn() != Some(b"h2") {
        bail!("agreed on {:?}", conn.alpn());
    }
    Ok(conn)
}

/// Does what the row says, until the server has ended the connection.
fn act(row: &Row, conn: &mut Http2Conn) -> Result<()> {
    if let Some(settings) = &row.settings {
        conn.begin(settings, TIMEOUT)?;
    }
    for act in &row.acts {
        let came = match act {
            Act::Send(bytes) => conn.send(bytes).map(|()| true)?,
            Act::Dribble(bytes) => {
                for byte in bytes {
                    conn.send(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                true
            }
            Act::Upload(stream, octets, frame, padding) => {
                conn.upload(*stream, &vec![b'u'; *octets], (*frame, *padding), true).map(|()| true)?
            }
            Act::Head(stream) => conn.receive_until(TIMEOUT, |heard| heard.answer(*stream).is_some())?,
            Act::End(stream) => conn.receive_until(TIMEOUT, |heard| heard.ended.contains(stream))?,
            Act::Acks(count) => conn.receive_until(TIMEOUT, |heard| heard.acks >= *count)?,
            Act::Exactly(stream, octets) => {
                conn.receive_until(TIMEOUT, |heard| heard.data_len(*stream) >= *octets)?;
                conn.receive_until(QUIET, |_| false)?;
                let len = conn.heard().data_len(*stream);
                if len != *octets {
                    bail!("{len} octets came, expected {octets}");
                }
                true
            }
            Act::Pause(time) => {
                conn.receive_until(*time, |_| false)?;
                true
            }
        };
        if !came {
            bail!("nothing came after {act:?}");
        }
    }
    Ok(())
}

/// Waits for what decides about the row, and sees whether the connection lives.
fn conclude(row: &Row, conn: &mut Http2Conn) -> Result<bool> {
    let answers = row.may.live.as_ref().map_or(1, Vec::len);
    if answers > 0 {
        conn.receive_until(DECISION, |heard| judge::is_decided(&row.may, heard))?;
    }
    if row.may.live.is_some() || judge::error_of(conn.heard()).is_none() {
        // One that is about to end does not take it.
        let _ = conn.send(&frame::ping(ARE_YOU_THERE));
    }
    let lives = |heard: &Heard| heard.pongs.contains(&ARE_YOU_THERE);
    let lives = conn.receive_until(TIMEOUT, |heard| lives(heard) || judge::error_of(heard).is_some())?;
    if judge::error_of(conn.heard()).is_some() {
        conn.receive_until(TIMEOUT, |_| false)?;
        return Ok(false);
    }
    Ok(lives)
}

fn shown(heard: &Heard, ended: bool) -> String {
    let statuses: Vec<_> = heard.heads.iter().map(|(id, heads)| (id, heads.last().map(|head| head.status))).collect();
    let end = if ended { "ended" } else { "open" };
    format!("answers {statuses:?}, resets {:?}, GOAWAY {:?}, {end}", heard.resets, heard.goaways)
}
