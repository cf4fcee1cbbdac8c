//! Which answers are due.
//!
//! Clients send ahead: several messages, several groups, without waiting. Servers answer in order, but an error drops whatever
//! stands before the next `Sync`. Tenfold puts messages of its own in between, whose answers are for nobody. So each question is
//! noted when it is sent, and each answer is held against the first that is open. An answer that cannot be the next one means
//! that the connection is out of step, and nobody may use it any more.
//!
//! Copying in is the odd one. While it lasts, the server passes over `Sync`: drivers send one with the question and another one
//! behind the rows. If copying fails, nobody can know whether the server had read the first one. A trigger that fails before any row was
//! read, after the server has said that it copies, leaves all of them to be answered. The ledger says then that it is
//! [uncertain](Ledger::is_uncertain), and the backend may serve its client but is closed afterwards: a `ReadyForQuery` that is still on its way
//! would end the next client's question before its answer has come. To its own client such a one is passed on, as a server would have it.

use std::collections::VecDeque;

use thiserror::Error;

use crate::wire::backend::tag;

/// A message that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A simple query: anything, up to `ReadyForQuery`.
    Query,
    /// `Parse`.
    Parse,
    /// `Bind`.
    Bind,
    /// `Describe` of a statement.
    DescribeStatement,
    /// `Describe` of a portal.
    DescribePortal,
    /// `Execute`.
    Execute,
    /// `Close`.
    Close,
    /// `Sync`, which is answered by `ReadyForQuery`.
    Sync,
    /// A call of a function by its number.
    FunctionCall,
    /// The end of what is copied in, which has no answer of its own.
    CopyEnd,
}

/// Whose question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The client's: it gets the answer.
    Client,
    /// Tenfold's own: the answer goes nowhere.
    Ours,
}

/// A question that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// What was asked.
    pub question: Question,
    /// By whom.
    pub owner: Owner,
    /// What the asker wants to know it by.
    pub label: u64,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the client gets it.
    pub owner: Owner,
    /// The question that is closed by it.
    pub closes: Option<Due>,
    /// How many questions were dropped because of it; [`Ledger::dropped`] has them.
    pub dropped: usize,
}

/// An answer that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the server answered {:?} where {expected:?} was to be answered", char::from(*answer))]
pub struct OutOfStep {
    /// What came.
    pub answer: u8,
    /// What was open.
    pub expected: Option<Question>,
}

/// Which answers are due.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    due: VecDeque<Due>,
    /// How many questions were ever noted as due.
    asked: u64,
    /// The number of the first question behind the last one that ended a group.
    group: u64,
    dropped: Vec<Due>,
    /// The server passes over everything up to a `Sync` that has not been sent.
    skips: bool,
    /// The server copies in, and what was sent so far does not end it.
    copies: bool,
    /// How many of `Sync` the server may have passed over since the question at the front began to copy in.
    passed: usize,
    /// How many of them may still be answered, after a copy that failed.
    strays: usize,
    /// Whether the question at the front has had an answer. A query's `ReadyForQuery` is never its first one.
    has_begun: bool,
    uncertain: bool,
}

