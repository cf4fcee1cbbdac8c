//! The table of a named cache, for programs in other languages.

use crate::address::Listen;
use crate::grammar::table;
use crate::quantity::{Int, Size, Time};
use crate::value::Secret;

/// A patience: from a millisecond to an hour.
type Limit = Time<1, 3_600_000>;

table! {
    /// A cache in memory for programs in any language, which speak to it as to Redis, or by HTTP. Its name stands beside the keys of
    /// `[cache]`, so it is neither `memory` nor `disk`.
    "`[cache.NAME]`"
    struct RawNamedCache {
        /// Where it speaks Redis' protocol. This or `http` is needed. An address beyond loopback needs a password.
        listen: Listen = optional;
        /// Where it speaks HTTP/1.1.
        http: Listen = optional;
        /// Most memory that entries take. What is used least makes room for what is used more.
        memory: Size<1_048_576, 17_592_186_044_416> = "64MiB";
        /// The life of entries that are stored without one. By default they stay for as long as there is room.
        ttl: Time<1, 31_536_000_000> = optional;
        /// Largest value, at most an eighth of `memory`. By default 1 MiB, or that eighth if it is less.
        value_bytes_max: Size<1_024, 536_870_912> = optional;
        /// Most connections at once. Further ones are closed and counted.
        connections_max: Int<1, 10_000_000> = 10000;
        /// What clients must say: by `AUTH`, or as `Authorization: Bearer PASSWORD`. Best taken from a variable.
        password: Secret = optional;
        /// Longest time that a connection waits for its next command. By default there is no end to it, as pools of clients expect
        /// of Redis; with `http` it is 75 s then.
        idle_timeout: Limit = optional;
        /// Longest time that a client takes nothing of its answers, or sends nothing of a command that it has begun.
        stall_timeout: Limit = "30s";
    }
}
