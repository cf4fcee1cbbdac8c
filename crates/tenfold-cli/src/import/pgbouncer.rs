//! PgBouncer's configuration in Tenfold's terms.

mod auth;
mod database;

use std::path::Path;
use std::time::Duration;

use super::ini::{Entry, File};
use super::setting::{Fate, fate};
use super::{Imported, Note, write};

/// PgBouncer's own port.
const PORT: &str = "6432";

/// Where it has its Unix socket if nothing is said.
const SOCKET_FOLDER: &str = "/tmp";

/// The longest of most times in Tenfold's file.
const HOUR: Duration = Duration::from_hours(1);

/// A translation under way.
struct Translation<'f> {
    file: &'f File,
    text: String,
    notes: Vec<Note>,
    /// Whether clients of other machines reach it.
    is_open: bool,
}

/// Translates a file. `userlist` is where its users are now.
///
/// # Errors
/// Where a connection string of a database is none.
pub(super) fn translate(file: &File, userlist: Option<&Path>) -> anyhow::Result<Imported> {
    let mut this = Translation { file, text: String::new(), notes: Vec::new(), is_open: false };
    this.fates();
    this.listener();
    let auth = this.auth(userlist);
    this.databases(&auth)?;
    this.notes.sort_by_key(|note| note.line);
    // What is said of every database is told once.
    let mut told: Vec<Note> = Vec::new();
    this.notes.retain(|note| {
        let is_new = !told.contains(note);
        told.push(note.clone());
        is_new
    });
    let mut text =
        String::from("# Made by `tenfold import`. What it could not take over was said on standard error, and is:\n");
    for Note { line, text: note } in &this.notes {
        match line {
            Some(line) => text.push_str(&format!("#   line {line}: {note}\n")),
            None => text.push_str(&format!("#   {note}\n")),
        }
    }
    if this.notes.is_empty() {
        text.push_str("#   nothing\n");
    }
    text.push_str(&this.text);
    Ok(Imported { text, notes: this.notes })
}

impl<'f> Translation<'f> {
    /// Tells of all that is not translated.
    fn fates(&mut self) {
        for include in &self.file.includes {
            let text = format!("{} is not read: translate it too, and put the tables into one file", include.value);
            self.notes.push(Note::at(include.line, text));
        }
        for name in self.file.names().filter(|name| !matches!(*name, "databases" | "pgbouncer" | "users")) {
            let text = match name {
                "peers" => {
                    "[peers] has no counterpart: one process uses all cores, and knows whom to cancel".to_owned()
                }
                _ => format!("the section [{name}] is not known"),
            };
            self.notes.push(Note::of_all(text));
        }
        for Entry { key, line, .. } in self.file.section("pgbouncer").unwrap_or_default() {
            let text = match fate(key) {
                Some(Fate::Translated) => continue,
                Some(Fate::Needless(reason)) => format!("{key} is not needed: {reason}"),
                Some(Fate::Missing(reason)) => format!("{key} has no counterpart: {reason}"),
                None => format!("{key} is not a setting that is known"),
            };
            self.notes.push(Note::at(*line, text));
        }
    }

