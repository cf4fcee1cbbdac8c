//! Accepting clients.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, mpsc};

use crate::core::{AcceptedSocket, Core};
use crate::listener::{ListenSocket, Listener};

/// Pause after an error that accepting again at once would only repeat.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Connections taken from the queue of a socket that ends: as many as the kernel holds.
const QUEUE_MAX: usize = 4096;

/// A listening socket's task.
pub(crate) struct Acceptor {
    listener: Arc<Listener>,
    end: Rc<End>,
}

#[derive(Default)]
struct End {
    told: Notify,
    /// Dropped with the last of what waited.
    done: RefCell<Option<mpsc::Sender<()>>>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Starts to accept.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub(crate) fn start(core: &Rc<Core>, listener: Arc<Listener>, socket: ListenSocket) -> io::Result<Self> {
        let socket = match socket {
            ListenSocket::Tcp(socket) => Socket::Tcp(TcpListener::from_std(socket)?),
            ListenSocket::Unix(socket) => Socket::Unix(UnixListener::from_std(socket)?),
        };
        let end = Rc::new(End::default());
        tokio::task::spawn_local(accept(Rc::clone(core), Arc::clone(&listener), socket, Rc::clone(&end)));
        Ok(Self { listener, end })
    }

    /// Whose clients it accepts.
    pub(crate) fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Accepts what waits already, and then no more; `done` is dropped then.
    pub(crate) fn stop(self, done: mpsc::Sender<()>) {
        *self.end.done.borrow_mut() = Some(done);
        self.end.told.notify_one();
    }
}

async fn accept(core: Rc<Core>, listener: Arc<Listener>, socket: Socket, end: Rc<End>) {
    loop {
        let accepted = tokio::select! {
            accepted = std::future::poll_fn(|cx| socket.poll(cx)) => accepted,
            () = end.told.notified() => break,
        };
        match accepted {
            Ok(socket) => place(&core, &listener, socket),
            Err(error) => {
                // Mostly descriptors have run out; what is of one connection alone does not wait for long either.
                tracing::warn!(listener = %listener.params().name, %error, "a client was not accepted");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
    // Clients whose connections the kernel has made already must not find them reset.
    for _ in 0..QUEUE_MAX {
        let next = std::future::poll_fn(|cx| Poll::Ready(socket.poll(cx)));
        let Poll::Ready(Ok(socket)) = tokio::task::unconstrained(next).await else { break };
        place(&core, &listener, socket);
    }
    drop(end.done.borrow_mut().take());
}

fn place(core: &Rc<Core>, listener: &Arc<Listener>, socket: AcceptedSocket) {
    match listener.admit() {
        Some(place) => core.place(place, socket),
        // Without a word: a client that is told why takes a task, of which there are enough.
        None => tracing::warn!(listener = %listener.params().name, "a client was refused: clients_max is reached"),
    }
}

impl Socket {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<AcceptedSocket>> {
        // Only this core's event queue knows the socket yet, and that forgets it here.
        match self {
            Self::Tcp(socket) => socket
                .poll_accept(cx)
                .map(|accepted| accepted.and_then(|(socket, _)| Ok(AcceptedSocket::Tcp(socket.into_std()?)))),
            Self::Unix(socket) => socket
                .poll_accept(cx)
                .map(|accepted| accepted.and_then(|(socket, _)| Ok(AcceptedSocket::Unix(socket.into_std()?)))),
        }
    }
}
