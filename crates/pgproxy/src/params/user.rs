//! Who may connect, and how they prove who they are.

use std::time::Duration;

use ipnet::IpNet;
use pgroute::auth::{Method, Stored};
use pgroute::pool::PoolParams;
use vocab::Secret;

use super::{Mode, RoutePolicy};

/// A user of a database, from the file or from a userlist.
#[derive(Clone, Debug, PartialEq)]
pub struct UserParams {
    /// Its name.
    pub name: String,
    /// What is known of its password; `None` for one that `auth.query` tells, or that is trusted.
    pub stored: Option<Stored>,
    /// Who backends for it log in as, in place of what the server says: a name and a password.
    pub server_login: Option<(String, Option<Secret>)>,
    /// Its pools, where they are not the database's.
    pub pool: Option<PoolParams>,
    /// Its mode, where it is not the database's.
    pub mode: Option<Mode>,
    /// Clients of it at once; `None` for the database's [`super::LimitParams::clients_per_user_max`].
    pub clients_max: Option<u32>,
}

impl UserParams {
    /// A user of whom nothing else is said.
    pub fn new(name: impl Into<String>, stored: Option<Stored>) -> Self {
        Self { name: name.into(), stored, server_login: None, pool: None, mode: None, clients_max: None }
    }
}

/// How clients prove who they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthParams {
    /// By what, where no rule says otherwise.
    pub method: AuthMethod,
    /// Who is asked about users that are not among [`super::DatabaseParams::users`].
    pub query: Option<AuthQuery>,
}

/// By what a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// By a password in one of these ways. A stored secret of SCRAM has its user asked by SCRAM where MD5 is wanted.
    Password(Method),
    /// By nothing. The user need not be known, if the server has its own login.
    Trust,
}

impl Default for AuthMethod {
    fn default() -> Self {
        Self::Password(Method::Scram)
    }
}

/// Users whom the server itself is asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthQuery {
    /// The text, which takes the user's name as `$1` and gives a name and a secret in the form of `pg_authid`.
    pub text: String,
    /// Who asks.
    pub user: String,
    /// With this password.
    pub password: Option<Secret>,
    /// In this database; `None` for the one that is asked for.
    pub dbname: Option<String>,
    /// How long an answer is good. A password that was changed is looked up at once when the old one fails.
    pub ttl: Duration,
}

/// A rule about who may connect and how. The first one that fits decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleParams {
    /// Users that it fits; all if it is empty.
    pub users: Vec<String>,
    /// Names of databases, as clients ask for them, that it fits; all if it is empty. For rules of a wildcard.
    pub databases: Vec<String>,
    /// Addresses of clients that it fits; all if it is empty. Clients of Unix sockets fit no address.
    pub clients: Vec<IpNet>,
    /// Whether it fits clients with TLS alone (`true`), without alone (`false`), or both.
    pub tls: Option<bool>,
    /// Whether they may not connect.
    pub deny: bool,
    /// How they prove who they are, in place of the database's way.
    pub method: Option<AuthMethod>,
    /// Where their statements go, in place of what their texts say.
    pub route: Option<RoutePolicy>,
    /// Their mode, in place of the user's and the database's.
    pub mode: Option<Mode>,
}
