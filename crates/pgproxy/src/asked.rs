//! Users whom the server itself is asked about: `auth.query`.
//!
//! One connection per database asks, one question at a time, so that a flood of names costs the server no more than that. An answer is good for
//! its time, and for a second if there is no such user. Whoever proves a password wrongly has the answer forgotten: the password may be another
//! one since.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pgroute::SqlState;
use pgroute::auth::{Stored, lookup, userlist};
use pgroute::wire::startup::Replication;
use vocab::Secret;

use crate::backend::{Age, AskError, Asked, Backend};
use crate::connect::{self, Login, Proof};
use crate::database::Database;
use crate::failure::Failure;
use crate::params::{AuthQuery, ServerAddress};

/// What the connection calls itself.
const NAME: &str = "tenfold users";

/// How long it is good that there is no such user, and how long an answer is good at least, whoever proves it wrong.
const NOBODY: Duration = Duration::from_secs(1);

/// Answers that are remembered at once.
const ANSWERS_MAX: usize = 10_000;

/// What the server has said.
#[derive(Debug, Default)]
pub(crate) struct Users {
    answers: Mutex<HashMap<String, Answer>>,
    /// Who asks, one after the other.
    asker: tokio::sync::Mutex<Option<Asker>>,
}

#[derive(Clone, Debug)]
struct Answer {
    at: Instant,
    stored: Option<Stored>,
}

#[derive(Debug)]
struct Asker {
    /// What it was made by: with another configuration it is another one.
    query: AuthQuery,
    address: ServerAddress,
    backend: Box<Backend>,
}

impl Users {
    /// What is known of a user, from the server if nobody has asked lately.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn ask(
        &self,
        database: &Database,
        core: usize,
        query: &AuthQuery,
        user: &str,
    ) -> Result<Option<Stored>, Failure> {
        if user.len() > userlist::NAME_BYTES_MAX {
            return Ok(None);
        }
        if let Some(known) = self.known(user, query.ttl) {
            return Ok(known);
        }
        let mut asker = self.asker.lock().await;
        // Somebody before may have asked for the same.
        if let Some(known) = self.known(user, query.ttl) {
            return Ok(known);
        }
        let rows = ask(&mut asker, database, core, query, user).await.map_err(|failure| {
            tracing::warn!(database = %database.name, code = %failure.code, error = %failure.message, "a user was not looked up");
            Failure::new(SqlState::CANNOT_CONNECT_NOW, "users cannot be looked up now")
        })?;
        let stored = rows.rows.into_iter().find_map(|row| match &row[..] {
            [Some(name), Some(secret), ..] if name == user => Some(Stored::parse(secret)),
            _ => None,
        });
        let mut answers = self.answers();
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, answer| answer.stored.is_some() && answer.at.elapsed() < query.ttl);
        }
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(user.to_owned(), Answer { at: Instant::now(), stored: stored.clone() });
        Ok(stored)
    }

    /// Somebody has not proved to be this user: its password may be another one since.
    pub(crate) fn doubt(&self, user: &str) {
        let mut answers = self.answers();
        if answers.get(user).is_some_and(|answer| answer.at.elapsed() >= NOBODY) {
            answers.remove(user);
        }
    }

    fn known(&self, user: &str, ttl: Duration) -> Option<Option<Stored>> {
        let answers = self.answers();
        let answer = answers.get(user)?;
        let ttl = if answer.stored.is_some() { ttl } else { NOBODY };
        (answer.at.elapsed() < ttl).then(|| answer.stored.clone())
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(
    asker: &mut Option<Asker>,
    database: &Database,
    core: usize,
    query: &AuthQuery,
    user: &str,
) -> Result<Asked, Failure> {
    let cluster = database.cluster();
    let usable = (0..cluster.members.len()).find(|&at| cluster.view().is_usable(at));
    let server = cluster.view().primary.or(usable);
    let server = server.ok_or_else(|| Failure::new(SqlState::CANNOT_CONNECT_NOW, "no server can be asked now"))?;
    let server = cluster.members[server].params.clone();
    let (text, timeout) = (lookup(&query.text, user), database.settings().timeouts.connect);
    let kept = asker.take().filter(|asker| asker.query == *query && asker.address == server.address);
    if let Some(Asker { backend, .. }) = kept
        && let Ok(mut backend) = backend.move_to(core)
    {
        match backend.ask(&text, timeout).await {
            Ok(asked) => {
                *asker = Some(Asker { query: query.clone(), address: server.address, backend });
                return Ok(asked);
            }
            Err(AskError::Refused(failure)) => return Err(failure),
            // It may have been idle for long: another one is made.
            Err(AskError::Broken(_)) => {}
        }
    }
    let address = server.address.clone();
    let mut backend = Box::new(connected(database, core, query, server, timeout).await?);
    match backend.ask(&text, timeout).await {
        Ok(asked) => {
            *asker = Some(Asker { query: query.clone(), address, backend });
            Ok(asked)
        }
        Err(AskError::Refused(failure) | AskError::Broken(failure)) => Err(failure),
    }
}

async fn connected(
    database: &Database,
    core: usize,
    query: &AuthQuery,
    mut server: crate::params::ServerParams,
    timeout: Duration,
) -> Result<Backend, Failure> {
    server.settings.retain(|(name, _)| name != "application_name");
    server.settings.push(("application_name".to_owned(), NAME.to_owned()));
    let dbname = query.dbname.clone().or_else(|| server.dbname.clone()).unwrap_or_else(|| database.name.clone());
    let proof = query.password.clone().map_or(Proof::None, |password: Secret| Proof::Password(password));
    let login = Login { user: query.user.clone(), database: dbname, proof, replication: Replication::No };
    let connected = connect::connect(&server, &login, timeout).await?;
    Ok(Backend::new(pgroute::pool::BackendId(0), core, connected, 1, Age::default()))
}
