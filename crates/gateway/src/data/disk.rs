//! Threads that may wait for a disk, so that a core never does.
//!
//! Each core has a few at a time, whatever waits: more would not make a disk faster, and a network file system that hangs
//! would take them all anyway. What is not done in time is given up; its thread comes back when the kernel lets it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use net::Deadline;
use tokio::sync::Semaphore;

/// Threads of a core that wait for a disk at once.
const THREADS_MAX: usize = 8;

/// Most requests of a core that wait for a thread or for its work.
const WAITING_MAX: usize = 1024;

/// A core's threads for that.
#[derive(Debug)]
pub(crate) struct Disk {
    turns: Arc<Semaphore>,
    waiting: Cell<usize>,
}

/// The work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undone;

impl Default for Disk {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(THREADS_MAX)), waiting: Cell::new(0) }
    }
}

/// One that waits, until this is dropped.
struct Waiting<'d>(&'d Cell<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Disk {
    /// Has a thread do something that may take until a moment.
    ///
    /// # Errors
    /// When it is not done by then, or too many wait already.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        (deadline, due): (&Deadline, Instant),
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        if self.waiting.get() >= WAITING_MAX {
            return Err(Undone);
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        let turns = Arc::clone(&self.turns);
        let work = async move {
            let turn = turns.acquire_owned().await.ok()?;
            // The turn is the thread's: it stays taken while the work goes on, also when nobody waits for it any more.
            let work = move || {
                let done = job();
                drop(turn);
                done
            };
            tokio::task::spawn_blocking(work).await.ok()
        };
        deadline.set(due);
        deadline.guard(work).await.ok().flatten().ok_or(Undone)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use net::Deadlines;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_given_up_and_holds_its_thread_only() {
        let (deadlines, disk) = (Deadlines::default(), Disk::default());
        let deadline = deadlines.register();
        let soon = || Instant::now() + Duration::from_secs(10);
        assert_eq!(disk.run((&deadline, soon()), || 7).await, Ok(7));
        let (release, held) = sync_channel::<()>(0);
        // Over before it began: whoever asks is answered, and the thread goes on.
        let hung = disk.run((&deadline, Instant::now()), move || held.recv().is_ok());
        let scanned = deadlines.clone();
        tokio::select! {
            biased;
            given_up = hung => assert_eq!(given_up, Err(Undone)),
            () = scanned.scan() => unreachable!("it scans for ever"),
        }
        assert_eq!(disk.waiting.get(), 0);
        assert_eq!(disk.run((&deadline, soon()), || 8).await, Ok(8));
        release.send(()).unwrap();
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let (deadlines, disk) = (Deadlines::default(), Disk::default());
        disk.waiting.set(WAITING_MAX);
        let deadline = deadlines.register();
        let asked = disk.run((&deadline, Instant::now() + Duration::from_secs(10)), || ()).await;
        assert_eq!((asked, disk.waiting.get()), (Err(Undone), WAITING_MAX));
    }
}
