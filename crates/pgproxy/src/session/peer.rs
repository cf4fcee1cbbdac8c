//! The client's side of a session, and bytes that wait to be written.

use net::{Buffer, Buffers};
use pgroute::wire::Splitter;

use crate::socket::Socket;

/// Memory that is kept for the next bytes at most.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// What is read from a client, and how far it has been looked at.
pub(super) struct Peer {
    pub(super) socket: Socket,
    pub(super) splitter: Splitter,
    pub(super) input: Option<Buffer>,
    /// Bytes at its beginning that go to the server as they are.
    pub(super) pass: usize,
    /// Bytes that the next message needs; none while nothing is to be read.
    pub(super) wants: usize,
    /// The rest of a message goes nowhere.
    pub(super) drops: bool,
}

impl Peer {
    /// Of a client that has said this already.
    pub(super) fn new(socket: Socket, buffers: &Buffers, said: &[u8]) -> Self {
        let mut input = None;
        if !said.is_empty() {
            let buffer: &mut Buffer = input.insert(buffers.take());
            buffer.extend(said);
        }
        Self { socket, splitter: Splitter::default(), input, pass: 0, wants: 0, drops: false }
    }

    /// Whether nothing of a message has come that is not there whole.
    pub(super) fn is_between(&self) -> bool {
        self.splitter.is_between_messages() && self.unread() == 0
    }

    /// Bytes that were not looked at.
    pub(super) fn unread(&self) -> usize {
        self.input.as_ref().map_or(0, |input| input.filled().len() - self.pass)
    }
}

/// Bytes that wait to be written.
#[derive(Default)]
pub(super) struct Out {
    bytes: Vec<u8>,
    sent: usize,
}

impl Out {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is written is appended here.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.sent = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
    }
}