impl Ledger {
    /// Whether nothing is due.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && !self.skips && !self.copies
    }

    /// Whether the server passes over everything up to a `Sync` that has not been sent.
    pub fn is_passed_over(&self) -> bool {
        self.skips
    }

    /// How many answers are due.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// The number that the next question will have. They are counted as long as the connection lasts.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// The number of the question whose answer comes next: what has a lower one is settled.
    pub fn answered(&self) -> u64 {
        // What is passed over while something is copied in leaves a gap behind what copies, which is the first one then.
        self.asked - self.due.len() as u64
    }

    /// The number of the first question of the group that is open, or is about to begin.
    pub fn group(&self) -> u64 {
        self.group
    }

    /// Whether a question of an earlier group has no answer: an error may drop it, and not what is asked next.
    pub fn is_doubtful(&self, number: u64) -> bool {
        (self.answered()..self.group).contains(&number)
    }

    /// Whether nobody can know how many answers are due.
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// The question whose answer comes next.
    pub fn next(&self) -> Option<&Due> {
        self.due.front()
    }

    /// All questions that have no last answer yet, in the order in which they were asked.
    pub fn due(&self) -> impl Iterator<Item = &Due> {
        self.due.iter()
    }

    /// Whether rows for the client may come now, so that a run of them can pass unseen.
    pub fn expects_rows(&self) -> bool {
        self.next().is_some_and(|due| {
            due.owner == Owner::Client && matches!(due.question, Question::Query | Question::Execute)
        })
    }

    /// Whether all but the end of what comes next is for the client, and says nothing that has to be known: rows of its query, what they look like and
    /// how many they were. The query is one that nobody has put a label on.
    pub fn expects_mere_rows(&self) -> bool {
        let is_mere = |due: &Due| due.owner == Owner::Client && due.question == Question::Query && due.label == 0;
        self.next().is_some_and(is_mere) && !self.copies && self.passed == 0
    }

    /// Some of that has passed unseen.
    pub fn has_passed(&mut self) {
        self.has_begun = true;
    }

    /// Notes a question, in the order in which they are sent.
    pub fn ask(&mut self, question: Question, owner: Owner, label: u64) {
        let due = Due { question, owner, label };
        match question {
            Question::CopyEnd if self.copies => self.copies = false,
            // Nothing copies, and nothing is open that might: the server passes over it.
            Question::CopyEnd if self.due.is_empty() || self.skips => {}
            // The server passes over it while it copies, and it may have read it already.
            Question::Sync if self.copies => self.passed += 1,
            Question::Sync => {
                self.skips = false;
                self.push(due);
            }
            _ if self.skips => self.dropped.push(due),
            _ => {
                // The copy has failed, or the connection is about to end: what follows belongs to this one.
                self.copies = false;
                self.push(due);
            }
        }
    }

    fn push(&mut self, due: Due) {
        self.due.push_back(due);
        self.asked += 1;
        if matches!(due.question, Question::Query | Question::Sync | Question::FunctionCall) {
            self.group = self.asked;
        }
    }

    /// Takes the questions that an error has dropped: they took no effect. What they would have done is taken back from the last to the first.
    pub fn dropped(&mut self) -> impl Iterator<Item = Due> + '_ {
        self.dropped.drain(..)
    }

    /// The connection is lost: nothing is answered any more. Gives what was open.
    pub fn abandon(&mut self) -> impl Iterator<Item = Due> + '_ {
        (self.skips, self.copies) = (false, false);
        self.due.drain(..)
    }

    /// Says what an answer is.
    ///
    /// # Errors
    /// When it is no answer to what is due.
    #[inline]
    pub fn answer(&mut self, answer: u8) -> Result<Answer, OutOfStep> {
        if matches!(answer, tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION) {
            return Ok(Answer { owner: Owner::Client, closes: None, dropped: 0 });
        }
        if answer == tag::READY && self.is_stray() {
            self.strays -= 1;
            // The server goes on: what it passed over ended here.
            self.skips = false;
            return Ok(Answer { owner: Owner::Client, closes: None, dropped: 0 });
        }
        let Some(&due) = self.due.front() else { return Err(OutOfStep { answer, expected: None }) };
        if answer == tag::ERROR {
            return Ok(self.error(due));
        }
        if answer == tag::COPY_IN && matches!(due.question, Question::Query | Question::Execute) {
            self.copy_in();
        }
        match follow(due.question, answer) {
            Some(true) => {
                self.close_first();
                Ok(Answer { owner: due.owner, closes: Some(due), dropped: 0 })
            }
            Some(false) => {
                self.has_begun = true;
                if answer == tag::COMMAND_COMPLETE {
                    // A copy of a query's ended well, so the server has read all that came before its end.
                    (self.passed, self.copies) = (0, false);
                }
                Ok(Answer { owner: due.owner, closes: None, dropped: 0 })
            }
            None => Err(OutOfStep { answer, expected: Some(due.question) }),
        }
    }

    fn close_first(&mut self) {
        self.due.pop_front();
        (self.passed, self.copies) = (0, false);
        self.has_begun = false;
        // The end of a copy that did not begin is not answered.
        while self.due.front().is_some_and(|due| due.question == Question::CopyEnd) {
            self.due.pop_front();
        }
    }

    /// Whether a `ReadyForQuery` answers a `Sync` that the server may have passed over, and is nobody else's.
    fn is_stray(&self) -> bool {
        let is_due = match self.due.front() {
            None => false,
            Some(due) if due.question == Question::Query => self.has_begun,
            Some(due) => follow(due.question, tag::READY).is_some(),
        };
        self.strays > 0 && !is_due
    }

    fn error(&mut self, due: Due) -> Answer {
        let passed = std::mem::take(&mut self.passed);
        self.strays += passed;
        self.uncertain |= passed > 0;
        self.copies = false;
        match due.question {
            // `ReadyForQuery` follows all the same.
            Question::Query | Question::Sync | Question::FunctionCall => {
                self.has_begun = true;
                Answer { owner: due.owner, closes: None, dropped: 0 }
            }
            _ => {
                let end = self.due.iter().position(|due| due.question == Question::Sync).unwrap_or(self.due.len());
                self.skips = end == self.due.len();
                self.dropped.extend(self.due.drain(..end));
                self.has_begun = false;
                Answer { owner: due.owner, closes: None, dropped: end }
            }
        }
    }

    /// The server passes over every `Sync` up to the end of what is copied. Any other question before that end is none that it could read while
    /// it copies: the copy fails first, or the connection ends.
    fn copy_in(&mut self) {
        let is_passed = |due: &Due| due.question == Question::Sync;
        let syncs = self.due.iter().skip(1).take_while(|due| is_passed(due)).count();
        let next = self.due.get(1 + syncs);
        let ends = next.is_some_and(|due| due.question == Question::CopyEnd);
        self.copies = next.is_none();
        let gone = if ends { syncs + 1 } else { syncs };
        self.due.drain(1..=gone);
        self.passed += syncs;
    }
}

