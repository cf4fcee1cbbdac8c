//! Whom the server is asked about next, and what it has said.
//!
//! A name costs a stranger nothing, and a question takes a round trip. So users of whom an answer is known that has served its time have a line
//! of their own, which has every other turn: they log in again and again, and nobody makes more of these. All other names wait in a line for
//! each address, and addresses take turns, so that a flood of names from one is waited for by that one. Whoever wants to know the same as
//! somebody else waits for the same question. Nothing is asked for those who have gone.
//!
//! An answer is good for its time, and for a second if there is no such user. Whoever proves a password wrongly has the answer looked up again:
//! the password may be another one since. As anybody can have that done, it waits in the line of whoever asks next. When the server cannot be asked, everybody hears it at once, and nobody tries again for a second.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pgroute::auth::Stored;
use tokio::sync::oneshot;

/// How long it is good that there is no such user, and how long an answer is good at least, whoever proves it wrong.
const NOBODY: Duration = Duration::from_secs(1);

/// How long it is remembered that the server cannot be asked.
const AWAY: Duration = Duration::from_secs(1);

/// Answers that are remembered at once.
const ANSWERS_MAX: usize = 10_000;

/// What somebody hears who has waited: what the server said, or that it cannot be asked.
pub(super) type Told = Result<Option<Stored>, ()>;

/// What is known of users, and who waits for more. `D` is by which database they ask.
#[derive(Debug)]
pub(super) struct Desk<D> {
    answers: HashMap<String, Answer>,
    waiting: HashMap<String, Waiting<D>>,
    /// Names of which an answer is known that was good for its time.
    known: VecDeque<String>,
    /// The last one was of these.
    was_known: bool,
    /// Other names, by who asks for them.
    lines: HashMap<Place, VecDeque<String>>,
    /// Whose turn it is.
    turns: VecDeque<Place>,
    away_since: Option<Instant>,
}

/// An address, or none for clients of Unix sockets.
type Place = Option<IpAddr>;

#[derive(Clone, Debug)]
struct Answer {
    at: Instant,
    stored: Option<Stored>,
    is_doubted: bool,
}

#[derive(Debug)]
struct Waiting<D> {
    by: D,
    places: Vec<Place>,
    who: Vec<oneshot::Sender<Told>>,
}

/// What somebody hears at once.
#[derive(Debug)]
pub(super) enum Reply {
    Known(Option<Stored>),
    /// The server could not be asked a moment ago.
    Failed,
    Wait(oneshot::Receiver<Told>),
}

impl<D> Default for Desk<D> {
    fn default() -> Self {
        Self {
            answers: HashMap::new(),
            waiting: HashMap::new(),
            known: VecDeque::new(),
            was_known: false,
            lines: HashMap::new(),
            turns: VecDeque::new(),
            away_since: None,
        }
    }
}

impl<D: Clone> Desk<D> {
    /// Somebody wants to know of a user, by a database where answers are good for `ttl`.
    pub(super) fn ask(&mut self, now: Instant, user: &str, ttl: Duration, place: Place, by: &D) -> Reply {
        let answer = self.answers.get(user);
        if let Some(answer) = answer.filter(|answer| answer.is_good(now, ttl)) {
            return Reply::Known(answer.stored.clone());
        }
        if self.away_since.is_some_and(|since| now.saturating_duration_since(since) < AWAY) {
            return Reply::Failed;
        }
        let is_known = answer.is_some_and(|answer| answer.stored.is_some() && !answer.is_doubted);
        let (sender, receiver) = oneshot::channel();
        let waiting = self.waiting.entry(user.to_owned());
        let waiting = waiting.or_insert_with(|| Waiting { by: by.clone(), places: Vec::new(), who: Vec::new() });
        waiting.who.push(sender);
        if is_known && waiting.who.len() == 1 {
            self.known.push_back(user.to_owned());
        }
        // Others may wait for it in a long line.
        if !is_known && !waiting.places.contains(&place) {
            waiting.places.push(place);
            let line = self.lines.entry(place).or_default();
            if line.is_empty() {
                self.turns.push_back(place);
            }
            line.push_back(user.to_owned());
        }
        Reply::Wait(receiver)
    }

