//! Who may ask, by name and password: the Basic scheme of RFC 7617.
//!
//! Checking a password takes long on purpose, and clients send it with every request. So a check runs on a blocking
//! thread, one at a time for each core, with a bounded number of requests that wait for their turn; and each core
//! remembers for a while what it has checked, good and bad apart, so that a flood of guesses drives no good one out. What
//! is remembered is a hash of the name, the password and the stored hash, under a key that this process drew: who changes
//! a password makes the old one forgotten.
//!
//! A name that does not exist takes as long as one that does.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http1::FieldId;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use vocab::ErrorCode;

use super::answer::Prepared;
use super::credential::Hash;
use crate::params::BasicAuthParams;
use crate::router::Asked;

/// How long a good password is remembered: a change of the file takes effect at once, so this bounds only memory.
const GOOD_TIME: Duration = Duration::from_secs(600);

/// How long a bad one is: long enough that a client that repeats itself costs little.
const BAD_TIME: Duration = Duration::from_secs(10);

/// Most passwords remembered of each kind, by each core.
const REMEMBERED_MAX: usize = 1024;

/// Most requests of a core that wait for a check. At 50 ms each, the last one waits for three seconds.
const WAITING_MAX: usize = 64;

/// The settings of a route, ready to check.
#[derive(Debug)]
pub(crate) struct BasicAuth {
    challenge: Box<[u8]>,
    users: HashMap<Box<[u8]>, Hash>,
    /// What names that do not exist are checked against.
    decoy: Option<Hash>,
}

/// What a core knows of passwords.
#[derive(Debug)]
pub(crate) struct Checks {
    key: [u8; 16],
    good: RefCell<Remembered>,
    bad: RefCell<Remembered>,
    turn: Semaphore,
    waiting: Cell<usize>,
}

type Fingerprint = [u8; 32];

/// What was found out, until when it holds.
#[derive(Debug, Default)]
struct Remembered(HashMap<Fingerprint, Instant>);

impl Default for Checks {
    fn default() -> Self {
        // The standard library seeds these from the system.
        let (one, other) = (RandomState::new().hash_one(1), RandomState::new().hash_one(2));
        Self {
            key: (u128::from(one) << 64 | u128::from(other)).to_le_bytes(),
            good: RefCell::default(),
            bad: RefCell::default(),
            turn: Semaphore::new(1),
            waiting: Cell::new(0),
        }
    }
}

impl BasicAuth {
    /// Basic authentication with these settings.
    pub(crate) fn new(params: &BasicAuthParams) -> Self {
        let mut challenge = Vec::new();
        let value = format!("Basic realm=\"{}\", charset=\"UTF-8\"", params.realm);
        http1::write::field(&mut challenge, b"WWW-Authenticate", value.as_bytes());
        let user = |user: &super::credential::Credential| (user.name().as_bytes().into(), user.hash().clone());
        Self {
            challenge: challenge.into(),
            users: params.users.iter().map(user).collect(),
            decoy: params.users.first().map(|user| user.hash().clone()),
        }
    }

    /// `None` when the request may pass; the answer otherwise.
    pub(crate) async fn refuse(&self, checks: &Checks, asked: &Asked<'_>) -> Option<Prepared> {
        let Some((name, password)) = credentials(asked) else { return Some(self.challenge()) };
        let known = self.users.get(&*name);
        let Some(hash) = known.or(self.decoy.as_ref()) else { return Some(self.challenge()) };
        match checks.check(&name, password, hash, known.is_some(), Instant::now()).await {
            Some(true) => None,
            Some(false) => Some(self.challenge()),
            None => Some(Prepared::error(ErrorCode::Overloaded, "too many passwords wait to be checked")),
        }
    }

    fn challenge(&self) -> Prepared {
        let refused = Prepared::error(ErrorCode::Unauthorized, "a name and password are needed");
        Prepared { fields: self.challenge.to_vec(), ..refused }
    }
}

/// Name and password of a request.
fn credentials(asked: &Asked<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut all = asked.request.fields.all(FieldId::Authorization);
    let (Some(field), None) = (all.next(), all.next()) else { return None };
    let (scheme, encoded) = field.value.of_buf(asked.head).split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut name = BASE64_STANDARD.decode(encoded.trim_ascii_start()).ok()?;
    let colon = memchr::memchr(b':', &name)?;
    let password = name.split_off(colon + 1);
    name.pop();
    Some((name, password))
}

impl Checks {
    /// Whether a password is that of a hash, and the name one that exists. `None` when too many wait already.
    async fn check(&self, name: &[u8], password: Vec<u8>, hash: &Hash, exists: bool, now: Instant) -> Option<bool> {
        let print = self.fingerprint(name, &password, hash, exists);
        if let Some(known) = self.remembered(&print, now) {
            return Some(known);
        }
        if self.waiting.get() >= WAITING_MAX {
            return None;
        }
        let _place = Place::take(&self.waiting);
        let _turn = self.turn.acquire().await.ok()?;
        // Others may have asked the same meanwhile.
        if let Some(known) = self.remembered(&print, Instant::now()) {
            return Some(known);
        }
        let hash = hash.clone();
        let verified = tokio::task::spawn_blocking(move || hash.verifies(&password)).await.ok()?;
        let good = verified && exists;
        let (kind, time) = if good { (&self.good, GOOD_TIME) } else { (&self.bad, BAD_TIME) };
        kind.borrow_mut().insert(print, Instant::now(), time);
        Some(good)
    }

