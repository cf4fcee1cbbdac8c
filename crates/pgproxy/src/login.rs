//! Who a client is, what it may, and what it is told before its first statement.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pgroute::SqlState;
use pgroute::auth::scram::{self, Server};
use pgroute::auth::{AuthError, Method, Stored, md5};
use pgroute::session::Settings;
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::frontend::{self, SaslInitial};
use pgroute::wire::startup::{Replication, Startup};
use pgroute::wire::write;

use crate::client::{Refused, Talk, sasl};
use crate::connect::Proof;
use crate::console::Console;
use crate::core::{Held, Tether};
use crate::database::{Database, Seat, find_user, proof_of};
use crate::failure::Failure;
use crate::params::{AuthMethod, DatabaseParams, Mode, RoutePolicy, RuleParams};
use crate::pool::{Local, Own};
use crate::process::Process;
use crate::replicate::Link;
use crate::secrets::Secrets;
use crate::{engage, random, replicate};

/// A client that has proved who it is.
pub(crate) struct Login {
    pub(crate) seat: Seat,
    pub(crate) user: String,
    pub(crate) local: Rc<Local>,
    /// The backend that is its own.
    pub(crate) own: Option<Own>,
    pub(crate) settings: Settings,
    pub(crate) mode: Mode,
    pub(crate) route: RoutePolicy,
    /// Whether backslashes are what they are in its strings, as it begins.
    pub(crate) standard_strings: bool,
    /// Whether its texts can be looked into.
    pub(crate) is_readable: bool,
}

/// What a client has, once it is logged in.
pub(crate) enum Entered {
    Session(Box<Login>),
    Link(Link),
    Console(Console),
}

/// Has a client prove who it is, and tells it what it has to know.
///
/// # Errors
/// When it may not, cannot, or there is no database to greet it with.
pub(crate) async fn login(
    held: &Held,
    tether: &Tether,
    startup: &Startup,
    talk: &mut Talk,
) -> Result<Entered, Refused> {
    let process = &held.core.process;
    let served = &held.place.listener.params().databases;
    let database = process.database(&startup.database).filter(|database| {
        let name = &database.settings().name;
        served.is_empty() || served.iter().any(|served| *served == name.to_string())
    });
    let database = database.or_else(|| replicate::meant(process, &held.place.listener, startup));
    let Some(database) = database else {
        let message = format!("database \"{}\" does not exist", startup.database);
        return Err(Failure::new(SqlState::UNKNOWN_DATABASE, message).into());
    };
    let cells = database.metrics.core(held.core.id);
    match enter(held, tether, startup, talk, &database).await {
        Ok(login) => {
            cells.logins.increment();
            Ok(login)
        }
        Err(refused) => {
            cells.logins_failed.increment();
            Err(refused)
        }
    }
}

async fn enter(
    held: &Held,
    tether: &Tether,
    startup: &Startup,
    talk: &mut Talk,
    database: &Arc<Database>,
) -> Result<Entered, Refused> {
    let params = Arc::clone(&database.settings());
    let user = startup.user.as_str();
    let rule = params.rules.iter().find(|rule| fits(rule, startup, talk));
    if rule.is_some_and(|rule| rule.deny) {
        let message = format!("no rule lets user \"{user}\" connect to database \"{}\" from here", startup.database);
        return Err(Failure::new(SqlState::NOT_AUTHORIZED, message).into());
    }
    let is_replication = startup.replication != Replication::No;
    if is_replication && !params.replication {
        let message = "connections for replication are not passed through";
        let hint = "The database is served without replication = true.";
        return Err(Failure::new(SqlState::NOT_SUPPORTED, message).with_hint(hint).into());
    }
    let proof = prove(held, database, &params, rule, user, talk).await?;
    let too_many = || {
        let message = format!("too many clients of database \"{}\" or user \"{user}\"", startup.database);
        Failure::new(SqlState::TOO_MANY_CONNECTIONS, message)
    };
    let seat = database.admit(user).ok_or_else(too_many)?;
    // In this order, nobody slips in between: whoever kills clients finds this one, or it finds the database disabled.
    let process = &held.core.process;
    let _first = tether.note.set(process.clients.enter(process.next_session(), startup, talk));
    if database.is_disabled() {
        let message = format!("database \"{}\" takes no connections now", startup.database);
        return Err(Failure::new(SqlState::CANNOT_CONNECT_NOW, message).into());
    }
    if is_replication {
        return Ok(Entered::Link(replicate::enter(held, tether, startup, talk, seat, proof).await?));
    }
    let local = place(held, database, user, proof).await?;
    let is_ignored = |name: &str| params.ignored_settings.iter().any(|ignored| ignored.eq_ignore_ascii_case(name));
    let named: Vec<_> = startup.settings.iter().filter(|(name, _)| !is_ignored(name)).cloned().collect();
    let settings = Settings::new(&named);
    let mut lent = engage::own(held, database, &local).await?;
    let own = lent.as_mut().and_then(|lent| lent.own.take());
    let pid = lent.as_ref().filter(|_| own.is_some()).map(|lent| lent.key.pid);
    let reports = engage::reports(held, (database, &local), lent, &settings, &named).await?;
    let found = find_user(&params, user);
    let value = |name: &[u8]| reports.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
    let encoding = value(b"client_encoding").and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    let login = Login {
        user: user.to_owned(),
        settings,
        mode: rule.and_then(|rule| rule.mode).or(found.and_then(|user| user.mode)).unwrap_or(params.mode),
        route: rule.and_then(|rule| rule.route).unwrap_or(params.route),
        standard_strings: value(b"standard_conforming_strings") != Some(b"off"),
        is_readable: pgroute::scan::is_safe_encoding(encoding),
        seat,
        local,
        own,
    };
    let pid = held.tell(pid);
    greet(pid, tether, startup, talk, &reports).await?;
    Ok(Entered::Session(Box::new(login)))
}

