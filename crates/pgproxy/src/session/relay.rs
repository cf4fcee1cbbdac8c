//! Bytes between a client and its backend.
//!
//! What may pass as it is stays in the buffer that it was read into and is written from there; only what is put in between is copied. Each
//! side is read only as long as the other one takes: memory does not grow with what passes.

use std::io;
use std::task::{Context, Poll, Waker};

use net::Buffer;
use pgroute::wire::frontend::tag;

use super::{Cut, Session, Turn, peek};
use crate::backend::{ended, went_away};

/// Bytes put in between that are not written, beyond which nothing more is looked at.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Reads of the server's, one after the other, before the client is listened to. Mostly it says nothing before it has its answer.
const AHEAD_MAX: usize = 8;

/// What is read at once at most.
const READ_BYTES_MAX: usize = 256 * 1024;

impl Session {
    /// Moves what can be moved; ready when something else has to be done.
    pub(super) fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Result<Turn, Cut>> {
        let mut ahead = 0;
        // Mostly something has come: what is asked for, or a question while nothing else is to be looked at.
        if self.is_asked() || self.client.unread() == 0 && self.client.wants > 0 {
            self.read(cx, &mut ahead)?;
        }
        loop {
            match self.requests() {
                Ok(None) => {}
                Ok(Some(turn)) => {
                    // It may take long, and what is there for the client does not depend on it.
                    self.flush_client(cx)?;
                    return Poll::Ready(Ok(turn));
                }
                Err(cut) => return Poll::Ready(Err(cut)),
            }
            let mut written = self.flush_server(cx)?;
            let mut moved = self.answers()?;
            written |= self.flush_client(cx)?;
            if self.is_done() {
                return Poll::Ready(Ok(Turn::Idle));
            }
            moved |= written && self.is_held_up();
            moved |= self.read(cx, &mut ahead)?;
            if !moved {
                self.rest();
                return if self.is_quiet() { Poll::Ready(Ok(Turn::Idle)) } else { Poll::Pending };
            }
        }
    }

    /// Reads what has come. `ahead` counts reads of the server's, one after the other.
    fn read(&mut self, cx: &mut Context<'_>, ahead: &mut usize) -> Result<bool, Cut> {
        let has_read = self.read_server(cx)?;
        if has_read && *ahead < AHEAD_MAX {
            *ahead += 1;
            return Ok(true);
        }
        *ahead = 0;
        let is_heard = self.client.wants > 0 && !self.is_client_gone;
        Ok(has_read | (is_heard && self.read_client(cx)?))
    }

    /// Reads what a client says that was waited for; whether it is a question, which needs a backend. [`Session::requests`] would say so as well, after
    /// all that is looked at before and behind it.
    pub(super) fn hears_question(&mut self) -> Result<bool, Cut> {
        let may_be =
            self.client.wants > 0 && !self.skips && self.fails.is_none() && self.ear.is_none() && self.is_quiet();
        // Who has sent nothing after all is waited for elsewhere.
        let mut cx = Context::from_waker(Waker::noop());
        if !may_be || !self.take_from_client(&mut cx)? {
            return Ok(false);
        }
        let Some(input) = &self.client.input else { return Ok(false) };
        // Whoever sends it slowly has no backend meanwhile.
        let is_whole = peek::message(input.filled()).is_some();
        Ok(is_whole && matches!(input.filled().first(), Some(&(tag::QUERY | tag::PARSE | tag::BIND))))
    }

    /// Whether the server was asked something, and has what it needs to be read.
    fn is_asked(&self) -> bool {
        self.server_wants > 0 && self.backend.as_ref().is_some_and(|backend| !backend.ledger.is_empty())
    }

    /// Whether there may be something to look at that had to wait until something else was written.
    fn is_held_up(&self) -> bool {
        let has_answers = || self.server_input.as_ref().is_some_and(|input| input.filled().len() > self.server_pass);
        self.client.wants == 0 || self.server_wants == 0 || self.client.unread() > 0 || has_answers()
    }

    /// Whether the backend can go back.
    fn is_done(&self) -> bool {
        let Some(backend) = &self.backend else { return false };
        if self.has_rest() {
            return false;
        }
        if self.is_client_gone {
            return backend.ledger.is_empty()
                && backend.splitter.is_between_messages()
                && self.to_server.is_empty()
                && self.client.pass == 0;
        }
        // What the client has sent whole was looked at before: the rest waits for more of it.
        // Without its `Sync` a group is a transaction of its own, whatever has been answered of it.
        backend.is_clean()
            && !backend.socket.has_unsent()
            && !self.is_group_open
            && self.to_server.is_empty()
            && self.client.pass == 0
            && self.client.splitter.is_between_messages()
            && (self.keeps().is_none() || self.is_reset)
            && (self.client.wants > 0 || self.gives_way || self.stalls())
    }

