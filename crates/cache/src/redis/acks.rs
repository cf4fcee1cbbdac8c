//! Who has heard of which change, where memory is held by leases. Pure but for the wake-ups.
//!
//! A change has a version, which grows with each one, and messages arrive in the order of the changes. So a holder that has heard of one
//! has heard of all before it, and says so with one number, however many changes it has heard of meanwhile. A holder's id is that of
//! its connection: one that connects again may have missed something, and speaks for itself alone from then on.
//!
//! Both directions are here: who is waited for, and whom this instance owes an answer.

use std::collections::HashMap;

use tokio::sync::{Notify, oneshot};

use super::message::Asked;
use super::token::Token;
use crate::sync::Mutex;

/// Holders of which a number is remembered. When there are more, ids of connections that have gone among them, all are forgotten, and
/// whoever waits just then waits to the ends of leases.
const HEARD_MAX: usize = 4096;
/// Instances that may be owed an answer at once; the others wait for the lease's end.
const OWED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Acks {
    state: Mutex<State>,
    owed: Mutex<Owed>,
    some_owed: Notify,
}

#[derive(Debug, Default)]
struct State {
    heard: HashMap<Token, u64>,
    waits: Vec<Wait>,
}

#[derive(Debug)]
struct Wait {
    version: u64,
    holders: Vec<Token>,
    done: oneshot::Sender<()>,
}

/// Answers to give, and the number of the connection on which the questions were heard.
#[derive(Debug, Default)]
struct Owed {
    connection: u64,
    versions: HashMap<Token, u64>,
}

impl State {
    fn has_heard(&self, holder: &Token, version: u64) -> bool {
        self.heard.get(holder).is_some_and(|heard| *heard >= version)
    }
}

impl Acks {
    /// What to wait for until all of these have heard of a change: nothing if they have.
    pub(crate) fn wait(&self, version: u64, mut holders: Vec<Token>) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state.lock();
        // An answer may have come before that of Redis was looked at.
        holders.retain(|holder| !state.has_heard(holder, version));
        if holders.is_empty() {
            return None;
        }
        let (done, wait) = oneshot::channel();
        state.waits.push(Wait { version, holders, done });
        Some(wait)
    }

    /// A holder has heard of all changes up to a version, or will never serve anything again.
    pub(crate) fn heard(&self, holder: Token, version: u64) {
        let mut state = self.state.lock();
        if state.heard.len() >= HEARD_MAX {
            state.heard.clear();
        }
        let heard = state.heard.entry(holder).or_default();
        *heard = version.max(*heard);
        let version = *heard;
        let done = state.waits.extract_if(.., |wait| {
            if wait.version <= version {
                wait.holders.retain(|waited| *waited != holder);
            }
            wait.holders.is_empty() || wait.done.is_closed()
        });
        for wait in done {
            let _nobody_waits_any_more = wait.done.send(());
        }
    }

    /// This instance has heard of a change on a connection, and has dropped what it has to.
    pub(crate) fn owe(&self, connection: u64, asked: Asked) {
        let mut owed = self.owed.lock();
        if connection < owed.connection {
            // One that was given up hears for a while, and nobody waits for what it says.
            return;
        }
        if owed.connection != connection {
            // What was heard elsewhere is not for this connection to say.
            *owed = Owed { connection, versions: HashMap::new() };
        }
        if owed.versions.len() < OWED_MAX || owed.versions.contains_key(&asked.by) {
            let version = owed.versions.entry(asked.by).or_default();
            *version = asked.version.max(*version);
        }
        self.some_owed.notify_one();
    }

    /// The answers that are owed, once there are any.
    pub(crate) async fn owed(&self) -> (u64, HashMap<Token, u64>) {
        loop {
            {
                let mut owed = self.owed.lock();
                if !owed.versions.is_empty() {
                    return (owed.connection, std::mem::take(&mut owed.versions));
                }
            }
            self.some_owed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_done(wait: &mut oneshot::Receiver<()>) -> bool {
        wait.try_recv().is_ok()
    }

    #[test]
    fn a_change_waits_for_all_that_may_serve() {
        let acks = Acks::default();
        let [a, b] = [Token::draw(), Token::draw()];
        assert!(acks.wait(5, Vec::new()).is_none());
        let mut first = acks.wait(5, vec![a, b]).unwrap();
        let mut second = acks.wait(7, vec![a]).unwrap();
        acks.heard(a, 5);
        assert!(!is_done(&mut first) && !is_done(&mut second));
        acks.heard(b, 9);
        assert!(is_done(&mut first) && !is_done(&mut second));
        // One number stands for all before it.
        acks.heard(a, 8);
        assert!(is_done(&mut second));
        assert!(acks.state.lock().waits.is_empty());
    }

    #[test]
    fn an_answer_may_come_before_the_question_is_known_to_be_asked() {
        let acks = Acks::default();
        let [a, b] = [Token::draw(), Token::draw()];
        acks.heard(a, 5);
        assert!(acks.wait(5, vec![a]).is_none());
        assert!(acks.wait(6, vec![a]).is_some());
        let mut wait = acks.wait(6, vec![a, b]).unwrap();
        acks.heard(a, u64::MAX);
        acks.heard(a, 6);
        acks.heard(b, 6);
        assert!(is_done(&mut wait));
    }

    #[test]
    fn whoever_does_not_wait_any_more_leaves_nothing_behind() {
        let acks = Acks::default();
        let [a, b] = [Token::draw(), Token::draw()];
        drop(acks.wait(5, vec![a]));
        acks.heard(b, 1);
        assert!(acks.state.lock().waits.is_empty());
        for _ in 0..=HEARD_MAX {
            acks.heard(Token::draw(), 1);
        }
        assert!(acks.state.lock().heard.len() <= HEARD_MAX);
    }

    #[tokio::test]
    async fn answers_are_gathered_and_belong_to_one_connection() {
        let acks = Acks::default();
        let [a, b] = [Token::draw(), Token::draw()];
        for version in [3, 5, 4] {
            acks.owe(1, Asked { by: a, version });
        }
        acks.owe(1, Asked { by: b, version: 2 });
        assert_eq!(acks.owed().await, (1, HashMap::from([(a, 5), (b, 2)])));
        acks.owe(1, Asked { by: a, version: 6 });
        acks.owe(2, Asked { by: b, version: 7 });
        // A message that was late on the connection before.
        acks.owe(1, Asked { by: a, version: 7 });
        assert_eq!(acks.owed().await, (2, HashMap::from([(b, 7)])));
        for _ in 0..2 * OWED_MAX {
            acks.owe(2, Asked { by: Token::draw(), version: 8 });
        }
        assert_eq!(acks.owed().await.1.len(), OWED_MAX);
    }
}
