use pgroute::SqlState;
use pgroute::wire::backend::{self, Authentication, BackendKey, Fields, Notification, TransactionStatus};
use pgroute::wire::frontend::{self, Bind, Execute, NAME_BYTES_MAX, Parse, SaslInitial, Target};
use pgroute::wire::write::{self, Report, Severity};
use pgroute::wire::{Look, Piece, Splitter, WireError};
use proptest::prelude::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::message(&mut out, tag, |out| out.extend(body));
    out
}

#[test]
fn messages_of_clients_are_read() {
    assert_eq!(frontend::query(&message(b'Q', b"SELECT 1\0")), Ok(&b"SELECT 1"[..]));
    let bytes = message(b'P', b"s1\0SELECT $1\0\0\x02\0\0\0\x17\0\0\0\0");
    let parse = Parse { name: b"s1", text: b"SELECT $1", types: b"\0\0\0\x17\0\0\0\0" };
    assert_eq!(Parse::read(&bytes), Ok(parse));
    let mut written = Vec::new();
    write::parse(&mut written, b"s1", &parse);
    assert_eq!(written, bytes);
    assert_eq!(Execute::read(&message(b'E', b"p\0\0\0\0\x05")), Ok(Execute { portal: b"p", rows_max: 5 }));
    assert_eq!(frontend::target(&message(b'D', b"Ss\0")), Ok(Target::Statement(b"s")));
    assert_eq!(frontend::target(&message(b'C', b"P\0")), Ok(Target::Portal(b"")));
    let mut bytes = Vec::new();
    write::sasl_initial(&mut bytes, "SCRAM-SHA-256", b"n,,n=,r=x");
    let initial = SaslInitial { mechanism: b"SCRAM-SHA-256", data: Some(b"n,,n=,r=x") };
    assert_eq!(SaslInitial::read(&bytes), Ok(initial));
    let none = message(b'p', b"M\0\xff\xff\xff\xff");
    assert_eq!(SaslInitial::read(&none), Ok(SaslInitial { mechanism: b"M", data: None }));
}

#[test]
fn malformed_messages_of_clients_are_refused() {
    let check = |found: Result<(), WireError>, expected: &str| assert_eq!(found.unwrap_err().to_string(), expected);
    let query = |body: &[u8]| frontend::query(&message(b'Q', body)).map(|_| ());
    check(query(b"SELECT 1"), "message Q: a string has no end");
    check(query(b"SELECT 1\0SELECT 2\0"), "message Q: something follows its end");
    let parse = |body: &[u8]| Parse::read(&message(b'P', body)).map(|_| ());
    check(parse(b"\0\0\0\x01\0\0\0"), "message P: it is too short");
    check(parse(b"\0\0\xff\xff\0\0\0\0"), "message P: it is too short");
    check(
        frontend::target(&message(b'D', b"X\0")).map(|_| ()),
        "message D: it is about neither a statement nor a portal",
    );
    check(SaslInitial::read(&message(b'p', b"M\0\xff\xff\xff\xfe")).map(|_| ()), "message p: a length is negative");
    let long = [&vec![b'x'; NAME_BYTES_MAX + 1][..], b"\0\0"].concat();
    check(Bind::read(&message(b'B', &long)).map(|_| ()), "message B: a name is too long");
}

#[test]
fn a_bind_takes_another_name_while_its_values_are_on_their_way() {
    let body = [&b"portal\0mine\0"[..], &[9; 100_000]].concat();
    let whole = message(b'B', &body);
    for there in [12_000, 50_000, whole.len()] {
        let mut splitter = Splitter::default();
        let piece = splitter.next(&whole[..there], |tag| frontend::look(tag, 1000)).unwrap();
        assert_eq!(piece.len(), there);
        let bind = Bind::read(&whole[..there]).unwrap();
        assert_eq!((bind.portal, bind.statement), (&b"portal"[..], &b"mine"[..]));
        let mut out = Vec::new();
        write::bind_names(&mut out, &bind, b"tf_1", whole.len());
        out.extend(&whole[bind.values_at..]);
        assert_eq!(out, message(b'B', &[&b"portal\0tf_1\0"[..], &[9; 100_000]].concat()));
    }
}

