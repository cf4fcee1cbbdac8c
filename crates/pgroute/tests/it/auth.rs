use pgroute::SqlState;
use pgroute::auth::scram::{Binding, Client, Credential, Keys, MECHANISM, MECHANISM_PLUS, Secret, Server, Verified};
use pgroute::auth::{AuthError, Method, Stored, md5, scram, userlist};
use proptest::prelude::*;

/// Few iterations: what is tested here does not depend on them.
const ITERATIONS: u32 = 3;

fn password(text: &str) -> Credential {
    Credential::Password(vocab::Secret::new(text))
}

/// A whole exchange; what the server has in the end.
fn exchange(credential: Credential, secret: &Secret) -> Result<Verified, AuthError> {
    bound(credential, secret, Binding::Impossible, None)
}

fn bound(
    credential: Credential,
    secret: &Secret,
    binding: Binding,
    end_point: Option<Vec<u8>>,
) -> Result<Verified, AuthError> {
    let client = Client::new(credential, binding);
    let mechanism = client.mechanism();
    let (first, client) = client.first("", [1; 18]);
    let (answer, server) = Server::new(secret.clone(), end_point).first(mechanism.as_bytes(), &first, [2; 18])?;
    let (proof, client) = client.proof(&answer)?;
    let verified = server.finish(&proof)?;
    client.finish(&verified.answer)?;
    Ok(verified)
}

#[test]
fn a_password_is_proved_by_it_and_by_the_keys_it_leaves() {
    let secret = Secret::from_password("correct horse", b"0123456789abcdef", ITERATIONS);
    let keys = exchange(password("correct horse"), &secret).unwrap().keys;
    exchange(Credential::Keys(keys.clone()), &secret).unwrap();
    exchange(Credential::Keys(Keys::from_password("correct horse", b"0123456789abcdef", ITERATIONS)), &secret).unwrap();
    let again = Secret::parse(&secret.to_text()).unwrap();
    exchange(Credential::Keys(keys.clone()), &again).unwrap();
    assert_eq!(exchange(password("correct hors"), &secret).unwrap_err(), AuthError::Wrong);
    // Another salt of the same password is another secret, for which the keys do not serve.
    let other = Secret::from_password("correct horse", b"fedcba9876543210", ITERATIONS);
    let error = exchange(Credential::Keys(keys), &other).unwrap_err();
    assert_eq!(error, AuthError::Unfit("another salt than the stored secret has"));
    assert_eq!(error.sqlstate(), SqlState::CANNOT_CONNECT);
}

#[test]
fn unknown_users_are_asked_like_others_and_never_get_in() {
    let mock = |user: &str| Secret::mock(user, b"of this server");
    assert_eq!(mock("ada").to_text(), mock("ada").to_text(), "the salt does not change from one try to the next");
    assert_ne!(mock("ada").to_text(), mock("bob").to_text());
    assert_eq!(exchange(password(""), &mock("ada")).unwrap_err(), AuthError::Wrong);
    assert!(!mock("ada").is_password(""));
}

#[test]
fn bindings_have_to_fit() {
    let secret = Secret::from_password("x", b"salt", ITERATIONS);
    let end_point = || Some(vec![7; 32]);
    let check = |binding: Binding, offered: Option<Vec<u8>>, expected: Result<(), AuthError>| {
        assert_eq!(bound(password("x"), &secret, binding.clone(), offered).map(|_| ()), expected, "{binding:?}");
    };
    check(Binding::EndPoint(vec![7; 32]), end_point(), Ok(()));
    check(Binding::Impossible, end_point(), Ok(()));
    check(Binding::NotOffered, None, Ok(()));
    check(Binding::NotOffered, end_point(), Err(AuthError::Binding("the client did not see that it was offered")));
    check(
        Binding::EndPoint(vec![8; 32]),
        end_point(),
        Err(AuthError::Binding("the client is bound to something else")),
    );
    check(Binding::EndPoint(vec![7; 32]), None, Err(AuthError::Malformed("the mechanism was not offered")));
    assert_eq!(Server::new(secret.clone(), None).mechanisms(), [MECHANISM]);
    assert_eq!(Server::new(secret, end_point()).mechanisms(), [MECHANISM_PLUS, MECHANISM]);
}

#[test]
fn the_best_binding_that_both_know_is_chosen() {
    let choose = |offered: &[&str], end_point: Option<Vec<u8>>| {
        Binding::choose(offered.iter().map(|name| name.as_bytes()), end_point)
    };
    let both = [MECHANISM_PLUS, MECHANISM];
    assert_eq!(choose(&both, Some(vec![1])), Ok(Binding::EndPoint(vec![1])));
    assert_eq!(choose(&both, None), Ok(Binding::Impossible));
    assert_eq!(choose(&[MECHANISM], Some(vec![1])), Ok(Binding::NotOffered));
    assert!(choose(&["OAUTHBEARER"], None).is_err());
    assert!(choose(&[MECHANISM_PLUS], None).is_err());
}

