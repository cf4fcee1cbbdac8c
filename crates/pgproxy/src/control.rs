//! What a person does to databases: by `tenfold db`, or in the console. Both come here.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::core::Message;
use crate::database::Database;
use crate::params::ServerAddress;
use crate::pool::Pool;
use crate::process::Process;

/// Reloads that wait to be heard.
const RELOADS_MAX: usize = 4;

/// Whose connections are closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Those of all clients, and all connections to servers.
    All,
    /// That of the client with this number.
    Client(u64),
    /// Those of clients that have a connection to this server just now, as `HOST:PORT` or the file of a Unix socket, and all connections to it.
    Server(String),
}

/// What is to be done cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    /// There is no such database.
    #[error("no such database: {0}")]
    NoDatabase(String),
    /// There is no such client of the database.
    #[error("database {0}: no client has number {1}")]
    NoClient(String, u64),
    /// The database has no such server.
    #[error("database {0}: it has no server {1}; there are: {2}")]
    NoServer(String, String, String),
}

/// Somebody in the console asks for the configuration to be read again.
#[derive(Debug)]
pub struct ReloadAsk(oneshot::Sender<Result<(), String>>);

impl ReloadAsk {
    /// Says what came of it: an error is what was wrong.
    pub fn answer(self, result: Result<(), String>) {
        let _nobody_waits = self.0.send(result);
    }
}

/// A pause of databases.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    databases: Vec<Arc<Database>>,
    /// Those of them that were paused already.
    before: Vec<Arc<Database>>,
    /// Whether it is of all, and was not yet.
    is_of_all: bool,
}

impl Pause {
    /// Whether nobody has resumed any of them.
    pub(crate) fn is_on(&self) -> bool {
        self.databases.iter().all(|database| database.is_paused())
    }

    /// How many of their connections clients have now.
    pub(crate) fn lent(&self) -> usize {
        self.databases.iter().flat_map(|database| database.pools()).map(|pool| pool.backends().lent).sum()
    }
}

/// Whose connections a client was told to be closed, since it looked last.
#[derive(Debug, Default)]
pub(crate) struct Orders(Vec<Arc<Whom>>);

impl Orders {
    /// Takes another one. None takes the place of one before it, and there are only so many servers.
    pub(crate) fn add(&mut self, whom: &Arc<Whom>) {
        if !self.0.contains(whom) {
            self.0.push(Arc::clone(whom));
        }
    }

    /// Whether a client is meant that has a connection to this server, or to none.
    pub(crate) fn is_meant(&mut self, server: Option<&ServerAddress>) -> bool {
        let is_meant = self.0.iter().any(|whom| match &**whom {
            Whom::All | Whom::Client(_) => true,
            Whom::Server(name) => server.is_some_and(|server| server.to_string() == *name),
        });
        // What it gets from now on is not.
        if !is_meant {
            self.0.clear();
        }
        is_meant
    }
}

impl Process {
    /// The databases that are meant: one, or all that there are.
    fn meant(&self, name: Option<&str>) -> Result<Vec<Arc<Database>>, ControlError> {
        let mut databases = self.databases();
        if let Some(name) = name {
            databases.retain(|database| database.name == name);
            if databases.is_empty() {
                return Err(ControlError::NoDatabase(name.to_owned()));
            }
        }
        Ok(databases)
    }

    /// Lends no connections from now on; those that are lent come back as their transactions end. Without a name, databases that come later lend
    /// none either.
    pub(crate) fn pause(&self, name: Option<&str>) -> Result<Pause, ControlError> {
        let mut pause = Pause::default();
        let mut tell = |database: &Arc<Database>| {
            pause.databases.push(Arc::clone(database));
            pause.before.extend(database.is_paused().then(|| Arc::clone(database)));
            database.pause();
        };
        match name {
            Some(_) => self.meant(name)?.iter().for_each(&mut tell),
            None => pause.is_of_all = !self.set_paused(true, tell),
        }
        Ok(pause)
    }

    /// Takes a pause back: what was paused before it stays so.
    pub(crate) fn undo(&self, pause: &Pause) {
        let resume = |database: &Arc<Database>| {
            if !pause.before.iter().any(|before| Arc::ptr_eq(before, database)) {
                database.resume();
            }
        };
        if pause.is_of_all {
            self.set_paused(false, resume);
        } else {
            pause.databases.iter().for_each(resume);
        }
    }

