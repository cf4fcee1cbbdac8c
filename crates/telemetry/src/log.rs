//! The program's own log: text for people or JSON for programs, to standard error.
//!
//! Whoever logs must not wait for whoever reads standard error: a full pipe or a slow disk behind it would stop the data
//! path. So each event is formatted where it happens and handed to a writer thread through a bounded channel; when that
//! is full the event is dropped and counted, and the writer says so as soon as it gets through again.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::family;
use crate::params::{LogFormat, LogLevel, LogParams};

/// Events that may wait for the writer: at a few hundred bytes each, less than a megabyte.
const EVENTS_MAX: usize = 2048;

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process has a log already.
    #[error("log: it was set up before in this process")]
    Twice,
    /// The writer thread could not be started.
    #[error("log: the writer thread did not start: {0}")]
    Thread(io::Error),
}

/// What the running program does with its log. Clones are handles of the same log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    level: reload::Handle<LevelFilter, Registry>,
    lines: Lines,
}

/// Sets up the log of this process. Colours are used on a terminal only, and not when `NO_COLOR` is set.
///
/// # Errors
/// [`LogError`] when it was set up before, or when there is no thread for it.
pub fn init_logs(params: &LogParams) -> Result<LogHandle, LogError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colors = !no_color && io::stderr().is_terminal();
    let (subscriber, handle) = build(params, colors, io::stderr())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(handle)
}

fn build(
    params: &LogParams,
    colors: bool,
    out: impl Write + Send + 'static,
) -> Result<(impl tracing::Subscriber + Send + Sync + 'static, LogHandle), LogError> {
    let lines = Lines::start(params.format, out).map_err(LogError::Thread)?;
    let (level, handle) = reload::Layer::new(filter(params.level));
    let format = tracing_subscriber::fmt::layer().with_writer(lines.clone()).with_ansi(colors);
    let format = match params.format {
        LogFormat::Text => format.with_target(false).boxed(),
        LogFormat::Json => format.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(level).with(format);
    Ok((subscriber, LogHandle { level: handle, lines }))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

impl LogHandle {
    /// Changes the level at run time. The format stays as it was at the start.
    pub fn set_level(&self, level: LogLevel) {
        // The handle only fails once the subscriber is gone, and a process keeps its subscriber.
        let _ = self.level.reload(filter(level));
    }

    /// Events that were not written because standard error was behind.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped.load(Relaxed)
    }

    /// Waits until everything logged so far is written, or for `within`. Returns whether it was written. Call it before
    /// the process ends.
    pub fn flush(&self, within: Duration) -> bool {
        let (done, written) = sync_channel(1);
        self.lines.queue.try_send(Message::Flush(done)).is_ok() && written.recv_timeout(within).is_ok()
    }
}

impl Collector for LogHandle {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        family::LOG_DROPPED.start(&mut encoder)?.encode_counter::<NoLabelSet, _, u64>(&self.dropped(), None)
    }
}

/// The way of formatted events to the writer thread.
#[derive(Clone, Debug)]
struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    fn start(format: LogFormat, mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, received) = sync_channel(EVENTS_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&received, &seen, format, &mut out))?;
        Ok(Self { queue, dropped })
    }
}

fn write_all(received: &Receiver<Message>, dropped: &AtomicU64, format: LogFormat, out: &mut impl Write) {
    let mut announced = 0;
    loop {
        // Nobody is left to tell when standard error is gone, and the program must go on without it.
        let message = match received.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let total = dropped.load(Relaxed);
                if total != announced {
                    let _ = out.write_all(missing_notice(total - announced, format).as_bytes());
                    announced = total;
                }
                match received.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
        };
        match message {
            Message::Line(line) => drop(out.write_all(&line)),
            Message::Flush(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
    }
}

fn missing_notice(lines: u64, format: LogFormat) -> String {
    match format {
        LogFormat::Text => format!(" WARN log: lines were dropped because standard error was behind lines={lines}\n"),
        LogFormat::Json => format!(
            "{{\"level\":\"WARN\",\"message\":\"log: lines were dropped because standard error was behind\",\"lines\":{lines}}}\n"
        ),
    }
}

/// Collects one event; the fmt layer makes one per event and writes the whole text to it.
struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        match self.lines.queue.try_send(Message::Line(std::mem::take(&mut self.text))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lines.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, text: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};
    use std::time::Instant;

    const SOON: Duration = Duration::from_secs(10);

    /// A sink that keeps what it gets, once its gate is open.
    #[derive(Clone, Default)]
    struct Gated {
        open: Arc<(Mutex<bool>, Condvar)>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Gated {
        fn open(&self) {
            *self.open.0.lock().expect("no panic") = true;
            self.open.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.text.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let closed = self.open.0.lock().expect("no panic");
            drop(self.open.1.wait_while(closed, |open| !*open).expect("no panic"));
            self.text.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_are_json_with_their_fields_and_the_level_can_change() {
        let out = Gated::default();
        out.open();
        let params = LogParams { format: LogFormat::Json, ..LogParams::default() };
        let (subscriber, handle) = build(&params, false, out.clone()).expect("a log");
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("too fine");
            tracing::info!(service = "api", "one");
            handle.set_level(LogLevel::Debug);
            tracing::debug!("two");
            handle.set_level(LogLevel::Error);
            tracing::warn!("too fine again");
        });
        assert!(handle.flush(SOON));
        let text = out.text();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((&lines[0]["message"], &lines[0]["service"]), (&"one".into(), &"api".into()));
        assert_eq!((&lines[1]["message"], &lines[1]["level"]), (&"two".into(), &"DEBUG".into()));
    }

    #[test]
    fn text_has_no_colours_unless_asked() {
        for colors in [false, true] {
            let out = Gated::default();
            out.open();
            let (subscriber, handle) = build(&LogParams::default(), colors, out.clone()).expect("a log");
            tracing::subscriber::with_default(subscriber, || tracing::info!("hello"));
            assert!(handle.flush(SOON));
            assert!(out.text().contains("hello"));
            assert_eq!(out.text().contains('\u{1b}'), colors, "{:?}", out.text());
        }
    }

    #[test]
    fn a_reader_that_does_not_read_stops_nobody() {
        let out = Gated::default();
        let (subscriber, handle) = build(&LogParams::default(), false, out.clone()).expect("a log");
        let events = EVENTS_MAX as u64 + 500;
        let before = Instant::now();
        tracing::subscriber::with_default(subscriber, || (0..events).for_each(|n| tracing::info!(n, "event")));
        assert!(before.elapsed() < SOON);
        // The writer holds one event at most beside those in the channel.
        let dropped = handle.dropped();
        assert!((499..=500).contains(&dropped), "{dropped}");
        out.open();
        let deadline = Instant::now() + SOON;
        while !handle.flush(Duration::from_millis(100)) {
            assert!(Instant::now() < deadline, "the writer does not catch up");
        }
        assert_eq!(out.text().lines().filter(|line| line.contains("event")).count() as u64, events - dropped);
        let notice = format!("lines={dropped}\n");
        while !out.text().ends_with(&notice) {
            assert!(Instant::now() < deadline, "the log does not say what it dropped");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
