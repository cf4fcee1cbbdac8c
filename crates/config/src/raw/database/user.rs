//! Who may connect to a database.

use crate::address::Network;
use crate::database::{AuthQueryText, Password, PgName, Query};
use crate::grammar::{choice, table};
use crate::quantity::{Int, Time};
use crate::value::{OneOrMany, Switch, Text};

use super::{PoolModeWord, RawUserPool, StatementRouteWord};

table! {
    /// A user of a database.
    "`[database.NAME.user.NAME]`"
    struct RawDatabaseUser {
        /// Its password, or what `pg_authid` has of it (`SCRAM-SHA-256$...` or `md5...`). Best taken from a variable. By default
        /// that of `file` of `auth`.
        password: Password = optional;
        /// Who Tenfold logs in to servers as for it, in place of what their URLs say.
        server_user: PgName = optional;
        /// The password of that user.
        server_password: Password = optional;
        /// Its pools, where they are not as those of the database.
        pool: RawUserPool = optional;
        /// Its mode. By default the database's.
        mode: PoolModeWord = optional;
        /// Most clients of it at once. By default `clients_per_user_max` of `limits`.
        clients_max: Int<1, 1_000_000> = optional;
    }
}

table! {
    /// How clients prove who they are.
    "`auth` of `[database.NAME]`"
    struct RawDatabaseAuth {
        /// By SCRAM, by MD5, by the password itself (`password`), or not at all (`trust`).
        method: AuthWord = "scram";
        /// A file of users, as PgBouncer's `auth_file`: lines of `"name" "secret"`, relative to the file that names it. A change
        /// of it is noticed.
        file: Text = optional;
        /// The server is asked about users who are not known otherwise: the text, or a table that says who asks.
        query: Query = optional;
    }
}

choice! {
    /// How clients prove who they are.
    enum AuthWord {
        Scram = "scram" also "scram_sha_256", "scramsha256";
        Md5 = "md5";
        Password = "password" also "plain", "cleartext", "clear";
        Trust = "trust" also "any", "none", "off";
    }
}

table! {
    /// A question about users, to the server itself.
    "`query` of `auth`"
    struct RawAuthQuery {
        /// The question, with `$1` for the user's name. It answers with a name and a secret, as `pg_authid` has them.
        text: AuthQueryText = required;
        /// Who asks. By default the user of the primary's URL.
        user: PgName = optional;
        /// The password of that user.
        password: Password = optional;
        /// The database in which it is asked. By default that of the primary's URL, or that of this name; `[database."*"]` has to say it.
        database: PgName = optional;
        /// How long an answer is good. A password that was changed is looked up at once when the old one fails.
        ttl: Time<0, 86_400_000> = "1m";
    }
}

table! {
    /// A rule about who may connect and how. What it does not ask for fits everybody.
    "`rule` of `[database.NAME]`"
    struct RawDatabaseRule {
        /// Users that it is about.
        user: OneOrMany<PgName> = optional;
        /// Names of databases that it is about, in `[database."*"]`.
        database: OneOrMany<PgName> = optional;
        /// Networks of clients that it is about. Clients of Unix sockets have no address.
        client: OneOrMany<Network> = optional;
        /// Whether it is about clients with TLS alone, or without alone.
        tls: Switch = optional;
        /// Whether they may not connect.
        deny: Switch = false;
        /// How they prove who they are. By default as `method` of `auth` says.
        method: AuthWord = optional;
        /// Where their statements go. By default the database's `route`.
        route: StatementRouteWord = optional;
        /// Their mode. By default the user's, or the database's.
        mode: PoolModeWord = optional;
    }
}
