//! What marks invalidated, for caches that keep their entries elsewhere.

use crate::key::Mark;
use crate::purges::{How, Judgement, Numbered, Purge, Purges, Token};

/// Marks with the numbers of their last invalidation, as the store has them for its own entries. An entry takes the [`token`](Self::token)
/// of before it was made, and is good while none of its marks was invalidated since.
#[derive(Debug)]
pub struct Invalidations(Purges);

impl Invalidations {
    /// Remembers so many marks. Beyond, the oldest is forgotten, and all entries with marks from before it are gone.
    pub fn new(marks_max: usize) -> Self {
        Self(Purges::new(marks_max, 1))
    }

    /// The same, with all tokens below this number as ones from before everything: of another process, or of another one of these.
    pub fn beginning_at(marks_max: usize, number: u64) -> Self {
        let all = Self::new(marks_max);
        all.0.restore(&Numbered { number, purge: Purge::all(How::Hard) });
        all
    }

    /// What has been invalidated so far.
    pub fn token(&self) -> Token {
        Token(self.0.latest())
    }

    /// Has whatever carries the mark gone.
    pub fn invalidate(&self, mark: Mark) {
        self.0.purge(Purge::mark(mark, How::Hard));
    }

    /// The token up to which an entry is good, which is to be asked about the next time; `None` when it is gone.
    pub fn judge(&self, since: Token, marks: &[Mark]) -> Option<Token> {
        let (judgement, checked) = self.0.judge(since.0, &[], marks);
        (judgement != Judgement::Gone).then_some(Token(checked))
    }
}

impl Token {
    /// As a number, for programs that keep it.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The token with this number.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_good_while_none_of_its_marks_was_invalidated_since() {
        loom::model(|| {
            let all = Invalidations::new(2);
            let [a, b, c] = [b"a", b"b", b"c"].map(|name| Mark::tag(name));
            let before = all.token();
            assert_eq!(all.judge(before, &[a, b]), Some(before));
            all.invalidate(b);
            assert_eq!(all.judge(before, &[a, b]), None);
            let after = all.judge(before, &[a]).expect("only b was invalidated");
            assert!(after > before && Token::from_number(after.number()) == after);
            assert_eq!(all.judge(after, &[a, b]), Some(after));
            all.invalidate(a);
            all.invalidate(c);
            // Nobody knows any more what became of b.
            assert_eq!(all.judge(before, &[]), None);
        });
    }

    #[test]
    fn tokens_of_before_the_beginning_are_too_old() {
        loom::model(|| {
            let (all, mark) = (Invalidations::beginning_at(2, 1000), Mark::tag(b"a"));
            let first = all.token();
            assert_eq!((first.number(), all.judge(first, &[mark])), (1000, Some(first)));
            assert_eq!(all.judge(Token::from_number(999), &[mark]), None);
            all.invalidate(Mark::tag(b"b"));
            assert!(all.judge(first, &[mark]).is_some());
            assert_eq!(all.judge(Token::from_number(999), &[mark]), None);
        });
    }
}
