use std::net::SocketAddr;

/// What `[admin]` says, checked: an address beyond loopback comes with a token.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminParams {
    listen: SocketAddr,
    token: Option<String>,
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
    pub fn new(listen: SocketAddr, token: Option<String>) -> Result<Self, OpenToNetwork> {
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
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl std::fmt::Debug for AdminParams {
    // By hand, so that the token never reaches a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminParams").field("listen", &self.listen).field("token", &self.token.is_some()).finish()
    }
}
