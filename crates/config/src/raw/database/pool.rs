//! Connections to the servers of a database.

use crate::grammar::table;
use crate::limit::RateText;
use crate::quantity::{Int, Time};
use crate::raw::Limit;
use crate::value::{Off, Or};

/// A life of connections: up to a month.
type Life = Or<Off, Time<1_000, 2_592_000_000>>;

table! {
    /// Connections to a server, of each user.
    "`pool` of `[database.NAME]`"
    struct RawDatabasePool {
        /// Most connections that are kept. By default 20, or as many as `expect` comes to.
        size: Int<1, 10_000> = optional;
        /// Connections that are kept open even if nobody wants them.
        min: Int<0, 10_000> = 0;
        /// Further connections when all of them are lent.
        overflow: Int<0, 10_000> = 0;
        /// How long one of those stays idle before it is closed.
        overflow_idle: Limit = "10s";
        /// Further connections beyond those, when a client has waited for `reserve_after`.
        reserve: Int<0, 10_000> = 0;
        /// See `reserve`.
        reserve_after: Limit = "5s";
        /// Longest wait of a client for a connection. Then its statement fails with `53300`.
        acquire_timeout: Limit = "10s";
        /// How long a connection beyond `min` stays idle before it is closed.
        idle_timeout: Life = "10m";
        /// How long a connection lives, less up to a tenth by chance, so that they do not all end at once.
        lifetime: Life = "1h";
        /// A connection that was idle for longer is asked whether it still answers before it is lent.
        ping_after: Life = "30s";
    }
}

table! {
    /// Connections to a server of one user. What is not said is as `pool` of the database has it.
    "`pool` of `[database.NAME.user.NAME]`"
    struct RawUserPool {
        /// Most connections that are kept.
        size: Int<1, 10_000> = optional;
        /// Connections that are kept open even if nobody wants them.
        min: Int<0, 10_000> = optional;
        /// Further connections when all of them are lent.
        overflow: Int<0, 10_000> = optional;
        /// How long one of those stays idle before it is closed.
        overflow_idle: Limit = optional;
        /// Further connections beyond those, when a client has waited for `reserve_after`.
        reserve: Int<0, 10_000> = optional;
        /// See `reserve`.
        reserve_after: Limit = optional;
        /// Longest wait of a client for a connection.
        acquire_timeout: Limit = optional;
        /// How long a connection beyond `min` stays idle before it is closed.
        idle_timeout: Life = optional;
        /// How long a connection lives.
        lifetime: Life = optional;
        /// A connection that was idle for longer is asked whether it still answers.
        ping_after: Life = optional;
    }
}

table! {
    /// Work that is expected of a database: how many transactions come, and how long one of them keeps a connection. In session mode
    /// sessions are meant.
    "`expect` of `[database.NAME]`"
    struct RawExpect {
        /// How many begin, over all clients of a user.
        rate: RateText = required;
        /// How long one takes on the server, with the pauses of its client in between.
        time: Time<0, 3_600_000> = required;
    }
}
