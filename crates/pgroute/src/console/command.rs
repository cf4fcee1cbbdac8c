//! The words of the console.

use thiserror::Error;

use crate::SqlState;

/// What there is to say, as `SHOW HELP` tells it.
pub const HELP: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW LISTS|REPLICAS
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL <db>";

/// What the console is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing: the text is empty.
    Nothing,
    /// A table, or help.
    Show(Show),
    /// Something is to be done, which only some may.
    Change(Change),
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// What there is to say.
    Help,
    /// The program's name and version.
    Version,
    /// Pools, by database and user.
    Pools,
    /// Clients.
    Clients,
    /// Connections to servers.
    Servers,
    /// Totals, and averages of the last minute.
    Stats,
    /// Totals.
    StatsTotals,
    /// Averages of the last minute.
    StatsAverages,
    /// Databases.
    Databases,
    /// How many there are of each.
    Lists,
    /// Settings of the listener.
    Config,
    /// Users.
    Users,
    /// Servers by their roles. PgBouncer has no such thing.
    Replicas,
}

/// What is done, to one database or to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// No connections are lent; those that are lent come back first.
    Pause(Option<String>),
    /// They are lent again.
    Resume(Option<String>),
    /// All are made anew, as they come back.
    Reconnect(Option<String>),
    /// Clients and connections end at once, and none are lent until `RESUME`.
    Kill(String),
    /// No new client is let in.
    Disable(String),
    /// Clients are let in again.
    Enable(String),
    /// The configuration is read again.
    Reload,
}

/// Why a text is no command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Wrong {
    /// It is none that anybody knows.
    #[error("invalid command '{0}', use SHOW HELP;")]
    Unknown(String),
    /// PgBouncer has it, and Tenfold has not.
    #[error("{what} is not possible here: {instead}")]
    NotHere {
        /// What was asked for.
        what: &'static str,
        /// What to do instead, or why not.
        instead: &'static str,
    },
    /// It is about one database, which it does not name.
    #[error("a database is required")]
    NoDatabase,
}

/// Characters of an unknown command that are repeated.
const ECHO_MAX: usize = 100;

impl Wrong {
    /// The code that the client is told.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Unknown(_) | Self::NoDatabase => SqlState::SYNTAX_ERROR,
            Self::NotHere { .. } => SqlState::NOT_SUPPORTED,
        }
    }
}

impl Command {
    /// Reads a text: one command, with a semicolon behind it or without. Keywords are in any case; names stand as they are, or in quotes.
    ///
    /// # Errors
    /// [`Wrong`] when it is no command.
    ///
    /// ```
    /// use pgroute::console::{Command, Show};
    ///
    /// assert_eq!(Command::parse("show pools;"), Ok(Command::Show(Show::Pools)));
    /// assert!(Command::parse("SELECT 1").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let unknown = || Wrong::Unknown(text.trim().chars().take(ECHO_MAX).collect());
        let words = words(text).ok_or_else(unknown)?;
        let mut words = words.iter().map(String::as_str);
        let (Some(verb), object, None) = (words.next(), words.next(), words.next()) else {
            return if text.trim_matches(|c: char| c.is_ascii_whitespace() || c == ';').is_empty() {
                Ok(Self::Nothing)
            } else {
                instead(text).map_or_else(|| Err(unknown()), Err)
            };
        };
        let named = object.map(str::to_owned);
        let one = || object.map(str::to_owned).ok_or(Wrong::NoDatabase);
        Ok(match (&*verb.to_ascii_uppercase(), object) {
            ("SHOW", Some(object)) => Self::Show(show(object)?.ok_or_else(unknown)?),
            ("PAUSE", _) => Self::Change(Change::Pause(named)),
            ("RESUME", _) => Self::Change(Change::Resume(named)),
            ("RECONNECT", _) => Self::Change(Change::Reconnect(named)),
            ("KILL", _) => Self::Change(Change::Kill(one()?)),
            ("DISABLE", _) => Self::Change(Change::Disable(one()?)),
            ("ENABLE", _) => Self::Change(Change::Enable(one()?)),
            ("RELOAD", None) => Self::Change(Change::Reload),
            _ => return Err(instead(text).unwrap_or_else(unknown)),
        })
    }
}

/// What is shown by a word; an error where only PgBouncer has it.
fn show(word: &str) -> Result<Option<Show>, Wrong> {
    let not_here = |what, instead| Err(Wrong::NotHere { what, instead });
    Ok(Some(match &*word.to_ascii_uppercase() {
        "HELP" => Show::Help,
        "VERSION" => Show::Version,
        "POOLS" => Show::Pools,
        "CLIENTS" => Show::Clients,
        "SERVERS" => Show::Servers,
        "STATS" => Show::Stats,
        "STATS_TOTALS" => Show::StatsTotals,
        "STATS_AVERAGES" => Show::StatsAverages,
        "DATABASES" => Show::Databases,
        "LISTS" => Show::Lists,
        "CONFIG" => Show::Config,
        "USERS" => Show::Users,
        "REPLICAS" => Show::Replicas,
        "MEM" => return not_here("SHOW MEM", "memory is not kept in caches by kind; see the metrics of the process"),
        "FDS" => return not_here("SHOW FDS", "sockets are handed over by tenfold upgrade alone"),
        "SOCKETS" | "ACTIVE_SOCKETS" => return not_here("SHOW SOCKETS", "use SHOW CLIENTS and SHOW SERVERS"),
        "DNS_HOSTS" | "DNS_ZONES" => return not_here("SHOW DNS_HOSTS", "names are looked up at every connection"),
        "TOTALS" => return not_here("SHOW TOTALS", "use SHOW STATS_TOTALS"),
        _ => return Ok(None),
    }))
}

/// What is to be done in place of what only PgBouncer has.
fn instead(text: &str) -> Option<Wrong> {
    let verb = text.split_ascii_whitespace().next()?.trim_end_matches(';').to_ascii_uppercase();
    let (what, instead) = match &*verb {
        "SET" => ("SET", "change the file, and RELOAD"),
        "SHUTDOWN" => ("SHUTDOWN", "stop the process itself"),
        "SUSPEND" => ("SUSPEND", "use PAUSE, or tenfold upgrade"),
        "WAIT_CLOSE" => ("WAIT_CLOSE", "use RECONNECT, and look at SHOW SERVERS"),
        _ => return None,
    };
    Some(Wrong::NotHere { what, instead })
}

/// The words of a text; `None` when it is more than one command, or a quote is open.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            ';' => {
                let rest = rest[1..].trim_start();
                return rest.is_empty().then_some(words);
            }
            '"' | '\'' => {
                let (word, after) = quoted(&rest[1..], first)?;
                words.push(word);
                after
            }
            _ => {
                let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, ';' | '"' | '\''));
                let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
                words.push(word.to_owned());
                after
            }
        }
        .trim_start();
    }
    Some(words)
}

/// A word up to its closing quote, which stands for itself where it stands twice; and what is behind it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let (mut word, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once(quote)?;
        word.push_str(before);
        match after.strip_prefix(quote) {
            Some(behind) => {
                word.push(quote);
                rest = behind;
            }
            None => return Some((word, after)),
        }
    }
}
