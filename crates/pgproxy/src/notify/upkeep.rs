//! When the connection that listens is looked after.
//!
//! A server that lost its power, and a network that has forgotten the connection, say nothing, as a server on which nothing happens. So it is
//! asked something once in a while, and whoever does not answer has gone. Whatever comes shows that it is there: an answer may have many
//! notifications before it.

use std::time::{Duration, Instant};

/// How long nothing is heard before it is asked something.
const QUIET: Duration = Duration::from_secs(5);

/// How long nobody may listen before the connection is given up.
const IDLE: Duration = Duration::from_secs(10);

/// What is known of the connection.
#[derive(Debug)]
pub(super) struct Upkeep {
    heard_at: Instant,
    /// What was asked has no answer yet.
    asked_at: Option<Instant>,
    idle_since: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// It is to be asked something.
    Ask,
    /// It has not answered in time.
    Late,
    /// Nobody has listened for long.
    Idle,
}

impl Upkeep {
    /// Of a connection that was just made.
    pub(super) fn new(now: Instant) -> Self {
        Self { heard_at: now, asked_at: None, idle_since: None }
    }

    /// Whether an answer is due.
    pub(super) fn is_asked(&self) -> bool {
        self.asked_at.is_some()
    }

    /// It was asked something.
    pub(super) fn asked(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// Something has come, and maybe the end of the answer.
    pub(super) fn heard(&mut self, now: Instant, is_answered: bool) {
        self.heard_at = now;
        if is_answered {
            self.asked_at = None;
        }
    }

    /// What is to be done now, where an answer has so much time and nobody listens (`is_idle`) or somebody does.
    pub(super) fn due(&mut self, now: Instant, is_idle: bool, timeout: Duration) -> Due {
        let since = |at: Instant| now.saturating_duration_since(at);
        if !is_idle {
            self.idle_since = None;
        }
        let idle_since = is_idle.then(|| *self.idle_since.get_or_insert(now));
        match (self.asked_at, idle_since) {
            (Some(asked_at), _) if since(asked_at.max(self.heard_at)) > timeout => Due::Late,
            (Some(_), _) => Due::Nothing,
            (None, Some(idle_since)) if since(idle_since) > IDLE => Due::Idle,
            (None, None) if since(self.heard_at) >= QUIET => Due::Ask,
            (None, _) => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_is_asked_and_who_does_not_answer_has_gone() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let timeout = Duration::from_secs(5);
        let mut upkeep = Upkeep::new(begin);
        let due = |upkeep: &mut Upkeep, seconds, is_idle| upkeep.due(at(seconds), is_idle, timeout);
        assert_eq!(due(&mut upkeep, 4, false), Due::Nothing);
        upkeep.heard(at(4), false);
        assert_eq!((due(&mut upkeep, 8, false), due(&mut upkeep, 9, false)), (Due::Nothing, Due::Ask));
        upkeep.asked(at(9));
        assert_eq!(due(&mut upkeep, 14, false), Due::Nothing);
        // A flood before the answer is a sign of life, and not the answer.
        upkeep.heard(at(14), false);
        assert!(upkeep.is_asked());
        assert_eq!((due(&mut upkeep, 19, false), due(&mut upkeep, 20, false)), (Due::Nothing, Due::Late));
        upkeep.heard(at(20), true);
        assert_eq!((upkeep.is_asked(), due(&mut upkeep, 21, false)), (false, Due::Nothing));
    }

    #[test]
    fn nobody_is_asked_for_nobody() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut upkeep = Upkeep::new(begin);
        let mut due = |seconds, is_idle| upkeep.due(at(seconds), is_idle, Duration::from_secs(5));
        assert_eq!((due(7, true), due(17, true), due(18, false)), (Due::Nothing, Due::Nothing, Due::Ask));
        assert_eq!((due(20, true), due(30, true), due(31, true)), (Due::Nothing, Due::Nothing, Due::Idle));
    }
}
