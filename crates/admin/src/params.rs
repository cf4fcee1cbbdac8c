use std::net::SocketAddr;

use vocab::Secret;

/// What `[admin]` says, checked: an address beyond loopback comes with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminParams {
    listen: SocketAddr,
    token: Option<Secret>,
}

/// The admin listener would be open to the network without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("admin: {listen} is reachable from outside this machine, so a token is needed")]
pub struct OpenToNetwork {
    /// The address that was asked for.
    pub listen: SocketAddr,
}

impl AdminParams {
    /// Checks that only loopback goes without a token.
    ///
    /// # Errors
    /// [`OpenToNetwork`] when `listen` is not a loopback address and no token is given.
    pub fn new(listen: SocketAddr, token: Option<Secret>) -> Result<Self, OpenToNetwork> {
        if !listen.ip().is_loopback() && token.is_none() {
            return Err(OpenToNetwork { listen });
        }
        Ok(Self { listen, token })
    }

    /// The address to listen on.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The token that requests must bear, if any.
    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }
}
