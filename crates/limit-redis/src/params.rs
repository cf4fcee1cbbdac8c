//! Where a store is, and how it is asked.

use std::fmt;
use std::time::Duration;

use net::tls::{ClientTls, ServerName};
use vocab::Secret;

/// A store. Who may use it is never shown: neither by `Debug` nor by `Display`.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreParams {
    /// Address or name of the host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database to use, by number.
    pub database: u32,
    /// The user, where it is not the default one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// TLS, and the name that the certificate must be for.
    pub tls: Option<(ClientTls, ServerName<'static>)>,
    /// Time for an answer.
    pub timeout: Duration,
}

impl fmt::Display for StoreParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port)?,
            false => write!(f, "{scheme}://{}:{}", self.host, self.port)?,
        }
        match self.database {
            0 => Ok(()),
            number => write!(f, "/{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_shown_without_who_may_use_it() {
        let mut params = StoreParams {
            host: "10.0.0.5".to_owned(),
            port: 6379,
            database: 0,
            user: Some("shop".to_owned()),
            password: Some(Secret::new("hunter2hunter2")),
            tls: None,
            timeout: Duration::from_millis(100),
        };
        assert_eq!(params.to_string(), "redis://10.0.0.5:6379");
        (params.host, params.database) = ("::1".to_owned(), 3);
        assert_eq!(params.to_string(), "redis://[::1]:6379/3");
        assert!(!format!("{params:?}").contains("hunter2"));
    }
}