/// The pool by which a client is greeted: the primary's, or that of any server that can be asked.
async fn place(held: &Held, database: &Arc<Database>, user: &str, proof: Proof) -> Result<Rc<Local>, Refused> {
    let cluster = database.cluster();
    let until = Instant::now() + database.settings().failover.switch_wait;
    // Whoever watches the servers may need a proof that somebody has left.
    let mut pool = database.pool(&held.core.process, user, Some(proof), &cluster.members[0].params);
    loop {
        let found = {
            let view = cluster.view();
            let replicas = (0..cluster.members.len()).filter(|&at| view.is_usable(at));
            view.primary.or_else(|| replicas.min())
        };
        if let Some(at) = found {
            if at > 0 {
                pool = database.pool(&held.core.process, user, None, &cluster.members[at].params);
            }
            return Ok(held.core.local(&pool));
        }
        let now = Instant::now();
        if now >= until {
            let message = "no server of the database can be asked now";
            return Err(Failure::new(SqlState::CANNOT_CONNECT_NOW, message).into());
        }
        cluster.change(until - now).await;
    }
}

/// Tells a client what it has to know, and that it may ask.
async fn greet(
    pid: i32,
    tether: &Tether,
    startup: &Startup,
    talk: &mut Talk,
    reports: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), Refused> {
    // Version 3.2 takes longer keys, which nobody guesses.
    let secret = if startup.minor >= 2 { random::bytes::<32>().to_vec() } else { random::bytes::<4>().to_vec() };
    tether.set_secret(secret.clone());
    talk.say(|out| {
        write::authentication_ok(out);
        for (name, value) in reports {
            write::parameter_status(out, name, value);
        }
        write::backend_key(out, pid, &secret);
        write::ready(out, TransactionStatus::Idle);
    })
    .await
}

fn fits(rule: &RuleParams, startup: &Startup, talk: &Talk) -> bool {
    let is_in = |list: &[String], name: &String| list.is_empty() || list.contains(name);
    let peer = || talk.socket.peer().map(|peer| peer.ip().to_canonical());
    is_in(&rule.users, &startup.user)
        && is_in(&rule.databases, &startup.database)
        && rule.tls.is_none_or(|tls| tls == talk.socket.is_tls())
        && (rule.clients.is_empty() || peer().is_some_and(|peer| rule.clients.iter().any(|net| net.contains(&peer))))
}

/// Has a client prove that it is the user; by what backends for it can log in. The server is asked about users of whom nothing else is known.
async fn prove(
    held: &Held,
    database: &Arc<Database>,
    params: &DatabaseParams,
    rule: Option<&RuleParams>,
    user: &str,
    talk: &mut Talk,
) -> Result<Proof, Refused> {
    let found = find_user(params, user);
    let known = found.and_then(|user| user.stored.as_ref());
    let query = params.auth.query.as_ref().filter(|_| known.is_none());
    let process = &held.core.process;
    // Strangers do not say where it is asked: without a database for that, there is nobody of whom nothing is known.
    let users = query.and_then(|query| process.askers.users(database, query));
    let asked = match query.zip(users.as_ref()) {
        Some((query, users)) => users.ask(process, database, query, user, talk).await?,
        None => None,
    };
    let stored = known.or(asked.as_ref());
    let has_login = params.primary.user.is_some() || found.is_some_and(|user| user.server_login.is_some());
    let proved = match rule.and_then(|rule| rule.method).unwrap_or(params.auth.method) {
        AuthMethod::Trust if query.is_some() && found.is_none() && asked.is_none() => Err(wrong(user)),
        AuthMethod::Trust if stored.is_some() || found.is_some() || has_login || params.users.is_empty() => {
            Ok(proof_of(stored))
        }
        AuthMethod::Trust => Err(wrong(user)),
        AuthMethod::Password(method) => by(method, (process, &database.secrets), stored, user, talk).await,
    };
    if let Some(users) = users.filter(|_| proved.is_err()) {
        users.doubt(user);
    }
    proved
}

