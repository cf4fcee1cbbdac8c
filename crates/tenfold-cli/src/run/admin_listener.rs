//! The admin listener of the running process: it opens, moves and closes with the configuration.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use admin::{Admin, AdminParams, AdminState, BindError, TokenControl};
use net::inherit::Inherited;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::state::State;

/// Time for answers under way at the end of the process; the listener itself gives them less.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The listener, if there is one.
#[derive(Debug, Default)]
pub(super) struct AdminListener {
    params: Option<AdminParams>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    token: TokenControl,
    /// A second handle of the socket, for the process that takes over.
    socket: Option<OwnedFd>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What another configuration needs, had before anything is changed.
#[derive(Debug)]
pub(super) struct Prepared {
    params: Option<AdminParams>,
    /// A listener at another address.
    bound: Option<Admin>,
}

impl AdminListener {
    /// Has what these parameters need, from what was inherited if it is there, and uses nothing of it yet.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(super) async fn prepare(
        &self,
        params: Option<&AdminParams>,
        inherited: &mut Inherited,
    ) -> Result<Prepared, BindError> {
        let listen = |params: Option<&AdminParams>| params.map(AdminParams::listen);
        let bound = match params {
            Some(params) if listen(self.params.as_ref()) != Some(params.listen()) => {
                Some(match inherited.take(params.listen()) {
                    Some(socket) => Admin::take(socket, params)?,
                    None => Admin::bind(params).await?,
                })
            }
            _ => None,
        };
        Ok(Prepared { params: params.cloned(), bound })
    }

    /// Serves as prepared from now on. Answers under way at an address that goes are finished.
    pub(super) fn commit(&mut self, prepared: Prepared, state: &Arc<State>) {
        let Prepared { params, bound } = prepared;
        match (bound, &params, &self.running) {
            (Some(admin), _, _) => {
                self.stop();
                self.running = Some(start(admin, state));
            }
            (None, Some(params), Some(running)) => running.token.set(params),
            (None, _, _) => {
                self.stop();
            }
        }
        self.params = params;
    }

    /// A handle of the socket, and the address that it was opened for; `None` when nothing is listened on.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn handle(&self) -> io::Result<Option<(SocketAddr, OwnedFd)>> {
        let socket = self.running.as_ref().and_then(|running| running.socket.as_ref());
        let (Some(params), Some(socket)) = (&self.params, socket) else { return Ok(None) };
        Ok(Some((params.listen(), socket.try_clone()?)))
    }

    /// Stops to accept, and gives the task that finishes what is under way.
    fn stop(&mut self) -> Option<JoinHandle<()>> {
        let Running { stop, task, .. } = self.running.take()?;
        let _has_ended = stop.send(());
        Some(task)
    }

    /// Ends, after the answers under way.
    pub(super) async fn end(mut self) {
        let Some(task) = self.stop() else { return };
        if let Ok(Err(error)) = tokio::time::timeout(END_TIMEOUT, task).await {
            tracing::error!(%error, "the admin listener failed");
        }
    }
}

fn start(admin: Admin, state: &Arc<State>) -> Running {
    let address = admin.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
    tracing::info!(address, "admin listener is open");
    let (token, socket) = (admin.token_control(), admin.handle().ok());
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _sender_gone = stopped.await;
    };
    let task = tokio::spawn(admin.serve(Arc::clone(state) as Arc<dyn AdminState>, shutdown));
    Running { token, socket, stop, task }
}
