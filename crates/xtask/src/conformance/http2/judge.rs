use testkit::http2::Heard;
use testkit::http2::frame::code;
use testkit::message;

use super::row::{May, Row};
use crate::conformance::http1::judge::same;

/// What came of a row.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) heard: &'a Heard,
    /// What the server has sent that no server may send.
    pub(super) wrong: Option<&'a str>,
    /// Whether the connection has ended.
    pub(super) ended: bool,
    /// Whether a ping at the end was answered.
    pub(super) lives: bool,
    /// Bytes that are no frames.
    pub(super) unread: &'a [u8],
    /// What arrived at the upstream, by connection.
    pub(super) upstream: Vec<Vec<u8>>,
}

/// Whether nothing more is to come that decides about the row.
pub(super) fn is_decided(may: &May, heard: &Heard) -> bool {
    let is_reset = may.reset.is_some_and(|(stream, _)| heard.resets.contains_key(&stream));
    let is_refused = may.refuse.is_some_and(|(stream, _)| heard.ended.contains(&stream));
    let answers = may.answers();
    let is_answered = !answers.is_empty() && answers.iter().all(|(stream, ..)| heard.ended.contains(stream));
    error_of(heard).is_some() || is_reset || is_refused || is_answered
}

/// The code with which the server ends the connection, if that is an error.
pub(super) fn error_of(heard: &Heard) -> Option<u32> {
    heard.goaways.iter().map(|(_, code)| *code).find(|&code| code != code::NO_ERROR)
}

/// Judges what was seen.
///
/// Whether the connection ended with the code that the rule names. Another code tells the client less, but protects as
/// well; it passes and is counted, as long as the rule leaves no choice but to end.
///
/// # Errors
/// Why it is not what the row allows.
pub(super) fn judge(row: &Row, seen: &Seen<'_>) -> Result<bool, String> {
    if let Some(wrong) = seen.wrong {
        return Err(format!("the server sent {wrong}"));
    }
    let mut requests = Vec::new();
    for bytes in &seen.upstream {
        let (whole, _) = message::requests(bytes)
            .map_err(|error| format!("to the upstream: {error}: {:?}", String::from_utf8_lossy(bytes)))?;
        requests.extend(whole);
    }
    // Rows that send a request within a body name it so.
    let smuggled = requests.iter().find(|request| request.target == "/smuggled");
    ensure(smuggled.is_none(), || "a request was smuggled".into())?;
    outcome(&row.may, seen)?;
    let exact = error_of(seen.heard).is_none_or(|code| row.may.end.contains(&code));
    // Who may end the connection does not have to serve what else came on it.
    if !(seen.ended && row.may.live.is_some()) || row.may.farewell {
        row.reaches.as_ref().map_or(Ok(()), |meanings| same(&requests, meanings))?;
    }
    Ok(exact)
}

fn outcome(may: &May, seen: &Seen<'_>) -> Result<(), String> {
    let heard = seen.heard;
    if may.http1 && seen.unread.starts_with(b"HTTP/1.1 4") {
        return ensure(seen.ended, || "refused in HTTP/1.1, but the connection stays open".into());
    }
    if let Some(code) = error_of(heard) {
        let is_forced = !may.end.is_empty() && may.live.is_none();
        ensure(is_forced || may.end.contains(&code), || format!("GOAWAY with code {code}, {}", may.told()))?;
        return ensure(seen.ended, || format!("GOAWAY with code {code}, but the connection stays open"));
    }
    if seen.ended && may.farewell {
        return answered(may, heard, None);
    }
    if seen.ended {
        return ensure(!may.end.is_empty(), || format!("the connection ended, {}", may.told()));
    }
    ensure(seen.lives, || "neither answers nor ends".into())?;
    // A stream whose answer was complete may be reset for the rest of its request (RFC 9113 section 8.1).
    let is_error = |(stream, code): &(&u32, &u32)| **code != code::NO_ERROR || !heard.ended.contains(stream);
    if let Some((&stream, &code)) = heard.resets.iter().find(is_error) {
        let allowed = may.reset.is_some_and(|(wanted, codes)| wanted == stream && codes.contains(&code));
        ensure(allowed, || format!("stream {stream} reset with code {code}, {}", may.told()))?;
        return answered(may, heard, Some(stream));
    }
    if let Some((stream, statuses)) = may.refuse
        && let Some(head) = heard.answer(stream)
        && statuses.contains(&head.status)
    {
        ensure(heard.ended.contains(&stream), || format!("{} without an end", head.status))?;
        return answered(may, heard, Some(stream));
    }
    ensure(may.live.is_some(), || format!("nothing came of it, {}", may.told()))?;
    // Where one stream is to be refused, it is not enough that others are served.
    let is_missing =
        may.reset.is_some_and(|(stream, _)| !may.answers().iter().any(|(answered, ..)| *answered == stream));
    ensure(!is_missing || may.answers().is_empty(), || format!("nothing came of it, {}", may.told()))?;
    answered(may, heard, None)
}

/// Whether the streams but one have their answers.
fn answered(may: &May, heard: &Heard, but: Option<u32>) -> Result<(), String> {
    may.answers().iter().filter(|(stream, ..)| Some(*stream) != but).try_for_each(|(stream, status, octets)| {
        let found = heard.answer(*stream).map(|head| head.status);
        ensure(found == Some(*status), || format!("stream {stream} was answered {found:?}, expected {status}"))?;
        ensure(heard.ended.contains(stream), || format!("stream {stream} does not end"))?;
        let len = heard.data_len(*stream);
        ensure(octets.is_none_or(|octets| octets == len), || format!("stream {stream} brought {len} octets"))
    })
}

impl May {
    fn answers(&self) -> &[(u32, u16, Option<usize>)] {
        self.live.as_deref().unwrap_or_default()
    }

    fn told(&self) -> String {
        let mut all = Vec::new();
        if !self.end.is_empty() {
            all.push(format!("an end with one of {:?}", self.end));
        }
        if let Some((stream, codes)) = self.reset {
            all.push(format!("a reset of stream {stream} with one of {codes:?}"));
        }
        if let Some((stream, _)) = self.refuse {
            all.push(format!("a refusal of stream {stream}"));
        }
        if let Some(answers) = &self.live {
            all.push(format!("a connection that lives, with {} answers", answers.len()));
        }
        format!("expected {}", all.join(" or "))
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
