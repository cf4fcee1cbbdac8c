//! `LISTEN` of clients that share backends: one connection to the primary listens for all clients of a database.
//!
//! A client's `LISTEN` is said there, and the client hears of its own only when that has committed ([`listener`]). What comes is put into the
//! [`Mailbox`] of each who listens to the channel, and the session takes it out when its client is idle. If the connection is lost, something
//! may have been missed, and nobody can say what: those who listen are cut off, and listen again as they come back.

mod listener;
mod sender;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::{Notify, oneshot};

use crate::core::Message;
use crate::database::Database;
use crate::process::Process;

pub(crate) use listener::run;
pub(crate) use sender::Senders;

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

    /// What was said on a channel that is not listened to any more is for nobody.
    fn drop_channel(&self, channel: Option<&str>) {
        lock(&self.inner).notices.retain(|notice| channel.is_some_and(|channel| notice.channel != channel));
    }
}

/// Who listens to what in a database.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    state: Mutex<Channels>,
    /// Wakes whoever listens for all.
    nudge: Notify,
    pub(crate) senders: Senders,
}

#[derive(Debug, Default)]
struct Channels {
    /// Those that are listened to, with who wants that, by the number of the session.
    listened: HashMap<String, HashMap<u64, Arc<Mailbox>>>,
    /// What has to be listened to.
    wanted: Vec<Wanted>,
    /// What the server has been asked for.
    asked: Vec<Wanted>,
    is_running: bool,
}

/// Channels that a session begins to listen to.
#[derive(Debug)]
struct Wanted {
    channels: Vec<String>,
    mailbox: Arc<Mailbox>,
    /// Told when they are listened to; dropped when that cannot be.
    done: oneshot::Sender<()>,
}

impl Hub {
    /// A session listens to channels from now on: when it does, the receiver hears of it.
    pub(crate) fn listen(
        &self,
        process: &Process,
        database: &Arc<Database>,
        channels: Vec<String>,
        mailbox: &Arc<Mailbox>,
    ) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.state();
        self.senders.set_active(true);
        state.wanted.push(Wanted { channels, mailbox: Arc::clone(mailbox), done });
        if !state.is_running {
            let message = Message::Notify(Arc::downgrade(database));
            state.is_running = process.cores.try_send(CORE, message).is_ok();
            if !state.is_running {
                // The core is too far behind; whoever wants it hears that it cannot be.
                state.wanted.clear();
            }
        }
        drop(state);
        self.nudge.notify_one();
        receiver
    }

    /// A session does not listen any more, to a channel or to any.
    pub(crate) fn unlisten(&self, mailbox: &Mailbox, channel: Option<&str>) {
        let mut state = self.state();
        let Channels { listened, wanted, asked, .. } = &mut *state;
        for wanted in wanted.iter_mut().chain(asked).filter(|wanted| wanted.mailbox.session == mailbox.session) {
            wanted.channels.retain(|known| channel.is_some_and(|channel| known != channel));
        }
        for (_, who) in listened.iter_mut().filter(|(known, _)| channel.is_none_or(|channel| *known == channel)) {
            who.remove(&mailbox.session);
        }
        drop(state);
        mailbox.drop_channel(channel);
        self.nudge.notify_one();
    }

    /// How many sessions listen.
    pub(crate) fn subscribers(&self) -> usize {
        let state = self.state();
        let sessions: HashSet<_> = state.listened.values().flat_map(HashMap::keys).collect();
        sessions.len()
    }

    /// A session has ended.
    pub(crate) fn leave(&self, mailbox: &Mailbox) {
        mailbox.close(State::Gone);
        self.unlisten(mailbox, None);
    }

    fn state(&self) -> MutexGuard<'_, Channels> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
