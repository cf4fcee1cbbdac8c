use std::time::{Duration, Instant};

use anyhow::Result;

use super::frame::{self, Frame, flag, kind, setting};
use super::heard::Heard;
use crate::RawConn;

/// Window of a stream and of a connection until something else is agreed on.
const WINDOW_BYTES: u64 = 65_535;

/// A client's connection that sends any bytes, and reads frames strictly.
#[derive(Debug)]
pub struct Http2Conn {
    conn: RawConn,
    heard: Heard,
    /// What the server has sent that it may not.
    wrong: Option<String>,
    /// What was sent and is no whole frame.
    outgoing: Vec<u8>,
    /// Octets of bodies sent, in all and on the stream of the last upload.
    sent: (u64, u64),
}

impl Http2Conn {
    /// Over a connection on which nothing was sent.
    pub fn new(conn: RawConn) -> Self {
        Self { conn, heard: Heard::default(), wrong: None, outgoing: Vec::new(), sent: (0, 0) }
    }

    /// Begins with the preface and these settings, and waits until both sides' settings are acknowledged.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn begin(&mut self, settings: &[(u16, u32)], timeout: Duration) -> Result<()> {
        self.send(&[frame::PREFACE, &frame::settings(settings)].concat())?;
        let begun = self.receive_until(timeout, |heard| heard.acks > 0 && heard.frames > 0)?;
        anyhow::ensure!(begun, "no settings and no acknowledgement within {timeout:?}: {:?}", self.heard);
        self.send(&frame::settings_ack())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the server has closed the connection, or reads nothing in time.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        // Settings count from when they are acknowledged, so they have to be known.
        self.outgoing.extend_from_slice(bytes);
        let mut read = 0;
        loop {
            let rest = &self.outgoing[read..];
            if rest.starts_with(frame::PREFACE) {
                read += frame::PREFACE.len();
                continue;
            }
            if !rest.is_empty() && frame::PREFACE.starts_with(rest) {
                break;
            }
            let Some((frame, len)) = Frame::read(rest) else { break };
            if frame.kind == kind::SETTINGS && !frame.has(flag::ACK) {
                self.heard.note_settings(&frame.payload);
            }
            read += len;
        }
        self.outgoing.drain(..read);
        self.conn.send(bytes)
    }

    /// Sends a body as far as the windows allow, and waits where they do not; `end` ends the stream. Each frame has so
    /// many octets at most, and padding as told. The stream's earlier bodies have to be sent by this as well.
    ///
    /// # Errors
    /// When the windows stay closed for longer than the time, or the connection ends.
    pub fn upload(&mut self, stream: u32, body: &[u8], shape: (usize, Option<u8>), end: bool) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let (frame_bytes, padding) = shape;
        let extra = padding.map_or(0, |padding| u64::from(padding) + 1);
        let mut rest = body;
        while !rest.is_empty() {
            let (all, own) = self.sent;
            let room = |heard: &Heard| {
                let opened = |stream| heard.windows.get(&stream).copied().unwrap_or(0);
                let initial = heard.setting(setting::INITIAL_WINDOW_SIZE).map_or(WINDOW_BYTES, u64::from);
                (WINDOW_BYTES + opened(0)).saturating_sub(all).min((initial + opened(stream)).saturating_sub(own))
            };
            let has_room = self.receive_until(PATIENCE, |heard| room(heard) > extra)?;
            anyhow::ensure!(has_room, "the windows stay closed after {} octets", body.len() - rest.len());
            let count = frame_bytes.min(rest.len()).min((room(&self.heard) - extra) as usize);
            let (piece, after) = rest.split_at(count);
            rest = after;
            let ends = end && rest.is_empty();
            self.conn.send(match padding {
                None => frame::data(stream, ends, piece),
                Some(padding) => frame::padded_data(stream, ends, piece, padding),
            })?;
            self.sent = (all + count as u64 + extra, own + count as u64 + extra);
        }
        if end && body.is_empty() {
            self.conn.send(frame::data(stream, true, &[]))?;
        }
        Ok(())
    }

    /// Receives until something was heard, the connection has ended, or the time is up: whether it was heard. What the
    /// server may not send ends it as well.
    ///
    /// # Errors
    /// When the socket fails otherwise than by an end.
    pub fn receive_until(&mut self, time: Duration, done: impl Fn(&Heard) -> bool) -> Result<bool> {
        let deadline = Instant::now() + time;
        loop {
            self.read_frames();
            if done(&self.heard) {
                return Ok(true);
            }
            if self.wrong.is_some() || self.has_ended() || !self.conn.receive_by(deadline)? {
                self.read_frames();
                return Ok(done(&self.heard));
            }
        }
    }

    /// What was heard so far.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// What the server has sent that no server may send.
    pub fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    /// Whether the server has ended the connection.
    pub fn has_ended(&self) -> bool {
        self.conn.has_ended()
    }

    /// Bytes that came and are no whole frame, or no frame at all.
    pub fn unread(&self) -> &[u8] {
        self.conn.unread()
    }

    /// The connection below.
    pub fn below(&mut self) -> &mut RawConn {
        &mut self.conn
    }

    fn read_frames(&mut self) {
        let mut read = 0;
        // An answer of HTTP/1.1 is nothing that is framed; it is left for whoever awaits one.
        let unread = self.conn.unread();
        if self.heard.frames == 0 && unread.starts_with(b"HTTP/") {
            return;
        }
        while self.wrong.is_none()
            && let Some((frame, len)) = Frame::read(&unread[read..])
        {
            self.wrong = self.heard.take(&frame).err();
            read += len;
        }
        self.conn.drop_unread(read);
    }
}
