//! The access log: one line per request, which never makes a request wait.
//!
//! Each core formats its lines into a buffer of its own. Full buffers travel through a bounded channel to one writer
//! thread and come back empty, so that nothing is allocated per line. When every buffer of a core is under way, the disk
//! or the pipe is slower than the traffic: lines are then dropped and counted, and once the log has caught up it says in
//! a line of its own how many are missing. Lines written plus lines dropped are the lines recorded, always.
//!
//! The writer looks before each buffer whether its file is still where it was opened, so that whoever rotates logs need
//! only move it away.

mod clock;
mod entry;
mod escape;
mod line;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

pub use entry::AccessEntry;

use crate::cell::Counter;
use crate::params::AccessLogParams;
use entry::LINE_BYTES_MAX;
use line::LineWriter;
use writer::{Message, Shared, Sink};

/// Size of a buffer. 40 KiB hold about a hundred lines, so that a hand-over is rare; a line always fits.
const BUFFER_BYTES: usize = 40 * 1024;

/// Buffers of a core. Eight bridge a pause of the disk of some 800 requests per core before lines are lost.
const BUFFERS_PER_CORE: usize = 8;

const _: () = assert!(LINE_BYTES_MAX <= BUFFER_BYTES);

/// The access log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file could not be opened for appending.
    #[error("access log {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The writer thread could not be started.
    #[error("access log: the writer thread did not start: {0}")]
    Thread(std::io::Error),
}

/// The access log of a process: where it goes, its writer thread, and what it counted. Clones are handles of the same log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    filled: SyncSender<Message>,
}

/// One core's end of the access log.
#[derive(Debug)]
pub struct CoreAccessLog {
    shared: Arc<Shared>,
    dropped: Arc<Counter>,
    filled: SyncSender<Message>,
    emptied: Receiver<Buffer>,
    home: SyncSender<Buffer>,
    current: Option<Buffer>,
    buffers: usize,
    lines: LineWriter,
}

/// Lines on their way to the writer, and the way back.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
    home: SyncSender<Buffer>,
}

/// What the access log has done so far, in lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLogTotals {
    /// Lines that the system took.
    pub written: u64,
    /// Lines that were not written.
    pub dropped: u64,
    /// Writes that failed.
    pub write_errors: u64,
}

impl AccessLog {
    /// Opens the file and starts the writer thread, for `cores` writers.
    ///
    /// # Errors
    /// [`AccessLogError`] when the file or the thread cannot be had.
    pub fn start(params: &AccessLogParams, cores: usize) -> Result<Self, AccessLogError> {
        let sink = Sink::open(&params.target)?;
        // There are never more filled buffers than there are buffers, so handing one over never finds the channel full.
        // The two more are for a wake-up and the stop.
        let (filled, received) = sync_channel(cores.max(1) * BUFFERS_PER_CORE + 2);
        let shared = Arc::new(Shared::new(params.clone()));
        writer::spawn(sink, received, Arc::clone(&shared)).map_err(AccessLogError::Thread)?;
        Ok(Self { shared, filled })
    }

    /// The end for one more core. Call it once per core.
    pub fn for_core(&self) -> CoreAccessLog {
        let (home, emptied) = sync_channel(BUFFERS_PER_CORE);
        CoreAccessLog {
            dropped: self.shared.register_core(),
            shared: Arc::clone(&self.shared),
            filled: self.filled.clone(),
            emptied,
            home,
            current: None,
            buffers: 0,
            lines: LineWriter::default(),
        }
    }

    /// Whether lines are wanted at all.
    pub fn is_on(&self) -> bool {
        self.shared.format().is_some()
    }

    /// Opens the same file again, after someone has moved it away.
    ///
    /// # Errors
    /// [`AccessLogError::Open`]; the log then goes on as before.
    pub fn reopen(&self) -> Result<(), AccessLogError> {
        self.change(&self.shared.params())
    }

    /// Sends the lines elsewhere, or in another format, from now on; lines under way may still reach the old place.
    ///
    /// # Errors
    /// [`AccessLogError::Open`]; the log then goes on as before.
    pub fn change(&self, params: &AccessLogParams) -> Result<(), AccessLogError> {
        let sink = Sink::open(&params.target)?;
        self.shared.replace(params.clone(), sink);
        // A full channel means that the writer is at work and will find the new sink before its next buffer.
        let _ = self.filled.try_send(Message::Wake);
        Ok(())
    }

    /// What the log has done so far.
    pub fn totals(&self) -> AccessLogTotals {
        self.shared.totals()
    }

    /// Stops the writer once everything handed over is written, or after `within`. Let the cores' ends be flushed or
    /// dropped before. Returns whether everything was written in time.
    pub fn shutdown(&self, within: Duration) -> bool {
        self.shared.stop(&self.filled, within)
    }
}

impl CoreAccessLog {
    /// Whether lines are wanted at all.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.shared.format().is_some()
    }

    /// Appends a line. Never waits; drops the line and counts it when the writer is behind.
    pub fn record(&mut self, entry: &AccessEntry<'_>) {
        let Some(format) = self.shared.format() else { return };
        let room = entry.bytes_max();
        if self.current.as_ref().is_some_and(|buffer| buffer.bytes.len() + room > BUFFER_BYTES) {
            self.flush();
        }
        if self.current.is_none() {
            self.current = self.free_buffer();
        }
        match &mut self.current {
            Some(buffer) => {
                self.lines.write(format, entry, &mut buffer.bytes);
                buffer.lines += 1;
            }
            None => self.dropped.increment(),
        }
    }

    /// Hands what was recorded to the writer. Call it on a timer, so that quiet hours are logged too.
    pub fn flush(&mut self) {
        let Some(buffer) = self.current.take() else { return };
        if let Err(unsent) = self.filled.try_send(Message::Buffer(buffer)) {
            // Only a log that was shut down refuses a buffer.
            self.dropped.add(unsent_lines(unsent));
            self.buffers -= 1;
        }
    }

    fn free_buffer(&mut self) -> Option<Buffer> {
        if let Ok(buffer) = self.emptied.try_recv() {
            return Some(buffer);
        }
        if self.buffers == BUFFERS_PER_CORE {
            return None;
        }
        self.buffers += 1;
        Some(Buffer { bytes: Vec::with_capacity(BUFFER_BYTES), lines: 0, home: self.home.clone() })
    }
}

impl Drop for CoreAccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn unsent_lines(unsent: std::sync::mpsc::TrySendError<Message>) -> u64 {
    use std::sync::mpsc::TrySendError::{Disconnected, Full};
    match unsent {
        Full(Message::Buffer(buffer)) | Disconnected(Message::Buffer(buffer)) => buffer.lines,
        Full(_) | Disconnected(_) => 0,
    }
}
