//! Commands that read and write values.

use std::sync::Arc;

use resp::Parts;
use store::{Mark, Token};

use crate::command::Kind;
use crate::engine::{Entry, NEVER, Slot, Tagged};
use crate::expiry::{Given, life};
use crate::session::{Done, Fault, SYNTAX, Turn, is, number, wrong_number};
use crate::tags::tags;

/// What `SET` is told.
#[derive(Debug, Default)]
struct SetOptions<'p> {
    /// How long it lives, as it was written.
    life: Option<(Given, &'p [u8])>,
    /// Whether it lives as long as the entry before.
    keeps_life: bool,
    /// Only if the key is there, or is not.
    only: Option<Only>,
    returns_old: bool,
    tags: Option<Parts<'p>>,
    since: Option<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    New,
    Old,
}

pub(crate) fn part<'p>(parts: Parts<'p>, at: usize) -> &'p [u8] {
    parts.part(at).unwrap_or_default()
}

impl<'p> SetOptions<'p> {
    fn read(parts: Parts<'p>) -> Result<Self, Fault> {
        let mut options = Self::default();
        let mut at = 0;
        while let Some(word) = parts.part(at) {
            at += 1;
            if is(word, "nx") && options.only != Some(Only::Old) {
                options.only = Some(Only::New);
            } else if is(word, "xx") && options.only != Some(Only::New) {
                options.only = Some(Only::Old);
            } else if is(word, "get") {
                options.returns_old = true;
            } else if is(word, "keepttl") && options.life.is_none() {
                options.keeps_life = true;
            } else if let Some(given) = Given::named(word).filter(|given| options.takes(*given)) {
                options.life = Some((given, parts.part(at).ok_or(SYNTAX)?));
                at += 1;
            } else if is(word, "tags") && options.tags.is_none() {
                let count = usize::try_from(number(parts.part(at))?).map_err(|_| SYNTAX)?;
                options.tags = Some(tags(parts.from(at + 1), count)?);
                at += 1 + count;
            } else if is(word, "since") && options.since.is_none() {
                let number = u64::try_from(number(parts.part(at))?).map_err(|_| SYNTAX)?;
                options.since = Some(Token::from_number(number));
                at += 1;
            } else {
                return Err(SYNTAX.into());
            }
        }
        if options.since.is_some() && options.tags.is_none() {
            return Err("ERR SINCE is about TAGS, and there are none".into());
        }
        Ok(options)
    }

    /// Whether a life may be given so: there is none yet, or one of the same kind, of which the last one counts.
    fn takes(&self, given: Given) -> bool {
        !self.keeps_life && self.life.is_none_or(|(before, _)| before == given)
    }
}

