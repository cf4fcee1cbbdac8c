use std::time::Duration;

use testkit::{Script, Step};

/// One exchange, and what may come of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    /// What the client sends.
    pub(super) sends: Vec<Piece>,
    /// What the upstream does.
    pub(super) script: Script,
    pub(super) expect: Expect,
}

/// A part of what the client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    Pause(Duration),
    /// The client sends nothing more, but receives.
    Finish,
}

/// What may come of a row. Whatever it is, bytes that reach the upstream have to be well-formed.
#[derive(Clone, Debug)]
pub(super) enum Expect {
    /// Answered with one of the statuses and closed; no whole request reaches the upstream.
    Refused(&'static [u16]),
    /// The connection ends, with an answer of 400 or 408 or without; no whole request reaches the upstream.
    Dropped,
    /// These requests reach the upstream, in this order and no other, and each is answered 200.
    Forwarded(Vec<Meaning>),
    /// `Refused` or `Forwarded`.
    Either(&'static [u16], Vec<Meaning>),
    /// The first request is forwarded and answered 200, then the connection ends: after one of these statuses, or
    /// without a word when there are none.
    Then(Meaning, &'static [u16]),
    /// The answers that the client gets, one for each request that it sent.
    Answered(Vec<Answer>),
    /// The first request is answered with this status; further ones are answered 200 or not at all, when the
    /// connection ends. The upstream gets no other requests than of these targets.
    Isolated { status: u16, targets: &'static [&'static str] },
    /// The answer breaks off so that the client sees it, or is 502.
    Broken,
}

/// What a request that reaches the upstream has to mean.
#[derive(Clone, Debug)]
pub(in crate::conformance) struct Meaning {
    pub(in crate::conformance) method: &'static str,
    pub(in crate::conformance) target: &'static str,
    pub(in crate::conformance) host: Option<&'static str>,
    pub(in crate::conformance) body: Vec<u8>,
    /// Fields and trailer fields that must not be there.
    pub(in crate::conformance) lacks: &'static [&'static str],
    /// Fields that must be there once with this value; an empty value stands for any.
    pub(in crate::conformance) has: &'static [(&'static str, &'static str)],
    /// Texts that no field's value may hold.
    pub(in crate::conformance) lacks_text: &'static [&'static str],
}

/// What an answer has to be.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Method of the request that it answers.
    pub(super) method: &'static str,
    pub(super) statuses: &'static [u16],
    /// `None` for any.
    pub(super) body: Option<&'static str>,
    /// Fields that must not be there.
    pub(super) lacks: &'static [&'static str],
}

