use std::time::Duration;

use testkit::http2::frame::{self, code, flag, kind};
use testkit::http2::hpack;
use testkit::{Script, Step};

use crate::conformance::http1::row::{Meaning, OK};

/// What a client does on one connection, and what may come of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    /// Where the rule stands: RFC and section.
    pub(super) rule: &'static str,
    /// The client's settings; `None` when the row begins the connection itself.
    pub(super) settings: Option<Vec<(u16, u32)>>,
    pub(super) acts: Vec<Act>,
    /// What the upstream does.
    pub(super) script: Script,
    pub(super) may: May,
    /// What reaches the upstream; `None` for anything well-formed.
    pub(super) reaches: Option<Vec<Meaning>>,
    pub(super) over: Over,
    /// Whether it sends a frame that is longer than servers take by default.
    pub(super) tests_frame_size: bool,
    /// Why Tenfold is known not to pass.
    pub(super) deviates: Option<&'static str>,
}

/// Which connections a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Prior knowledge over bare TCP.
    Bare,
    /// That, and TLS with ALPN.
    Both,
    /// TLS alone, with these protocols offered.
    Tls(&'static [&'static str]),
}

/// A step of the client.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Sends bytes as they are.
    Send(Vec<u8>),
    /// Sends bytes one by one, so that they arrive in pieces.
    Dribble(Vec<u8>),
    /// Sends a body within the windows: stream, octets in all, octets in a frame, padding; then the end of the stream.
    Upload(u32, usize, usize, Option<u8>),
    /// Waits for the final head of the answer on a stream.
    Head(u32),
    /// Waits for the end of a stream.
    End(u32),
    /// Waits until so many of the client's settings are acknowledged.
    Acks(usize),
    /// Waits until exactly so many octets of body have come on a stream, and sees that no more follow.
    Exactly(u32, usize),
    /// Waits.
    Pause(Duration),
}