    /// Lends them again.
    pub(crate) fn resume(&self, name: Option<&str>) -> Result<(), ControlError> {
        match name {
            Some(_) => self.meant(name)?.iter().for_each(|database| database.resume()),
            None => _ = self.set_paused(false, |database| database.resume()),
        }
        Ok(())
    }

    /// Has all connections made anew: those that nobody has at once, the others as they come back.
    pub(crate) fn reconnect(&self, name: Option<&str>) -> Result<(), ControlError> {
        self.meant(name)?.iter().flat_map(|database| database.pools()).for_each(|pool| pool.reconnect());
        Ok(())
    }

    /// Takes new clients of a database, or none from now on.
    pub(crate) fn set_disabled(&self, name: &str, is_disabled: bool) -> Result<(), ControlError> {
        self.meant(Some(name))?.iter().for_each(|database| database.set_disabled(is_disabled));
        Ok(())
    }

    /// Closes clients' connections, with what they have under way. They hear `57P01`. Before that it takes no new ones any more, if it is to
    /// refuse them; nothing is done when there is nobody who is meant.
    pub(crate) async fn kill(&self, name: &str, whom: &Whom, refuse: bool) -> Result<(), ControlError> {
        let databases = self.meant(Some(name))?;
        let reconnect = |of: &dyn Fn(&Pool) -> bool| {
            databases
                .iter()
                .flat_map(|database| database.pools())
                .filter(|pool| of(pool))
                .for_each(|pool| pool.reconnect());
        };
        // Before anybody hears of an end, or those who do would be back at once.
        let refuse = || databases.iter().filter(|_| refuse).for_each(|database| database.set_disabled(true));
        match whom {
            Whom::All => {
                refuse();
                reconnect(&|_| true);
            }
            Whom::Client(number) if !self.clients.is_there(name, *number) => {
                return Err(ControlError::NoClient(name.to_owned(), *number));
            }
            Whom::Client(_) => refuse(),
            Whom::Server(server) => {
                let members = databases.iter().flat_map(|database| database.servers());
                let members: Vec<String> = members.collect();
                if !members.contains(server) {
                    return Err(ControlError::NoServer(name.to_owned(), server.clone(), members.join(", ")));
                }
                refuse();
                reconnect(&|pool| pool.target().server.address.to_string() == *server);
            }
        }
        let (name, whom): (Arc<str>, _) = (name.into(), Arc::new(whom.clone()));
        for core in 0..self.cores.len() {
            let message = Message::Kill(Arc::clone(&name), Arc::clone(&whom));
            let _core_ended = self.cores.send(core, message).await;
        }
        Ok(())
    }

    /// Hears from now on of reloads that the console asks for.
    pub(crate) fn hear_reloads(&self) -> mpsc::Receiver<ReloadAsk> {
        let (asks, asked) = mpsc::channel(RELOADS_MAX);
        self.reloads.store(Some(Arc::new(asks)));
        asked
    }

    /// Has the configuration read again; what was wrong, if it was not applied.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let nobody = || "the process reads no configuration now".to_owned();
        let asks = self.reloads.load_full().ok_or_else(nobody)?;
        let (answer, answered) = oneshot::channel();
        asks.send(ReloadAsk(answer)).await.map_err(|_| nobody())?;
        answered.await.map_err(|_| nobody())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_order_weakens_another() {
        let server = |port| ServerAddress::Tcp { host: "db.example.com".into(), port };
        let [one, two] = [server(1), server(2)];
        let of = |address: &ServerAddress| Arc::new(Whom::Server(address.to_string()));
        for whom in [Whom::All, Whom::Client(7)] {
            let mut orders = Orders::default();
            orders.add(&Arc::new(whom));
            orders.add(&of(&one));
            assert!(orders.is_meant(None) && orders.is_meant(Some(&two)), "{orders:?}");
        }
        let mut orders = Orders::default();
        [&one, &two, &one].iter().for_each(|address| orders.add(&of(address)));
        assert_eq!(orders.0.len(), 2);
        assert!(orders.is_meant(Some(&one)) && orders.is_meant(Some(&two)));
        // It had none when it looked: what it gets then is not meant.
        assert!(!orders.is_meant(None) && !orders.is_meant(Some(&one)));
    }
}