/// A well-formed request's answer by the upstream where a row does not say otherwise.
pub(in crate::conformance) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl Row {
    fn new(class: &'static str, name: &'static str, expect: Expect) -> Self {
        Self { class, name, sends: Vec::new(), script: Script::answer(OK), expect }
    }

    /// A request that has to be refused.
    pub(super) fn refused(class: &'static str, name: &'static str, statuses: &'static [u16]) -> Self {
        Self::new(class, name, Expect::Refused(statuses))
    }

    /// A request that never ends.
    pub(super) fn dropped(class: &'static str, name: &'static str) -> Self {
        Self::new(class, name, Expect::Dropped)
    }

    /// A request that has to be forwarded.
    pub(super) fn forwarded(class: &'static str, name: &'static str, meaning: Meaning) -> Self {
        Self::new(class, name, Expect::Forwarded(vec![meaning]))
    }

    /// Requests that all have to be forwarded.
    pub(super) fn all_forwarded(class: &'static str, name: &'static str, meanings: Vec<Meaning>) -> Self {
        Self::new(class, name, Expect::Forwarded(meanings))
    }

    /// A request that may be refused, and otherwise has to be forwarded with one meaning.
    pub(super) fn either(class: &'static str, name: &'static str, statuses: &'static [u16], meaning: Meaning) -> Self {
        Self::new(class, name, Expect::Either(statuses, vec![meaning]))
    }

    /// A request that is forwarded, after which the connection ends.
    pub(super) fn then(class: &'static str, name: &'static str, first: Meaning, statuses: &'static [u16]) -> Self {
        Self::new(class, name, Expect::Then(first, statuses))
    }

    /// A GET whose answer by the upstream is what matters.
    pub(super) fn answer(class: &'static str, name: &'static str, answer: Answer, response: impl AsRef<[u8]>) -> Self {
        let request = format!("{} /x HTTP/1.1\r\nHost: a.test\r\n\r\n", answer.method);
        let mut row = Self::new(class, name, Expect::Answered(vec![answer])).send(request);
        row.script = Script::answer_once(response.as_ref());
        row
    }

    /// A GET whose answer by the upstream breaks off.
    pub(super) fn broken(class: &'static str, name: &'static str, response: impl AsRef<[u8]>) -> Self {
        let mut row = Self::new(class, name, Expect::Broken).send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
        row.script = Script::answer_once(response.as_ref());
        row
    }

    /// A request whose connection must not poison the next one.
    pub(super) fn isolated(
        class: &'static str,
        name: &'static str,
        status: u16,
        targets: &'static [&'static str],
    ) -> Self {
        Self::new(class, name, Expect::Isolated { status, targets })
    }

    /// Answers expected by a row that brings its own requests and script.
    pub(super) fn answers(class: &'static str, name: &'static str, answers: Vec<Answer>) -> Self {
        Self::new(class, name, Expect::Answered(answers))
    }

    /// Adds bytes that the client sends.
    pub(super) fn send(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.sends.push(Piece::Bytes(bytes.as_ref().to_vec()));
        self
    }

    /// Adds a pause.
    pub(super) fn pause(mut self, millis: u64) -> Self {
        self.sends.push(Piece::Pause(Duration::from_millis(millis)));
        self
    }

    /// Adds the end of what the client sends.
    pub(super) fn finish(mut self) -> Self {
        self.sends.push(Piece::Finish);
        self
    }

    /// Replaces what the upstream does.
    pub(super) fn script(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script = Script::new(steps);
        self
    }
}

impl Meaning {
    /// A request without body to `a.test`.
    pub(in crate::conformance) fn of(method: &'static str, target: &'static str) -> Self {
        let host = Some("a.test");
        Self { method, target, host, body: Vec::new(), lacks: &[], has: &[], lacks_text: &[] }
    }

    pub(in crate::conformance) fn get() -> Self {
        Self::of("GET", "/x")
    }

    pub(in crate::conformance) fn post(body: impl AsRef<[u8]>) -> Self {
        Self::of("POST", "/x").body(body)
    }

    pub(in crate::conformance) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub(in crate::conformance) fn host(mut self, host: Option<&'static str>) -> Self {
        self.host = host;
        self
    }

    pub(in crate::conformance) fn lacks(mut self, names: &'static [&'static str]) -> Self {
        self.lacks = names;
        self
    }

    pub(in crate::conformance) fn has(mut self, fields: &'static [(&'static str, &'static str)]) -> Self {
        self.has = fields;
        self
    }

    pub(in crate::conformance) fn lacks_text(mut self, texts: &'static [&'static str]) -> Self {
        self.lacks_text = texts;
        self
    }
}

impl Answer {
    pub(super) fn of(method: &'static str, statuses: &'static [u16], body: Option<&'static str>) -> Self {
        Self { method, statuses, body, lacks: &[] }
    }

    /// To a GET.
    pub(super) fn get(status: &'static [u16], body: &'static str) -> Self {
        Self::of("GET", status, Some(body))
    }

    /// The gateway's own answer to a GET when the upstream's was no HTTP.
    pub(super) fn bad_gateway() -> Self {
        Self::of("GET", &[502], None)
    }

    pub(super) fn lacks(mut self, names: &'static [&'static str]) -> Self {
        self.lacks = names;
        self
    }
}

/// `POST /x` with these field lines, each ended by CRLF, and what follows the head.
pub(super) fn post(fields: &str, after: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{after}")
}

/// `GET /x` with these field lines, each ended by CRLF.
pub(super) fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

/// A request that must never be seen by the upstream in rows that do not name it.
pub(super) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
