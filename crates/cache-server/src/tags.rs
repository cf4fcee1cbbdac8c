//! Tags of entries, and commands about them.

use resp::Parts;
use store::Mark;

use crate::engine::Tagged;
use crate::session::{Done, Fault, SYNTAX, Turn};
use crate::strings::part;

/// Tags of an entry at most.
pub(crate) const TAGS_MAX: usize = 256;

/// The first `count` parts as tags.
pub(crate) fn tags(parts: Parts<'_>, count: usize) -> Result<Parts<'_>, Fault> {
    if count > TAGS_MAX {
        return Err(too_many());
    }
    if count == 0 || parts.len() < count {
        return Err(SYNTAX.into());
    }
    Ok(parts.first(count))
}

fn too_many() -> Fault {
    format!("ERR an entry has at most {TAGS_MAX} tags").into()
}

impl Turn<'_> {
    /// Adds tags to an entry, by which it can be invalidated from now on.
    pub(crate) fn tag(&mut self, parts: Parts<'_>) -> Done {
        let settings = self.settings;
        let new = tags(parts.from(1), parts.len() - 1)?;
        // Before the look: what is invalidated after it concerns the entry.
        let token = settings.engine.token();
        let mut slot = settings.engine.slot(part(parts, 0), self.now);
        let Some(mut entry) = slot.entry().cloned() else {
            self.integer(0);
            return Ok(());
        };
        let had = entry.tagged.as_ref().map_or(&[][..], |tagged| &tagged.marks);
        let mut marks = had.to_vec();
        marks.extend(new.iter().map(Mark::tag));
        marks.sort_unstable();
        marks.dedup();
        if marks.len() > TAGS_MAX {
            return Err(too_many());
        }
        // An entry may have been stored since then, with a token of its own.
        let since = entry.tagged.as_ref().map_or(token, |tagged| tagged.since.max(token));
        entry.tagged = Some(Box::new(Tagged { since, marks: marks.into() }));
        let is_there = slot.put(entry);
        self.release(slot);
        self.integer(is_there.into());
        Ok(())
    }

    pub(crate) fn invalidate(&mut self, parts: Parts<'_>) -> Done {
        for tag in parts.iter() {
            self.engine().invalidate(tag);
        }
        self.cells.invalidations.add(parts.len() as u64);
        self.ok();
        Ok(())
    }

    pub(crate) fn token(&mut self) -> Done {
        let number = self.engine().token().number();
        self.integer(number as i64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use crate::session::tests::Desk;

    #[test]
    fn an_invalidation_is_not_lost_to_a_tag_that_is_added_meanwhile() {
        let desk = Desk::new();
        let tags: String = (0..200).map(|tag| format!(" t{tag}")).collect();
        let (add, both) = (format!("TENFOLD.TAG k{tags}"), Barrier::new(2));
        let (rounds, mut lost) = (500, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..rounds {
                    both.wait();
                    desk.ask(&add);
                    both.wait();
                }
            });
            for round in 0..rounds {
                assert_eq!(desk.ask("SET k v TAGS 1 a"), "+OK\r\n");
                both.wait();
                // At another moment of it each time.
                for _ in 0..20 * round {
                    std::hint::spin_loop();
                }
                assert_eq!(desk.ask("TENFOLD.INVALIDATE a"), "+OK\r\n");
                both.wait();
                // Both threads go through all rounds, whatever is found.
                lost += usize::from(desk.ask("GET k") != "$-1\r\n");
            }
        });
        assert_eq!(lost, 0, "of {rounds}");
    }
}
