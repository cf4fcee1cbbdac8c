//! The thread that writes the access log, and what it shares with the cores.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::line::LineWriter;
use super::{AccessLogError, AccessLogTotals, Buffer};
use crate::cell::Counter;
use crate::params::{AccessLogFormat, AccessLogParams, AccessLogTarget};

/// A disk that stays full is worth one line a minute, not one per buffer.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What travels to the writer.
#[derive(Debug)]
pub(super) enum Message {
    /// Lines to write.
    Buffer(Buffer),
    /// Look for a new sink.
    Wake,
    /// Write what is there, then end.
    Stop,
}

/// Where lines go; nowhere when the log is off.
#[derive(Debug)]
pub(super) struct Sink {
    file: Option<File>,
    place: Option<Place>,
}

/// Where a file was when it was opened, and which one it is.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What the cores, the writer and the control plane share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The format, as [`code`] packs it, or [`OFF`].
    format: AtomicU8,
    params: Mutex<AccessLogParams>,
    replacement: Mutex<Option<Sink>>,
    dropped_by_core: Mutex<Vec<Arc<Counter>>>,
    dropped_by_writer: Counter,
    written: Counter,
    write_errors: Counter,
    ended: Mutex<bool>,
    end: Condvar,
}

/// No code panics while it holds one of these locks, and what they guard is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    pub(super) fn open(target: &AccessLogTarget) -> Result<Self, AccessLogError> {
        match target {
            AccessLogTarget::Off => Ok(Self { file: None, place: None }),
            AccessLogTarget::Stdout => {
                // A descriptor of its own, because the standard library's would buffer lines once more.
                let stdout = rustix::io::dup(io::stdout())
                    .map_err(|e| AccessLogError::Open { path: "/dev/stdout".into(), source: e.into() })?;
                Ok(Self { file: Some(File::from(stdout)), place: None })
            }
            AccessLogTarget::File(path) => {
                let open = || {
                    let file = open_append(path)?;
                    let found = file.metadata()?;
                    let place = Place { path: path.clone(), device: found.dev(), inode: found.ino() };
                    Ok(Self { file: Some(file), place: Some(place) })
                };
                open().map_err(|source| AccessLogError::Open { path: path.clone(), source })
            }
        }
    }

    /// A new file at the old place, if the one that was opened there has been moved away or deleted.
    fn successor(&self) -> Option<Result<Self, AccessLogError>> {
        let place = self.place.as_ref()?;
        let moved = match std::fs::metadata(&place.path) {
            Ok(found) => (found.dev(), found.ino()) != (place.device, place.inode),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        moved.then(|| Self::open(&AccessLogTarget::File(place.path.clone())))
    }
}

