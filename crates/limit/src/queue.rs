//! Who waits for a place, who gets the next one, and who waits no longer.
//!
//! The problem: bursts are short, and a request that waits for a moment is better than one that is refused. But a queue
//! that stands is of no use to anybody: everyone who leaves it has waited for all of its length, and under an overload
//! that lasts all of them come too late. The rule is that of Facebook's servers:
//!
//! - **While it is calm**, those who came first go first, and wait for `wait` at most.
//! - **Once the queue has stood for `wait`** without being empty in between, those who came last go first, and wait for a
//!   twentieth of it at most. The newest have clients that still wait, and the oldest would come too late in any case.
//!   What is of [`Class::Low`] does not wait at all then.
//! - **It is calm again** when nobody has had to wait for as long. A queue that is so short is empty now and then in the
//!   middle of an overload, and if that ended it, everybody would wait for all of `wait` again.
//! - More important classes always go first.
//! - **In a full queue** the newcomer takes the place of who would have gone last, if that is somebody else.
//! - Nobody goes whose time is over, whoever notices first.
//!
//! Sources: Ben Maurer, "Fail at Scale", ACM Queue 13 (2015): adaptive LIFO and controlled delay; the latter after
//! Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 10 (2012).

use std::collections::VecDeque;
use std::time::Duration;

use crate::Moment;
use crate::gradient::Class;

/// Under an overload one waits for this part of the time.
const OVERLOADED_PART: u32 = 20;

/// How many may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueParams {
    /// Most that wait at once.
    pub waiting_max: usize,
    /// Longest wait while it is calm, and how long a queue may stand before that is an overload.
    pub wait: Duration,
}

/// A queue of those who wait for a place; `T` is how they are told.
///
/// ```
/// use std::time::Duration;
/// use limit::{Moment, QueueParams, WaitQueue};
/// use limit::gradient::Class;
///
/// let mut queue = WaitQueue::new(QueueParams { waiting_max: 2, wait: Duration::from_millis(100) });
/// let now = Moment::default();
/// let entered = queue.enter(Class::Low, now, None, "low").unwrap();
/// assert_eq!(entered.due, now + Duration::from_millis(100));
/// queue.enter(Class::Normal, now, None, "normal").unwrap();
/// let critical = queue.enter(Class::Critical, now, None, "critical").unwrap();
/// assert_eq!(critical.displaced, Some("low"));
/// assert_eq!(queue.next(now, |_| true), Some("critical"));
/// ```
#[derive(Debug)]
pub struct WaitQueue<T> {
    params: QueueParams,
    /// By class, the oldest first.
    classes: [VecDeque<Waiting<T>>; CLASSES],
    tickets: u64,
    state: State,
    /// Whether the overload that there was has not ended for sure.
    overloaded: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Somebody has waited since then, without a pause.
    Stands(Moment),
    /// Nobody has.
    Empty(Moment),
}

/// Classes that wait: what is exempt never has to.
const CLASSES: usize = 3;

#[derive(Debug)]
struct Waiting<T> {
    ticket: u64,
    due: Moment,
    value: T,
}

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered<T> {
    /// By which it is found.
    pub ticket: Ticket,
    /// When its time is over.
    pub due: Moment,
    /// Who had to leave for it.
    pub displaced: Option<T>,
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    class: usize,
    number: u64,
}

impl<T> WaitQueue<T> {
    /// A queue in which nobody waits.
    pub fn new(params: QueueParams) -> Self {
        Self {
            params,
            classes: Default::default(),
            tickets: 0,
            state: State::Empty(Moment::default()),
            overloaded: false,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(VecDeque::is_empty)
    }

    /// Whether the queue has stood for too long, and not been empty for as long since.
    pub fn is_overloaded(&self, now: Moment) -> bool {
        match self.state {
            State::Stands(since) => self.overloaded || now.saturating_since(since) >= self.params.wait,
            State::Empty(since) => self.overloaded && now.saturating_since(since) < self.params.wait,
        }
    }

    /// Lets one wait, until `due` at the latest.
    ///
    /// # Errors
    /// The value, when it is not to wait: the queue is full of those who go before it, it is of low class under an
    /// overload, its time is over, or it is exempt.
    pub fn enter(&mut self, class: Class, now: Moment, due: Option<Moment>, value: T) -> Result<Entered<T>, T> {
        let overloaded = self.is_overloaded(now);
        let Some(class) = index(class).filter(|_| !(overloaded && class == Class::Low)) else { return Err(value) };
        let wait = if overloaded { self.params.wait / OVERLOADED_PART } else { self.params.wait };
        let due = due.map_or(now + wait, |due| due.min(now + wait));
        if due <= now || self.params.waiting_max == 0 {
            return Err(value);
        }
        let mut displaced = None;
        if self.len() >= self.params.waiting_max {
            match self.yields(class, overloaded) {
                Some(gone) => displaced = Some(gone),
                None => return Err(value),
            }
        }
        self.tickets += 1;
        let ticket = Ticket { class, number: self.tickets };
        self.classes[class].push_back(Waiting { ticket: ticket.number, due, value });
        if let State::Empty(_) = self.state {
            (self.state, self.overloaded) = (State::Stands(now), overloaded);
        }
        Ok(Entered { ticket, due, displaced })
    }

    /// Who goes next at `now`, of the classes that `admits` lets pass. Asked once for each class that waits, the most
    /// important first.
    pub fn next(&mut self, now: Moment, mut admits: impl FnMut(Class) -> bool) -> Option<T> {
        let overloaded = self.is_overloaded(now);
        let mut found = None;
        for (waiting, class) in self.classes.iter_mut().zip(ORDER) {
            // Whose time is over is told so by his own clock; here he only is not in the way.
            waiting.retain(|one| one.due > now);
            if !waiting.is_empty() && admits(class) {
                found = if overloaded { waiting.pop_back() } else { waiting.pop_front() };
                break;
            }
        }
        self.rest(now);
        found.map(|one| one.value)
    }

    /// Takes one out who waits no longer at `now`; `None` when he has gone already.
    pub fn leave(&mut self, ticket: Ticket, now: Moment) -> Option<T> {
        let waiting = &mut self.classes[ticket.class];
        // Tickets are given in order.
        let at = waiting.binary_search_by_key(&ticket.number, |one| one.ticket).ok()?;
        let gone = waiting.remove(at);
        self.rest(now);
        gone.map(|one| one.value)
    }

    /// Who leaves for a newcomer of a class: of those who are less important, or as important under an overload, the one
    /// who would go last.
    fn yields(&mut self, class: usize, overloaded: bool) -> Option<T> {
        let last = self.classes.iter().rposition(|waiting| !waiting.is_empty())?;
        if last < class || last == class && !overloaded {
            return None;
        }
        let waiting = &mut self.classes[last];
        let gone = if overloaded { waiting.pop_front() } else { waiting.pop_back() };
        gone.map(|one| one.value)
    }

    fn rest(&mut self, now: Moment) {
        if let State::Stands(_) = self.state
            && self.is_empty()
        {
            (self.overloaded, self.state) = (self.is_overloaded(now), State::Empty(now));
        }
    }
}

/// Classes in the order in which they go.
const ORDER: [Class; CLASSES] = [Class::Critical, Class::Normal, Class::Low];

fn index(class: Class) -> Option<usize> {
    ORDER.iter().position(|&other| other == class)
}
