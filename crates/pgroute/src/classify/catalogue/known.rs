//! What is the same in every database.

/// Functions that every version has, and that only read. They serve before the catalogue was read, and for databases in which
/// it may not be.
pub(super) const STABLE: &[&str] = &[
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
pub(super) const OF_THE_PRIMARY: &[&str] = &[
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
pub(super) const HARMLESS: &[&str] =
    &["clock_timestamp", "gen_random_uuid", "pg_sleep", "pg_sleep_for", "random", "timeofday"];

/// Functions of PostgreSQL's own that leave their session as it was, and are no reads. They serve without a catalogue alone.
pub(super) const VOLATILE: &[&str] = &[
    "nextval",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_backend_pid",
    "pg_cancel_backend",
    "pg_notify",
    "pg_terminate_backend",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "setval",
    "txid_current",
];

/// Functions of PostgreSQL's own that run a text or a table's query, whatever that does.
pub(super) const RUNS_TEXT: &[&str] = &[
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

/// Rows of what [`super::Catalogue::add_row`] takes.
///
/// Objects below 16384 were made with the database. Two extensions count as PostgreSQL's own: their functions are written in C, leave sessions alone,
/// and stand in the defaults of many tables. Dependencies on PostgreSQL's own functions are not in `pg_depend`, so texts are handed over and read.
pub(super) const QUERY: &str = "\
SELECT 'function', p.proname::text, p.provolatile::text || CASE WHEN p.oid < 16384 OR EXISTS (
    SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
      AND e.extname IN ('uuid-ossp', 'pgcrypto')) THEN 'b' ELSE 'u' END
  FROM pg_catalog.pg_proc p WHERE p.prokind <> 'p'
UNION SELECT 'operator', o.oprname::text, '' FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
  WHERE p.provolatile = 'v'
UNION SELECT 'column', p.proname::text, '' FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
  WHERE p.pronargs = 1 AND p.provolatile = 'v' AND p.prorettype <> 0 AND t.typtype = 'c' AND p.oid >= 16384
UNION SELECT 'primary', c.relname::text, '' FROM pg_catalog.pg_class c WHERE c.relkind = 'S' OR c.relpersistence = 'u'
UNION SELECT 'trigger', c.relname::text, '' FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  WHERE NOT t.tgisinternal AND t.tgfoid >= 16384
UNION SELECT 'leads', p.relname::text, c.relname::text FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
UNION SELECT 'leads', p.relname::text, c.relname::text FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
UNION ALL SELECT 'view', c.relname::text, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c
  WHERE c.relkind IN ('v', 'm') AND c.oid >= 16384
UNION ALL SELECT 'policy', c.relname::text, e.text FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid,
  LATERAL (VALUES (pg_catalog.pg_get_expr(p.polqual, p.polrelid)), (pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))) e (text)
  WHERE e.text IS NOT NULL
UNION ALL SELECT 'rule', c.relname::text, pg_catalog.pg_get_ruledef(r.oid) FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_class c ON c.oid = r.ev_class WHERE r.ev_type <> '1' AND r.oid >= 16384
UNION ALL SELECT 'expression', c.relname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
  JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
UNION ALL SELECT 'expression', c.relname::text, pg_catalog.pg_get_expr(k.conbin, k.conrelid) FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid WHERE k.contype = 'c'";
