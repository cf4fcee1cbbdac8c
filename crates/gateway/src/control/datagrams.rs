//! Sockets for UDP in the control plane: one on each core for every address, so that what a client sends is always the
//! same core's. A reload leaves those alone that stay.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use net::listen::{self, ListenError};
use net::workers::Cores;

use crate::data::Message;
use crate::params::{ListenerKind, ListenerParams};
use crate::state::ListenerState;

/// The sockets that are open, by the address in the settings: for whom, and where they are bound.
#[derive(Default)]
pub(super) struct Datagrams {
    open: HashMap<SocketAddr, (Arc<ListenerState>, SocketAddr)>,
}

/// Sockets that a new configuration needs, for each address one for each core.
pub(super) struct Opened(HashMap<SocketAddr, (SocketAddr, Vec<UdpSocket>)>);

impl Datagrams {
    /// Opens what these listeners need beyond what is open, and uses none of it yet.
    ///
    /// # Errors
    /// The first address that cannot be had; nothing is open then that was not before.
    pub(super) fn open(&self, listeners: &[ListenerParams], cores: usize) -> Result<Opened, ListenError> {
        let mut opened = HashMap::new();
        for listener in listeners.iter().filter(|listener| matches!(listener.kind, ListenerKind::Udp(_))) {
            for &address in &listener.addresses {
                if self.open.get(&address).is_some_and(|(state, _)| state.is_of(listener)) {
                    continue;
                }
                let first = listen::udp(address)?;
                let bound = first.local_addr().map_err(|cause| ListenError { address, cause })?;
                let mut sockets = vec![first];
                for _ in 1..cores {
                    sockets.push(listen::udp(bound)?);
                }
                opened.insert(address, (bound, sockets));
            }
        }
        Ok(Opened(opened))
    }

    /// Where a listener really listens.
    pub(super) fn bound(&self, opened: &Opened, address: SocketAddr) -> SocketAddr {
        let new = opened.0.get(&address).map(|(bound, _)| *bound);
        new.or_else(|| self.open.get(&address).map(|(_, bound)| *bound)).unwrap_or(address)
    }

    /// Has the cores receive on these listeners' sockets, and no longer on others.
    pub(super) async fn apply(
        &mut self,
        mut opened: Opened,
        wanted: &[(Arc<ListenerState>, Vec<SocketAddr>)],
        cores: &Cores<Message>,
    ) {
        let mut old = std::mem::take(&mut self.open);
        for (listener, addresses) in wanted.iter().filter(|(listener, _)| listener.is_udp()) {
            for &address in addresses {
                if let Some((bound, sockets)) = opened.0.remove(&address) {
                    for (core, socket) in sockets.into_iter().enumerate() {
                        let message = Message::Receive { listener: Arc::clone(listener), socket };
                        if cores.send(core, message).await.is_err() {
                            tracing::error!(listener = %listener.name, %address, "a core receives no datagrams");
                        }
                    }
                    self.open.insert(address, (Arc::clone(listener), bound));
                } else if let Some(before) = old.remove(&address) {
                    self.open.insert(address, before);
                }
            }
        }
        for (listener, address) in old.into_values() {
            for core in 0..cores.len() {
                let message = Message::StopReceiving { listener: Arc::clone(&listener), address };
                let _core_ended = cores.send(core, message).await;
            }
        }
    }
}
