//! Who asks, and the connection for it.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgroute::SqlState;
use pgroute::auth::{Stored, lookup};
use pgroute::wire::startup::Replication;

use super::{CORE, Users};
use crate::backend::{Age, AskError, Backend};
use crate::connect::{self, Login, Proof};
use crate::core::Core;
use crate::database::Database;
use crate::failure::Failure;
use crate::params::{AuthQuery, ServerParams};

/// What the connection calls itself.
const NAME: &str = "tenfold users";

/// How long nothing may be asked before the connection is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Names mean what they mean to the server: whoever owns the database may have said otherwise for those who connect to it, and would be run
/// as whoever asks.
const BEGIN: &str = "SET search_path = \"$user\", public";

/// A connection, and by what it was made: with another configuration it is another one.
struct Line {
    server: ServerParams,
    login: Login,
    backend: Backend,
}

/// Why there is no answer.
enum Unanswered {
    /// The question is refused.
    Refused(Failure),
    /// The server cannot be asked.
    Away(Failure),
}

/// Asks as long as somebody wants to know something.
pub(crate) async fn run(core: Rc<Core>, users: Arc<Users>) {
    debug_assert_eq!(core.id, CORE);
    let mut line = None;
    users.state().in_the_way = None;
    loop {
        let (next, in_the_way) = {
            let mut state = users.state();
            (state.desk.next(), state.in_the_way.take())
        };
        if let Some((database, address)) = in_the_way {
            line = line.filter(|line: &Line| line.login.database != database || line.server.address != address);
        }
        let Some((user, database)) = next else {
            if wait(&users, &mut line).await {
                continue;
            }
            let mut state = users.state();
            state.is_running = !state.desk.is_idle();
            if state.is_running {
                continue;
            }
            return;
        };
        let answer = ask(&mut line, &core, &database, &users, &user).await;
        let mut state = users.state();
        match &answer {
            Ok(stored) => state.desk.answered(Instant::now(), &user, stored.clone()),
            Err(Unanswered::Refused(_)) => state.desk.refused(&user),
            Err(Unanswered::Away(_)) => state.desk.is_away(Instant::now()),
        }
        drop(state);
        if let Err(Unanswered::Refused(failure) | Unanswered::Away(failure)) = answer {
            tracing::warn!(database = %database.name, code = %failure.code, error = %failure.message, "a user was not looked up");
        }
    }
}

/// Waits for the next question; `false` if none has come for a while.
async fn wait(users: &Users, line: &mut Option<Line>) -> bool {
    let Some(Line { backend, .. }) = line else {
        return tokio::time::timeout(IDLE, users.nudge.notified()).await.is_ok();
    };
    tokio::select! {
        () = users.nudge.notified() => true,
        () = tokio::time::sleep(IDLE) => false,
        // Nothing is due: it is the end, or a word before it.
        _ = poll_fn(|cx| backend.socket.poll_readable(cx)) => {
            if !backend.socket.is_silent() {
                *line = None;
            }
            true
        }
    }
}

async fn ask(
    line: &mut Option<Line>,
    core: &Core,
    database: &Database,
    users: &Users,
    user: &str,
) -> Result<Option<Stored>, Unanswered> {
    let settings = Arc::clone(&database.settings());
    let refused = |message: &str| Unanswered::Refused(Failure::new(SqlState::CANNOT_CONNECT_NOW, message));
    let query = settings.auth.query.as_ref().ok_or_else(|| refused("nobody is to be asked any more"))?;
    let server = server(database).ok_or_else(|| refused("no server can be asked now"))?;
    let login = login(users, query);
    let (text, timeout) = (lookup(&query.text, user), settings.timeouts.connect);
    let kept = line.take().filter(|line| line.server == server && line.login == login);
    if let Some(mut kept) = kept {
        match kept.backend.ask(&text, timeout).await {
            Ok(asked) => {
                *line = Some(kept);
                return Ok(found(asked.rows, user));
            }
            Err(AskError::Refused(failure)) => {
                *line = Some(kept);
                return Err(Unanswered::Refused(failure));
            }
            // It may have been idle for long: another one is made.
            Err(AskError::Broken(_)) => {}
        }
    }
    let away = |error| match error {
        AskError::Refused(failure) | AskError::Broken(failure) => Unanswered::Away(failure),
    };
    let connected = connect::connect(&server, &login, timeout).await.map_err(Unanswered::Away)?;
    let mut backend = Backend::new(pgroute::pool::BackendId(0), core.id, connected, 1, Age::default());
    backend.ask(BEGIN, timeout).await.map_err(away)?;
    match backend.ask(&text, timeout).await {
        Ok(asked) => {
            *line = Some(Line { server, login, backend });
            Ok(found(asked.rows, user))
        }
        Err(AskError::Refused(failure)) => {
            *line = Some(Line { server, login, backend });
            Err(Unanswered::Refused(failure))
        }
        Err(AskError::Broken(failure)) => Err(Unanswered::Away(failure)),
    }
}

/// The server that can be asked now, without what the login says.
fn server(database: &Database) -> Option<ServerParams> {
    let cluster = database.cluster();
    let usable = (0..cluster.members.len()).find(|&at| cluster.view().is_usable(at));
    let server = cluster.view().primary.or(usable)?;
    let mut server =
        ServerParams { dbname: None, user: None, password: None, ..cluster.members[server].params.clone() };
    server.settings.retain(|(name, _)| name != "application_name");
    server.settings.push(("application_name".to_owned(), NAME.to_owned()));
    Some(server)
}

fn login(users: &Users, query: &AuthQuery) -> Login {
    let proof = query.password.clone().map_or(Proof::None, Proof::Password);
    let database = users.realm.database.clone();
    Login { user: query.user.clone(), database, proof, replication: Replication::No }
}

/// What the answer says of a user.
fn found(rows: Vec<Vec<Option<String>>>, user: &str) -> Option<Stored> {
    rows.into_iter().find_map(|row| match &row[..] {
        [Some(name), Some(secret), ..] if name == user => Some(Stored::parse(secret)),
        _ => None,
    })
}
