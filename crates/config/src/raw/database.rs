//! The tables of a database.

mod console;
mod policy;
mod pool;
mod user;

pub(crate) use console::{ConsoleAuthWord, RawConsole, RawConsoleUser};
pub(crate) use policy::{
    CausalityWord, NoReplicaWord, PidWord, PinWord, PoolModeWord, RawCatalogue, RawCausality, RawDatabaseLimits,
    RawDatabaseTimeouts, RawFailover, RawNotifications, RawPrepared, RawReplicaPolicy, ReplicaBalanceWord,
    StatementRouteWord,
};
pub(crate) use pool::{RawDatabasePool, RawExpect, RawUserPool};
pub(crate) use user::{AuthWord, RawAuthQuery, RawDatabaseAuth, RawDatabaseRule, RawDatabaseUser};

use crate::address::ListenAt;
use crate::database::{PgName, Replica, ServerUrl, SettingName};
use crate::entry::{Named, Zone};
use crate::grammar::table;
use crate::map::Map;
use crate::quantity::Int;
use crate::tls::RawServiceTls;
use crate::value::{AnyText, List, Off, OneOrMany, Or, Switch};

table! {
    /// A PostgreSQL database, by the name that clients ask for. `[database."*"]` is any name without a table of its own.
    "`[database.NAME]`"
    struct RawDatabase {
        /// Where clients of this database alone connect: an address with a port, the file of a Unix socket, or several. It can do
        /// without where a listener of `kind = "postgres"` serves it.
        listen: OneOrMany<ListenAt> = optional;
        /// Its server. A user in the URL is who Tenfold logs in as, for all clients; without one, as each client's own user. The
        /// database of the URL is that on the server, by default the one that clients ask for.
        primary: ServerUrl = required;
        /// Its replicas, as URLs or as tables. What the primary's URL says of user, password and database holds where theirs say
        /// nothing. They are checked, but nothing is read from them yet.
        replicas: List<Replica> = [];
        /// TLS to its servers; `{}` is enough where the machine's authorities know their certificates. By default as
        /// `?sslmode=` in the URLs says, and without that none.
        tls: RawServiceTls = optional;
        /// How long a client keeps a connection to the server: for a `transaction`, for its whole `session`, or for a single
        /// `statement`, which refuses transactions of several.
        mode: PoolModeWord = "transaction";
        /// Connections to a server. Each user has a pool of its own.
        pool: RawDatabasePool = {};
        /// How much work is expected, from which the size of the pool follows.
        expect: RawExpect = optional;
        /// What `max_connections` is on its server, less what others need of it. `tenfold check` warns when pools could take more.
        server_connections_max: Int<1, 1_000_000> = optional;
        /// Its users, by name. Without any, and without `file` and `query` of `auth`, the user of the primary's URL is the only one.
        user: Named<RawDatabaseUser, PgName> = {};
        /// How clients prove who they are.
        auth: RawDatabaseAuth = {};
        /// Who may connect and how, read from the top: the first rule that fits decides. Who fits none may connect as the
        /// database says.
        rule: List<RawDatabaseRule> = [];
        /// Where statements go, whatever their texts are.
        route: StatementRouteWord = "auto";
        /// Reads on replicas.
        replica: RawReplicaPolicy = {};
        /// Who sees whose writes on replicas, and `"off"` where these may show the past.
        causality: Or<Off, RawCausality> = {};
        /// Changes of the primary.
        failover: RawFailover = {};
        /// Prepared statements.
        prepared: RawPrepared = {};
        /// Bounds of clients.
        limits: RawDatabaseLimits = {};
        /// Times of clients and of connections to servers.
        timeouts: RawDatabaseTimeouts = {};
        /// `LISTEN` in transaction mode.
        notifications: RawNotifications = {};
        /// What happens when a session would have to keep its connection to the server: it does, which is counted and logged, or
        /// the statement is refused, for those who want to find them.
        pin: PinWord = "allow";
        /// Whose process numbers clients are told: those of the `server`, as long as a connection is left for each client to have as its
        /// own, or such that `tenfold` invents.
        pid: PidWord = "server";
        /// What is read of the database's catalogue, to tell functions apart that write. `"off"` reads nothing.
        catalogue: Or<Off, RawCatalogue> = {};
        /// Settings that every connection to a server begins with, such as `{ work_mem = "64MB" }`.
        settings: Map<SettingName, AnyText> = {};
        /// Settings that clients send when they connect and that are dropped, such as `extra_float_digits`.
        ignored_settings: List<PgName> = [];
        /// Whether connections for replication are passed through to the primary.
        replication: Switch = false;
    }
}

table! {
    /// A replica of a database.
    "`replicas` of `[database.NAME]`"
    struct RawReplica {
        /// Where it is.
        url: ServerUrl = required;
        /// Its share of the reads relative to the other replicas.
        weight: Int<1, 1000> = 1;
        /// The zone that it is in. Replicas in the zone of `[runtime]` come before others.
        zone: Zone = optional;
    }
}