/// Has a client prove that it is a user of whom this is stored.
///
/// # Errors
/// When it does not.
pub(crate) async fn by(
    method: Method,
    (process, secrets): (&Arc<Process>, &Arc<Secrets>),
    stored: Option<&Stored>,
    user: &str,
    talk: &mut Talk,
) -> Result<Proof, Refused> {
    match stored.map_or(method, |stored| stored.method(method)) {
        Method::Scram => by_scram(process, secrets, stored, user, talk).await,
        Method::Md5 => by_md5(stored, user, talk).await,
        Method::Cleartext => by_password(process, stored, user, talk).await,
    }
}

/// The same words for whatever is wrong, so that nobody learns which users there are.
fn wrong(user: &str) -> Refused {
    let message = format!("password authentication failed for user \"{user}\"");
    Failure::new(SqlState::WRONG_PASSWORD, message).into()
}

fn failed(error: AuthError, user: &str) -> Refused {
    match error {
        AuthError::Wrong => wrong(user),
        error => Failure::new(error.sqlstate(), error.to_string()).into(),
    }
}

async fn by_scram(
    process: &Arc<Process>,
    secrets: &Arc<Secrets>,
    stored: Option<&Stored>,
    user: &str,
    talk: &mut Talk,
) -> Result<Proof, Refused> {
    let secret = match stored {
        Some(Stored::Scram(secret)) => secret.clone(),
        Some(Stored::Password(password)) => match secrets.derived(user, password) {
            Some(secret) => secret,
            None => {
                let (secrets, user, password) = (Arc::clone(secrets), user.to_owned(), password.clone());
                beside(process, move || secrets.derive(&user, &password)).await?
            }
        },
        Some(Stored::Md5(_)) | None => scram::Secret::mock(user, &process.mock_key),
    };
    let server = Server::new(secret, None);
    let mechanisms = server.mechanisms();
    talk.say(|out| write::authentication_sasl(out, mechanisms)).await?;
    let message = talk.password().await?;
    let initial = SaslInitial::read(&message)?;
    let data = initial.data.unwrap_or_default();
    let first = server.first(initial.mechanism, data, random::bytes());
    let (answer, server) = first.map_err(|error| failed(error, user))?;
    talk.say(|out| write::authentication_sasl_continue(out, &answer)).await?;
    let message = talk.password().await?;
    let verified = server.finish(sasl(&message)).map_err(|error| failed(error, user))?;
    talk.say(|out| write::authentication_sasl_final(out, &verified.answer)).await?;
    Ok(match stored {
        Some(Stored::Password(password)) => Proof::Password(password.clone()),
        _ => Proof::Keys(verified.keys),
    })
}

async fn by_md5(stored: Option<&Stored>, user: &str, talk: &mut Talk) -> Result<Proof, Refused> {
    let salt = random::bytes();
    talk.say(|out| write::authentication_md5(out, salt)).await?;
    let message = talk.password().await?;
    let given = frontend::password(&message)?;
    let known = stored.and_then(|stored| stored.md5(user));
    if known.is_some_and(|known| md5::is_proof(&known, salt, given)) { Ok(proof_of(stored)) } else { Err(wrong(user)) }
}

async fn by_password(
    process: &Arc<Process>,
    stored: Option<&Stored>,
    user: &str,
    talk: &mut Talk,
) -> Result<Proof, Refused> {
    talk.say(write::authentication_cleartext).await?;
    let message = talk.password().await?;
    let given = std::str::from_utf8(frontend::password(&message)?).map_err(|_| wrong(user))?.to_owned();
    let secret = vocab::Secret::new(given.as_str());
    let (checked, name) = (stored.cloned(), user.to_owned());
    let is_right = beside(process, move || match checked {
        Some(stored) => stored.is_password(&name, &given),
        None => false,
    });
    if is_right.await? { Ok(Proof::Password(secret)) } else { Err(wrong(user)) }
}

/// Does what takes long beside the cores, a few at once.
async fn beside<T: Send + 'static>(process: &Process, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let _permit = process.hashes.acquire().await.map_err(|_| Refused::Gone)?;
    tokio::task::spawn_blocking(work).await.map_err(|_| Refused::Gone)
}
