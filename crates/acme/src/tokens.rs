//! Answers to challenges by HTTP (RFC 8555 section 8.3), from when they are ready until they are not asked for any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Where the path of every challenge begins.
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// The answers of a process. Whoever clones it shares them.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Readers look at this first, so that without challenges a request costs one read of a number nobody writes.
    count: AtomicUsize,
    answers: RwLock<HashMap<String, Arc<str>>>,
}

/// An answer that is given until this is dropped.
#[derive(Debug)]
pub(crate) struct Given {
    tokens: Tokens,
    token: String,
}

impl Tokens {
    /// Whether no challenge is under way.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::Acquire) == 0
    }

    /// The answer to a request for a path, if that is the path of a challenge under way.
    pub fn answer(&self, path: &[u8]) -> Option<Arc<str>> {
        let token = std::str::from_utf8(path.strip_prefix(PATH)?).ok()?;
        self.0.answers.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Gives this answer for a token from now on.
    pub(crate) fn give(&self, token: String, answer: &str) -> Given {
        self.change(|answers| {
            answers.insert(token.clone(), answer.into());
        });
        Given { tokens: self.clone(), token }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, Arc<str>>)) {
        let mut answers = self.0.answers.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut answers);
        self.0.count.store(answers.len(), Ordering::Release);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.tokens.change(|answers| {
            answers.remove(&self.token);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_given_while_they_are_wanted_and_for_their_tokens_only() {
        let tokens = Tokens::default();
        assert!(tokens.is_empty());
        let given = tokens.give("abc".to_owned(), "abc.thumb");
        let other = tokens.give("def".to_owned(), "def.thumb");
        assert!(!tokens.is_empty());
        assert_eq!(tokens.answer(b"/.well-known/acme-challenge/abc").as_deref(), Some("abc.thumb"));
        for path in [
            "/abc",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/ab",
            "/.well-known/acme-challenge/abc/",
        ] {
            assert_eq!(tokens.answer(path.as_bytes()), None, "{path}");
        }
        assert_eq!(tokens.answer(b"/.well-known/acme-challenge/\xff"), None);
        drop(given);
        assert_eq!(tokens.answer(b"/.well-known/acme-challenge/abc"), None);
        assert!(!tokens.is_empty());
        drop(other);
        assert!(tokens.is_empty());
    }
}
