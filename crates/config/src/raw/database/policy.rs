//! How a database is served.

use crate::database::LeaseUrl;
use crate::grammar::{choice, table};
use crate::quantity::{Int, Size, Time};
use crate::raw::Limit;
use crate::value::{Or, Switch, Text, Unlimited};

choice! {
    /// How long a client keeps a connection to a server.
    enum PoolModeWord {
        Transaction = "transaction" also "tx", "xact";
        Session = "session" also "connection";
        Statement = "statement" also "query";
    }
}

choice! {
    /// Where statements go.
    enum StatementRouteWord {
        Auto = "auto" also "automatic", "any", "split";
        Primary = "primary" also "master", "leader", "writer", "rw";
        Replica = "replica" also "slave", "standby", "reader", "ro", "secondary";
    }
}

table! {
    /// Reads on replicas.
    "`replica` of `[database.NAME]`"
    struct RawReplicaPolicy {
        /// How one is picked.
        balance: ReplicaBalanceWord = "least_connections";
        /// A replica that is further behind gets no statement.
        lag_max: Or<Unlimited, Limit> = "10s";
        /// What happens to reads when no replica can serve.
        none: NoReplicaWord = "primary";
    }
}

choice! {
    /// Ways to pick a replica.
    enum ReplicaBalanceWord {
        LeastConnections = "least_connections" also "least_conn", "leastconn", "loc";
        RoundRobin = "round_robin" also "roundrobin", "rr";
        Random = "random" also "rand";
        PowerOfTwo = "power_of_two" also "p2c", "random_two";
        PeakEwma = "peak_ewma" also "ewma", "least_time", "fastest";
    }
}

choice! {
    /// What happens without replicas.
    enum NoReplicaWord {
        Primary = "primary" also "master", "leader", "fallback";
        Error = "error" also "fail", "refuse", "none";
    }
}

table! {
    /// Who sees whose writes on replicas.
    "`causality` of `[database.NAME]`"
    struct RawCausality {
        /// The connection that wrote, all clients of the database, or whoever has the token of the write.
        scope: CausalityWord = "database";
        /// How long a read waits for a replica before it goes to the primary.
        wait_max: Limit = "200ms";
    }
}

choice! {
    /// Among whom a write is seen.
    enum CausalityWord {
        Connection = "connection" also "session", "client";
        Database = "database" also "global", "all";
        Token = "token" also "position", "lsn";
    }
}

table! {
    /// Changes of the primary.
    "`failover` of `[database.NAME]`"
    struct RawFailover {
        /// How long statements wait when there is no primary.
        switch_wait: Limit = "10s";
        /// How often every server is asked what it is.
        watch_interval: Time<100, 60_000> = "1s";
        /// How long an answer to that may take.
        watch_timeout: Time<100, 60_000> = "2s";
        /// A file that keeps which system the servers are, and the newest timeline that was seen of it, so that an old primary is known after a
        /// restart; relative to the file that names it. By default that is forgotten.
        state: Text = optional;
        /// Who may be written to, by a key that others keep. By default whoever is a primary of the newest timeline.
        lease: RawLease = optional;
    }
}

table! {
    /// A key that names the only server which may be written to.
    "`lease` of `failover`"
    struct RawLease {
        /// Where it is asked for, by HTTP without TLS: the status is 200 at the holder alone, as with Patroni's `/primary`. `{host}` and
        /// `{port}` stand for the server's.
        url: LeaseUrl = required;
        /// How long an answer is good, from when it was asked for.
        ttl: Time<100, 3_600_000> = "5s";
        /// How often every server is asked.
        interval: Time<100, 60_000> = "1s";
    }
}

table! {
    /// Prepared statements of clients that share connections.
    "`prepared` of `[database.NAME]`"
    struct RawPrepared {
        /// Bytes of the texts that are shared, about.
        bytes_max: Size<1_048_576, 17_179_869_184> = "64MiB";
        /// Most statements on one connection to a server. What is used least goes.
        per_backend_max: Int<1, 100_000> = 200;
        /// Most names that a client has.
        names_max: Int<1, 1_000_000> = 10000;
    }
}

table! {
    /// Bounds of clients of a database.
    "`limits` of `[database.NAME]`"
    struct RawDatabaseLimits {
        /// Most clients at once. Further ones are refused with `53300`.
        clients_max: Int<1, 1_000_000> = 5000;
        /// Most clients of one user at once. By default only `clients_max` holds.
        clients_per_user_max: Int<1, 1_000_000> = optional;
        /// Largest text of a statement.
        statement_bytes_max: Size<1_024, 536_870_912> = "16MiB";
        /// Bytes of a client's questions without an answer, beyond which nothing more is read from it.
        pipeline_bytes_max: Size<65_536, 536_870_912> = "1MiB";
    }
}

table! {
    /// Times of clients and of connections to servers.
    "`timeouts` of `[database.NAME]`"
    struct RawDatabaseTimeouts {
        /// Time for a connection to a server, its login included.
        connect: Limit = "5s";
        /// Pause after a failed connection before the next one is tried.
        reconnect_pause: Limit = "500ms";
        /// Longest time of a statement; then it is cancelled with `57014`. By default only the server's own bound holds.
        statement: Time<1, 86_400_000> = optional;
        /// Longest time that a client leaves its transaction idle; then it is cut off with `25P03`. By default only the server's
        /// own bound holds.
        idle_in_transaction: Time<1, 86_400_000> = optional;
        /// Longest time of a client without a statement; then it is cut off with `57P05`. By default there is no end to it.
        client_idle: Time<1, 2_592_000_000> = optional;
        /// Time for a connection to be clean again after a session that changed it; then it is closed.
        clean: Limit = "5s";
    }
}

table! {
    /// `LISTEN` of clients that share connections.
    "`notifications` of `[database.NAME]`"
    struct RawNotifications {
        /// Whether one connection listens for all clients; if not, `LISTEN` keeps a connection to the server for each.
        shared: Switch = true;
        /// Most notifications that wait for a client that is not idle. Beyond them it is cut off.
        queue_max: Int<1, 1_000_000> = 1000;
    }
}

choice! {
    /// What happens when a session would have to keep its connection.
    enum PinWord {
        Allow = "allow" also "pin", "keep", "on";
        Error = "error" also "refuse", "deny", "off";
    }
}

choice! {
    /// Whose process numbers clients are told.
    enum PidWord {
        Server = "server" also "backend", "real";
        Tenfold = "tenfold" also "own", "proxy";
    }
}

table! {
    /// What is read of the database's catalogue.
    "`catalogue` of `[database.NAME]`"
    struct RawCatalogue {
        /// How often, for changes that did not pass through Tenfold.
        interval: Time<1_000, 86_400_000> = "1m";
    }
}
