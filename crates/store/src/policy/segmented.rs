//! A window for what came lately and a main part for what is popular: W-TinyLFU, after Einziger, Friedman and Manes (2017).
//!
//! What is new enters the window and is pushed out of it in the order of last use. Whether it gets a place in the main part, from
//! where something else would have to go, is a matter of how often it was asked for. The main part has a probation, from where
//! it evicts, and a protected part for what was used again there.
//!
//! The style decides what the policy is good at. With all of the capacity for the window it is LRU. With next to nothing for it
//! and admission of what is more popular, it keeps what is popular through scans and loops. With admission of what came twice, it
//! takes up quickly what becomes popular, and what comes once still disturbs nothing.

use super::list::{Lists, Segment};
use super::sketch::Sketch;

/// Of the main part, for what was used again there.
const PROTECTED_SHARE: f64 = 0.8;

/// What leaves the window gets a place in the main part if that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It was asked for more often lately than what has to go.
    Popular,
    /// It was asked for more often than once lately, or what has to go was not asked for at all.
    Twice,
}

/// What the policy is good at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Style {
    /// The part of the capacity that is for what came lately.
    pub(crate) window_share: f64,
    pub(crate) admission: Admission,
}

#[derive(Debug)]
pub(crate) struct Segmented {
    lists: Lists,
    capacity: u64,
    style: Style,
}

impl Segmented {
    pub(crate) fn new(capacity: u64, style: Style) -> Self {
        Self { lists: Lists::new(), capacity, style }
    }

    pub(crate) fn lists(&self) -> &Lists {
        &self.lists
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    pub(crate) fn style(&self) -> Style {
        self.style
    }

    pub(crate) fn set_style(&mut self, style: Style) {
        self.style = style;
    }

    /// Adds what is new. [`Segmented::evict`] has to be called until there is nothing to evict.
    pub(crate) fn insert(&mut self, hash: u64, weight: u32) -> u32 {
        self.lists.insert(Segment::Window, hash, weight)
    }

    /// Forgets an entry.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.lists.remove(slot);
    }

    /// Notes a use.
    pub(crate) fn hit(&mut self, slot: u32) {
        match self.lists.segment(slot) {
            Some(Segment::Window) => self.lists.refresh(Segment::Window, slot),
            Some(Segment::Probation | Segment::Protected) => {
                self.lists.refresh(Segment::Protected, slot);
                self.demote();
            }
            None => {}
        }
    }

    /// Takes out one entry that has to go, which may be the one that came last. `None` when everything has its place.
    pub(crate) fn evict(&mut self, sketch: &Sketch) -> Option<u32> {
        let window_max = self.window_max();
        loop {
            let all = self.lists.weight_of_all();
            if self.lists.weight(Segment::Window) <= window_max {
                let victim = if all > self.capacity { self.victim() } else { None };
                return victim.map(|slot| self.take(slot));
            }
            let candidate = self.lists.oldest(Segment::Window)?;
            if all <= self.capacity {
                self.lists.refresh(Segment::Probation, candidate);
                continue;
            }
            let Some(victim) = self.victim() else { return Some(self.take(candidate)) };
            let (new, old) = (self.lists.hash(candidate), self.lists.hash(victim));
            let asked = match self.style.admission {
                Admission::Popular => sketch.estimate(old),
                Admission::Twice => sketch.estimate(old).min(1),
            };
            let loser = if sketch.estimate(new) > asked { victim } else { candidate };
            return Some(self.take(loser));
        }
    }

    /// Who of the main part goes first.
    fn victim(&self) -> Option<u32> {
        self.lists.oldest(Segment::Probation).or_else(|| self.lists.oldest(Segment::Protected))
    }

    fn take(&mut self, slot: u32) -> u32 {
        self.lists.remove(slot);
        slot
    }

    fn window_max(&self) -> u64 {
        // At least one entry of the usual kind, or nothing could be seen twice before it is judged.
        ((self.capacity as f64 * self.style.window_share) as u64).max(1)
    }

    /// Keeps the protected part within its share.
    fn demote(&mut self) {
        let main = self.capacity - self.window_max().min(self.capacity);
        let most = (main as f64 * PROTECTED_SHARE) as u64;
        while self.lists.weight(Segment::Protected) > most
            && let Some(oldest) = self.lists.oldest(Segment::Protected)
        {
            self.lists.refresh(Segment::Probation, oldest);
        }
    }
}
