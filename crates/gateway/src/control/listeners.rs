//! Listening sockets in the control plane: which are open, for whom, and on which core.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use net::inherit::Inherited;
use net::listen::{self, ListenError};
use net::workers::Cores;

use crate::data::Message;
use crate::params::{ListenerKind, ListenerParams};
use crate::state::ListenerState;

/// The sockets, by the address in the settings.
#[derive(Default)]
pub(super) struct Sockets {
    open: HashMap<SocketAddr, Open>,
    /// Counts sockets, so that they spread over the cores.
    opened: usize,
    /// Sockets that the process was given, until the first configuration has taken its own of them.
    inherited: Inherited,
}

struct Open {
    listener: Arc<ListenerState>,
    core: usize,
    /// A second handle of the socket, so that another listener can take it over without a gap.
    socket: TcpListener,
}

/// Sockets that a new configuration needs: new ones, and handles of those that change hands. One handle is for the core
/// that accepts, the other is kept.
pub(super) struct Opened(HashMap<SocketAddr, (TcpListener, TcpListener)>);

impl Sockets {
    /// Nothing open yet.
    pub(super) fn new(inherited: Inherited) -> Self {
        Self { inherited, ..Self::default() }
    }

    /// Further handles of all sockets, by the address that each was opened for.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn handles(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        self.open.iter().map(|(address, open)| Ok((*address, open.socket.try_clone()?.into()))).collect()
    }

    /// Opens what these listeners need beyond what is open, and uses none of it yet.
    ///
    /// # Errors
    /// The first address that cannot be listened on; nothing is open then that was not before.
    pub(super) fn open(&mut self, listeners: &[ListenerParams]) -> Result<Opened, ListenError> {
        let mut sockets = HashMap::new();
        for listener in listeners.iter().filter(|listener| !matches!(listener.kind, ListenerKind::Udp(_))) {
            for &address in &listener.addresses {
                let twice = |socket: &TcpListener| Ok((socket.try_clone()?, socket.try_clone()?));
                let handles = match self.open.get(&address) {
                    Some(open) if open.listener.is_of(listener) => continue,
                    Some(open) => twice(&open.socket),
                    None => match self.inherited.take(address) {
                        Some(socket) => twice(&socket),
                        None => twice(&listen::tcp(address)?),
                    },
                };
                sockets.insert(address, handles.map_err(|cause| ListenError { address, cause })?);
            }
        }
        if !self.inherited.is_empty() {
            tracing::warn!(addresses = %self.inherited, "sockets were given that no listener wants; they are closed");
            self.inherited = Inherited::default();
        }
        Ok(Opened(sockets))
    }

    /// Where a listener really listens.
    pub(super) fn bound(&self, opened: &Opened, params: &ListenerParams) -> Vec<SocketAddr> {
        let local = |address: &SocketAddr| {
            let socket = self
                .open
                .get(address)
                .map(|open| &open.socket)
                .or_else(|| opened.0.get(address).map(|handles| &handles.0));
            socket.and_then(|socket| socket.local_addr().ok()).unwrap_or(*address)
        };
        params.addresses.iter().map(local).collect()
    }

    /// Has the cores accept on these listeners' sockets, and no longer on others. `wanted` are the listeners and their
    /// addresses.
    pub(super) async fn apply(
        &mut self,
        mut opened: Opened,
        wanted: &[(Arc<ListenerState>, Vec<SocketAddr>)],
        cores: &Cores<Message>,
    ) {
        let mut old = std::mem::take(&mut self.open);
        for (listener, addresses) in wanted.iter().filter(|(listener, _)| !listener.is_udp()) {
            for &address in addresses {
                let before = old.remove(&address);
                if let Some((socket, kept)) = opened.0.remove(&address) {
                    // A listener that takes a socket over accepts before the old one stops.
                    self.start(address, socket, kept, listener, cores).await;
                    if let Some(before) = before {
                        stop(before, cores).await;
                    }
                } else if let Some(before) = before {
                    self.open.insert(address, before);
                }
            }
        }
        for open in old.into_values() {
            stop(open, cores).await;
        }
    }

    async fn start(
        &mut self,
        address: SocketAddr,
        socket: TcpListener,
        kept: TcpListener,
        listener: &Arc<ListenerState>,
        cores: &Cores<Message>,
    ) {
        let core = self.opened % cores.len();
        self.opened += 1;
        let message = Message::Listen { listener: Arc::clone(listener), socket };
        if cores.send(core, message).await.is_err() {
            tracing::error!(listener = %listener.name, %address, "no core accepts connections");
        }
        self.open.insert(address, Open { listener: Arc::clone(listener), core, socket: kept });
    }

    /// Closes the handles kept here.
    pub(super) fn close(&mut self) {
        self.open.clear();
    }
}

async fn stop(open: Open, cores: &Cores<Message>) {
    if let Ok(address) = open.socket.local_addr() {
        let _core_ended = cores.send(open.core, Message::StopAccepting { listener: open.listener, address }).await;
    }
}

/// Has all cores close a listener's connections: idle ones at once, others with their request, and all after a time.
pub(super) async fn retire(listener: Arc<ListenerState>, drain_timeout: Duration, cores: Cores<Message>) {
    for core in 0..cores.len() {
        let message = Message::Retire { listener: Some(Arc::clone(&listener)), idle_grace: None, heard: None };
        let _core_ended = cores.send(core, message).await;
    }
    tokio::spawn(async move {
        tokio::time::sleep(drain_timeout).await;
        for core in 0..cores.len() {
            let _core_ended = cores.send(core, Message::Cut(Arc::clone(&listener))).await;
        }
    });
}