    /// Whether the beginning of a message from the server was read, which is nobody else's. The rest has to be read first.
    pub(super) fn has_rest(&self) -> bool {
        self.server_input.as_ref().is_some_and(|input| input.filled().len() > self.server_pass)
    }

    /// Whether there is no backend, and nothing to do before the client's next message.
    pub(super) fn is_quiet(&self) -> bool {
        self.backend.is_none()
            && self.client.is_between()
            && self.to_client.is_empty()
            && self.server_pass == 0
            && !self.client.socket.has_unsent()
    }

    /// Whether somebody waits for the backend, so that it is given back between groups of messages.
    pub(super) fn yields(&self) -> bool {
        !self.local.pool.is_calm()
    }

    /// Gives buffers back that have nothing in them.
    fn rest(&mut self) {
        if self.client.input.as_ref().is_some_and(Buffer::is_empty) {
            self.client.input = None;
        }
        if self.server_input.as_ref().is_some_and(Buffer::is_empty) {
            self.server_input = None;
        }
    }

    /// Whether enough waits for the server.
    pub(super) fn is_server_full(&self) -> bool {
        self.to_server.len() >= OUT_BYTES_MAX
    }

    /// Whether enough waits for the client.
    pub(super) fn is_client_full(&self) -> bool {
        self.to_client.len() >= OUT_BYTES_MAX
    }