#[test]
fn messages_of_servers_are_read() {
    let authentication = |kind: i32, data: &[u8]| {
        let bytes = message(b'R', &[&kind.to_be_bytes()[..], data].concat());
        format!("{:?}", Authentication::read(&bytes).map_err(|error| error.to_string()))
    };
    assert_eq!(authentication(0, b""), "Ok(Ok)");
    assert_eq!(authentication(3, b""), "Ok(Cleartext)");
    assert_eq!(authentication(5, b"\x01\x02\x03\x04"), "Ok(Md5 { salt: [1, 2, 3, 4] })");
    assert_eq!(authentication(5, b"\x01\x02\x03"), r#"Err("message R: it is too short")"#);
    assert_eq!(authentication(7, b""), "Ok(Other(7))");
    assert_eq!(authentication(10, b"A\0"), r#"Err("message R: the mechanisms have no end")"#);
    assert_eq!(authentication(0, b"x"), r#"Err("message R: something follows its end")"#);
    let mut bytes = Vec::new();
    write::authentication_sasl(&mut bytes, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    let Ok(Authentication::Sasl(mechanisms)) = Authentication::read(&bytes) else { panic!("no SASL") };
    assert_eq!(mechanisms.iter().collect::<Vec<_>>(), [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]);
    let key = message(b'K', b"\0\0\x12\x67\x01\x02\x03\x04");
    assert_eq!(BackendKey::read(&key), Ok(BackendKey { pid: 4711, secret: &[1, 2, 3, 4] }));
    assert!(BackendKey::read(&message(b'K', b"\0\0\0\x01\0\0\0")).is_err());
    assert!(BackendKey::read(&message(b'K', &[0; 261])).is_err());
    let mut bytes = Vec::new();
    write::notification(&mut bytes, 7, b"jobs", b"4711");
    assert_eq!(Notification::read(&bytes), Ok(Notification { pid: 7, channel: b"jobs", payload: b"4711" }));
    for (status, byte) in
        [(TransactionStatus::Idle, b'I'), (TransactionStatus::Open, b'T'), (TransactionStatus::Failed, b'E')]
    {
        let mut bytes = Vec::new();
        write::ready(&mut bytes, status);
        assert_eq!((backend::ready(&bytes), bytes[5]), (Ok(status), byte));
    }
    assert!(backend::ready(&message(b'Z', b"X")).is_err());
    let mut bytes = Vec::new();
    write::parameter_status(&mut bytes, b"TimeZone", b"UTC");
    assert_eq!(backend::parameter_status(&bytes), Ok((&b"TimeZone"[..], &b"UTC"[..])));
    write::command_complete(&mut bytes, "SELECT 1");
    assert_eq!(backend::command_complete(&bytes[18..]), Ok(&b"SELECT 1"[..]));
}

#[test]
fn errors_say_their_code_wherever_they_are_cut() {
    let mut bytes = Vec::new();
    let detail = "x".repeat(100_000);
    let report =
        Report { detail: &detail, ..Report::new(Severity::Fatal, SqlState::TOO_MANY_CONNECTIONS, "no \0connection") };
    write::report(&mut bytes, &report);
    let fields = Fields::of(&bytes);
    assert_eq!(fields.sqlstate(), Some(SqlState::TOO_MANY_CONNECTIONS));
    assert_eq!((fields.message(), fields.is_fatal()), (Some(&b"no "[..]), true));
    assert_eq!(fields.find(b'D').map(<[u8]>::len), Some(100_000));
    assert_eq!(fields.find(b'H'), None);
    let beginning = Fields::of(&bytes[..backend::ERROR_PREFIX_BYTES]);
    assert_eq!((beginning.sqlstate(), beginning.is_fatal()), (fields.sqlstate(), true));
    assert_eq!(beginning.find(b'D'), None, "what is cut is not there");
    let translated = message(b'E', b"SFATAL\0VERROR\0C42601\0\0");
    assert!(!Fields::of(&translated).is_fatal());
    let old = message(b'E', b"SFATAL\0C57P01\0\0");
    assert!(Fields::of(&old).is_fatal());
    assert_eq!(Fields::of(&message(b'E', b"C4260a\0\0")).sqlstate(), None);
}

#[test]
fn what_a_server_sends_is_looked_at_as_little_as_can_be() {
    assert_eq!(backend::look(b'D'), Look::Pass);
    assert_eq!(backend::look(b'R'), Look::Refuse, "nobody has to prove anything any more");
    assert_eq!(backend::look_at_beginning(b'D'), Look::Refuse);
    let long = message(b'Z', b"II");
    let found = Splitter::default().next(&long, backend::look);
    assert_eq!(found, Err(WireError::TooLong { tag: b'Z', bytes: 7, bytes_max: 6 }));
    let copied = Splitter::default().next(b"d\x10\0\0\0abc", |tag| frontend::look(tag, 10));
    assert_eq!(copied, Ok(Piece::Begin { tag: b'd', len: 8, total: 0x1000_0001 }));
}

#[test]
fn rows_of_our_own_have_the_form_of_a_server() {
    let mut out = Vec::new();
    write::row_description(&mut out, &["database", "x"]);
    assert_eq!(out.len(), 5 + 2 + (9 + 18) + (2 + 18));
    out.clear();
    write::data_row(&mut out, &[Some("shop"), None]);
    assert_eq!(out, message(b'D', b"\0\x02\0\0\0\x04shop\xff\xff\xff\xff"));
}

proptest! {
    #[test]
    fn no_message_makes_a_view_panic(body in prop::collection::vec(any::<u8>(), 0..60), tag in any::<u8>()) {
        let bytes = message(tag, &body);
        let _ = frontend::query(&bytes);
        let _ = Parse::read(&bytes);
        let _ = Bind::read(&bytes);
        let _ = frontend::target(&bytes);
        let _ = Execute::read(&bytes);
        let _ = SaslInitial::read(&bytes);
        let _ = Authentication::read(&bytes);
        let _ = BackendKey::read(&bytes);
        let _ = backend::ready(&bytes);
        let _ = backend::parameter_status(&bytes);
        let _ = Notification::read(&bytes);
        let _ = backend::Negotiated::read(&bytes);
        let fields = Fields::of(&bytes);
        prop_assert!(fields.iter().count() <= body.len());
    }
}
