//! The admin listener's sockets.
//!
//! It serves few, and must not be brought down by them: connections, heads and times are bounded.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use vocab::Secret;

use crate::pages::router;
use crate::params::AdminParams;
use crate::state::AdminState;

/// Connections at once; further ones wait in the system's queue. Scrapers and people need a handful.
const CONNECTIONS_MAX: usize = 64;

/// Time for a request's head, and for the next one on a kept connection. Above the 15 s at which Prometheus scrapes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a request's head. The token and a browser's fields need a fraction of that.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields of a request.
const HEAD_FIELDS_MAX: usize = 64;

/// A connection ends after this time, so that one that does not read its answer is not kept for ever.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// Time for answers under way when a connection grows too old or the listener stops.
const GRACE: Duration = Duration::from_secs(5);

/// Pause after a failed accept, which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin listener's address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("admin: cannot listen on {listen}: {source}")]
pub struct BindError {
    /// The address.
    pub listen: SocketAddr,
    /// What the system said.
    pub source: std::io::Error,
}

/// A bound admin listener that does not serve yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    token: watch::Sender<Option<Secret>>,
}

/// Changes the token of an admin listener while it serves.
#[derive(Clone, Debug)]
pub struct TokenControl(watch::Sender<Option<Secret>>);

impl TokenControl {
    /// Has requests from now on bear this token, or none.
    ///
    /// Whoever calls this answers for what [`AdminParams`] checks: beyond loopback there is a token.
    pub fn set(&self, params: &AdminParams) {
        self.0.send_if_modified(|token| {
            let differs = token.as_ref() != params.token();
            *token = params.token().cloned();
            differs
        });
    }
}

impl Admin {
    /// Listens on the address, so that a start fails early and whole when it is taken.
    ///
    /// # Errors
    /// [`BindError`] with what the system said.
    pub async fn bind(params: &AdminParams) -> Result<Self, BindError> {
        let listen = params.listen();
        let listener = TcpListener::bind(listen).await.map_err(|source| BindError { listen, source })?;
        Ok(Self::at(listener, params))
    }

    /// Uses a socket that listens on the address already, and does not block.
    ///
    /// # Errors
    /// [`BindError`] when it cannot be watched.
    pub fn take(socket: std::net::TcpListener, params: &AdminParams) -> Result<Self, BindError> {
        let listener = TcpListener::from_std(socket);
        let listener = listener.map_err(|source| BindError { listen: params.listen(), source })?;
        Ok(Self::at(listener, params))
    }

    fn at(listener: TcpListener, params: &AdminParams) -> Self {
        let (token, _) = watch::channel(params.token().cloned());
        Self { listener, token }
    }

    /// Another handle of its socket.
    ///
    /// # Errors
    /// Those of the system.
    pub fn handle(&self) -> std::io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// What changes the token later.
    pub fn token_control(&self) -> TokenControl {
        TokenControl(self.token.clone())
    }

    /// The address that it listens on, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` completes, then lets answers under way finish for a moment.
    pub async fn serve(self, state: Arc<dyn AdminState>, shutdown: impl Future<Output = ()>) {
        let router = router(state, self.token.subscribe());
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (stop, stopped) = watch::channel(());
        tokio::pin!(shutdown);
        loop {
            let place = tokio::select! {
                () = &mut shutdown => break,
                place = Arc::clone(&places).acquire_owned() => place.expect("nobody closes the semaphore"),
            };
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stopped) = (router.clone(), stopped.clone());
                    tokio::spawn(async move {
                        converse(stream, router, stopped).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin: accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        drop(stopped);
        // Every conversation holds a receiver, so the channel closes with the last of them.
        stop.send_replace(());
        let _ = timeout(GRACE, stop.closed()).await;
    }
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, router: Router, mut stopped: watch::Receiver<()>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let too_old = tokio::time::sleep_until(Instant::now() + CONNECTION_AGE_MAX);
    tokio::select! {
        result = &mut connection => return note(result),
        () = too_old => {}
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(result) = timeout(GRACE, connection).await {
        note(result);
    }
}

fn note(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "admin: a connection broke");
    }
}