/// What may come of a row. Whatever is not named here must not happen.
#[derive(Clone, Debug, Default)]
pub(super) struct May {
    /// The connection may end, with one of these codes or by a mere end; never when empty.
    pub(super) end: &'static [u32],
    /// A stream may be reset with one of these codes.
    pub(super) reset: Option<(u32, &'static [u32])>,
    /// A stream may be answered with one of these statuses, as a refusal.
    pub(super) refuse: Option<(u32, &'static [u16])>,
    /// All goes well, with these answers: stream, status, and octets of body.
    pub(super) live: Option<Vec<(u32, u16, Option<usize>)>>,
    /// The connection may end once all is answered.
    pub(super) farewell: bool,
    /// Refused in terms of HTTP/1.1, where the bytes do not begin with a preface.
    pub(super) http1: bool,
}

/// Statuses that say that a request was wrong.
const REFUSALS: &[u16] = &[400, 405, 413, 414, 431, 500, 501, 505];

impl Row {
    pub(super) fn new(class: &'static str, rule: &'static str, name: &'static str) -> Self {
        Self {
            class,
            name,
            rule,
            settings: Some(Vec::new()),
            acts: Vec::new(),
            script: Script::answer(OK),
            may: May::default(),
            reaches: None,
            over: Over::Bare,
            tests_frame_size: false,
            deviates: None,
        }
    }

    /// The client's settings.
    pub(super) fn settings(mut self, settings: &[(u16, u32)]) -> Self {
        self.settings = Some(settings.to_vec());
        self
    }

    /// The row begins the connection itself.
    pub(super) fn unbegun(mut self) -> Self {
        self.settings = None;
        self
    }

    /// It sends a frame that is longer than servers take by default.
    pub(super) fn too_long(mut self) -> Self {
        self.tests_frame_size = true;
        self
    }

    /// Tenfold is known not to pass, for this reason.
    pub(super) fn deviates(mut self, why: &'static str) -> Self {
        self.deviates = Some(why);
        self
    }

    /// For TLS as well.
    pub(super) fn both(mut self) -> Self {
        self.over = Over::Both;
        self
    }

    pub(super) fn over(mut self, over: Over) -> Self {
        self.over = over;
        self
    }

    pub(super) fn act(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }

    /// Waits for the ends of streams 1, 3 and so on.
    pub(super) fn ends_of(self, streams: u32) -> Self {
        (0..streams).fold(self, |row, at| row.act(Act::End(2 * at + 1)))
    }

    pub(super) fn send(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.act(Act::Send(bytes.into()))
    }

    /// Sends frames in one write.
    pub(super) fn frames(self, frames: &[Vec<u8>]) -> Self {
        self.send(frames.concat())
    }

    pub(super) fn script(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script = Script::new(steps);
        self
    }

    /// The upstream takes requests and never answers.
    pub(super) fn silent(self) -> Self {
        self.script([Step::Drain])
    }

    /// The upstream answers with so many octets of body.
    pub(super) fn answers_with(self, octets: usize) -> Self {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {octets}\r\n\r\n{}", "x".repeat(octets));
        self.script([Step::AwaitRequest, Step::Send(answer.into()), Step::Repeat])
    }

    /// The upstream answers with this.
    pub(super) fn answered_by(self, answer: &str) -> Self {
        self.script([Step::AwaitRequest, Step::Send(answer.into()), Step::Repeat])
    }

    /// The connection has to end for one of these reasons.
    pub(super) fn ends(mut self, codes: &'static [u32]) -> Self {
        self.may.end = codes;
        self
    }

    /// The stream has to be reset for one of these reasons, or the connection ended for it.
    pub(super) fn resets(mut self, stream: u32, codes: &'static [u32]) -> Self {
        self.may.reset = Some((stream, codes));
        self.ends(codes)
    }

    /// The request has to be refused: by a reset, a status, or the end of the connection. Nothing reaches the upstream.
    pub(super) fn refused(mut self, stream: u32) -> Self {
        self.may.refuse = Some((stream, REFUSALS));
        self.reaches(&[]).resets(stream, &[code::PROTOCOL_ERROR])
    }

    /// The connection lives on.
    pub(super) fn lives(mut self) -> Self {
        self.may.live.get_or_insert_default();
        self
    }

    /// The stream is answered, and the connection lives on.
    pub(super) fn answered(mut self, stream: u32, status: u16, octets: impl Into<Option<usize>>) -> Self {
        self.may.live.get_or_insert_default().push((stream, status, octets.into()));
        self
    }

    /// Streams 1, 3 and so on are answered with 200 and `ok`.
    pub(super) fn ok(self, streams: u32) -> Self {
        (0..streams).fold(self, |row, at| row.answered(2 * at + 1, 200, 2))
    }

    /// The same, and then the connection may end.
    pub(super) fn ok_to_the_end(mut self, streams: u32) -> Self {
        self.may.farewell = true;
        self.ok(streams)
    }

    /// An answer of HTTP/1.1 will do as a refusal.
    pub(super) fn or_http1(mut self) -> Self {
        self.may.http1 = true;
        self
    }

    /// The request has to be refused, but what it was cut at may have reached the upstream.
    pub(super) fn refused_after(mut self, stream: u32) -> Self {
        self = self.refused(stream);
        self.reaches = None;
        self
    }

    /// The connection lives on, or ends for one of these reasons.
    pub(super) fn lives_or_ends(self, codes: &'static [u32]) -> Self {
        self.lives().ends(codes)
    }

    /// These two requests reach the upstream.
    pub(super) fn reaches_both(self, first: Meaning, second: Meaning) -> Self {
        self.reaches(&[first, second])
    }

    pub(super) fn reaches(mut self, meanings: &[Meaning]) -> Self {
        self.reaches = Some(meanings.to_vec());
        self
    }
}

/// The pseudo fields of a request.
pub(super) fn pseudo(method: &'static str) -> [(&'static str, &'static str); 4] {
    [(":method", method), (":scheme", "http"), (":path", "/x"), (":authority", "a.test")]
}

/// The block of a GET with these fields besides.
pub(super) fn get_block(fields: &[(&str, &str)]) -> Vec<u8> {
    [hpack::literals(&pseudo("GET")), hpack::literals(fields)].concat()
}

/// A GET.
pub(super) fn get(stream: u32) -> Vec<u8> {
    frame::headers(stream, true, &get_block(&[]))
}

/// A GET with these fields besides.
pub(super) fn get_with(fields: &[(&str, &str)]) -> Vec<u8> {
    frame::headers(1, true, &get_block(fields))
}

/// A request of these fields alone, without a body.
pub(super) fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame::headers(1, true, &hpack::literals(fields))
}

/// The head of a POST whose body follows.
pub(super) fn post(stream: u32) -> Vec<u8> {
    post_with(stream, &[])
}

/// The same with these fields besides.
pub(super) fn post_with(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame::headers(stream, false, &[hpack::literals(&pseudo("POST")), hpack::literals(fields)].concat())
}

/// The head of a GET with these octets in place of its block.
pub(super) fn get_of(block: impl AsRef<[u8]>) -> Vec<u8> {
    frame::headers(1, true, block.as_ref())
}

/// HEADERS without the end of the block.
pub(super) fn begun(stream: u32, end: bool, block: &[u8]) -> Vec<u8> {
    frame::frame(kind::HEADERS, if end { flag::END_STREAM } else { 0 }, stream, block)
}

/// What a GET of [`get`] means.
pub(super) fn a_get() -> Meaning {
    Meaning::get()
}