    /// Whom the server is to be asked about next, and by which database.
    pub(super) fn next(&mut self) -> Option<(String, D)> {
        loop {
            let first = if self.was_known { self.next_in_line() } else { None };
            self.was_known = first.is_none() && !self.known.is_empty();
            let name = first.or_else(|| self.known.pop_front()).or_else(|| self.next_in_line())?;
            // It may have been asked for in another line.
            let Some(waiting) = self.waiting.get(&name) else { continue };
            if waiting.who.iter().any(|who| !who.is_closed()) {
                return Some((name, waiting.by.clone()));
            }
            self.waiting.remove(&name);
        }
    }

    fn next_in_line(&mut self) -> Option<String> {
        let place = self.turns.pop_front()?;
        let line = self.lines.get_mut(&place)?;
        let name = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&place);
        } else {
            self.turns.push_back(place);
        }
        name
    }

    /// The server has said what it knows of a user.
    pub(super) fn answered(&mut self, now: Instant, user: &str, stored: Option<Stored>) {
        self.tell(user, &Ok(stored.clone()));
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.retain(|_, answer| answer.stored.is_some());
        }
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(user.to_owned(), Answer { at: now, stored, is_doubted: false });
        self.away_since = None;
    }

    /// It refuses to answer about a user, or there is nobody to ask for this database.
    pub(super) fn refused(&mut self, user: &str) {
        self.tell(user, &Err(()));
    }

    /// It cannot be asked.
    pub(super) fn is_away(&mut self, now: Instant) {
        self.away_since = Some(now);
        self.give_up();
    }

    /// Everybody who waits hears that nobody can ask.
    pub(super) fn give_up(&mut self) {
        self.known.clear();
        self.lines.clear();
        self.turns.clear();
        self.waiting.clear();
    }

    /// Somebody has not proved to be a user.
    pub(super) fn doubt(&mut self, now: Instant, user: &str) {
        if let Some(answer) = self.answers.get_mut(user) {
            answer.is_doubted |= now.saturating_duration_since(answer.at) >= NOBODY;
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    fn tell(&mut self, user: &str, told: &Told) {
        for who in self.waiting.remove(user).into_iter().flat_map(|waiting| waiting.who) {
            // It may have gone.
            let _gone = who.send(told.clone());
        }
    }
}

impl Answer {
    fn is_good(&self, now: Instant, ttl: Duration) -> bool {
        let ttl = if self.stored.is_some() { ttl } else { NOBODY };
        !self.is_doubted && now.saturating_duration_since(self.at) < ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn stored(text: &str) -> Option<Stored> {
        Some(Stored::parse(text))
    }

    fn place(number: u8) -> Place {
        Some([10, 0, 0, number].into())
    }

    /// Asks for what nothing good is known of.
    fn wait(desk: &mut Desk<()>, now: Instant, user: &str, place: Place) -> oneshot::Receiver<Told> {
        match desk.ask(now, user, TTL, place, &()) {
            Reply::Wait(receiver) => receiver,
            other => panic!("{user}: {other:?}"),
        }
    }

    fn next(desk: &mut Desk<()>) -> Option<String> {
        desk.next().map(|(name, ())| name)
    }

    #[test]
    fn a_flood_of_names_is_waited_for_by_whoever_sends_it() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let known = wait(&mut desk, now, "ada", place(2));
        assert_eq!(next(&mut desk).unwrap(), "ada");
        desk.answered(now, "ada", stored("sesame"));
        assert_eq!(known.blocking_recv().unwrap(), Ok(stored("sesame")));
        let later = now + TTL;
        let flood: Vec<_> =
            (0..3000).map(|number| wait(&mut desk, later, &format!("nobody{number}"), place(1))).collect();
        let _of_the_flood = wait(&mut desk, later, "nobody2999", place(3));
        let (_new, _old) = (wait(&mut desk, later, "bob", place(2)), wait(&mut desk, later, "ada", place(2)));
        // Whoever is known has every other turn, and the others take turns among them.
        let order: Vec<_> = (0..5).map(|_| next(&mut desk).unwrap()).collect();
        assert_eq!(order, ["ada", "nobody0", "nobody2999", "bob", "nobody1"]);
        // Nothing is asked for those who have gone, nor twice.
        order.iter().for_each(|name| desk.answered(later, name, None));
        drop(flood);
        assert_eq!(next(&mut desk), None);
        assert!(desk.is_idle() && desk.lines.is_empty() && desk.turns.is_empty());
    }

    #[test]
    fn whoever_has_many_users_doubted_keeps_nobody_out() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let users: Vec<_> = (0..3000).map(|number| format!("user{number}")).collect();
        users.iter().for_each(|user| desk.answered(now, user, stored("sesame")));
        // By wrong passwords, again and again.
        let later = now + NOBODY;
        users.iter().for_each(|user| desk.doubt(later, user));
        let _flood: Vec<_> = users.iter().map(|user| wait(&mut desk, later, user, place(1))).collect();
        let _new = wait(&mut desk, later, "ada", place(2));
        let order = [(); 3].map(|()| next(&mut desk).unwrap());
        assert_eq!(order, ["user0", "ada", "user1"]);
    }

    #[test]
    fn those_who_are_known_keep_nobody_out_either() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let users: Vec<_> = (0..3000).map(|number| format!("user{number}")).collect();
        users.iter().for_each(|user| desk.answered(now, user, stored("sesame")));
        let later = now + TTL;
        let _known: Vec<_> = users.iter().map(|user| wait(&mut desk, later, user, place(1))).collect();
        let _new: Vec<_> = ["ada", "bob"].iter().map(|user| wait(&mut desk, later, user, place(2))).collect();
        let order = [(); 5].map(|()| next(&mut desk).unwrap());
        assert_eq!(order, ["user0", "ada", "user1", "bob", "user2"]);
    }

    #[test]
    fn whoever_wants_to_know_the_same_waits_for_one_question() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let who: Vec<_> = (0..100).map(|number| wait(&mut desk, now, "ada", place(number % 3))).collect();
        assert_eq!(next(&mut desk).unwrap(), "ada");
        let late = wait(&mut desk, now, "ada", place(9));
        desk.answered(now, "ada", None);
        who.into_iter().chain([late]).for_each(|who| assert_eq!(who.blocking_recv().unwrap(), Ok(None)));
        assert_eq!(next(&mut desk), None);
    }

    #[test]
    fn answers_are_good_for_their_time() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let known = |desk: &mut Desk<()>, later: Duration, user: &str| match desk.ask(now + later, user, TTL, None, &())
        {
            Reply::Known(stored) => Some(stored),
            _ => None,
        };
        desk.answered(now, "ada", stored("sesame"));
        desk.answered(now, "bob", None);
        let moment = NOBODY - Duration::from_millis(1);
        assert_eq!(known(&mut desk, moment, "bob"), Some(None));
        assert_eq!(known(&mut desk, NOBODY, "bob"), None);
        assert_eq!(known(&mut desk, TTL - moment, "ada"), Some(stored("sesame")));
        // A wrong password right after the answer is a wrong password.
        desk.doubt(now + moment, "ada");
        assert_eq!(known(&mut desk, NOBODY, "ada"), Some(stored("sesame")));
        desk.doubt(now + NOBODY, "ada");
        let _asked = wait(&mut desk, now + NOBODY, "ada", None);
        // It is known still that there is such a user, and waited for among others.
        assert_eq!(next(&mut desk).unwrap(), "ada");
        desk.answered(now + NOBODY, "ada", stored("other"));
        assert_eq!(known(&mut desk, TTL, "ada"), Some(stored("other")));
        assert_eq!(known(&mut desk, TTL + NOBODY, "ada"), None);
    }

    #[test]
    fn when_the_server_is_away_nobody_waits_for_that_in_turn() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let who: Vec<_> = (0..10).map(|number| wait(&mut desk, now, &format!("user{number}"), place(1))).collect();
        next(&mut desk).unwrap();
        desk.is_away(now);
        who.into_iter().for_each(|who| assert!(who.blocking_recv().is_err()));
        assert!(matches!(desk.ask(now, "ada", TTL, None, &()), Reply::Failed));
        let _tried_again = wait(&mut desk, now + AWAY, "ada", None);
        // What is refused of one says nothing of others.
        assert_eq!(next(&mut desk).unwrap(), "ada");
        desk.refused("ada");
        let _asked = wait(&mut desk, now + AWAY, "bob", None);
        assert_eq!(next(&mut desk).unwrap(), "bob");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut desk, now) = (Desk::<()>::default(), Instant::now());
        desk.answered(now, "ada", stored("sesame"));
        for number in 0..3 * ANSWERS_MAX {
            desk.answered(now, &format!("nobody{number}"), None);
            assert!(desk.answers.len() <= ANSWERS_MAX);
        }
        assert!(matches!(desk.ask(now, "ada", TTL, None, &()), Reply::Known(Some(_))));
    }
}
