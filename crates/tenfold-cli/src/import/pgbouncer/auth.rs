//! Who may connect.

use std::path::Path;

use pgroute::auth::{Stored, userlist};

use super::Translation;
use crate::import::{Note, write};

/// What PgBouncer asks when nothing is said.
const QUERY: &str = "SELECT usename, passwd FROM pg_shadow WHERE usename=$1";

/// Where those are asked about who come to any database, if nothing is said.
const PLACE: &str = "postgres";

/// How clients prove who they are, for all databases.
#[derive(Default)]
pub(super) struct Auth {
    pub(super) method: &'static str,
    file: Option<String>,
    /// The users of the file, if it could be read.
    users: Option<Vec<(String, Stored)>>,
    /// Who asks the server about others.
    pub(super) asker: Option<String>,
}

impl Auth {
    /// Whether a user is in the file; also when that cannot be told.
    pub(super) fn may_know(&self, user: &str) -> bool {
        match (&self.users, &self.file) {
            (Some(users), _) => users.iter().any(|(name, _)| name == user),
            (None, file) => file.is_some(),
        }
    }

    /// Whether nobody is known but those of connection strings.
    pub(super) fn is_nobody(&self) -> bool {
        self.method != "trust" && self.users.as_ref().map_or(self.file.is_none(), Vec::is_empty)
    }
}

impl Translation<'_> {
    /// How clients prove who they are. `userlist` is where the users are now.
    pub(super) fn auth(&mut self, userlist: Option<&Path>) -> Auth {
        let method = self.method();
        let file = userlist.map(|path| path.display().to_string());
        let file = file.or(self.value("auth_file").map(str::to_owned));
        let users = file.as_deref().and_then(|file| self.users(file, method));
        let asker = self.value("auth_user").map(str::to_owned);
        Auth { method, file, users, asker }
    }

    fn method(&mut self) -> &'static str {
        let entry = self.setting("auth_type");
        let (value, line) = entry.map_or(("md5", None), |entry| (entry.value.as_str(), Some(entry.line)));
        let mut told = |text: &str| self.notes.push(Note { line, text: text.to_owned() });
        match value {
            "md5" => "md5",
            "scram-sha-256" => "scram",
            "plain" => "password",
            "trust" | "any" if self.is_open => {
                told(
                    "auth_type lets anybody in from other machines, which Tenfold refuses: scram was put in; \
                      write [[database.NAME.rule]] with client and method = \"trust\" for networks that may",
                );
                "scram"
            }
            "trust" => "trust",
            "any" => {
                told("auth_type any is trust here: clients keep the names that they give");
                "trust"
            }
            "hba" => {
                told("auth_type hba: md5 was put in; write the lines of auth_hba_file as [[database.NAME.rule]]");
                "md5"
            }
            "cert" => {
                told(
                    "auth_type cert has no counterpart: md5 was put in, and certificates are asked for by client_ca of tls",
                );
                "md5"
            }
            other => {
                let text = format!("auth_type {other} has no counterpart: scram was put in");
                told(&text);
                "scram"
            }
        }
    }

    /// The users of a file; `None` if it is not there or not understood, which is said.
    fn users(&mut self, file: &str, method: &str) -> Option<Vec<(String, Stored)>> {
        let line = self.setting("auth_file").map(|entry| entry.line);
        let mut told = |text: String| self.notes.push(Note { line, text });
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                told(format!(
                    "{file} cannot be read ({error}): say by --userlist where it is; users were not looked at"
                ));
                return None;
            }
        };
        match userlist::read(&text) {
            Ok(users) => {
                let digest = users.iter().filter(|(_, stored)| matches!(stored, Stored::Md5(_)));
                let digests: Vec<_> = digest.map(|(name, _)| name.as_str()).collect();
                if method == "scram" && !digests.is_empty() {
                    let names = digests.join(", ");
                    told(format!(
                        "{file}: of {names} only an md5 digest is known, by which nobody is asked by SCRAM: give \
                                  their passwords or SCRAM secrets, or write method = \"md5\""
                    ));
                }
                Some(users)
            }
            Err(error) => {
                told(format!("{file}: {error}; PgBouncer passes over what follows, Tenfold wants it mended"));
                None
            }
        }
    }

    /// The table `auth` of a database whose users are asked about by `asker`; `is_anywhere` if it stands for any database.
    pub(super) fn write_auth(&mut self, auth: &Auth, asker: Option<&str>, is_anywhere: bool) {
        let mut pairs = Vec::new();
        if auth.method != "scram" {
            pairs.push(("method", write::text(auth.method)));
        }
        pairs.extend(auth.file.as_deref().map(|file| ("file", write::text(file))));
        if let Some(asker) = asker {
            let text = self.value("auth_query").unwrap_or(QUERY);
            let mut query = vec![("text", write::text(text)), ("user", write::text(asker))];
            if auth.may_know(asker) {
                let variable = write::variable(asker);
                query.push(("password", write::raw(&format!("${{{variable}}}"))));
                self.ask_for(&variable, &format!("the password of {asker}"));
            }
            let mut place = self.value("auth_dbname");
            if place.is_none() && is_anywhere {
                // A stranger does not say where the server is asked.
                place = Some(PLACE);
                let text = "without auth_dbname users would be looked up in whatever database a client names: \
                            for any name they are in postgres; have it answer auth_query there";
                self.notes.push(Note::of_all(text));
            }
            query.extend(place.map(|name| ("database", write::text(name))));
            pairs.extend(write::table(&query).map(|query| ("query", query)));
        }
        if let Some(table) = write::table(&pairs) {
            self.line("auth", &table);
        }
    }

    /// Says once that a variable has to be set.
    pub(super) fn ask_for(&mut self, variable: &str, what: &str) {
        let note = Note::of_all(format!("set {variable} to {what}"));
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}