#[test]
fn malformed_messages_are_refused() {
    let secret = || Secret::from_password("x", b"salt", ITERATIONS);
    let first = |mechanism: &str, message: &str| {
        let found = Server::new(secret(), None).first(mechanism.as_bytes(), message.as_bytes(), [2; 18]);
        found.map(|(answer, _)| String::from_utf8(answer).unwrap())
    };
    assert!(first(MECHANISM, "n,,n=,r=abc").unwrap().starts_with("r=abc"));
    assert!(first(MECHANISM, "n,,n=,r=abc,extension=1").is_ok(), "unknown attributes at the end are passed over");
    let long = format!("n,,n=,r={}", "x".repeat(5000));
    for message in ["", "n", "n,,", "n,a=other,n=,r=abc", "n,,m=1,n=,r=abc", "n,,n=,r=", "n,,r=abc,n=", &long] {
        assert!(matches!(first(MECHANISM, message), Err(AuthError::Malformed(_))), "{message}");
    }
    assert!(matches!(first("PLAIN", "n,,n=,r=abc"), Err(AuthError::Malformed(_))));
    assert!(matches!(first(MECHANISM, "p=tls-unique,,n=,r=abc"), Err(AuthError::Binding(_))));
    let finish = |proof: &str| {
        let (_, server) = Server::new(secret(), None).first(MECHANISM.as_bytes(), b"n,,n=,r=abc", [2; 18]).unwrap();
        server.finish(proof.as_bytes()).map(|_| ()).unwrap_err()
    };
    let nonce = "abcAgICAgICAgICAgICAgICAgIC";
    assert_eq!(finish(&format!("c=biws,r={nonce},p={}", "A".repeat(43) + "=")), AuthError::Wrong);
    for proof in ["", "c=biws,r=abc", "c=biws,r=abc,p=AAAA", "c=?,r=abc,p=AAAA", &format!("c=biws,r={nonce},p=AAAA")] {
        assert!(matches!(finish(proof), AuthError::Malformed(_)), "{proof}");
    }
    let proof = |answer: &str| {
        let (_, client) = Client::new(password("x"), Binding::Impossible).first("", [1; 18]);
        client.proof(answer.as_bytes()).map(|_| ()).unwrap_err()
    };
    let ours = "AQEBAQEBAQEBAQEBAQEBAQEB";
    assert_eq!(proof(&format!("r={ours}x,s=c2FsdA==,i=999999999")), AuthError::Iterations(999_999_999));
    for answer in ["", "r=x,s=c2FsdA==,i=3", "e=other-error", &format!("r={ours},s=c2FsdA==,i=3")] {
        assert!(matches!(proof(answer), AuthError::Malformed(_)), "{answer}");
    }
}

#[test]
fn a_server_that_does_not_know_the_secret_is_found_out() {
    let secret = Secret::from_password("x", b"salt", ITERATIONS);
    let (first, client) = Client::new(password("x"), Binding::Impossible).first("", [1; 18]);
    let (answer, _) = Server::new(secret, None).first(MECHANISM.as_bytes(), &first, [2; 18]).unwrap();
    let (_, awaiting) = client.proof(&answer).unwrap();
    assert_eq!(awaiting.finish(b"v=AAAA").unwrap_err(), AuthError::Impostor);
}

#[test]
fn passwords_are_prepared_as_postgresql_does() {
    let check = |password: &str, expected: &str| assert_eq!(scram::prepared(password), expected, "{password:?}");
    check("pencil", "pencil");
    check("I\u{ad}X", "IX");
    check("\u{aa}", "a");
    check("\u{2168}", "IX");
    // Forbidden characters, and what nothing is left of: as it came.
    check("\u{7}", "\u{7}");
    check("\u{ad}", "\u{ad}");
    check("\u{627}1", "\u{627}1");
}

#[test]
fn digests_are_those_of_postgresql() {
    // SELECT 'md5' || md5('secret' || 'ada')
    let stored = md5::stored("secret", "ada");
    assert_eq!(stored.expose(), "md52953f29bc314bd0a7ea7ddf6ccc1555f");
    let proof = md5::proof(&stored, [1, 2, 3, 4]);
    assert!(md5::is_proof(&stored, [1, 2, 3, 4], proof.expose().as_bytes()));
    assert!(!md5::is_proof(&stored, [1, 2, 3, 5], proof.expose().as_bytes()));
    assert!(!md5::is_proof(&stored, [1, 2, 3, 4], b""));
}

