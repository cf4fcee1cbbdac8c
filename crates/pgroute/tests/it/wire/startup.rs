use pgroute::SqlState;
use pgroute::wire::startup::{Opening, Replication, STARTUP_BYTES_MAX, Startup, read, settings_in};
use pgroute::wire::{WireError, write};

/// A first message with this number and these strings, each with its zero byte, and one more.
fn message(code: u32, strings: &[&str]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    strings.iter().for_each(|text| body.extend([text.as_bytes(), &[0]].concat()));
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

const V3: u32 = 3 << 16;

fn session(strings: &[&str]) -> Result<Startup, String> {
    let bytes = message(V3, strings);
    match read(&bytes) {
        Ok(Some((Opening::Startup(startup), len))) if len == bytes.len() => Ok(startup),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn sessions_are_read() {
    let startup = session(&["user", "ada", "database", "shop", "application_name", "web", "options", "-c a=1 --b-c=2"]);
    let pairs = [("application_name", "web"), ("a", "1"), ("b_c", "2")];
    let settings: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let expected = Startup { user: "ada".to_owned(), database: "shop".to_owned(), settings, ..Startup::default() };
    assert_eq!(startup, Ok(expected));
    assert_eq!(session(&["user", "ada"]).unwrap().database, "ada");
    assert_eq!(session(&["user", "ada", "database", ""]).unwrap().database, "ada");
    let check = |strings: &[&str], expected: &str| assert_eq!(session(strings).unwrap_err(), expected);
    check(&[], "startup message: no user is named");
    check(&["user", ""], "startup message: no user is named");
    check(&["user", "a", "user", "b"], "startup message: a parameter is there twice");
    check(&["user", "a", "replication", "perhaps"], "startup message: the value of replication is invalid");
    check(&["user", "a", "options", "-d 5"], "startup message: options may only hold settings, as -c name=value");
}

#[test]
fn replication_is_read_as_the_server_reads_it() {
    let check = |value: &str, expected: Replication| {
        assert_eq!(session(&["user", "a", "replication", value]).unwrap().replication, expected, "{value}");
    };
    ["true", "t", "on", "yes", "Y", "1"].iter().for_each(|value| check(value, Replication::Physical));
    ["false", "f", "off", "no", "0"].iter().for_each(|value| check(value, Replication::No));
    check("database", Replication::Logical);
    assert!(session(&["user", "a", "replication", "o"]).is_err());
    let startup = session(&["user", "a", "replication", "database"]).unwrap();
    let mut written = Vec::new();
    write::startup(&mut written, &startup);
    assert_eq!(read(&written), Ok(Some((Opening::Startup(startup), written.len()))));
}

#[test]
fn requests_are_told_from_sessions() {
    let check = |bytes: &[u8], expected: Opening| {
        let with_more = [bytes, b"more"].concat();
        assert_eq!(read(&with_more), Ok(Some((expected, bytes.len()))));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None), "{end}");
        }
    };
    let mut bytes = Vec::new();
    write::ssl_request(&mut bytes);
    check(&bytes, Opening::SslRequest);
    check(&[0, 0, 0, 8, 4, 210, 22, 48], Opening::GssRequest);
    for secret in [&b"1234"[..], &[7; 32], &[7; 256]] {
        bytes.clear();
        write::cancel(&mut bytes, 4711, secret);
        check(&bytes, Opening::Cancel { pid: 4711, secret: secret.to_vec() });
    }
    assert_eq!(read(b"\x16\x03\x01"), Ok(Some((Opening::Tls, 0))));
}

#[test]
fn what_is_no_first_message_is_refused() {
    let check = |bytes: &[u8], code: SqlState, expected: &str| {
        let error = read(bytes).unwrap_err();
        assert_eq!((error.sqlstate(), error.to_string().as_str()), (code, expected));
    };
    let malformed = |reason: &str| format!("startup message: {reason}");
    check(b"GET / HTTP/1.1\r\n", SqlState::PROTOCOL_VIOLATION, &malformed("its length is invalid"));
    check(&[0, 0, 0, 7], SqlState::PROTOCOL_VIOLATION, &malformed("its length is invalid"));
    let long = (STARTUP_BYTES_MAX as u32 + 1).to_be_bytes();
    check(&long, SqlState::PROTOCOL_VIOLATION, &malformed("its length is invalid"));
    let text = malformed("protocol 2.0 is not supported, only 3.0 to 3.2");
    check(&message(2 << 16, &["user", "a"]), SqlState::NOT_SUPPORTED, &text);
    check(&[0, 0, 0, 9, 4, 210, 22, 47, 0], SqlState::PROTOCOL_VIOLATION, &malformed("its length is invalid"));
    let text = malformed("the key of what is to be cancelled has an invalid length");
    check(&[0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1], SqlState::PROTOCOL_VIOLATION, &text);
    let mut unterminated = message(V3, &["user", "a"]);
    let end = unterminated.len() - 1;
    unterminated[end] = b'x';
    check(&unterminated, SqlState::PROTOCOL_VIOLATION, &malformed("its parameters are malformed"));
    let mut not_utf8 = message(V3, &["user", "a"]);
    not_utf8[13] = 0xff;
    check(&not_utf8, SqlState::PROTOCOL_VIOLATION, &malformed("a parameter is not UTF-8"));
}

#[test]
fn newer_versions_and_unknown_options_are_negotiated() {
    let check = |code: u32, strings: &[&str], expected: bool| {
        let Ok(Some((Opening::Startup(startup), _))) = read(&message(code, strings)) else { panic!("no session") };
        assert_eq!(startup.must_negotiate(), expected, "{code:#x} {strings:?}");
        assert!(startup.settings.is_empty());
        startup
    };
    check(V3, &["user", "a"], false);
    check(V3 | 2, &["user", "a"], false);
    let startup = check(V3 | 9999, &["user", "a", "_pq_.test_protocol_negotiation", ""], true);
    let mut written = Vec::new();
    write::negotiate_version(&mut written, 2, &startup.unknown);
    let read = pgroute::wire::backend::Negotiated::read(&written).unwrap();
    assert_eq!((read.minor, read.unknown), (2, vec![b"_pq_.test_protocol_negotiation".to_vec()]));
    check(V3, &["user", "a", "_pq_.x", "1"], true);
}

#[test]
fn options_have_the_form_of_a_command_line() {
    let check = |options: &str, expected: &[(&str, &str)]| {
        let expected: Vec<_> = expected.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(settings_in(options), Ok(expected), "{options}");
    };
    check("", &[]);
    check("  ", &[]);
    check("-c a=1", &[("a", "1")]);
    check("-ca=1 -c  b=x\\ y --c=", &[("a", "1"), ("b", "x y"), ("c", "")]);
    check("--search-path=a,b", &[("search_path", "a,b")]);
    check("-c a=b=c\\\\d", &[("a", "b=c\\d")]);
    for options in ["x", "-c", "-c a", "--", "--=1", "-f -c a=1", "-c \\"] {
        assert!(matches!(settings_in(options), Err(WireError::Startup { .. })), "{options}");
    }
}
