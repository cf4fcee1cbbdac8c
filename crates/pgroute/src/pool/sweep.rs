//! What time does to a pool.

use std::time::Instant;

use super::{Action, BackendId, Pool, State};

impl Pool {
    /// Ends what has waited, lived or idled for too long, and opens what is missing.
    pub fn sweep(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(waiter) = self.waiting.front()
            && now.saturating_duration_since(waiter.since) >= self.params.acquire_timeout
        {
            out.push(Action::TimeOut(waiter.ticket));
            self.waiting.pop_front();
        }
        // The longest idle ones stand first.
        let idle = self.idle.clone();
        for backend in idle {
            let is_over = self.idle_until(backend).is_some_and(|until| until <= now);
            let is_spare = self.counts.total() > self.params.min.min(self.params.size);
            let is_too_many = self.counts.total() > self.params.size + self.params.overflow;
            if self.is_spent(now, backend) || is_over && is_spare || is_too_many {
                self.remove(backend);
                out.push(Action::Close(backend));
            }
        }
        self.open_more(now, out);
    }

    /// When [`Pool::sweep`] has to be called next, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiter = self.waits_since();
        let time_out = waiter.map(|since| since + self.params.acquire_timeout);
        let is_reserve_open = self.counts.total() >= self.params.size + self.params.overflow && self.params.reserve > 0;
        let has_reserve = self.counts.total() < self.params.size + self.params.overflow + self.params.reserve;
        let reserve = waiter.filter(|_| is_reserve_open && has_reserve && self.waiting.len() > self.counts.opening);
        // After a failed try nothing is opened for a while, reserve or not.
        let reserve = reserve.map(|since| (since + self.params.reserve_after).max(self.opens_at.unwrap_or(since)));
        let reserve = reserve.filter(|_| !self.is_paused);
        let is_spare = self.counts.total() > self.params.min.min(self.params.size);
        let idle = self.idle.iter().filter(|_| is_spare).filter_map(|backend| self.idle_until(*backend)).min();
        let dies = self.idle.iter().filter_map(|backend| self.backend(*backend)?.dies_at).min();
        let opens = self.opens_at.filter(|_| self.is_short() && !self.is_paused);
        [time_out, reserve, idle, dies, opens].into_iter().flatten().min()
    }

    /// Whether something would be opened if the last try had not failed.
    fn is_short(&self) -> bool {
        let total = self.counts.total();
        let bound = self.params.size + self.params.overflow;
        self.waiting.len() > self.counts.opening && total < bound || total < self.params.min.min(self.params.size)
    }

    fn idle_until(&self, backend: BackendId) -> Option<Instant> {
        match self.backend(backend)?.state {
            State::Idle { until, .. } => until,
            State::Opening | State::Lent => None,
        }
    }
}
