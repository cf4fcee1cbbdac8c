//! A backend for a client: taken from its pool, brought to its core, and made to be as the client left the last one.

use std::sync::Arc;
use std::time::Instant;

use pgroute::session::Settings;

use crate::backend::{AskError, Asked};
use crate::core::{Core, Held};
use crate::database::Database;
use crate::failure::Failure;
use crate::params::Pid;
use crate::pool::{Lent, Local, NotLent, Own, Reports, Taken};

/// Makes a backend as it began, its prepared statements included: a function may have put another one in the place of one of ours.
const DISCARD: &str = "DISCARD ALL";

/// The number of no session: who logs in has none yet.
const NOBODY: u64 = u64::MAX;

/// The setting that every driver sends, and that no server refuses or changes.
const APPLICATION_NAME: &str = "application_name";

/// Takes a backend if one is there: the asker's own one before others, or one to own.
pub(crate) fn take(core: &Core, local: &Local, now: Instant, own: Option<&Own>, wants_own: bool) -> Taken {
    let taken = local.take(now, own, wants_own);
    // Who waits for one that is being opened takes nothing from anybody.
    if matches!(taken, Taken::Wait(_)) && !local.pool.is_calm() {
        local.give_up();
        core.recall(&local.pool);
    }
    taken
}

/// Brings what was lent to this core. `None` if it turns out to have gone: then another one is to be asked for.
///
/// # Errors
/// When it cannot be brought here.
pub(crate) async fn bring(core: &Core, database: &Database, mut lent: Lent, ping: bool) -> Option<Lent> {
    let is_elsewhere = lent.core != core.id;
    if is_elsewhere {
        database.metrics.core(core.id).moves.increment();
        lent = lent.move_to(core.id).ok()?;
    }
    // Whatever has come says that it is out of step, or goes. The runtime knows nothing yet of one that has just come here.
    let is_silent = if is_elsewhere { lent.socket.is_silent_below() } else { lent.socket.is_silent() };
    if !is_silent {
        return None;
    }
    if ping {
        let timeout = database.settings().timeouts.connect;
        Box::pin(lent.ask("", timeout)).await.ok()?;
    }
    Some(lent)
}

/// Whether a backend is as a client left its last one, so that nothing has to be said to it.
pub(crate) fn is_prepared(lent: &Lent, session: u64, settings: &Settings) -> bool {
    (!lent.is_tainted || lent.last_session == session) && settings.is_applied(&lent.applied)
}

/// Makes a backend as a client left its last one.
///
/// # Errors
/// When the server refuses a setting: it cannot serve this client. Or when the connection breaks.
pub(crate) async fn prepare(
    core: &Core,
    database: &Database,
    lent: &mut Lent,
    session: u64,
    settings: &Settings,
) -> Result<Asked, AskError> {
    if lent.is_tainted && lent.last_session != session {
        discard(core, database, lent).await?;
    }
    let mut told = Asked::default();
    while let Some(text) = settings.difference(&mut lent.applied) {
        database.metrics.core(core.id).replays.increment();
        match lent.ask(&text, database.settings().timeouts.clean).await {
            Ok(asked) => told.reports.extend(asked.reports),
            Err(error) => {
                // Some of it may have been set.
                lent.is_tainted = true;
                lent.last_session = 0;
                return Err(error);
            }
        }
    }
    Ok(told)
}

/// Makes a backend as it began, as a whole.
///
/// # Errors
/// When the server refuses, or the connection breaks.
pub(crate) async fn discard(core: &Core, database: &Database, lent: &mut Lent) -> Result<(), AskError> {
    let timeout = database.settings().timeouts.clean;
    database.metrics.core(core.id).resets.increment();
    lent.ask(DISCARD, timeout).await?;
    lent.applied.clear();
    lent.held.clear();
    lent.texts.clear();
    lent.sequences.clear();
    lent.shown.clear();
    lent.unnamed = None;
    lent.is_tainted = false;
    lent.last_session = 0;
    Ok(())
}