impl Turn<'_> {
    pub(crate) fn get(&mut self, parts: Parts<'_>) -> Done {
        self.read(part(parts, 0));
        Ok(())
    }

    pub(crate) fn mget(&mut self, parts: Parts<'_>) -> Done {
        self.out.answers.array(parts.len());
        self.values(parts);
        Ok(())
    }

    /// Answers keys from the first one on that is not answered yet, for as long as there is room, so that one command of many keys holds
    /// no more for a client that does not read than many commands do.
    pub(crate) fn values(&mut self, keys: Parts<'_>) {
        while let Some(key) = keys.part(self.session.answered) {
            if self.out.is_full() {
                return;
            }
            self.read(key);
            self.session.answered += 1;
        }
        self.session.answered = 0;
    }

    fn read(&mut self, key: &[u8]) {
        let value = self.engine().get(key, self.now);
        self.cells.found(value.is_some());
        self.out.value(value);
    }

    pub(crate) fn set(&mut self, parts: Parts<'_>) -> Done {
        let options = SetOptions::read(parts.from(2))?;
        let (settings, now) = (self.settings, self.now);
        let given = options.life.map(|(given, value)| life(value, given, now, "set")).transpose()?;
        let goes_ahead = |old: &Option<Arc<[u8]>>| match options.only {
            None => true,
            Some(Only::New) => old.is_none(),
            Some(Only::Old) => old.is_some(),
        };
        // Of a value that is not to be stored nothing is copied.
        if options.only.is_some() {
            let old = self.value(part(parts, 0));
            if !goes_ahead(&old) {
                return self.was_set(&options, old, false);
            }
        }
        // Copied before the key's shard is held, as what is long takes its time.
        let value = Arc::from(part(parts, 1));
        let mut slot = settings.engine.slot(part(parts, 0), now);
        let old = slot.entry().map(|entry| Arc::clone(&entry.value));
        let mut stored = false;
        if goes_ahead(&old) {
            let before = slot.entry().filter(|_| options.keeps_life).map(|entry| entry.deadline);
            let deadline = given.or(before).unwrap_or_else(|| self.default_deadline());
            let tagged = options.tags.map(|tags| {
                let since = options.since.unwrap_or_else(|| settings.engine.token());
                Box::new(Tagged { since, marks: tags.iter().map(Mark::tag).collect() })
            });
            stored = self.put(&mut slot, Entry { value, deadline, tagged });
        }
        self.release(slot);
        self.was_set(&options, old, stored)
    }

    /// What is there of a key, which does not count as asked for.
    fn value(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        let slot = self.settings.engine.slot(key, self.now);
        let value = slot.entry().map(|entry| Arc::clone(&entry.value));
        self.release(slot);
        value
    }

    fn was_set(&mut self, options: &SetOptions<'_>, old: Option<Arc<[u8]>>, stored: bool) -> Done {
        if options.returns_old {
            self.out.value(old);
        } else if stored {
            self.ok();
        } else {
            self.out.answers.null();
        }
        Ok(())
    }

    /// When an entry expires of which nothing is said.
    fn default_deadline(&self) -> u64 {
        self.settings.ttl.map_or(NEVER, |ttl| self.now.saturating_add(ttl))
    }

    fn put(&self, slot: &mut Slot<'_>, entry: Entry) -> bool {
        let stored = slot.put(entry);
        if stored {
            self.cells.stored.increment();
        }
        stored
    }

    pub(crate) fn release(&self, slot: Slot<'_>) {
        let evicted = slot.release();
        if evicted > 0 {
            self.cells.evicted.add(evicted);
        }
    }

    /// Stores a value in place of whatever was there, which is returned.
    fn replace(&mut self, key: &[u8], value: &[u8], deadline: u64) -> Option<Arc<[u8]>> {
        let (settings, value) = (self.settings, Arc::from(value));
        let mut slot = settings.engine.slot(key, self.now);
        let old = slot.entry().map(|entry| Arc::clone(&entry.value));
        self.put(&mut slot, Entry { value, deadline, tagged: None });
        self.release(slot);
        old
    }

    pub(crate) fn mset(&mut self, parts: Parts<'_>) -> Done {
        if !parts.len().is_multiple_of(2) {
            return Err(wrong_number(Kind::Mset));
        }
        for at in (0..parts.len()).step_by(2) {
            self.replace(part(parts, at), part(parts, at + 1), self.default_deadline());
        }
        self.ok();
        Ok(())
    }

    pub(crate) fn setnx(&mut self, parts: Parts<'_>) -> Done {
        if self.value(part(parts, 0)).is_some() {
            self.integer(0);
            return Ok(());
        }
        let (settings, value) = (self.settings, Arc::from(part(parts, 1)));
        let mut slot = settings.engine.slot(part(parts, 0), self.now);
        let is_new = slot.entry().is_none();
        if is_new {
            let entry = Entry { value, deadline: self.default_deadline(), tagged: None };
            self.put(&mut slot, entry);
        }
        self.release(slot);
        self.integer(is_new.into());
        Ok(())
    }

    pub(crate) fn setex(&mut self, parts: Parts<'_>, unit: i64, command: &str) -> Done {
        let deadline = life(part(parts, 1), Given { unit, is_relative: true }, self.now, command)?;
        self.replace(part(parts, 0), part(parts, 2), deadline);
        self.ok();
        Ok(())
    }

    pub(crate) fn getset(&mut self, parts: Parts<'_>) -> Done {
        let old = self.replace(part(parts, 0), part(parts, 1), self.default_deadline());
        self.cells.found(old.is_some());
        self.out.value(old);
        Ok(())
    }

    pub(crate) fn getdel(&mut self, parts: Parts<'_>) -> Done {
        let settings = self.settings;
        let mut slot = settings.engine.slot(part(parts, 0), self.now);
        let old = slot.entry().map(|entry| Arc::clone(&entry.value));
        slot.remove();
        self.release(slot);
        self.cells.found(old.is_some());
        self.out.value(old);
        Ok(())
    }

    pub(crate) fn getex(&mut self, parts: Parts<'_>) -> Done {
        let given = match (parts.part(1), parts.len()) {
            (None, _) => None,
            (Some(word), 2) if is(word, "persist") => Some(None),
            (Some(word), 3) => Some(Some(Given::named(word).ok_or(SYNTAX)?)),
            _ => return Err(SYNTAX.into()),
        };
        let settings = self.settings;
        let mut slot = settings.engine.slot(part(parts, 0), self.now);
        let value = slot.entry().map(|entry| Arc::clone(&entry.value));
        if value.is_some()
            && let Some(given) = given
        {
            let deadline = given.map(|given| life(part(parts, 2), given, self.now, "getex")).transpose()?;
            slot.set_deadline(deadline.unwrap_or(NEVER));
        }
        self.release(slot);
        self.cells.found(value.is_some());
        self.out.value(value);
        Ok(())
    }

    pub(crate) fn del(&mut self, parts: Parts<'_>) -> Done {
        let removed = parts.iter().filter(|key| self.engine().slot(key, self.now).remove()).count();
        self.integer(removed as i64);
        Ok(())
    }

    pub(crate) fn exists(&mut self, parts: Parts<'_>) -> Done {
        let there = parts.iter().filter(|key| self.engine().slot(key, self.now).entry().is_some()).count();
        self.integer(there as i64);
        Ok(())
    }

    pub(crate) fn strlen(&mut self, parts: Parts<'_>) -> Done {
        let len = self.engine().slot(part(parts, 0), self.now).entry().map_or(0, |entry| entry.value.len());
        self.integer(len as i64);
        Ok(())
    }

    pub(crate) fn kind_of(&mut self, parts: Parts<'_>) -> Done {
        let is_there = self.engine().slot(part(parts, 0), self.now).entry().is_some();
        self.out.answers.simple(if is_there { "string" } else { "none" });
        Ok(())
    }

    /// Adds to a number; `None` is what no number can be made negative of.
    pub(crate) fn add(&mut self, parts: Parts<'_>, delta: Option<i64>) -> Done {
        let delta = delta.ok_or("ERR decrement would overflow")?;
        let settings = self.settings;
        let mut slot = settings.engine.slot(part(parts, 0), self.now);
        let before = match slot.entry() {
            None => 0,
            Some(entry) => number(Some(&entry.value))?,
        };
        let after = before.checked_add(delta).ok_or("ERR increment or decrement would overflow")?;
        let value: Arc<[u8]> = itoa::Buffer::new().format(after).as_bytes().into();
        let entry = match slot.entry() {
            Some(entry) => Entry { value, ..entry.clone() },
            None => Entry { value, deadline: self.default_deadline(), tagged: None },
        };
        self.put(&mut slot, entry);
        self.release(slot);
        self.integer(after);
        Ok(())
    }
}