/// Whether an answer belongs to a question, and whether it is the last one.
fn follow(question: Question, answer: u8) -> Option<bool> {
    let last = |expected: u8| (answer == expected).then_some(true);
    match question {
        Question::Parse => last(tag::PARSE_COMPLETE),
        Question::Bind => last(tag::BIND_COMPLETE),
        Question::Close => last(tag::CLOSE_COMPLETE),
        Question::Sync => last(tag::READY),
        Question::DescribeStatement if answer == tag::PARAMETER_DESCRIPTION => Some(false),
        Question::DescribeStatement | Question::DescribePortal => {
            matches!(answer, tag::ROW_DESCRIPTION | tag::NO_DATA).then_some(true)
        }
        Question::FunctionCall if answer == tag::FUNCTION_RESULT => Some(false),
        Question::FunctionCall => last(tag::READY),
        Question::Execute => match answer {
            tag::DATA_ROW | tag::COPY_IN | tag::COPY_OUT | tag::COPY_BOTH | tag::COPY_DATA | tag::COPY_DONE => {
                Some(false)
            }
            tag::COMMAND_COMPLETE | tag::EMPTY_QUERY | tag::PORTAL_SUSPENDED => Some(true),
            _ => None,
        },
        Question::Query => match answer {
            tag::READY => Some(true),
            tag::ROW_DESCRIPTION
            | tag::DATA_ROW
            | tag::COMMAND_COMPLETE
            | tag::EMPTY_QUERY
            | tag::COPY_IN
            | tag::COPY_OUT
            | tag::COPY_BOTH
            | tag::COPY_DATA
            | tag::COPY_DONE => Some(false),
            _ => None,
        },
        Question::CopyEnd => None,
    }
}