/// A backend that is the client's own from its login on, where clients are told of those, and one is left that is nobody's.
///
/// # Errors
/// Why none could be opened, if the server does not want this client.
pub(crate) async fn own(held: &Held, database: &Arc<Database>, local: &Local) -> Result<Option<Lent>, Failure> {
    if database.settings().pid != Pid::Server {
        return Ok(None);
    }
    // Where there is none at all, nobody knows whether the server lets anybody in still: it is waited for until that is known.
    let asks = local.pool.has_room() || local.pool.has_none();
    let taken = if asks { Some(acquire(&held.core, database, local, true).await) } else { None };
    match (taken, local.pool.refused()) {
        (Some(Ok(lent)), _) if lent.own.is_some() => Ok(Some(lent)),
        // Without a proxy, it would not be let in either.
        (taken, Some(refused)) => {
            taken.into_iter().flatten().for_each(Lent::release);
            Err(refused)
        }
        (Some(Err(failure)), None) if local.pool.template().is_none() => Err(failure),
        // Whatever it is may be over when the client asks for something.
        (taken, None) => Ok(taken.and_then(Result::ok)),
    }
}

/// What a client is told of settings at its beginning. Mostly that is known; otherwise a backend is asked, as the client would have it: the
/// one that it has, or any.
///
/// # Errors
/// When the server refuses a setting, or there is no backend.
pub(crate) async fn reports(
    held: &Held,
    (database, local): (&Arc<Database>, &Local),
    lent: Option<Lent>,
    settings: &Settings,
    named: &[(String, String)],
) -> Result<Reports, Failure> {
    let is_name = |name: &str| name.eq_ignore_ascii_case(APPLICATION_NAME);
    let mut others: Vec<_> = named.iter().filter(|(name, _)| !is_name(name)).cloned().collect();
    others.sort();
    let mut reports = match local.pool.greeting(&others) {
        Some(reports) => {
            lent.into_iter().for_each(|lent| local.give(lent));
            reports
        }
        None => {
            let lent = match lent {
                Some(lent) => lent,
                None => acquire(&held.core, database, local, false).await?,
            };
            let epoch = lent.age.epoch;
            let reports = ask_reports(&held.core, (database, local), lent, settings, !others.is_empty()).await?;
            local.pool.set_greeting(others, reports.clone(), epoch);
            reports
        }
    };
    if let Some((_, value)) = named.iter().rev().find(|(name, _)| is_name(name)) {
        set(&mut reports, APPLICATION_NAME.as_bytes(), value.as_bytes());
    }
    Ok(reports)
}

async fn ask_reports(
    core: &Core,
    (database, local): (&Arc<Database>, &Local),
    mut lent: Lent,
    settings: &Settings,
    has_others: bool,
) -> Result<Reports, Failure> {
    let mut reports = local.pool.template().as_ref().clone().unwrap_or_default();
    if has_others {
        // A tainted one is reset by this, which reports as well. Whoever had it last does not find it as it was left.
        let asked = prepare(core, database, &mut lent, NOBODY, settings).await;
        lent.last_session = 0;
        match asked {
            Ok(asked) => asked.reports.iter().for_each(|(name, value)| set(&mut reports, name, value)),
            Err(AskError::Refused(failure) | AskError::Broken(failure)) => {
                if lent.is_clean() {
                    local.give(lent);
                }
                return Err(failure);
            }
        }
    }
    local.give(lent);
    // Whatever server was asked: the client has one that can be written to.
    if let Some((_, value)) = reports.iter_mut().find(|(name, _)| name == b"in_hot_standby") {
        *value = b"off".to_vec();
    }
    Ok(reports)
}

/// A backend, however long that takes within the pool's time. Where it is `to_own`, it is nobody else's, as long as there is such a one.
///
/// # Errors
/// When none is free in time, or none can be opened.
pub(crate) async fn acquire(
    core: &Core,
    database: &Arc<Database>,
    local: &Local,
    to_own: bool,
) -> Result<Lent, Failure> {
    let deadline = Instant::now() + local.pool.acquire_timeout();
    loop {
        let (lent, ping) = match take(core, local, Instant::now(), None, to_own) {
            Taken::Now(lent, ping) => (lent, ping),
            Taken::Wait(mut waiting) => {
                let handed = std::future::poll_fn(|cx| waiting.poll(cx));
                match tokio::time::timeout_at(deadline.into(), handed).await {
                    Ok(Ok(handed)) => handed,
                    Ok(Err(NotLent::Failed(failure))) => return Err(Failure::clone(&failure)),
                    Ok(Err(NotLent::TimedOut)) | Err(_) => {
                        return Err(local.pool.timed_out());
                    }
                }
            }
        };
        if let Some(lent) = bring(core, database, lent, ping).await {
            return Ok(lent);
        }
    }
}

fn set(reports: &mut Reports, name: &[u8], value: &[u8]) {
    match reports.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value.to_vec(),
        None => reports.push((name.to_vec(), value.to_vec())),
    }
}