    /// A setting of `[pgbouncer]`; the last one counts.
    fn setting(&self, name: &str) -> Option<&'f Entry> {
        self.file.section("pgbouncer")?.iter().rev().find(|entry| entry.key == name)
    }

    fn value(&self, name: &str) -> Option<&'f str> {
        self.setting(name).map(|entry| entry.value.as_str())
    }

    /// A number of a setting, if there is one that can be read.
    fn number(&mut self, name: &str) -> Option<u32> {
        let entry = self.setting(name)?;
        let number = entry.value.parse().ok();
        if number.is_none() {
            self.notes.push(Note::at(entry.line, format!("{name} is no number, and is left out")));
        }
        number
    }

    /// A time of a setting in seconds, if there is one that can be read. What is longer than `most` is cut.
    fn seconds(&mut self, name: &str, most: Duration) -> Option<Duration> {
        let entry = self.setting(name)?;
        let seconds = entry.value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match seconds {
            None => self.notes.push(Note::at(entry.line, format!("{name} is no number of seconds, and is left out"))),
            Some(time) if time > most => {
                let shown = write::duration(most);
                self.notes
                    .push(Note::at(entry.line, format!("{name} is {shown} now, which is the longest that there is")));
            }
            Some(_) => {}
        }
        seconds.map(|time| time.min(most))
    }

    /// Where it listens.
    fn listener(&mut self) {
        let port = self.value("listen_port").unwrap_or(PORT);
        let mut listen = self.addresses(port);
        let folder = self.value("unix_socket_dir");
        match folder {
            Some("") => {}
            Some(folder) if folder.starts_with('/') => {
                listen.push(format!("{}/.s.PGSQL.{port}", folder.trim_end_matches('/')));
            }
            Some(_) => {
                let line = self.setting("unix_socket_dir").map(|entry| entry.line);
                let text = "unix_socket_dir is no folder: only sockets that are files are served".to_owned();
                self.notes.push(Note { line, text });
            }
            None if listen.is_empty() => listen.push(format!("{SOCKET_FOLDER}/.s.PGSQL.{port}")),
            None => {
                let text = format!(
                    "the Unix socket in {SOCKET_FOLDER}, where PgBouncer has one if nothing is said, is left out"
                );
                self.notes.push(Note::of_all(text));
            }
        }
        let mut known = Vec::new();
        listen.retain(|at| {
            let is_new = !known.contains(at);
            known.push(at.clone());
            is_new
        });
        if listen.is_empty() {
            self.notes.push(Note::of_all("it listens nowhere, so 127.0.0.1 was put in"));
            listen.push(format!("127.0.0.1:{port}"));
        }
        self.text.push_str("\n[listener.databases]\nkind = \"postgres\"\n");
        self.line("listen", &write::list(&listen));
        if let Some(most) = self.number("max_client_conn") {
            self.line("connections_max", &most.max(1).to_string());
        }
        if let Some(time) = self.seconds("client_login_timeout", HOUR).filter(|time| !time.is_zero()) {
            self.line("login_timeout", &write::duration(time));
        }
        self.client_tls();
    }

    fn addresses(&mut self, port: &str) -> Vec<String> {
        let Some(entry) = self.setting("listen_addr") else { return Vec::new() };
        let mut listen = Vec::new();
        for address in entry.value.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            match address {
                "*" => listen.extend([format!("0.0.0.0:{port}"), format!("[::]:{port}")]),
                "localhost" => listen.push(format!("127.0.0.1:{port}")),
                _ => match address.parse::<std::net::IpAddr>() {
                    Ok(address) if address.is_ipv6() => listen.push(format!("[{address}]:{port}")),
                    Ok(address) => listen.push(format!("{address}:{port}")),
                    Err(_) => {
                        let text =
                            format!("{address} is a name, and listeners have addresses: write the address itself");
                        self.notes.push(Note::at(entry.line, text));
                        continue;
                    }
                },
            }
            let is_loopback = |text: &String| text.starts_with("127.") || text.starts_with("[::1]");
            self.is_open |= !listen.last().is_some_and(is_loopback);
        }
        listen
    }

    /// TLS with clients.
    fn client_tls(&mut self) {
        let Some(mode) = self.setting("client_tls_sslmode").filter(|entry| entry.value != "disable") else { return };
        let (certificate, key) = (self.value("client_tls_cert_file"), self.value("client_tls_key_file"));
        let (Some(certificate), Some(key)) = (certificate, key) else {
            let text = "client_tls_sslmode needs client_tls_cert_file and client_tls_key_file, and is left out";
            self.notes.push(Note::at(mode.line, text));
            return;
        };
        let mut tls = vec![("certificate", write::text(certificate)), ("key", write::text(key))];
        if matches!(mode.value.as_str(), "allow" | "prefer") {
            tls.push(("required", "false".to_owned()));
        }
        if matches!(mode.value.as_str(), "verify-ca" | "verify-full") {
            match self.value("client_tls_ca_file") {
                Some(file) => tls.push(("client_ca", write::text(file))),
                None => {
                    let text = "client_tls_sslmode asks for certificates of clients, and no client_tls_ca_file says whose are believed";
                    self.notes.push(Note::at(mode.line, text));
                }
            }
        }
        tls.extend(self.min_version("client_tls_protocols"));
        if let Some(tls) = write::table(&tls) {
            self.line("tls", &tls);
        }
    }

    /// The oldest version of TLS, where it is not that of Tenfold's.
    fn min_version(&mut self, name: &str) -> Option<(&'static str, String)> {
        let entry = self.setting(name)?;
        let versions: Vec<_> = entry.value.split([',', ':']).map(str::trim).collect();
        if versions.iter().any(|version| matches!(*version, "tlsv1.0" | "tlsv1.1" | "all" | "legacy")) {
            self.notes.push(Note::at(entry.line, format!("{name}: TLS before 1.2 is not spoken")));
        }
        (versions == ["tlsv1.3"]).then(|| ("min_version", "\"1.3\"".to_owned()))
    }

    /// Writes a key.
    fn line(&mut self, key: &str, value: &str) {
        self.text.push_str(&format!("{key} = {value}\n"));
    }
}
