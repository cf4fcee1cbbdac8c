//! A naive model of ARC, after figure 4 of Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003.

use super::Model;
use super::lru::Ordered;

/// Adaptive replacement: keys seen once lately and keys seen more often, with a target for the share of the former
/// that moves by hits in the lists of what was evicted from each.
#[derive(Debug)]
pub(super) struct Arc {
    capacity: usize,
    target: usize,
    recent: Ordered,
    frequent: Ordered,
    recent_ghosts: Ordered,
    frequent_ghosts: Ordered,
}

impl Arc {
    pub(super) fn new(capacity: usize) -> Self {
        let list = Ordered::default;
        Self { capacity, target: 0, recent: list(), frequent: list(), recent_ghosts: list(), frequent_ghosts: list() }
    }

    /// Makes room for one key: `REPLACE` of the paper.
    fn replace(&mut self, from_frequent_ghosts: bool) {
        let recent = self.recent.len();
        if recent > 0 && (recent > self.target || from_frequent_ghosts && recent == self.target) {
            if let Some(key) = self.recent.pop_oldest() {
                self.recent_ghosts.touch(key);
            }
        } else if let Some(key) = self.frequent.pop_oldest() {
            self.frequent_ghosts.touch(key);
        }
    }
}

impl Model for Arc {
    fn request(&mut self, key: u64) -> bool {
        if self.recent.remove(key) || self.frequent.contains(key) {
            self.frequent.touch(key);
            return true;
        }
        let (recent_ghosts, frequent_ghosts) = (self.recent_ghosts.len(), self.frequent_ghosts.len());
        if self.recent_ghosts.contains(key) {
            self.target = self.capacity.min(self.target + (frequent_ghosts / recent_ghosts).max(1));
            self.replace(false);
            self.recent_ghosts.remove(key);
            self.frequent.touch(key);
            return false;
        }
        if self.frequent_ghosts.contains(key) {
            self.target = self.target.saturating_sub((recent_ghosts / frequent_ghosts).max(1));
            self.replace(true);
            self.frequent_ghosts.remove(key);
            self.frequent.touch(key);
            return false;
        }
        let once = self.recent.len() + recent_ghosts;
        let all = once + self.frequent.len() + frequent_ghosts;
        if once == self.capacity {
            if self.recent.len() < self.capacity {
                self.recent_ghosts.pop_oldest();
                self.replace(false);
            } else {
                self.recent.pop_oldest();
            }
        } else if all >= self.capacity {
            if all == 2 * self.capacity {
                self.frequent_ghosts.pop_oldest();
            }
            self.replace(false);
        }
        self.recent.touch(key);
        false
    }
}
