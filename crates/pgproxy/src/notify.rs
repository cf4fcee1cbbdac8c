//! `LISTEN` of clients that share backends: one connection to the primary listens for all clients of a database.
//!
//! A client's `LISTEN` is said there, and the client hears of its own only when that has committed ([`listener`]). What comes is put into the
//! [`Mailbox`] of each who listens to the channel, and the session takes it out when its client is idle. If the connection is lost, something
//! may have been missed, and nobody can say what: those who listen are cut off, and listen again as they come back.

mod channels;
mod listener;
mod sender;
mod upkeep;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use pgroute::session::Heard;
use tokio::sync::{Notify, oneshot};

use crate::core::Message;
use crate::database::Database;
use crate::process::Process;

use channels::Channels;
pub(crate) use listener::run;
pub(crate) use sender::{Noted, Senders};

/// The core that the connection is kept by.
const CORE: usize = 0;

/// What was said on a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// The process of whoever said it, as clients know it.
    pub(crate) pid: i32,
    pub(crate) channel: String,
    pub(crate) payload: Vec<u8>,
}

/// What waits for a session.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The number of the session.
    session: u64,
    notices_max: usize,
    /// Something is in it, or it was closed: it is worth a look.
    is_due: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    notices: VecDeque<Arc<Notice>>,
    waker: Option<Waker>,
    state: State,
}

/// How it stands with a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Open,
    /// More came than it holds.
    Full,
    /// The connection that listens was lost.
    Lost,
    /// The session has ended.
    Gone,
}

impl Mailbox {
    pub(crate) fn new(session: u64, notices_max: usize) -> Arc<Self> {
        Arc::new(Self { session, notices_max, is_due: AtomicBool::new(false), inner: Mutex::default() })
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Acquire)
    }

    /// Wakes this task when something comes.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut inner = lock(&self.inner);
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
    }

    /// Takes what has come, and says how it stands.
    pub(crate) fn take(&self) -> (VecDeque<Arc<Notice>>, State) {
        let mut inner = lock(&self.inner);
        // What closed it stays worth a look.
        self.is_due.store(inner.state != State::Open, Ordering::Release);
        (std::mem::take(&mut inner.notices), inner.state)
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        lock(&self.inner).state
    }

    fn put(&self, notice: &Arc<Notice>) {
        let mut inner = lock(&self.inner);
        if inner.state != State::Open {
            return;
        }
        if inner.notices.len() >= self.notices_max {
            inner.notices.clear();
            inner.state = State::Full;
        } else {
            inner.notices.push_back(Arc::clone(notice));
        }
        self.wake(inner);
    }

    fn close(&self, state: State) {
        let mut inner = lock(&self.inner);
        if inner.state == State::Open {
            inner.state = state;
            self.wake(inner);
        }
    }

    fn wake(&self, mut inner: MutexGuard<'_, Inner>) {
        self.is_due.store(true, Ordering::Release);
        let waker = inner.waker.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// What was said on channels that are not listened to any more is for nobody.
    fn drop_channels(&self, channels: &[String]) {
        let channels: HashSet<&String> = channels.iter().collect();
        lock(&self.inner).notices.retain(|notice| !channels.contains(&notice.channel));
    }
}

/// Who listens to what in a database.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<Channels>,
    /// Wakes whoever listens for all.
    nudge: Notify,
    pub(crate) senders: Arc<Senders>,
}

impl Hub {
    /// A session listens to other channels from now on. If there are some to which it did not, the receiver hears when it does.
    pub(crate) fn change(
        &self,
        process: &Process,
        database: &Arc<Database>,
        heard: Heard,
        mailbox: &Arc<Mailbox>,
    ) -> Option<oneshot::Receiver<()>> {
        let Heard { listens, unlistens } = heard;
        if !unlistens.is_empty() {
            self.unlisten(mailbox, &unlistens);
            mailbox.drop_channels(&unlistens);
        }
        if listens.is_empty() {
            return None;
        }
        let mut state = self.state();
        self.senders.set_active(true);
        let receiver = state.want(listens, mailbox);
        if !state.is_running {
            let message = Message::Notify(Arc::downgrade(database));
            state.is_running = process.cores.try_send(CORE, message).is_ok();
            if !state.is_running {
                // The core is too far behind; whoever wants it hears that it cannot be.
                state.refuse();
            }
        }
        drop(state);
        self.nudge.notify_one();
        Some(receiver)
    }

    /// How many sessions listen.
    pub(crate) fn subscribers(&self) -> usize {
        self.state().sessions()
    }

    /// A session has ended that listened to these channels.
    pub(crate) fn leave(&self, mailbox: &Mailbox, channels: &[String]) {
        mailbox.close(State::Gone);
        self.unlisten(mailbox, channels);
    }

    fn unlisten(&self, mailbox: &Mailbox, channels: &[String]) {
        self.state().unwant(mailbox.session, channels);
        self.nudge.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, Channels> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
