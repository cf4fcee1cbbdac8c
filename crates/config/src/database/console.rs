//! Who may use the console of a listener.

use pgproxy::{ConsoleParams, ConsoleUser};
use pgroute::auth::{Method, Stored};

use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::NamedTable;
use crate::raw::{ConsoleAuthWord, RawConsoleUser, RawListener};

impl NamedTable for RawConsoleUser {
    const HEADER: &str = "listener.NAME.console.user";
    const KEYS: &[&str] = Self::KEYS;
}

/// The console of a listener, if it has one.
pub(super) fn params(key: &str, raw: &RawListener, sink: &mut Sink) -> Option<ConsoleParams> {
    let field = raw.console.as_ref()?;
    let (key, table) = (format!("{key}.console"), &field.value);
    let method = match table.method.value {
        ConsoleAuthWord::Scram => Method::Scram,
        ConsoleAuthWord::Md5 => Method::Md5,
        ConsoleAuthWord::Password => Method::Cleartext,
    };
    let mut users = Vec::new();
    for (name, user) in &table.user.value.tables {
        let Some(password) = &user.password else { continue };
        let stored = password.value.stored();
        if matches!(stored, Stored::Md5(_)) && method == Method::Scram && !table.failed.contains(&"method") {
            let message =
                format!("of user {} only an md5 digest is known, by which nobody is asked by SCRAM", name.value);
            let diagnostic = Diagnostic::error(password.place, format!("{key}.user.{}.password", name.value), message);
            sink.push(diagnostic.fix(format!("write method = \"md5\" in [{key}], or give the password itself")));
        }
        users.push(ConsoleUser { name: name.value.0.clone(), stored, is_admin: user.admin.value.0 });
    }
    if table.user.value.written.is_empty() && !table.user.value.nameless && !table.failed.contains(&"user") {
        let diagnostic = Diagnostic::error(field.place, &*key, "nobody may use the console: no user is named");
        sink.push(diagnostic.fix(format!("add [{key}.user.monitor] with password = \"${{MONITOR_PASSWORD}}\"")));
    }
    Some(ConsoleParams { method, users })
}
