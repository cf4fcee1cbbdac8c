//! What the database's own catalogue says of names, as far as it matters here. A shell reads it and hands it in.

use std::collections::{HashMap, HashSet};

/// What a function of a name may do; the worst of all that have this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// It only reads.
    Stable,
    /// It may write, or it answers for its own server, but it leaves the session as it was.
    Volatile,
    /// It may do anything: volatile functions that users have written.
    Opaque,
}

/// Names of a database. Without any, what can be known of every database is used.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    functions: HashMap<Box<str>, Function>,
    primary: HashSet<Box<str>>,
    operators: HashSet<Box<str>>,
}

/// Functions that every version has, and that only read. They serve before the catalogue was read, and for databases in which
/// it may not be.
const STABLE: &[&str] = &[
    "abs",
    "age",
    "array_agg",
    "array_append",
    "array_length",
    "array_position",
    "array_to_string",
    "avg",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "ceil",
    "char_length",
    "concat",
    "concat_ws",
    "count",
    "cume_dist",
    "date_part",
    "date_trunc",
    "dense_rank",
    "every",
    "exp",
    "first_value",
    "floor",
    "format",
    "generate_series",
    "initcap",
    "json_agg",
    "json_array_elements",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_each",
    "jsonb_object_agg",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "ln",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "max",
    "md5",
    "min",
    "mod",
    "now",
    "nth_value",
    "ntile",
    "octet_length",
    "percent_rank",
    "percentile_cont",
    "power",
    "rank",
    "regexp_matches",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "row_number",
    "row_to_json",
    "rpad",
    "rtrim",
    "sign",
    "split_part",
    "sqrt",
    "starts_with",
    "statement_timestamp",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "sum",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsquery",
    "to_tsvector",
    "transaction_timestamp",
    "trunc",
    "unnest",
    "upper",
    "version",
];

/// Functions that are stable by the catalogue and yet not for a replica: they take a transaction's number, which a replica
/// cannot, or answer for the connection that they happen to run on.
const OF_THE_PRIMARY: &[&str] = &[
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_backend_pid",
    "pg_conf_load_time",
    "pg_current_snapshot",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_is_other_temp_schema",
    "pg_listening_channels",
    "pg_my_temp_schema",
    "pg_postmaster_start_time",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
];

/// Functions that are volatile by the catalogue and harmless anywhere, if nobody has made others of these names.
const HARMLESS: &[&str] = &["clock_timestamp", "gen_random_uuid", "pg_sleep", "pg_sleep_for", "random", "timeofday"];

impl Catalogue {
    /// Adds a function. `is_builtin` says that it belongs to PostgreSQL, and `volatility` is `pg_proc.provolatile`.
    pub fn add_function(&mut self, name: &str, is_builtin: bool, volatility: u8) {
        let function = match volatility {
            b'i' | b's' if OF_THE_PRIMARY.contains(&name) => Function::Volatile,
            b'i' | b's' => Function::Stable,
            _ if is_builtin && HARMLESS.contains(&name) => Function::Stable,
            _ if is_builtin => Function::Volatile,
            _ => Function::Opaque,
        };
        let known = self.functions.entry(name.into()).or_insert(function);
        *known = function.max(*known);
    }

    /// Adds a name of which only the primary may be asked: a sequence, an unlogged table, a view over volatile functions, or a
    /// volatile function that takes one row, which can be written like one of its columns.
    pub fn add_primary(&mut self, name: &str) {
        self.primary.insert(name.into());
    }

    /// Adds an operator whose function is volatile.
    pub fn add_operator(&mut self, symbol: &str) {
        self.operators.insert(symbol.into());
    }

    /// What a function of this name may do, if there is one that is known.
    pub fn function(&self, name: &str) -> Option<Function> {
        match self.functions.get(name) {
            Some(function) => Some(*function),
            None if !self.functions.is_empty() => None,
            None if STABLE.contains(&name) => Some(Function::Stable),
            None => None,
        }
    }

    /// Whether a name, as it stands in a text, could be one of which only the primary may be asked. Cheap, and often wrong.
    pub(super) fn may_be_of_primary(&self, text: &[u8]) -> bool {
        let name = text.strip_prefix(b"\"").unwrap_or(text);
        !self.primary.is_empty() || name.first().is_some_and(|first| matches!(first, b'p' | b'P')) || !text.is_ascii()
    }

    /// Whether only the primary may be asked of this name, wherever it stands.
    pub fn is_of_primary(&self, name: &str) -> bool {
        // Statistics and locks are those of one server, and of the session that asks.
        name.starts_with("pg_stat")
            || matches!(
                name,
                "pg_locks" | "pg_cursors" | "pg_prepared_statements" | "pg_settings" | "pg_replication_slots"
            )
            || self.primary.contains(name)
    }

    /// Whether an operator stands for a function that a replica may not run.
    pub fn is_volatile_operator(&self, symbol: &str) -> bool {
        !self.operators.is_empty() && self.operators.contains(symbol)
    }
}
