//! The table of the resolver.

use crate::grammar::{choice, table};
use crate::quantity::{Int, Time};
use crate::resolver::NameServer;
use crate::value::{OneOrMany, Switch};

table! {
    /// How names of endpoints are resolved. They are asked for again when their answers say so.
    "`[resolver]`"
    struct RawResolver {
        /// Name servers, by address; the port is 53 unless it is said. By default those of `/etc/resolv.conf`.
        servers: OneOrMany<NameServer> = optional;
        /// Time for one answer of one server.
        timeout: Time<10, 60_000> = "1s";
        /// How often each server is asked before a lookup has failed.
        attempts: Int<1, 10> = 3;
        /// Whether names are completed by the search domains of `/etc/resolv.conf`, where its servers are asked.
        search: Switch = true;
        /// Which addresses are asked for: `all`, `ipv4` or `ipv6`.
        family: FamilyWord = "all";
        /// An answer is good for at least this long, whatever it says.
        ttl_min: Time<100, 3_600_000> = "1s";
        /// An answer is good for at most this long, whatever it says.
        ttl_max: Time<100, 604_800_000> = "1h";
        /// Most addresses of one name that are used; the rest is left out, and the log says so.
        addresses_max: Int<1, 65535> = 1000;
        /// What an answer does that a name has no addresses: the last ones stay (`keep`) or go (`remove`).
        when_empty: WhenEmptyWord = "keep";
        /// How long the last answer stays while no other comes. By default without end.
        stale_max: Time<1_000, 2_592_000_000> = optional;
    }
}

choice! {
    /// Families of addresses.
    enum FamilyWord {
        All = "all" also "any", "both", "dual", "auto";
        Ipv4 = "ipv4" also "4", "v4", "a", "inet";
        Ipv6 = "ipv6" also "6", "v6", "aaaa", "inet6";
    }
}

choice! {
    /// What becomes of the last addresses.
    enum WhenEmptyWord {
        Keep = "keep" also "hold", "stay", "last", "stale";
        Remove = "remove" also "drop", "clear", "empty", "delete";
    }
}
