//! The statement without a name.
//!
//! It stays as it is: its text is kept, and goes to a backend again that has another one's. Each message that changes it may yet be dropped by an error
//! that stands before it in its group. Then it is what it was before, which is kept as long as that can be.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use pgroute::classify::Plan;
use pgroute::session::{Ledger, Question};
use pgroute::wire::frontend::{Target, tag};
use pgroute::wire::write;

use super::Session;
use super::effect::{Effect, NOBODYS, UNNAMED};

/// The statement without a name.
#[derive(Default)]
pub(super) struct Unnamed {
    text: Text,
    /// What it was, and the number of the question that made it another one; the oldest first.
    before: VecDeque<(u64, Text)>,
    /// Numbers that were given to texts.
    numbers: u64,
    /// The number of the question by which the backend was told of it last.
    sent_at: Option<u64>,
}

/// What it is.
#[derive(Default)]
struct Text {
    /// Its `Parse`.
    message: Vec<u8>,
    /// Nothing if there is no such statement.
    plan: Option<Arc<Plan>>,
    number: u64,
    /// The number of the question that made it so.
    set_at: Option<u64>,
}

impl Unnamed {
    pub(super) fn plan(&self) -> Option<&Arc<Plan>> {
        self.text.plan.as_ref()
    }

    /// The session has another backend, whose questions have numbers of their own.
    pub(super) fn moves(&mut self) {
        (self.text.set_at, self.sent_at) = (None, None);
        self.before.clear();
    }

    /// All that was asked is answered.
    pub(super) fn settle(&mut self) {
        self.before.clear();
    }

    /// Whether nobody knows what it is, before an earlier group is answered.
    pub(super) fn is_doubtful(&self, ledger: &Ledger) -> bool {
        self.text.set_at.is_some_and(|at| ledger.is_doubtful(at))
    }

    /// There is none any more.
    pub(super) fn forget(&mut self) {
        self.numbers += 1;
        (self.text.plan, self.text.number) = (None, self.numbers);
    }

    /// The next question makes it what is said, or nothing.
    fn set(&mut self, ledger: Option<&Ledger>, said: Option<(&[u8], Arc<Plan>)>) {
        self.numbers += 1;
        if let Some(ledger) = ledger {
            while self.before.front().is_some_and(|(at, _)| *at < ledger.answered()) {
                self.before.pop_front();
            }
            if ledger.asked() > ledger.group() {
                self.before.push_back((ledger.asked(), std::mem::take(&mut self.text)));
            }
        }
        let text = &mut self.text;
        text.message.clear();
        text.plan = said.map(|(message, plan)| {
            text.message.extend_from_slice(message);
            plan
        });
        (text.number, text.set_at) = (self.numbers, ledger.map(Ledger::asked));
    }

    /// An error has dropped questions with these numbers, which took no effect. The text of the one that failed itself is given: that has forgotten
    /// the one before as well.
    pub(super) fn dropped(&mut self, skipped: &Range<u64>, failed: Option<u64>) {
        let is_skipped = |at: &u64| skipped.contains(at);
        if let Some(first) = self.before.iter().position(|(at, _)| is_skipped(at)) {
            let count = self.before.iter().skip(first).take_while(|(at, _)| is_skipped(at)).count();
            let restored = self.before.drain(first..first + count).next();
            let next = self.before.get_mut(first).map_or(&mut self.text, |(_, text)| text);
            if let Some((_, restored)) = restored.filter(|_| next.set_at.as_ref().is_some_and(is_skipped)) {
                *next = restored;
            }
        }
        let texts = self.before.iter_mut().map(|(_, text)| text).chain([&mut self.text]);
        texts.filter(|text| Some(text.number) == failed).for_each(|text| text.plan = None);
    }

    /// The backend is lost, with all that was asked from this number on.
    pub(super) fn lost(&mut self, ledger: &Ledger) {
        let open = ledger.answered()..ledger.asked();
        self.dropped(&open, None);
        if self.text.set_at.is_some_and(|at| open.contains(&at)) {
            self.forget();
        }
    }
}

impl Session {
    /// The next question prepares the statement without a name.
    pub(super) fn prepares_unnamed(&mut self, message: &[u8], plan: Arc<Plan>) {
        self.unnamed.set(self.backend.as_ref().map(|backend| &backend.ledger), Some((message, plan)));
        let number = self.unnamed.text.number;
        if let Some(backend) = &mut self.backend {
            backend.unnamed = Some((self.number, number));
            self.unnamed.sent_at = Some(backend.ledger.asked());
        }
        self.ask(Question::Parse, UNNAMED | number);
    }

    /// By the next question the client has the backend forget the statement without a name. Within a group an error may leave it there.
    pub(super) fn forgets_unnamed(&mut self) {
        self.unnamed.set(self.backend.as_ref().map(|backend| &backend.ledger), None);
        let is_group_open = self.is_group_open;
        if let Some(backend) = &mut self.backend {
            backend.unnamed = if is_group_open && backend.unnamed.is_some() { NOBODYS } else { None };
        }
    }

    /// Sees to it that the backend has the client's statement without a name, or none if the client has none.
    pub(super) fn ensure_unnamed(&mut self) {
        let text = &self.unnamed.text;
        let mine = text.plan.is_some().then_some((self.number, text.number));
        let Some(backend) = &mut self.backend else { return };
        // An error may yet drop what has it so, and leave another client's there.
        if backend.unnamed == mine && self.unnamed.sent_at.is_none_or(|at| !backend.ledger.is_doubtful(at)) {
            return;
        }
        backend.unnamed = mine;
        self.unnamed.sent_at = Some(backend.ledger.asked());
        if mine.is_some() {
            self.cells().parses.increment();
            let message = std::mem::take(&mut self.unnamed.text.message);
            self.put(Question::Parse, Some(Effect::Unnamed(mine)), |out| out.extend_from_slice(&message));
            self.unnamed.text.message = message;
        } else {
            self.put(Question::Close, Some(Effect::Unnamed(mine)), |out| {
                write::target(out, tag::CLOSE, Target::Statement(b""));
            });
        }
    }
}
