//! The console of a listener.

use crate::database::{Password, PgName};
use crate::entry::Named;
use crate::grammar::{choice, table};
use crate::value::Switch;

table! {
    /// Who may use the console.
    "`console` of `[listener.NAME]`"
    struct RawConsole {
        /// How they prove who they are: by SCRAM, by MD5, or by the password itself (`password`).
        method: ConsoleAuthWord = "scram";
        /// Its users, by name.
        user: Named<RawConsoleUser, PgName> = {};
    }
}

table! {
    /// A user of the console.
    "`[listener.NAME.console.user.NAME]`"
    struct RawConsoleUser {
        /// Its password, or what `pg_authid` has of it (`SCRAM-SHA-256$...` or `md5...`). Best taken from a variable.
        password: Password = required;
        /// Whether it may also change something: `PAUSE`, `RESUME`, `KILL` and the like, `RELOAD` included.
        admin: Switch = false;
    }
}

choice! {
    /// How users of the console prove who they are.
    enum ConsoleAuthWord {
        Scram = "scram" also "scram_sha_256", "scramsha256";
        Md5 = "md5";
        Password = "password" also "plain", "cleartext", "clear";
    }
}
