//! One connection: how it begins, and what is said over it.

use std::rc::Rc;
use std::time::Duration;

use limit::Rate;
use limit::lease::store::{Grant, LeaseQuota, Request, SCRIPT};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, ServerErrorKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::{StoreError, StoreParams};

/// The bucket that a new connection asks for nothing, to see whether it may.
const PROBE_KEY: &str = "tenfold:limit:probe";

/// A connection that the script has run over. Whoever clones it shares it; it ends with its [`Driver`].
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    multiplexed: MultiplexedConnection,
    /// The name by which the store knows the script.
    script: Rc<str>,
}

/// The task that moves a connection's bytes, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Driver(JoinHandle<()>);

impl Driver {
    /// Waits until the connection has ended.
    pub(crate) async fn ended(&mut self) {
        let _how_does_not_matter = (&mut self.0).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects, and has the script run once.
    pub(crate) async fn open(params: &StoreParams) -> Result<(Self, Driver), StoreError> {
        let socket = net::connect((params.host.as_str(), params.port)).await?;
        socket.set_nodelay(true)?;
        match &params.tls {
            None => Self::begin(params, socket).await,
            Some((tls, name)) => Self::begin(params, tls.connect_whole(name.clone(), socket).await?).await,
        }
    }

    async fn begin<S>(params: &StoreParams, stream: S) -> Result<(Self, Driver), StoreError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(i64::from(params.database));
        if let Some(user) = &params.user {
            info = info.set_username(user);
        }
        if let Some(password) = &params.password {
            info = info.set_password(password.expose());
        }
        // Times are kept by the store, which knows what is to happen then.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (mut multiplexed, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let driver = Driver(tokio::task::spawn_local(driver));
        let script: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut multiplexed).await?;
        let connection = Self { multiplexed, script: script.into() };
        let one = LeaseQuota::new(Rate { amount: 1, per: Duration::from_secs(1) }, 1).expect("one per second counts");
        connection.lease(PROBE_KEY, &one, &Request::default()).await?;
        Ok((connection, driver))
    }

    /// Has the script run.
    pub(crate) async fn lease(&self, key: &str, quota: &LeaseQuota, ask: &Request) -> Result<Grant, StoreError> {
        match self.run(("EVALSHA", &self.script), key, quota, ask).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                Ok(self.run(("EVAL", SCRIPT), key, quota, ask).await?)
            }
            other => Ok(other?),
        }
    }

    async fn run(
        &self,
        (command, script): (&str, &str),
        key: &str,
        quota: &LeaseQuota,
        ask: &Request,
    ) -> Result<Grant, redis::RedisError> {
        let mut command = redis::cmd(command);
        command.arg(script).arg(1).arg(key);
        command.arg(&quota.script_arguments()).arg(&ask.script_arguments());
        let (tokens, stamp, hungry, wait_micros) = command.query_async(&mut self.multiplexed.clone()).await?;
        Ok(Grant { tokens, stamp, hungry, wait_micros })
    }

    /// Asks whether anybody is there.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        let () = redis::cmd("PING").query_async(&mut self.multiplexed.clone()).await?;
        Ok(())
    }
}

impl StoreError {
    /// Whether it concerns the connection, and not one key alone.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            // Somebody has put something else where the bucket should be.
            Self::Redis(error) => error.code() != Some("WRONGTYPE"),
            Self::TimedOut | Self::Unauthorised => true,
            Self::Lost | Self::Busy | Self::Connect(_) => false,
        }
    }
}