/// Opens without waiting: a named pipe that nobody reads is an error, not a hang. Writes wait as usual.
fn open_append(path: &std::path::Path) -> io::Result<File> {
    let file = File::options()
        .append(true)
        .create(true)
        // Client addresses are in it, so it is not for everyone.
        .mode(0o640)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

const OFF: u8 = u8::MAX;
const FORMATS: [AccessLogFormat; 3] = [AccessLogFormat::Json, AccessLogFormat::Combined, AccessLogFormat::Logfmt];

/// The format's position in [`FORMATS`], which is one word for all cores to look at.
fn code(params: &AccessLogParams) -> u8 {
    match (&params.target, params.format) {
        (AccessLogTarget::Off, _) => OFF,
        (_, AccessLogFormat::Json) => 0,
        (_, AccessLogFormat::Combined) => 1,
        (_, AccessLogFormat::Logfmt) => 2,
    }
}

impl Shared {
    pub(super) fn new(params: AccessLogParams) -> Self {
        Self {
            format: AtomicU8::new(code(&params)),
            params: Mutex::new(params),
            replacement: Mutex::new(None),
            dropped_by_core: Mutex::new(Vec::new()),
            dropped_by_writer: Counter::default(),
            written: Counter::default(),
            write_errors: Counter::default(),
            ended: Mutex::new(false),
            end: Condvar::new(),
        }
    }

    /// How lines are to look; `None` when the log is off.
    pub(super) fn format(&self) -> Option<AccessLogFormat> {
        FORMATS.get(usize::from(self.format.load(Relaxed))).copied()
    }

    pub(super) fn params(&self) -> AccessLogParams {
        lock(&self.params).clone()
    }

    pub(super) fn register_core(&self) -> Arc<Counter> {
        let dropped = Arc::new(Counter::default());
        lock(&self.dropped_by_core).push(Arc::clone(&dropped));
        dropped
    }

    pub(super) fn replace(&self, params: AccessLogParams, sink: Sink) {
        *lock(&self.replacement) = Some(sink);
        self.format.store(code(&params), Relaxed);
        *lock(&self.params) = params;
    }

    pub(super) fn totals(&self) -> AccessLogTotals {
        let by_cores: u64 = lock(&self.dropped_by_core).iter().map(|dropped| dropped.value()).sum();
        AccessLogTotals {
            written: self.written.value(),
            dropped: by_cores + self.dropped_by_writer.value(),
            write_errors: self.write_errors.value(),
        }
    }

    pub(super) fn stop(&self, filled: &SyncSender<Message>, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        // A sender cannot wait with a limit; the channel is only full while the writer is stuck, so a few looks are cheap.
        while let Err(std::sync::mpsc::TrySendError::Full(_)) = filled.try_send(Message::Stop) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let (ended, _) = self
            .end
            .wait_timeout_while(lock(&self.ended), left, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        *ended
    }
}

struct Writer {
    sink: Sink,
    shared: Arc<Shared>,
    /// The rest of a line whose beginning is in the sink; it goes out before anything else, so that no line is broken.
    rest: Vec<u8>,
    /// Whether `rest` belongs to a recorded line, and not to a notice of the writer's own.
    rest_is_line: bool,
    announced: u64,
    last_report: Option<Instant>,
    notices: LineWriter,
}

/// Starts the writer thread.
pub(super) fn spawn(sink: Sink, received: Receiver<Message>, shared: Arc<Shared>) -> io::Result<()> {
    let writer = Writer {
        sink,
        shared,
        rest: Vec::new(),
        rest_is_line: false,
        announced: 0,
        last_report: None,
        notices: LineWriter::default(),
    };
    std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(received)).map(drop)
}

impl Writer {
    fn run(mut self, received: Receiver<Message>) {
        let mut stopping = false;
        loop {
            let message = match received.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => {
                    self.announce();
                    if stopping {
                        break;
                    }
                    match received.recv() {
                        Ok(message) => message,
                        Err(_) => break,
                    }
                }
                Err(TryRecvError::Disconnected) => break,
            };
            self.change_sink();
            match message {
                Message::Buffer(buffer) => self.write(buffer),
                Message::Wake => {}
                Message::Stop => stopping = true,
            }
        }
        self.give_up_rest();
        // First of all the channel, so that a core that still records learns that its lines go nowhere.
        drop(received);
        *lock(&self.shared.ended) = true;
        self.shared.end.notify_all();
    }

    fn change_sink(&mut self) {
        // A file that was asked for is newer than one that would be found at the old place.
        let asked = lock(&self.shared.replacement).take();
        let sink = match asked.map(Ok).or_else(|| self.sink.successor()) {
            None => return,
            Some(Ok(sink)) => sink,
            // The old file takes the lines until there is a place for a new one.
            Some(Err(error)) => return self.failed(&error),
        };
        let _ = self.write_rest();
        self.give_up_rest();
        self.sink = sink;
        // The new sink may well work where the old one did not; its first failure is news.
        self.last_report = None;
    }

    fn write(&mut self, mut buffer: Buffer) {
        self.append(&buffer.bytes, buffer.lines);
        buffer.bytes.clear();
        buffer.lines = 0;
        let home = buffer.home.clone();
        // The core may be gone, and its buffers with it. Otherwise its channel has room for all its buffers.
        let _ = home.try_send(buffer);
    }

    /// Writes lines; counts those that are in the sink as written and the others as dropped.
    fn append(&mut self, bytes: &[u8], lines: u64) {
        if let Err(error) = self.write_rest() {
            self.shared.dropped_by_writer.add(lines);
            self.failed(&error);
            return;
        }
        let (taken, result) = self.push(bytes);
        let complete = bytes[..taken].iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.shared.written.add(complete);
        if let Err(error) = result {
            let torn = self.keep_rest(&bytes[..taken], &bytes[taken..], true);
            self.shared.dropped_by_writer.add(lines - complete - u64::from(torn));
            self.failed(&error);
        }
    }

    /// Says how many lines are missing, if that is new.
    fn announce(&mut self) {
        let dropped = self.shared.totals().dropped;
        if dropped == self.announced || self.sink.file.is_none() || self.write_rest().is_err() {
            return;
        }
        let missing = dropped - self.announced;
        let mut notice = Vec::new();
        let format = self.shared.format().unwrap_or_default();
        self.notices.write_dropped(format, missing, SystemTime::now(), &mut notice);
        let (taken, result) = self.push(&notice);
        if result.is_ok() || self.keep_rest(&notice[..taken], &notice[taken..], false) {
            self.announced = dropped;
            tracing::warn!(lines = missing, "access log: lines were dropped because the log was behind or failed");
        }
    }

    /// Keeps the rest of a line that was cut; returns whether one was.
    fn keep_rest(&mut self, taken: &[u8], left: &[u8], is_line: bool) -> bool {
        let torn = taken.last().is_some_and(|&last| last != b'\n');
        if torn {
            let end = left.iter().position(|&byte| byte == b'\n').map_or(left.len(), |at| at + 1);
            self.rest.extend_from_slice(&left[..end]);
            self.rest_is_line = is_line;
        }
        torn
    }

    fn write_rest(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.rest);
        let (taken, result) = self.push(&rest);
        self.rest.extend_from_slice(&rest[taken..]);
        if result.is_ok() {
            self.shared.written.add(u64::from(self.rest_is_line));
        }
        result
    }

    fn give_up_rest(&mut self) {
        if !self.rest.is_empty() {
            self.rest.clear();
            self.shared.dropped_by_writer.add(u64::from(self.rest_is_line));
        }
    }

    /// Writes as much as the sink takes, and says how much that was.
    fn push(&self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let Some(mut file) = self.sink.file.as_ref() else {
            return (0, Err(io::Error::new(ErrorKind::NotConnected, "the log was switched off")));
        };
        let mut taken = 0;
        while taken < bytes.len() {
            match file.write(&bytes[taken..]) {
                Ok(0) => return (taken, Err(ErrorKind::WriteZero.into())),
                Ok(n) => taken += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Standard output may be shared with someone who made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return (taken, Err(error.into())),
                    }
                }
                Err(error) => return (taken, Err(error)),
            }
        }
        (taken, Ok(()))
    }

    fn failed(&mut self, error: &dyn std::error::Error) {
        if self.sink.file.is_none() {
            return;
        }
        self.shared.write_errors.increment();
        let due = self.last_report.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if due {
            self.last_report = Some(Instant::now());
            let errors = self.shared.write_errors.value();
            let target = self.shared.params().target;
            tracing::error!(file = ?target, %error, errors, "access log: it cannot be written as it should");
        }
    }
}
