//! Worker cores: a thread each, with a runtime that never shares a task with another.
//!
//! Work reaches a core through its inbox, a bounded queue; everything that a task then touches belongs to that core.
//! Connections go to the core that has the fewest, so that two cores never differ by more than the races of a moment,
//! where `SO_REUSEPORT` spreads them by a hash of their addresses, unevenly when they are few.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

/// Messages that wait for a core at most. A core that is this far behind is overloaded, and the sender hears it.
const INBOX_MAX: usize = 1024;

/// The cores, as seen from outside. Cheap to clone.
#[derive(Debug)]
pub struct Cores<M> {
    cores: Arc<[Core<M>]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Core<M> {
    inbox: mpsc::Sender<M>,
    load: AtomicUsize,
}

/// What a core gets of its inbox.
#[derive(Debug)]
pub struct Inbox<M> {
    /// The core's number, from 0.
    pub core: usize,
    /// The messages.
    pub messages: mpsc::Receiver<M>,
}

/// The threads; joined by [`Threads::join`].
#[derive(Debug)]
pub struct Threads(Vec<thread::JoinHandle<()>>);

/// A unit of load on a core, given back when dropped.
#[derive(Debug)]
pub struct Load<M> {
    cores: Cores<M>,
    core: usize,
}

impl<M> Clone for Cores<M> {
    fn clone(&self) -> Self {
        Self { cores: Arc::clone(&self.cores) }
    }
}

/// Makes the inboxes of `count` cores, without starting them.
pub fn inboxes<M>(count: usize) -> (Cores<M>, Vec<Inbox<M>>) {
    let (cores, inboxes) = (0..count)
        .map(|core| {
            let (inbox, messages) = mpsc::channel(INBOX_MAX);
            (Core { inbox, load: AtomicUsize::new(0) }, Inbox { core, messages })
        })
        .unzip::<_, _, Vec<_>, Vec<_>>();
    (Cores { cores: cores.into() }, inboxes)
}

/// Starts a thread per inbox that runs `main` until it ends.
///
/// # Errors
/// When the system refuses a thread or an event queue. Threads already started end, for their inboxes close.
pub fn start<M, F>(inboxes: Vec<Inbox<M>>, main: impl Fn(Inbox<M>) -> F + Clone + Send + 'static) -> io::Result<Threads>
where
    M: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let mut threads = Vec::with_capacity(inboxes.len());
    for inbox in inboxes {
        let main = main.clone();
        let name = format!("core-{}", inbox.core);
        let (report, started) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(name).spawn(move || {
            let mut builder = Builder::new_current_thread();
            builder.enable_all().on_thread_park(crate::together::sleeps);
            let built = builder.build_local(LocalOptions::default());
            match built {
                Ok(runtime) => {
                    let _heard = report.send(Ok(()));
                    runtime.spawn_local(crate::together::serve());
                    runtime.block_on(main(inbox));
                }
                Err(error) => {
                    let _heard = report.send(Err(error));
                }
            }
        })?;
        threads.push(thread);
        started.recv().map_err(|_| io::Error::other("a worker ended while it started"))??;
    }
    Ok(Threads(threads))
}

impl Threads {
    /// Waits until every core's main task has ended.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a worker core ended by a panic");
            }
        }
    }
}

impl<M> Cores<M> {
    /// How many cores there are.
    pub fn len(&self) -> usize {
        self.cores.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cores.is_empty()
    }

    /// Sends a message to one core, waiting for room.
    ///
    /// # Errors
    /// The message, when the core has ended.
    pub async fn send(&self, core: usize, message: M) -> Result<(), M> {
        self.cores[core].inbox.send(message).await.map_err(|error| error.0)
    }

    /// Sends a message to one core if there is room.
    ///
    /// # Errors
    /// The message, when the inbox is full or the core has ended.
    pub fn try_send(&self, core: usize, message: M) -> Result<(), M> {
        self.cores[core].inbox.try_send(message).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// The core with the least load; `own` when it is among the least loaded, for then nothing crosses cores.
    pub fn least_loaded(&self, own: usize) -> usize {
        let load = |core: usize| self.cores[core].load.load(Ordering::Relaxed);
        (0..self.len()).fold(own, |best, core| if load(core) < load(best) { core } else { best })
    }

    /// Adds a unit of load to a core until the result is dropped.
    pub fn add_load(&self, core: usize) -> Load<M> {
        self.cores[core].load.fetch_add(1, Ordering::Relaxed);
        Load { cores: self.clone(), core }
    }

    /// A core's load.
    pub fn load(&self, core: usize) -> usize {
        self.cores[core].load.load(Ordering::Relaxed)
    }
}

impl<M> Drop for Load<M> {
    fn drop(&mut self) {
        self.cores.cores[self.core].load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_spread_and_given_back() {
        let (cores, _inboxes) = inboxes::<()>(3);
        let mut held: Vec<_> = (0..9).map(|_| cores.add_load(cores.least_loaded(1))).collect();
        assert_eq!([0, 1, 2].map(|core| cores.load(core)), [3, 3, 3]);
        held.truncate(0);
        assert_eq!([0, 1, 2].map(|core| cores.load(core)), [0, 0, 0]);
        assert_eq!(cores.least_loaded(2), 2);
    }

    #[test]
    fn messages_arrive_and_cores_end_with_their_main() {
        let (cores, inboxes) = inboxes::<u32>(2);
        let (seen, all) = std::sync::mpsc::sync_channel(2);
        let threads = start(inboxes, move |mut inbox| {
            let seen = seen.clone();
            async move {
                let message = inbox.messages.recv().await;
                seen.send((inbox.core, message)).unwrap();
            }
        })
        .unwrap();
        cores.try_send(0, 7).unwrap();
        cores.try_send(1, 8).unwrap();
        threads.join();
        let mut got: Vec<_> = all.iter().collect();
        got.sort_unstable();
        assert_eq!(got, [(0, Some(7)), (1, Some(8))]);
        assert_eq!(cores.try_send(0, 9), Err(9));
    }
}
