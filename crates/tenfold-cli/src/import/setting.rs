//! What becomes of each setting of PgBouncer's.

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is translated.
    Translated,
    /// Nothing is lost without it, for this reason.
    Needless(&'static str),
    /// It has no counterpart, or another place.
    Missing(&'static str),
}

use Fate::{Missing, Needless, Translated};

const LOG: &str = "the program's log goes to standard error; see [log]";
const METRICS: &str = "figures are on the admin listener's /metrics";
const TCP: &str = "Tenfold sets what its connections need";
const DNS: &str = "host names are looked up at every connection to a server";
const RESET: &str = "Tenfold knows what a session has changed, and makes a connection clean where that is needed";

const SETTINGS: &[(&str, Fate)] = &[
    ("listen_addr", Translated),
    ("listen_port", Translated),
    ("unix_socket_dir", Translated),
    ("unix_socket_mode", Missing("every user of the machine may connect to the socket")),
    ("unix_socket_group", Missing("every user of the machine may connect to the socket")),
    ("pool_mode", Translated),
    ("max_client_conn", Translated),
    ("default_pool_size", Translated),
    ("min_pool_size", Translated),
    ("reserve_pool_size", Translated),
    ("reserve_pool_timeout", Translated),
    ("max_db_client_connections", Translated),
    ("max_user_client_connections", Translated),
    (
        "max_db_connections",
        Missing("each user has a pool of its own, and no bound holds for all of them; lower `size` of `pool`"),
    ),
    (
        "max_user_connections",
        Missing("the pools of a user in several databases have no bound in common; lower `size` of `pool`"),
    ),
    ("server_round_robin", Missing("the connection that was given back last is lent first")),
    ("track_extra_parameters", Needless("every setting that a session changes is tracked")),
    ("ignore_startup_parameters", Translated),
    ("peer_id", Needless("one process uses all cores")),
    ("so_reuseport", Needless("one process uses all cores")),
    ("disable_pqexec", Missing("simple queries are served")),
    ("application_name_add_host", Missing("application_name stays as the client says")),
    ("conffile", Needless("the file is named on the command line")),
    ("service_name", Needless("it is for Windows")),
    ("job_name", Needless("it is for Windows")),
    ("user", Needless("start Tenfold as the user that it is to run as")),
    ("logfile", Needless(LOG)),
    ("pidfile", Needless("a service manager knows the process")),
    ("syslog", Needless(LOG)),
    ("syslog_ident", Needless(LOG)),
    ("syslog_facility", Needless(LOG)),
    ("log_connections", Needless(METRICS)),
    ("log_disconnections", Needless(METRICS)),
    ("log_pooler_errors", Needless(LOG)),
    ("log_stats", Needless(METRICS)),
    ("stats_period", Needless(METRICS)),
    ("verbose", Needless("write level in [log]")),
    ("admin_users", Missing("name each, with a password, in [listener.NAME.console.user.NAME] with admin = true")),
    ("stats_users", Missing("name each, with a password, in [listener.NAME.console.user.NAME]")),
    ("auth_type", Translated),
    ("auth_file", Translated),
    ("auth_user", Translated),
    ("auth_query", Translated),
    ("auth_dbname", Translated),
    ("auth_hba_file", Missing("write its lines as [[database.NAME.rule]]")),
    ("auth_ident_file", Missing("users are not renamed")),
    ("auth_ldap_options", Missing("there is no LDAP")),
    ("server_reset_query", Needless(RESET)),
    ("server_reset_query_always", Needless(RESET)),
    ("server_check_delay", Translated),
    ("server_check_query", Translated),
    ("server_fast_close", Missing("in session mode a connection stays as it is until its session ends")),
    ("server_lifetime", Translated),
    ("server_idle_timeout", Translated),
    ("server_connect_timeout", Translated),
    ("server_login_retry", Translated),
    ("client_login_timeout", Translated),
    ("autodb_idle_timeout", Needless("databases of a wildcard go when there are many of them and nobody uses them")),
    ("dns_max_ttl", Needless(DNS)),
    ("dns_nxdomain_ttl", Needless(DNS)),
    ("dns_zone_check_period", Needless(DNS)),
    ("resolv_conf", Needless(DNS)),
    ("client_tls_sslmode", Translated),
    ("client_tls_key_file", Translated),
    ("client_tls_cert_file", Translated),
    ("client_tls_ca_file", Translated),
    ("client_tls_protocols", Translated),
    ("client_tls_ciphers", Missing("ciphers are those of rustls")),
    ("client_tls13_ciphers", Missing("ciphers are those of rustls")),
    ("client_tls_ecdhcurve", Missing("curves are those of rustls")),
    ("client_tls_dheparams", Missing("key exchanges are those of rustls")),
    ("server_tls_sslmode", Translated),
    ("server_tls_ca_file", Translated),
    ("server_tls_key_file", Translated),
    ("server_tls_cert_file", Translated),
    ("server_tls_protocols", Translated),
    ("server_tls_ciphers", Missing("ciphers are those of rustls")),
    ("server_tls13_ciphers", Missing("ciphers are those of rustls")),
    ("query_timeout", Translated),
    ("query_wait_timeout", Translated),
    ("query_wait_notify", Missing("nobody is told that a client waits")),
    ("cancel_wait_timeout", Needless("a request to cancel waits for no pool")),
    ("client_idle_timeout", Translated),
    ("idle_transaction_timeout", Translated),
    ("transaction_timeout", Missing("set the server's own transaction_timeout, from version 17 on")),
    ("suspend_timeout", Needless("see `tenfold upgrade`")),
    ("max_prepared_statements", Translated),
    ("max_packet_size", Missing("only the text of a statement has a bound: `statement_bytes_max` of `limits`")),
    ("pkt_buf", Needless("buffers are as large as they have to be")),
    ("sbuf_loopcnt", Needless("buffers are as large as they have to be")),
    ("scram_iterations", Needless("secrets keep the iterations that they were made with")),
    ("listen_backlog", Needless(TCP)),
    ("tcp_defer_accept", Needless(TCP)),
    ("tcp_socket_buffer", Needless(TCP)),
    ("tcp_keepalive", Needless(TCP)),
    ("tcp_keepcnt", Needless(TCP)),
    ("tcp_keepidle", Needless(TCP)),
    ("tcp_keepintvl", Needless(TCP)),
    ("tcp_user_timeout", Needless(TCP)),
];

/// What becomes of a setting; `None` for one that PgBouncer does not know either.
pub(super) fn fate(name: &str) -> Option<Fate> {
    SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, fate)| *fate)
}
