use testkit::Step;

/// The upstream's answer to a handshake. Over HTTP/2 the key is the gateway's own, and nobody looks at the answer to it.
pub(super) const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Octets from which on a row is left out of the short form.
const LONG: usize = 2 << 20;

/// What both sides do once the handshake is done.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) name: String,
    /// What the client sends at once behind its handshake.
    pub(super) with_request: Vec<u8>,
    /// What the upstream sends at once behind its answer.
    pub(super) with_answer: Vec<u8>,
    pub(super) acts: Vec<Act>,
    /// What the upstream does behind its answer.
    pub(super) steps: Vec<Step>,
    /// Whether the connection is cut, so that octets under way may be lost.
    pub(super) is_cut: bool,
}

/// A step of the client.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(Vec<u8>),
    /// Sends octet by octet.
    Dribble(Vec<u8>),
    /// Waits until so many octets have come in all.
    Receive(usize),
    /// Sends nothing more, but receives.
    Finish,
    /// Ends abruptly, which has to reach the upstream.
    Reset,
    /// Waits until the other side has ended.
    AwaitEnd,
    /// Waits until the upstream has got all and the end.
    AwaitArrival,
}

impl Row {
    pub(super) fn new(class: &'static str, name: impl Into<String>) -> Self {
        let none = Vec::new;
        Self {
            class,
            name: name.into(),
            with_request: none(),
            with_answer: none(),
            acts: Vec::new(),
            steps: Vec::new(),
            is_cut: false,
        }
    }

    /// The client sends `up`; the upstream awaits it and sends `down`, which the client awaits.
    pub(super) fn exchange(mut self, up: &[u8], down: &[u8]) -> Self {
        if !up.is_empty() {
            self.acts.push(Act::Send(up.to_vec()));
            self.steps.push(Step::AwaitBytes(up.len()));
        }
        if !down.is_empty() {
            self.steps.push(Step::Send(down.to_vec()));
            self.acts.push(Act::Receive(self.down().len()));
        }
        self
    }

    pub(super) fn acts(mut self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.acts.extend(acts);
        self
    }

    pub(super) fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// Octets under way may be lost.
    pub(super) fn cut(mut self) -> Self {
        self.is_cut = true;
        self
    }

    /// Then the upstream waits for the end.
    pub(super) fn stays(self) -> Self {
        self.steps([Step::Drain])
    }

    /// All that the client sends.
    pub(super) fn up(&self) -> Vec<u8> {
        let sent = self.acts.iter().filter_map(|act| match act {
            Act::Send(bytes) | Act::Dribble(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        std::iter::once(self.with_request.as_slice()).chain(sent).collect::<Vec<_>>().concat()
    }

    /// All that the upstream sends behind the handshake.
    pub(super) fn down(&self) -> Vec<u8> {
        let sent = self
            .steps
            .iter()
            .filter_map(|step| if let Step::Send(bytes) = step { Some(bytes.as_slice()) } else { None });
        std::iter::once(self.with_answer.as_slice()).chain(sent).collect::<Vec<_>>().concat()
    }

    pub(super) fn is_long(&self) -> bool {
        self.up().len().max(self.down().len()) > LONG
    }
}