    fn remembered(&self, print: &Fingerprint, now: Instant) -> Option<bool> {
        if self.good.borrow().has(print, now) {
            return Some(true);
        }
        self.bad.borrow().has(print, now).then_some(false)
    }

    fn fingerprint(&self, name: &[u8], password: &[u8], hash: &Hash, exists: bool) -> Fingerprint {
        let mut digest = Sha256::new();
        digest.update(self.key);
        // A name that was taken out is checked against another's hash, which may be that of the same password.
        digest.update([u8::from(exists)]);
        // With their lengths, so that no two triples are one text.
        for part in [name, hash.as_str().as_bytes(), password] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// A request that waits, also when its connection ends meanwhile.
struct Place<'c>(&'c Cell<usize>);

impl<'c> Place<'c> {
    fn take(waiting: &'c Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Remembered {
    fn has(&self, print: &Fingerprint, now: Instant) -> bool {
        self.0.get(print).is_some_and(|&until| now < until)
    }

    fn insert(&mut self, print: Fingerprint, now: Instant, time: Duration) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, until)| **until).map(|(print, _)| *print)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(print, now + time);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_asked;
    use super::*;
    use crate::params::Credential;

    const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";

    fn auth() -> BasicAuth {
        let users = vec![Credential::new(&format!("ann:{HASH}")).unwrap()];
        BasicAuth::new(&BasicAuthParams { realm: "shop".to_owned(), users })
    }

    fn status(auth: &BasicAuth, checks: &Checks, fields: &str) -> u16 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n");
        let refused = with_asked(&head, |asked| runtime.block_on(auth.refuse(checks, asked)));
        if let Some(answer) = refused.as_ref().filter(|answer| answer.status == 401) {
            let challenge = b"WWW-Authenticate: Basic realm=\"shop\", charset=\"UTF-8\"\r\n";
            assert_eq!(answer.fields, challenge);
        }
        refused.map_or(200, |answer| answer.status)
    }

    fn basic(text: &str) -> String {
        format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(text))
    }

    #[test]
    fn the_right_password_passes() {
        let (auth, checks) = (auth(), Checks::default());
        let check = |fields: &str, expected: u16| assert_eq!(status(&auth, &checks, fields), expected, "{fields}");
        check("", 401);
        check(&basic("ann:correct horse"), 200);
        check(&basic("ann:correct horse").replace("Basic ", "bASIC  "), 200);
        check(&basic("ann:wrong"), 401);
        check(&basic("ann:"), 401);
        check(&basic("ann"), 401);
        check(&basic("Ann:correct horse"), 401);
        // The password of the one who lends the hash to names that do not exist.
        check(&basic("bob:correct horse"), 401);
        check(&basic("ann:correct horse").replace("Basic", "Bearer"), 401);
        check("Authorization: Basic ???\r\n", 401);
        check("Authorization: Basic\r\n", 401);
        check(&(basic("ann:correct horse") + &basic("ann:wrong")), 401);
    }

    #[test]
    fn what_was_checked_is_remembered_for_a_while_and_within_bounds() {
        let (auth, checks) = (auth(), Checks::default());
        assert_eq!(status(&auth, &checks, &basic("ann:correct horse")), 200);
        assert_eq!(status(&auth, &checks, &basic("ann:wrong")), 401);
        assert_eq!((checks.good.borrow().0.len(), checks.bad.borrow().0.len()), (1, 1));
        let begun = Instant::now();
        for _ in 0..200 {
            assert_eq!(status(&auth, &checks, &basic("ann:correct horse")), 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "each was checked anew");
        let (print, hash) = (checks.fingerprint(b"ann", b"correct horse", &auth.users[&b"ann"[..]], true), HASH);
        let later = Instant::now() + GOOD_TIME;
        assert_eq!((checks.remembered(&print, begun), checks.remembered(&print, later)), (Some(true), None));
        let other = Credential::new(&format!("ann:{}", hash.replace("HNb", "HNc"))).unwrap();
        let changed = checks.fingerprint(b"ann", b"correct horse", other.hash(), true);
        assert_eq!(checks.remembered(&changed, begun), None, "a changed hash is another");
        assert_ne!(print, Checks::default().fingerprint(b"ann", b"correct horse", &auth.users[&b"ann"[..]], true));
        let mut remembered = Remembered::default();
        for number in 0..3000_u32 {
            let mut print = [0; 32];
            print[..4].copy_from_slice(&number.to_le_bytes());
            remembered.insert(print, begun + Duration::from_millis(number.into()), BAD_TIME);
            assert!(remembered.0.len() <= REMEMBERED_MAX && remembered.0.contains_key(&print));
        }
    }

    #[test]
    fn too_many_checks_at_once_are_refused() {
        let (auth, checks) = (auth(), Checks::default());
        checks.waiting.set(WAITING_MAX);
        assert_eq!(status(&auth, &checks, &basic("ann:correct horse")), 503);
        checks.waiting.set(0);
        assert_eq!(status(&auth, &checks, &basic("ann:correct horse")), 200);
        checks.waiting.set(WAITING_MAX);
        assert_eq!(status(&auth, &checks, &basic("ann:correct horse")), 200, "what is known waits for nobody");
    }
}