#[test]
fn what_is_stored_is_recognised() {
    let scram = Secret::from_password("secret", b"salt", ITERATIONS).to_text();
    let check = |text: &str, kind: &str| {
        let stored = Stored::parse(text);
        assert!(format!("{stored:?}").starts_with(kind), "{text}: {stored:?}");
        stored
    };
    let digest = md5::stored("secret", "ada");
    for stored in [check("secret", "Password("), check(digest.expose(), "Md5("), check(&scram, "Scram(")] {
        assert!(stored.is_password("ada", "secret") && !stored.is_password("ada", "Secret"), "{stored:?}");
    }
    check("md5", "Password(");
    check("md52953F29BC314BD0A7EA7DDF6CCC1555F", "Password(");
    check("SCRAM-SHA-256$0:c2FsdA==$x:y", "Password(");
    check(&scram.replace("$3:", "$-3:"), "Password(");
    assert_eq!(check(&scram, "Scram(").method(Method::Md5), Method::Scram);
    assert_eq!(check("secret", "Password(").method(Method::Md5), Method::Md5);
    assert!(check(&scram, "Scram(").md5("ada").is_none());
    assert!(!format!("{:?}", Stored::parse("hunter2")).contains("hunter2"), "a log never shows it");
}

/// Userlists have an empty secret for those who are not to log in by a password.
#[test]
fn an_empty_password_is_none() {
    let salt = [1, 2, 3, 4];
    for stored in ["", md5::stored("", "ada").expose()] {
        let stored = Stored::parse(stored);
        assert!(!stored.is_password("ada", "") && stored.md5("ada").is_none(), "{stored:?}");
    }
    let secret = Secret::from_password("", b"salt", ITERATIONS);
    assert_eq!(exchange(password(""), &secret).unwrap_err(), AuthError::Wrong);
    assert!(!secret.is_password("") && !Stored::Scram(secret).is_password("ada", ""));
    // What is no digest proves nothing, although there is one of the salt alone.
    let none = vocab::Secret::new("secret");
    assert!(!md5::is_proof(&none, salt, md5::proof(&none, salt).expose().as_bytes()));
}

#[test]
fn a_secret_that_takes_too_many_rounds_fits_no_password() {
    let text = Secret::from_password("x", b"salt", 1).to_text();
    assert!(Secret::parse(&text).unwrap().is_password("x"));
    let text = text.replace("$1:", "$4294967295:");
    let parsed = Secret::parse(&text).unwrap();
    assert!(parsed.to_text().starts_with("SCRAM-SHA-256$10000000:"), "it is read, and never taken for a password");
    assert!(matches!(Stored::parse(&text), Stored::Scram(_)));
}

#[test]
fn userlists_are_read() {
    let names = |text: &str| {
        let users = userlist::read(text).map_err(|error| error.to_string());
        users.map(|users| users.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
    };
    let text = "; users\n\"ada\" \"secret\"\n\n  \"bob \"\"b\"\"\"  \"\" rest\n";
    assert_eq!(names(text), Ok(vec!["ada".to_owned(), "bob \"b\"".to_owned()]));
    let users = userlist::read(text).unwrap();
    assert!(users[0].1.is_password("ada", "secret") && !users[1].1.is_password("bob", ""));
    let check = |text: &str, expected: &str| assert_eq!(names(text).unwrap_err(), expected, "{text}");
    check("ada secret", "line 1: expected a name in quotation marks");
    check("\n\"ada\"", "line 2: expected a secret in quotation marks");
    check("\"ada\" \"x", "line 1: expected a secret in quotation marks");
    check("\"\" \"x\"", "line 1: the name is empty or too long");
    check("\"a\" \"x\"\n\"a\" \"y\"", "line 2: the name is there twice");
}

proptest! {
    #[test]
    fn any_password_and_salt_serve(text in "\\PC{1,20}", salt in prop::collection::vec(any::<u8>(), 1..20)) {
        let secret = Secret::from_password(&text, &salt, ITERATIONS);
        prop_assert!(exchange(password(&text), &Secret::parse(&secret.to_text()).unwrap()).is_ok());
        let wrong = format!("{text}x");
        prop_assert_eq!(exchange(password(&wrong), &secret).unwrap_err(), AuthError::Wrong);
    }

    #[test]
    fn no_message_makes_either_side_panic(message in prop::collection::vec(any::<u8>(), 0..80), text in "[a-z=,]{0,40}") {
        let secret = Secret::from_password("x", b"salt", ITERATIONS);
        for message in [&message[..], text.as_bytes()] {
            let _ = Server::new(secret.clone(), None).first(MECHANISM.as_bytes(), message, [0; 18]);
            let (_, client) = Client::new(password("x"), Binding::NotOffered).first("", [0; 18]);
            let _ = client.proof(message);
            let (_, server) = Server::new(secret.clone(), None).first(MECHANISM.as_bytes(), b"n,,n=,r=a", [0; 18]).unwrap();
            prop_assert!(server.finish(message).is_err());
        }
        let _ = userlist::read(&text);
    }
}
