//! What errors say, and how they are taken apart.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use tenfold::resilience::{Error, Refusal};

fn refusals() -> Vec<(Refusal, &'static str, bool)> {
    let name = || "stock".into();
    let wait = Duration::from_millis(1500);
    vec![
        (Refusal::Open { name: name(), retry_after: None }, "stock: the circuit breaker is open", false),
        (
            Refusal::Open { name: name(), retry_after: Some(wait) },
            "stock: the circuit breaker is open, try again in 1.5s",
            false,
        ),
        (
            Refusal::Limited { name: name(), retry_after: Some(wait) },
            "stock: the rate limit is used up, try again in 1.5s",
            false,
        ),
        (Refusal::Full { name: name(), waited: Duration::ZERO }, "stock: the bulkhead is full", false),
        (Refusal::Full { name: name(), waited: wait }, "stock: the bulkhead had no room for 1.5s", false),
        (Refusal::Overloaded { name: name(), limit: 20 }, "stock: overloaded with 20 calls under way", false),
        (Refusal::TimedOut { name: name(), after: wait }, "stock: timed out after 1.5s", true),
    ]
}

#[test]
fn each_names_its_subject_and_survives_every_change() {
    for (refusal, text, may_have_taken_effect) in refusals() {
        assert_eq!(refusal.to_string(), text);
        assert_eq!(refusal.may_have_taken_effect(), may_have_taken_effect, "{text}");
        let error: Error<io::Error> = refusal.clone().into_any();
        assert_eq!(error.to_string(), text);
        assert!(error.inner().is_none() && error.source().is_none());
        assert_eq!(error.into_inner().unwrap_err(), refusal);
        let nested: Error<Error<u8>> = Error::Inner(refusal.clone().into_any());
        assert_eq!(nested.flatten(), refusal.clone().into_any());
        let nested: Error<Error<u8>> = refusal.clone().into_any();
        assert_eq!(nested.flatten(), refusal.clone().into_any());
        assert_eq!(refusal.clone().into_any::<u8>().map(u32::from), refusal.clone().into_any());
        assert_eq!(refusal.into_any::<String>().unify(|refusal| refusal.to_string()), text);
    }
}

#[test]
fn the_inner_error_stays_what_it_is() {
    let inner = || Error::Inner(io::Error::new(io::ErrorKind::NotFound, "no such article"));
    assert_eq!(inner().to_string(), "no such article");
    assert!(inner().may_have_taken_effect());
    assert_eq!(inner().inner().map(io::Error::kind), Some(io::ErrorKind::NotFound));
    assert_eq!(inner().unify(io::Error::other).kind(), io::ErrorKind::NotFound);
    assert_eq!(inner().map(|error| error.kind()), Error::Inner(io::ErrorKind::NotFound));
    let boxed: Box<dyn std::error::Error + Send + Sync> = inner().into();
    assert_eq!(boxed.to_string(), "no such article");
}

#[test]
fn the_chain_does_not_say_anything_twice() {
    #[derive(Debug)]
    struct Outer(io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot count")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = Error::Inner(Outer(io::Error::other("disk full")));
    assert_eq!(error.to_string(), "cannot count");
    assert_eq!(error.source().unwrap().to_string(), "disk full");
}
