//! One line that is rewritten on a terminal; a line every few seconds where it is not one.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::tally::Tally;

#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    start: Instant,
    task: JoinHandle<()>,
}

impl Progress {
    /// Shows how the traffic of this length goes, until it is finished or dropped.
    pub(super) fn start(tally: Rc<RefCell<Tally>>, length: Duration) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let start = Instant::now();
        let period = if terminal { Duration::from_millis(200) } else { Duration::from_secs(5) };
        let task = tokio::task::spawn_local(async move {
            let mut ticks = interval_at(start + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let (mut answers_before, mut before) = (0, start);
            loop {
                ticks.tick().await;
                let (answers, failed) = {
                    let tally = tally.borrow();
                    (tally.answers(), tally.failed())
                };
                let rate = (answers - answers_before) as f64 / before.elapsed().as_secs_f64();
                (answers_before, before) = (answers, Instant::now());
                show(terminal, &line(start.elapsed(), length, rate, answers, failed));
            }
        });
        Self { terminal, start, task }
    }

    /// Prints what happened, on a line that stays.
    pub(super) fn event(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        say(&format!("{clear}{:>5.1} s  {text}\n", self.start.elapsed().as_secs_f64()));
    }

    /// Ends it, and leaves no half line behind.
    pub(super) fn finish(self) {
        if self.terminal {
            say("\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn show(terminal: bool, line: &str) {
    say(&if terminal { format!("\r\x1b[2K{line}") } else { format!("{line}\n") });
}

/// Prints without minding that nobody may listen.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn line(elapsed: Duration, length: Duration, rate: f64, answers: u64, failed: u64) -> String {
    let (elapsed, length) = (elapsed.as_secs_f64(), length.as_secs());
    format!("{elapsed:>5.1} s of {length} s   {rate:>5.0} requests/s   {answers:>6} answered   {failed} failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_keeps_its_width() {
        let short = line(Duration::from_millis(200), Duration::from_secs(30), 9.6, 2, 0);
        assert_eq!(short, "  0.2 s of 30 s      10 requests/s        2 answered   0 failed");
        let long = line(Duration::from_secs(29), Duration::from_secs(30), 2000.0, 58_000, 0);
        assert_eq!(long.len(), short.len());
    }
}