    fn flush_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        let is_due = !self.to_server.is_empty() || self.client.pass > 0;
        if !is_due && !self.backend.as_ref().is_some_and(|backend| backend.socket.has_unsent()) {
            return Ok(false);
        }
        if let Some(failure) = self.fenced() {
            return Err(self.lost(failure));
        }
        let Some(backend) = &mut self.backend else { return Ok(false) };
        let mut moved = false;
        loop {
            let passing = self.client.input.as_ref().map_or(&[][..], |input| &input.filled()[..self.client.pass]);
            let put = self.to_server.len();
            if put == 0 && passing.is_empty() {
                break;
            }
            match backend.socket.poll_write_soon(cx, [self.to_server.rest(), passing]) {
                Poll::Ready(Ok(count)) => {
                    moved |= count > 0;
                    self.to_server.advance(count.min(put));
                    let passed = count.saturating_sub(put);
                    self.client.pass -= passed;
                    if let Some(input) = &mut self.client.input {
                        input.consume(passed);
                    }
                    if count == 0 {
                        break;
                    }
                }
                // What it still has to say is read first.
                Poll::Ready(Err(error)) if is_broken(&error) => {
                    self.is_doubtful = true;
                    self.to_server.clear();
                    let passed = std::mem::take(&mut self.client.pass);
                    self.client.input.iter_mut().for_each(|input| input.consume(passed));
                    return Ok(true);
                }
                Poll::Ready(Err(error)) => return Err(self.lost(went_away(&error))),
                Poll::Pending => break,
            }
        }
        match backend.socket.poll_flush(cx) {
            // As above. It may be told again and again, and what is read then ends it.
            Poll::Ready(Err(error)) if is_broken(&error) => {
                self.is_doubtful = true;
                Ok(moved)
            }
            Poll::Ready(Err(error)) => Err(self.lost(went_away(&error))),
            _ => Ok(moved),
        }
    }

    fn flush_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        let is_due = !self.to_client.is_empty() || self.server_pass > 0;
        // Who waits to be listened to is woken by what is asked below.
        if !is_due && self.ear.is_none() && !self.client.socket.has_unsent() {
            return Ok(false);
        }
        let mut moved = false;
        // What counts as sent waits for nothing that follows it.
        if !self.is_client_gone && self.client.socket.has_unsent() {
            match self.client.socket.poll_flush(cx) {
                // The client takes something: its time begins anew.
                Poll::Ready(Ok(())) if self.armed == super::Armed::Stall => self.armed = super::Armed::Nothing,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Cut::Gone),
                Poll::Pending => return Ok(false),
            }
        }
        if self.holds() && !self.is_client_gone {
            return Ok(false);
        }
        if !self.is_client_gone && self.poll_listening(cx)?.is_pending() {
            return Ok(false);
        }
        loop {
            let passing = self.server_input.as_ref().map_or(&[][..], |input| &input.filled()[..self.server_pass]);
            let put = self.to_client.len();
            if put == 0 && passing.is_empty() {
                break;
            }
            let written = if self.is_client_gone {
                Poll::Ready(Ok(put + passing.len()))
            } else {
                self.client.socket.poll_write_soon(cx, [self.to_client.rest(), passing])
            };
            match written {
                Poll::Ready(Ok(count)) => {
                    moved |= count > 0;
                    self.to_client.advance(count.min(put));
                    let passed = count.saturating_sub(put);
                    self.server_pass -= passed;
                    if let Some(input) = &mut self.server_input {
                        input.consume(passed);
                    }
                    if count == 0 {
                        break;
                    }
                }
                Poll::Ready(Err(_)) => return Err(Cut::Gone),
                Poll::Pending => break,
            }
        }
        if moved && self.armed == super::Armed::Stall {
            // The client takes something: its time begins anew.
            self.armed = super::Armed::Nothing;
        }
        match self.client.socket.poll_flush(cx) {
            Poll::Ready(Err(_)) if !self.is_client_gone => Err(Cut::Gone),
            _ => Ok(moved),
        }
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        let client = &mut self.client;
        // What passes has to go first.
        if client.pass > 0 && client.input.as_ref().is_some_and(|input| input.room() == 0) {
            return Ok(false);
        }
        // Who has said nothing needs no buffer.
        if client.socket.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        self.take_from_client(cx)
    }

    /// The same of one that is known to have said something.
    fn take_from_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        let client = &mut self.client;
        let input = client.input.get_or_insert_with(|| self.held.core.client_buffers.take());
        input.make_room(room_for(input, client.pass, client.wants));
        match client.socket.poll_read_into(cx, input) {
            Poll::Ready(Ok(0)) => Err(Cut::Gone),
            Poll::Ready(Ok(_)) => {
                if self.armed == super::Armed::Stall {
                    self.armed = super::Armed::Nothing;
                }
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Cut::Gone),
            Poll::Pending => Ok(false),
        }
    }

    fn read_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        let Some(backend) = &mut self.backend else { return Ok(false) };
        // What it was read for has to go first.
        if self.server_wants == 0 {
            return Ok(self.holds_no_more());
        }
        if backend.socket.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        let input = self.server_input.get_or_insert_with(|| self.held.core.server_buffers.take());
        if input.room() == 0 && self.server_pass > 0 {
            return Ok(self.holds_no_more());
        }
        input.make_room(room_for(input, self.server_pass, self.server_wants));
        match backend.socket.poll_read_into(cx, input) {
            Poll::Ready(Ok(0)) => Err(self.lost(ended())),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(self.lost(went_away(&error))),
            Poll::Pending => Ok(false),
        }
    }

    /// No more can be held back: what is goes to the client, and cannot be asked elsewhere any more. Whether anything was.
    fn holds_no_more(&mut self) -> bool {
        if !self.holds() || self.is_client_gone {
            return false;
        }
        if self.place.again.is_refused {
            // All of it is for nobody.
            self.to_client.clear();
            let passing = std::mem::take(&mut self.server_pass);
            self.server_input.iter_mut().for_each(|input| input.consume(passing));
        } else {
            self.place.again.forget();
        }
        true
    }
}

/// How many bytes a buffer has to hold for what is wanted behind what passes. Room grows as it fills, so that a length alone takes no memory.
fn room_for(input: &Buffer, pass: usize, wants: usize) -> usize {
    let filled = input.filled().len();
    (pass + wants).min(2 * filled + 1).max(filled + 1)
}

impl crate::socket::Socket {
    /// Reads what has come into the room of a buffer: how many bytes, 0 at the end.
    pub(super) fn poll_read_into(&mut self, cx: &mut Context<'_>, input: &mut Buffer) -> Poll<io::Result<usize>> {
        let read = input.fill_with(READ_BYTES_MAX, |room| match self.poll_read(cx, room) {
            Poll::Ready(Ok(count)) => Ok(count),
            Poll::Ready(Err(error)) => Err(Some(error)),
            Poll::Pending => Err(None),
        });
        match read {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(Some(error)) => Poll::Ready(Err(error)),
            Err(None) => Poll::Pending,
        }
    }
}

fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
