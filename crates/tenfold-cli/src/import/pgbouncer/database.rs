//! Databases and their pools.

use std::time::Duration;

use anyhow::Context;

use super::auth::Auth;
use super::{HOUR, Translation};
use crate::import::ini::{self, Entry};
use crate::import::{Note, write};

/// The longest that connections live or stay idle in Tenfold's file.
const MONTH: Duration = Duration::from_hours(30 * 24);

/// Where a server of PostgreSQL has its Unix socket on most systems.
const SOCKET_FOLDER: &str = "/run/postgresql";

/// A database, with what its line says.
struct Database<'e> {
    entry: &'e Entry,
    pairs: Vec<(String, String)>,
}

impl Database<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Translation<'_> {
    /// All databases.
    ///
    /// # Errors
    /// Where a connection string is none.
    pub(super) fn databases(&mut self, auth: &Auth) -> anyhow::Result<()> {
        let entries = self.file.section("databases").unwrap_or_default();
        let mut all_ask = true;
        if entries.is_empty() {
            self.notes.push(Note::of_all("there is no database"));
        }
        for entry in entries {
            let pairs = ini::pairs(&entry.value)
                .with_context(|| format!("line {}: the connection string of {}", entry.line, entry.key))?;
            let database = Database { entry, pairs };
            all_ask &= database.get("auth_user").or(auth.asker.as_deref()).is_some();
            self.database(&database, auth);
        }
        if !all_ask && auth.is_nobody() {
            let text = "there is no auth_file, and no auth_user: only users of connection strings can log in";
            self.notes.push(Note::of_all(text));
        }
        Ok(())
    }

    fn database(&mut self, database: &Database<'_>, auth: &Auth) {
        let name = write::key(&database.entry.key);
        self.text.push_str(&format!("\n[database.{name}]\n"));
        let primary = self.primary(database, auth);
        self.line("primary", &primary);
        self.server_tls();
        let mode = self.mode(database.get("pool_mode").or(self.value("pool_mode")), database.entry.line);
        if mode != "transaction" {
            self.line("mode", &write::text(mode));
        }
        self.pool(database);
        let asker = database.get("auth_user").or(auth.asker.as_deref()).map(str::to_owned);
        let is_anywhere = database.entry.key == "*" && database.get("dbname").is_none();
        self.write_auth(auth, asker.as_deref(), is_anywhere);
        self.limits(database);
        self.timeouts();
        self.settings(database);
        self.unknown(database);
        self.settings_of_users(&name, asker.is_some(), auth);
    }

    /// The URL of the server.
    fn primary(&mut self, database: &Database<'_>, auth: &Auth) -> String {
        let line = database.entry.line;
        let port = database.get("port").unwrap_or("5432");
        let dbname = database.get("dbname").map_or_else(String::new, write::escaped);
        let login = match database.get("user") {
            None => String::new(),
            Some(user) => {
                let user_in_url = write::escaped(user);
                if database.get("password").is_some() || auth.may_know(user) {
                    let variable = write::variable(user);
                    let what = format!("the password of {user} on the server, with %40 for @ and the like");
                    self.ask_for(&variable, &what);
                    format!("{user_in_url}:${{{variable}}}@")
                } else {
                    format!("{user_in_url}@")
                }
            }
        };
        let host = database.get("host").unwrap_or_default();
        let mut hosts = host.split(',').map(str::trim);
        let first = hosts.next().unwrap_or_default();
        if hosts.next().is_some() {
            let text = "several hosts are asked in turn by PgBouncer: the first one was taken; if the others are replicas, name them in replicas";
            self.notes.push(Note::at(line, text));
        }
        if first.is_empty() || first.starts_with('/') {
            let folder = if first.is_empty() { self.value("unix_socket_dir").unwrap_or(SOCKET_FOLDER) } else { first };
            return write::raw(&format!("postgres://{login}/{dbname}?host={folder}&port={port}"));
        }
        let host = if first.contains(':') { format!("[{first}]") } else { first.to_owned() };
        let port = if port == "5432" { String::new() } else { format!(":{port}") };
        let mode = self.sslmode().map_or_else(String::new, |mode| format!("?sslmode={mode}"));
        write::raw(&format!("postgres://{login}{host}{port}/{dbname}{mode}"))
    }

    /// TLS with servers as a URL says it.
    fn sslmode(&mut self) -> Option<&'static str> {
        let has_files = self.value("server_tls_ca_file").or(self.value("server_tls_cert_file")).is_some();
        let mode = match self.setting("server_tls_sslmode") {
            None => {
                self.once("server_tls_sslmode is not set: newer versions of PgBouncer try TLS then, which ?sslmode=prefer in the URLs does here");
                return None;
            }
            Some(entry) => entry.value.as_str(),
        };
        match mode {
            "prefer" | "allow" if has_files => None,
            "prefer" | "allow" => Some("prefer"),
            // With files, a table says it all.
            "require" | "verify-ca" | "verify-full" if has_files => None,
            "require" => Some("require"),
            "verify-ca" | "verify-full" => Some("verify-full"),
            _ => None,
        }
    }

    /// TLS with servers where files are named.
    fn server_tls(&mut self) {
        let Some(entry) = self.setting("server_tls_sslmode") else { return };
        let verifies = matches!(entry.value.as_str(), "verify-ca" | "verify-full");
        if entry.value == "verify-ca" {
            self.once("server_tls_sslmode verify-ca: the name of the host is verified as well here");
        }
        let (certificate, key) = (self.value("server_tls_cert_file"), self.value("server_tls_key_file"));
        let ca = self.value("server_tls_ca_file").filter(|_| verifies);
        if entry.value == "disable" || ca.is_none() && certificate.is_none() {
            return;
        }
        if matches!(entry.value.as_str(), "prefer" | "allow") {
            self.once("server_tls_sslmode prefer with a certificate: TLS is asked for always here");
        }
        let mut tls = Vec::new();
        tls.extend(ca.map(|file| ("ca", write::text(file))));
        tls.extend(certificate.map(|file| ("certificate", write::text(file))));
        tls.extend(key.map(|file| ("key", write::text(file))));
        if !verifies {
            tls.push(("verify", "false".to_owned()));
        }
        tls.extend(self.min_version("server_tls_protocols"));
        if let Some(tls) = write::table(&tls) {
            self.line("tls", &tls);
        }
    }

    /// Tells something once, however many databases it is about.
    fn once(&mut self, text: &str) {
        let note = Note::of_all(text);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn mode(&mut self, mode: Option<&str>, line: usize) -> &'static str {
        match mode {
            // PgBouncer's default, and not Tenfold's.
            None | Some("session") => "session",
            Some("transaction") => "transaction",
            Some("statement") => "statement",
            Some(_) => {
                self.notes.push(Note::at(line, "pool_mode is unknown: session was put in"));
                "session"
            }
        }
    }

    /// A number of a database's own line, or of the setting for all.
    fn number_of(&mut self, database: &Database<'_>, own: &[&str], all: &str) -> Option<u32> {
        let Some(text) = own.iter().find_map(|name| database.get(name)) else { return self.number(all) };
        let number = text.parse().ok();
        if number.is_none() {
            self.notes.push(Note::at(database.entry.line, format!("{} is no number, and is left out", own[0])));
        }
        number
    }

    fn pool(&mut self, database: &Database<'_>) {
        let mut pairs = Vec::new();
        let size = self.number_of(database, &["pool_size"], "default_pool_size");
        pairs.extend(size.map(|size| ("size", size.max(1).to_string())));
        let min = self.number_of(database, &["min_pool_size"], "min_pool_size").unwrap_or_default();
        let min = min.min(size.unwrap_or(20).max(1));
        if min > 0 {
            pairs.push(("min", min.to_string()));
        }
        let wait = self.seconds("query_wait_timeout", HOUR);
        let wait = wait.map(|wait| if wait.is_zero() { HOUR } else { wait });
        let reserve = self.number_of(database, &["reserve_pool_size", "reserve_pool"], "reserve_pool_size");
        let after = self.seconds("reserve_pool_timeout", HOUR).unwrap_or(Duration::from_secs(5));
        let is_used = !after.is_zero() && after < wait.unwrap_or(Duration::from_secs(10));
        match reserve.filter(|reserve| *reserve > 0) {
            Some(reserve) if is_used => {
                pairs.push(("reserve", reserve.to_string()));
                pairs.push(("reserve_after", write::duration(after)));
            }
            Some(_) => self
                .once("reserve_pool_size has no effect: reserve_pool_timeout is 0, or not before query_wait_timeout"),
            None => {}
        }
        pairs.extend(wait.map(|wait| ("acquire_timeout", write::duration(wait))));
        if wait == Some(HOUR) {
            self.once("query_wait_timeout: nobody waits for longer than an hour");
        }
        pairs.extend(self.life("server_idle_timeout").map(|life| ("idle_timeout", life)));
        if self.value("server_lifetime").is_some_and(|life| life.parse() == Ok(0.0)) {
            self.once("server_lifetime 0: connections are not used once only; they live for an hour");
        } else {
            pairs.extend(self.life("server_lifetime").map(|life| ("lifetime", life)));
        }
        pairs.extend(self.ping_after().map(|after| ("ping_after", after)));
        if let Some(table) = write::table(&pairs) {
            self.line("pool", &table);
        }
    }

    fn life(&mut self, name: &str) -> Option<String> {
        let time = self.seconds(name, MONTH)?;
        Some(if time.is_zero() { "\"off\"".to_owned() } else { write::duration(time.max(Duration::from_secs(1))) })
    }

    fn ping_after(&mut self) -> Option<String> {
        match self.setting("server_check_query") {
            Some(entry) if entry.value.trim_matches('\'').is_empty() => return Some("\"off\"".to_owned()),
            Some(entry) if !entry.value.trim_matches(['\'', ';']).eq_ignore_ascii_case("select 1") => {
                let note = Note::at(entry.line, "server_check_query: an empty query is asked in its place");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            }
            _ => {}
        }
        let after = self.seconds("server_check_delay", MONTH)?;
        Some(write::duration(after.max(Duration::from_secs(1))))
    }

    fn limits(&mut self, database: &Database<'_>) {
        let clients = self.number_of(database, &["max_db_client_connections"], "max_db_client_connections");
        let of_user = self.number("max_user_client_connections");
        let pairs = [("clients_max", clients), ("clients_per_user_max", of_user)];
        let pairs = pairs.into_iter().filter_map(|(name, number)| Some((name, number.filter(|n| *n > 0)?.to_string())));
        if let Some(table) = write::table(&pairs.collect::<Vec<_>>()) {
            self.line("limits", &table);
        }
        if let Some(most) = self.number("max_prepared_statements").filter(|most| *most > 0) {
            self.line("prepared", &format!("{{ per_backend_max = {most} }}"));
        }
    }

    fn timeouts(&mut self) {
        let day = Duration::from_hours(24);
        let names = [
            ("connect", "server_connect_timeout", HOUR),
            ("reconnect_pause", "server_login_retry", HOUR),
            ("statement", "query_timeout", day),
            ("idle_in_transaction", "idle_transaction_timeout", day),
            ("client_idle", "client_idle_timeout", MONTH),
        ];
        let mut pairs = Vec::new();
        for (name, theirs, most) in names {
            let time = self.seconds(theirs, most).filter(|time| !time.is_zero());
            pairs.extend(time.map(|time| (name, write::duration(time))));
        }
        if let Some(table) = write::table(&pairs) {
            self.line("timeouts", &table);
        }
    }

    fn settings(&mut self, database: &Database<'_>) {
        let names = ["client_encoding", "datestyle", "timezone", "application_name"];
        let own = |name: &&'static str| Some((*name, write::text(database.get(name)?)));
        if let Some(table) = write::table(&names.iter().filter_map(own).collect::<Vec<_>>()) {
            self.line("settings", &table);
        }
        if let Some(names) = self.value("ignore_startup_parameters") {
            let names: Vec<_> =
                names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
            if !names.is_empty() {
                self.line("ignored_settings", &write::list(&names));
            }
        }
    }

    /// Tells of what a database's line says and has no counterpart.
    fn unknown(&mut self, database: &Database<'_>) {
        const KNOWN: [&str; 18] = [
            "dbname",
            "host",
            "port",
            "user",
            "password",
            "auth_user",
            "pool_size",
            "min_pool_size",
            "reserve_pool",
            "reserve_pool_size",
            "pool_mode",
            "max_db_client_connections",
            "client_encoding",
            "datestyle",
            "timezone",
            "application_name",
            "auth_query",
            "auth_dbname",
        ];
        for (key, _) in &database.pairs {
            let reason = match key.as_str() {
                "connect_query" => "has no counterpart: write what it sets as settings",
                "max_db_connections" => "has no counterpart: each user has a pool of its own; lower `size` of `pool`",
                "auth_query" | "auth_dbname" => "of a database is not taken over: write it as query of auth",
                "load_balance_hosts" | "server_lifetime" => "of a database is not taken over",
                key if KNOWN.contains(&key) => continue,
                _ => "is not known",
            };
            self.notes.push(Note::at(database.entry.line, format!("{key} {reason}")));
        }
    }

    /// What `[users]` says, for one database.
    fn settings_of_users(&mut self, database: &str, asks: bool, auth: &Auth) {
        for entry in self.file.section("users").unwrap_or_default() {
            let user = &entry.key;
            if !auth.may_know(user) && !asks && auth.method != "trust" {
                self.tell(Note::at(entry.line, format!("user {user} is in no auth_file, and is left out")));
                continue;
            }
            let Ok(pairs) = ini::pairs(&entry.value) else {
                self.tell(Note::at(entry.line, format!("what is said of {user} is not understood, and is left out")));
                continue;
            };
            let mut lines = Vec::new();
            for (key, value) in &pairs {
                match key.as_str() {
                    "pool_mode" => {
                        let mode = self.mode(Some(value), entry.line);
                        lines.push(("mode", write::text(mode)));
                    }
                    "pool_size" if value.parse::<u32>().is_ok() => {
                        lines.push(("pool", format!("{{ size = {value} }}")));
                    }
                    "max_user_client_connections" if value.parse::<u32>().is_ok_and(|most| most > 0) => {
                        lines.push(("clients_max", value.clone()));
                    }
                    "max_user_client_connections" => {}
                    "max_user_connections" => {
                        let text = "max_user_connections has no counterpart: lower size of the user's pools";
                        self.tell(Note::at(entry.line, text));
                    }
                    _ => self.tell(Note::at(entry.line, format!("{key} of a user has no counterpart"))),
                }
            }
            if !lines.is_empty() {
                self.text.push_str(&format!("\n[database.{database}.user.{}]\n", write::key(user)));
                lines.iter().for_each(|(name, value)| self.line(name, value));
            }
        }
    }

    /// Tells something, unless it was told of another database.
    fn tell(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}
