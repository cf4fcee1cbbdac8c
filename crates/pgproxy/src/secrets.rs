//! Secrets that were derived from passwords, so that a login takes its millisecond once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgroute::auth::scram;
use vocab::Secret;

use crate::random;

/// Secrets that are remembered.
const SECRETS_MAX: usize = 10_000;

/// By user: the password, and what was derived from it.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<HashMap<String, (Secret, scram::Secret)>>);

impl Secrets {
    /// What a user's password is checked against by SCRAM, if it has been derived.
    pub(crate) fn derived(&self, user: &str, password: &Secret) -> Option<scram::Secret> {
        let secrets = self.lock();
        secrets.get(user).filter(|(of, _)| of == password).map(|(_, secret)| secret.clone())
    }

    /// Derives it. This takes a millisecond, and is not for a core.
    pub(crate) fn derive(&self, user: &str, password: &Secret) -> scram::Secret {
        let salt: [u8; 16] = random::bytes();
        let secret = scram::Secret::from_password(password.expose(), &salt, scram::ITERATIONS);
        let mut secrets = self.lock();
        if secrets.len() >= SECRETS_MAX {
            secrets.clear();
        }
        secrets.insert(user.to_owned(), (password.clone(), secret.clone()));
        secret
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Secret, scram::Secret)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
