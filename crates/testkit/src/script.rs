use std::time::Duration;

/// One thing that a [`RawUpstream`](crate::RawUpstream) does on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Receives until a request's head has ended (CRLF CRLF).
    AwaitHead,
    /// Receives until a whole request is there. Bytes that the strict reader refuses are taken as one request, so that
    /// the script goes on and the record shows them.
    AwaitRequest,
    /// Receives until this many bytes have come on the connection since the last request was awaited.
    AwaitBytes(usize),
    /// Sends bytes as they are.
    Send(Vec<u8>),
    /// Sends bytes when the target of the request awaited last is this one, and does nothing otherwise.
    SendFor(String, Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Says that nothing more will be sent, and goes on.
    Finish,
    /// Receives until the peer ends the connection.
    Drain,
    /// Closes the connection. The end of a script closes it as well.
    Close,
    /// Resets the connection.
    Reset,
    /// Begins again with the first step.
    Repeat,
}

/// What a [`RawUpstream`](crate::RawUpstream) does on each connection, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
}

impl Script {
    /// A script of these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// Answers every request with the same bytes and keeps the connection.
    pub fn answer(response: impl Into<Vec<u8>>) -> Self {
        Self::new([Step::AwaitRequest, Step::Send(response.into()), Step::Repeat])
    }

    /// Answers one request and closes the connection.
    pub fn answer_once(response: impl Into<Vec<u8>>) -> Self {
        Self::new([Step::AwaitRequest, Step::Send(response.into()), Step::Close])
    }

    /// Answers every request with `200` and this body.
    pub fn ok(body: &str) -> Self {
        Self::answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
