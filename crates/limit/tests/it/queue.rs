//! The queue against a naive model: a list of all who wait, looked through from the beginning each time.

use std::time::Duration;

use limit::gradient::Class;
use limit::{Entered, Moment, QueueParams, Ticket, WaitQueue};
use proptest::prelude::*;

const WAIT: Duration = Duration::from_millis(100);
const WAITING_MAX: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// Somebody comes, with so many milliseconds left.
    Enter(Class, Option<u64>),
    /// A place is there, for classes of at least this importance.
    Next(Class),
    /// One of those who came waits no longer.
    Leave(usize),
    /// So many milliseconds go by.
    Pass(u64),
}

#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    id: usize,
    class: Class,
    due: Moment,
}

#[derive(Default)]
struct Model {
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// When somebody began to wait where nobody did, and when nobody did any more, in their order.
    turns: Vec<(Moment, bool)>,
}

impl Model {
    /// Goes through all that was: an overload begins when somebody has waited for long, and ends when nobody has.
    fn is_overloaded(&self, now: Moment) -> bool {
        let mut overloaded = false;
        for (at, &(since, stands)) in self.turns.iter().enumerate() {
            let until = self.turns.get(at + 1).map_or(now, |next| next.0);
            if until.saturating_since(since) >= WAIT {
                overloaded = stands;
            }
        }
        overloaded
    }

    /// The position of who goes first, of some.
    fn first(&self, now: Moment, of: impl Fn(&Waiting) -> bool) -> Option<usize> {
        let best = self.waiting.iter().filter(|one| of(one)).map(|one| one.class).max()?;
        let mut among = (0..self.waiting.len()).filter(|&at| of(&self.waiting[at]) && self.waiting[at].class == best);
        if self.is_overloaded(now) { among.next_back() } else { among.next() }
    }

    /// The position of who goes last.
    fn last(&self, now: Moment) -> Option<usize> {
        let worst = self.waiting.iter().map(|one| one.class).min()?;
        let mut among = (0..self.waiting.len()).filter(|&at| self.waiting[at].class == worst);
        if self.is_overloaded(now) { among.next() } else { among.next_back() }
    }

    /// When the newcomer's time is over and who leaves for it; `None` when it is refused.
    fn enter(&mut self, id: usize, class: Class, now: Moment, due: Option<Moment>) -> Option<(Moment, Option<usize>)> {
        let overloaded = self.is_overloaded(now);
        let wait = if overloaded { WAIT / 20 } else { WAIT };
        let due = due.unwrap_or(now + WAIT).min(now + wait);
        if class == Class::Exempt || overloaded && class == Class::Low || due <= now {
            return None;
        }
        let mut displaced = None;
        if self.waiting.len() == WAITING_MAX {
            let last = self.last(now)?;
            let other = self.waiting[last].class;
            if other > class || other == class && !overloaded {
                return None;
            }
            displaced = Some(self.waiting.remove(last).id);
        }
        self.waiting.push(Waiting { id, class, due });
        if self.waiting.len() == 1 && displaced.is_none() {
            self.turns.push((now, true));
        }
        Some((due, displaced))
    }

    fn next(&mut self, now: Moment, least: Class) -> Option<usize> {
        // Whose time is over leaves when his class is looked at: none that is less important than who goes is.
        let goes = self.first(now, |one| one.class >= least && one.due > now).map(|at| self.waiting[at].clone());
        let looked_at = goes.as_ref().map_or(Class::Low, |goes| goes.class);
        self.waiting.retain(|one| one.due > now || one.class < looked_at);
        if let Some(goes) = &goes {
            self.waiting.retain(|one| one != goes);
        }
        self.rest(now);
        goes.map(|goes| goes.id)
    }

    fn leave(&mut self, id: usize, now: Moment) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|one| one.id != id);
        self.rest(now);
        self.waiting.len() < before
    }

    fn rest(&mut self, now: Moment) {
        if self.waiting.is_empty() && self.turns.last().is_some_and(|(_, stands)| *stands) {
            self.turns.push((now, false));
        }
    }
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Low), Just(Class::Normal), Just(Class::Critical), Just(Class::Exempt)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (class(), proptest::option::of(0_u64..150)).prop_map(|(class, left)| Step::Enter(class, left)),
        3 => class().prop_map(Step::Next),
        1 => (0_usize..40).prop_map(Step::Leave),
        2 => (0_u64..60).prop_map(Step::Pass),
    ]
}

fn millis(count: u64) -> Moment {
    Moment::default() + Duration::from_millis(count)
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        let mut queue = WaitQueue::new(QueueParams { waiting_max: WAITING_MAX, wait: WAIT });
        let mut model = Model::default();
        let mut tickets: Vec<Option<Ticket>> = Vec::new();
        let mut clock = 0;
        for step in steps {
            let now = millis(clock);
            match step {
                Step::Pass(time) => clock += time,
                Step::Enter(class, left) => {
                    let (id, due) = (tickets.len(), left.map(|left| millis(clock + left)));
                    let expected = model.enter(id, class, now, due);
                    match queue.enter(class, now, due, id) {
                        Ok(Entered { ticket, due, displaced }) => {
                            prop_assert_eq!(Some((due, displaced)), expected);
                            tickets.push(Some(ticket));
                        }
                        Err(value) => {
                            prop_assert_eq!((value, None), (id, expected));
                            tickets.push(None);
                        }
                    }
                }
                Step::Next(least) => {
                    let expected = model.next(now, least);
                    prop_assert_eq!(queue.next(now, |class| class >= least), expected);
                }
                Step::Leave(id) => {
                    if let Some(ticket) = tickets.get(id).copied().flatten() {
                        let expected = model.leave(id, now);
                        prop_assert_eq!(queue.leave(ticket, now), expected.then_some(id));
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.waiting.len());
            prop_assert!(queue.len() <= WAITING_MAX);
            prop_assert_eq!(queue.is_overloaded(millis(clock)), model.is_overloaded(millis(clock)));
        }
    }
}

#[test]
fn under_an_overload_the_newest_go_first_and_wait_shortly() {
    let mut queue = WaitQueue::new(QueueParams { waiting_max: 10, wait: WAIT });
    queue.enter(Class::Normal, millis(0), None, "first").unwrap();
    queue.enter(Class::Normal, millis(1), None, "second").unwrap();
    assert_eq!(queue.next(millis(2), |_| true), Some("first"));
    queue.enter(Class::Normal, millis(90), None, "third").unwrap();
    // It has stood for a hundred milliseconds: whoever comes now waits for five.
    let entered = queue.enter(Class::Normal, millis(100), None, "fourth").unwrap();
    assert_eq!(entered.due, millis(105));
    assert_eq!(queue.enter(Class::Low, millis(100), None, "low"), Err("low"));
    assert_eq!(queue.next(millis(101), |_| true), Some("fourth"));
    assert_eq!(queue.next(millis(102), |_| true), Some("third"), "the time of the second is over");
    assert!(queue.is_empty() && queue.is_overloaded(millis(201)), "it has been empty for less than a wait");
    assert_eq!(queue.enter(Class::Normal, millis(150), None, "fifth").unwrap().due, millis(155));
    assert_eq!(queue.next(millis(151), |_| true), Some("fifth"));
    assert!(queue.is_overloaded(millis(250)) && !queue.is_overloaded(millis(251)));
    assert_eq!(queue.enter(Class::Low, millis(251), None, "low").unwrap().due, millis(351));
}
