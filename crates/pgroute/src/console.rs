//! The console: what PgBouncer's tools ask a proxy in a database of its own, and what they are answered.
//!
//! They send one command as a simple query and read a table by the names of its columns, or by their places. So the columns are those of PgBouncer
//! 1.18, their order and types included. What Tenfold does not count is NULL and never invented; what it has and PgBouncer has not is a command
//! of its own, [`Show::Replicas`], because views over `dblink` break at a column that they do not expect.
//!
//! [`Command::parse`] reads a text, [`table`] makes the rows from a [`Snapshot`], and [`Averages`] keeps what is counted per second.
//!
//! Source: PgBouncer's manual, "Admin console", and what version 1.18 sends.

mod averages;
mod command;
mod snapshot;
mod table;
mod time;

pub use averages::{Averages, PERIOD};
pub use command::{Change, Command, HELP, Show, Wrong};
pub use snapshot::{ClientLine, Counts, DatabaseLine, PoolLine, ReplicaLine, ServerLine, Setting, Snapshot, UserLine};
pub use table::{Kind, Table, table};

/// Names of the database that the console is.
pub const NAMES: [&str; 2] = ["tenfold", "pgbouncer"];
