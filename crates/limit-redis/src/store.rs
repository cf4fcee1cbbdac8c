//! A store, as one thread knows it: asks go out over its connection, and a task of its own keeps that.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use breaker::{Backoff, BackoffParams};
use limit::lease::Ask;
use limit::lease::store::LeaseQuota;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::connection::{Connection, Driver};
use crate::{Answer, StoreError, StoreParams};

/// Asks under way at most. As many keys that ask at the same moment are an attack, or a store that has fallen behind.
const ASKS_MAX: usize = 4096;

/// Beyond the time of an ask. After a stall of this thread its time is over before the answer is read that has long come.
const GRACE: Duration = Duration::from_millis(10);

/// Time to connect and to have the script run once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a connection is asked whether anybody is there, so that a loss is noticed before it costs a request its time.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Time for that. Nobody waits for it.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Pauses between tries to connect. Drawn at random up to these, for all who use the store have lost it together.
const BACKOFF: BackoffParams = BackoffParams { base: Duration::from_millis(50), max: Duration::from_secs(1) };

/// A store. Belongs to one thread, within a runtime that takes local tasks; what is under way ends when it is dropped.
#[derive(Debug)]
pub struct Store {
    inner: Rc<Inner>,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    params: StoreParams,
    state: RefCell<State>,
    /// Wakes those who ask before it is known whether there is a connection.
    settled: Notify,
    /// Wakes the keeper.
    lost: Notify,
    asks: Cell<usize>,
}

#[derive(Debug)]
enum State {
    /// Nothing is known yet.
    Connecting,
    /// Connected; connections are numbered.
    Up(Connection, u64),
    /// Not connected, and why.
    Lost(String),
}

/// A place among the asks under way.
struct Place<'s>(&'s Cell<usize>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Store {
    /// Begins to connect, and goes on for as long as this exists. `report` hears when the store is there, and when it is
    /// lost and why: once each time, not for every try.
    pub fn open(params: StoreParams, report: impl Fn(Result<(), &str>) + 'static) -> Self {
        let inner = Rc::new(Inner {
            params,
            state: RefCell::new(State::Connecting),
            settled: Notify::new(),
            lost: Notify::new(),
            asks: Cell::new(0),
        });
        let keeper = tokio::task::spawn_local(keep(Rc::clone(&inner), report));
        Self { inner, keeper }
    }

    /// Asks for a lease, or returns one, within the store's time.
    ///
    /// # Errors
    /// [`StoreError`]; whether tokens were debited is then not known.
    pub async fn lease(&self, key: &str, quota: &LeaseQuota, ask: &Ask) -> Answer {
        let inner = &*self.inner;
        let _place = inner.place().ok_or(StoreError::Busy)?;
        let mut used = None;
        let answer = {
            let mut asked = pin!(async {
                let (connection, number) = inner.connection().await?;
                used = Some(number);
                connection.lease(key, quota, ask).await
            });
            match tokio::time::timeout(inner.params.timeout, asked.as_mut()).await {
                Ok(answer) => answer,
                Err(_) => tokio::time::timeout(GRACE, asked).await.unwrap_or(Err(StoreError::TimedOut)),
            }
        };
        if let (Err(error), Some(number)) = (&answer, used)
            && error.ends_connection()
        {
            inner.lose(number, error.to_string());
        }
        answer
    }

    /// Whether it is known to be lost, so that there is no use in asking.
    pub fn is_lost(&self) -> bool {
        matches!(&*self.inner.state.borrow(), State::Lost(_))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Inner {
    fn place(&self) -> Option<Place<'_>> {
        if self.asks.get() >= ASKS_MAX {
            return None;
        }
        self.asks.set(self.asks.get() + 1);
        Some(Place(&self.asks))
    }

    /// The connection; waits for the first one.
    async fn connection(&self) -> Result<(Connection, u64), StoreError> {
        loop {
            let settled = self.settled.notified();
            match &*self.state.borrow() {
                State::Up(connection, number) => return Ok((connection.clone(), *number)),
                State::Lost(_) => return Err(StoreError::Lost),
                State::Connecting => {}
            }
            settled.await;
        }
    }

    fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
        self.settled.notify_waiters();
    }

    /// Gives a connection up, if it is still the one in use.
    fn lose(&self, number: u64, why: String) {
        let is_current = matches!(&*self.state.borrow(), State::Up(_, current) if *current == number);
        if is_current {
            self.set(State::Lost(why));
            self.lost.notify_one();
        }
    }

    /// Waits until a connection is lost: why.
    async fn stand(&self, connection: &Connection, mut driver: Driver) -> String {
        let silent = async {
            loop {
                tokio::time::sleep(PING_INTERVAL).await;
                match tokio::time::timeout(PING_TIMEOUT, connection.ping()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return StoreError::TimedOut.to_string(),
                }
            }
        };
        tokio::select! {
            // First, or what was told of this connection would be left for the next one.
            biased;
            () = self.lost.notified() => match &*self.state.borrow() {
                State::Lost(why) => why.clone(),
                State::Connecting | State::Up(..) => StoreError::Lost.to_string(),
            },
            () = driver.ended() => "the connection was closed".to_owned(),
            why = silent => why,
        }
    }
}

/// Keeps a connection: makes one, and another when it is lost.
async fn keep(inner: Rc<Inner>, report: impl Fn(Result<(), &str>)) {
    let backoff = Backoff::new(BACKOFF);
    let (mut failures, mut number, mut said) = (0_u32, 0_u64, None);
    loop {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, Connection::open(&inner.params)).await;
        let why = match opened.unwrap_or(Err(StoreError::TimedOut)) {
            Ok((connection, driver)) => {
                failures = 0;
                number += 1;
                inner.set(State::Up(connection.clone(), number));
                report(Ok(()));
                said = Some(true);
                inner.stand(&connection, driver).await
            }
            Err(error) => error.to_string(),
        };
        if said != Some(false) {
            report(Err(&why));
            said = Some(false);
        }
        inner.set(State::Lost(why));
        failures = failures.saturating_add(1);
        tokio::time::sleep(backoff.pause(failures, fastrand::u64(..))).await;
    }
}
