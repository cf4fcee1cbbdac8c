//! A naive model of S3-FIFO, after Yang and others, "FIFO queues are all you need for cache eviction", SOSP 2023.

use std::collections::{HashMap, VecDeque};

use super::Model;
use super::lru::Ordered;

/// A small queue that most keys leave again, a main queue for those that came back, and the names of what left.
#[derive(Debug)]
pub(super) struct S3Fifo {
    capacity: usize,
    small_share: usize,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    uses: HashMap<u64, u8>,
    ghosts: Ordered,
}

/// Uses beyond that are not counted.
const USES_MAX: u8 = 3;
/// Who leaves the small queue with more uses than that goes to the main one.
const USES_TO_STAY: u8 = 1;

impl S3Fifo {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            small_share: (capacity / 10).max(1),
            small: VecDeque::new(),
            main: VecDeque::new(),
            uses: HashMap::new(),
            ghosts: Ordered::default(),
        }
    }

    fn evict(&mut self) {
        if self.small.len() >= self.small_share || self.main.is_empty() {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        while let Some(key) = self.small.pop_front() {
            if self.uses.get(&key).is_some_and(|uses| *uses > USES_TO_STAY) {
                self.uses.insert(key, 0);
                self.main.push_back(key);
                if self.main.len() > self.capacity - self.small_share {
                    return self.evict_main();
                }
            } else {
                self.uses.remove(&key);
                return self.remember(key);
            }
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.pop_front() {
            match self.uses.get_mut(&key) {
                Some(uses) if *uses > 0 => {
                    *uses -= 1;
                    self.main.push_back(key);
                }
                _ => {
                    self.uses.remove(&key);
                    return;
                }
            }
        }
    }

    fn remember(&mut self, key: u64) {
        if self.ghosts.len() >= self.capacity - self.small_share {
            self.ghosts.pop_oldest();
        }
        self.ghosts.touch(key);
    }
}

impl Model for S3Fifo {
    fn request(&mut self, key: u64) -> bool {
        if let Some(uses) = self.uses.get_mut(&key) {
            *uses = (*uses + 1).min(USES_MAX);
            return true;
        }
        while self.uses.len() >= self.capacity {
            self.evict();
        }
        self.uses.insert(key, 0);
        if self.ghosts.remove(key) {
            self.main.push_back(key);
        } else {
            self.small.push_back(key);
        }
        false
    }
}
