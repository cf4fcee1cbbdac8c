//! Lives of entries, and the commands about them.

use std::time::{SystemTime, UNIX_EPOCH};

use resp::Parts;

use crate::engine::NEVER;
use crate::session::{Done, Fault, Turn, is, number, quoted};

/// How a life is given: in units of so many milliseconds, from now on or since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) unit: i64,
    pub(crate) is_relative: bool,
}

impl Given {
    /// By the option of `SET` and `GETEX`.
    pub(crate) fn named(word: &[u8]) -> Option<Self> {
        let known = [("ex", 1000, true), ("px", 1, true), ("exat", 1000, false), ("pxat", 1, false)];
        let found = known.into_iter().find(|(name, ..)| is(word, name));
        found.map(|(_, unit, is_relative)| Self { unit, is_relative })
    }
}

fn unix_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The milliseconds from now on that are given, below zero if they have passed.
fn from_now(value: i64, given: Given, command: &str) -> Result<i64, Fault> {
    let wrong = || Fault::from(format!("ERR invalid expire time in '{command}' command"));
    let millis = value.checked_mul(given.unit).ok_or_else(wrong)?;
    let clock = unix_millis();
    if given.is_relative {
        // Times are counted since 1970 by whoever asks.
        return millis.checked_add(clock).map(|_| millis).ok_or_else(wrong);
    }
    Ok(millis.saturating_sub(clock))
}

/// The deadline after so many milliseconds.
fn deadline(now: u64, from_now: i64) -> u64 {
    now.saturating_add_signed(from_now).min(NEVER - 1)
}

/// The deadline of an entry that is stored with a life, which has to be above zero.
pub(crate) fn life(value: &[u8], given: Given, now: u64, command: &str) -> Result<u64, Fault> {
    let value = number(Some(value))?;
    if value <= 0 {
        return Err(format!("ERR invalid expire time in '{command}' command").into());
    }
    Ok(deadline(now, from_now(value, given, command)?))
}

/// When `EXPIRE` and its like change anything.
#[derive(Clone, Copy, Debug, Default)]
struct When {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl When {
    fn read(parts: Parts<'_>) -> Result<Self, Fault> {
        let mut when = Self::default();
        for word in parts.iter() {
            let flag = match word.to_ascii_lowercase().as_slice() {
                b"nx" => &mut when.nx,
                b"xx" => &mut when.xx,
                b"gt" => &mut when.gt,
                b"lt" => &mut when.lt,
                _ => return Err(format!("ERR Unsupported option {}", quoted(word)).into()),
            };
            *flag = true;
        }
        if when.nx && (when.xx || when.gt || when.lt) {
            return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
        }
        if when.gt && when.lt {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(when)
    }

    /// Whether a deadline takes the place of another one. To have none is to live longest.
    fn permits(self, old: u64, new: u64) -> bool {
        !(self.nx && old != NEVER || self.xx && old == NEVER || self.gt && new <= old || self.lt && new >= old)
    }
}

impl Turn<'_> {
    pub(crate) fn expire(&mut self, parts: Parts<'_>, (unit, is_relative): (i64, bool), command: &str) -> Done {
        let when = When::read(parts.from(2))?;
        let from_now = from_now(number(parts.part(1))?, Given { unit, is_relative }, command)?;
        let settings = self.settings;
        let mut slot = settings.engine.slot(parts.part(0).unwrap_or_default(), self.now);
        let new = deadline(self.now, from_now);
        let changes = slot.entry().is_some_and(|entry| when.permits(entry.deadline, new));
        if changes {
            slot.set_deadline(new);
        }
        drop(slot);
        self.integer(changes.into());
        Ok(())
    }

    pub(crate) fn persist(&mut self, parts: Parts<'_>) -> Done {
        let settings = self.settings;
        let mut slot = settings.engine.slot(parts.part(0).unwrap_or_default(), self.now);
        let changes = slot.entry().is_some_and(|entry| entry.deadline != NEVER);
        if changes {
            slot.set_deadline(NEVER);
        }
        drop(slot);
        self.integer(changes.into());
        Ok(())
    }

    pub(crate) fn ttl(&mut self, parts: Parts<'_>, unit: u64) -> Done {
        let settings = self.settings;
        let slot = settings.engine.slot(parts.part(0).unwrap_or_default(), self.now);
        let left = match slot.entry().map(|entry| entry.deadline) {
            None => -2,
            Some(NEVER) => -1,
            // Rounded, as Redis does.
            Some(deadline) => ((deadline - self.now + unit / 2) / unit) as i64,
        };
        drop(slot);
        self.integer(left);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_above_zero_and_within_what_can_be_counted() {
        let seconds = Given { unit: 1000, is_relative: true };
        assert_eq!(life(b"10", seconds, 5, "set"), Ok(10_005));
        for wrong in ["0", "-1", "9223372036854775807", "9223372036854775"] {
            let fault = life(wrong.as_bytes(), seconds, 5, "set").unwrap_err();
            assert_eq!(fault.text(), "ERR invalid expire time in 'set' command", "{wrong}");
        }
        assert!(life(b"x", seconds, 5, "set").unwrap_err().text().contains("not an integer"));
        // What has passed is in the past, and what is given since 1970 is not counted from now.
        assert_eq!(life(b"1", Given { unit: 1000, is_relative: false }, 5, "set"), Ok(0));
    }

    #[test]
    fn to_have_no_deadline_is_to_live_longest() {
        let when = |text: &str| {
            let (mut when, flags) = (When::default(), text);
            (when.nx, when.xx) = (flags.contains('n'), flags.contains('x'));
            (when.gt, when.lt) = (flags.contains('g'), flags.contains('l'));
            when
        };
        let check = |flags: &str, old: u64, new: u64, expected: bool| {
            assert_eq!(when(flags).permits(old, new), expected, "{flags} {old} {new}");
        };
        check("", 5, 3, true);
        check("n", NEVER, 3, true);
        check("n", 5, 9, false);
        check("x", NEVER, 3, false);
        check("x", 5, 3, true);
        check("g", 5, 6, true);
        check("g", 5, 5, false);
        check("g", NEVER, 6, false);
        check("l", 5, 4, true);
        check("l", NEVER, 4, true);
        check("l", 5, 5, false);
        check("xl", NEVER, 4, false);
    }
}
