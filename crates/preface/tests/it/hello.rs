use std::sync::Arc;

use preface::hello::{BYTES_MAX, Hello, HelloError, HelloReader, MESSAGE_BYTES_MAX};
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The first flight of a real client.
fn real(host: &str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn vector(len_bytes: usize, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    [&len[4 - len_bytes..], body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, body)].concat()
}

fn name(host: &[u8]) -> Vec<u8> {
    extension(0, &vector(2, &[&[0][..], &vector(2, host)].concat()))
}

fn offer(protocols: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|name| vector(1, name.as_bytes())).collect();
    extension(16, &vector(2, &list))
}

/// A handshake message with a hello that has these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &vector(2, extensions)].concat();
    [&[1][..], &vector(3, &body)].concat()
}

/// Records of at most this many bytes each.
fn records(message: &[u8], each: usize) -> Vec<u8> {
    message.chunks(each).flat_map(|piece| [&[22, 3, 1][..], &vector(2, piece)].concat()).collect()
}

fn read(bytes: &[u8]) -> Result<Option<Hello>, HelloError> {
    HelloReader::default().advance(bytes)
}

/// The same, seen in pieces that grow by `step` bytes.
fn read_in_steps(bytes: &[u8], step: usize) -> Result<Option<Hello>, HelloError> {
    let mut reader = HelloReader::default();
    let mut end = 0;
    loop {
        end = (end + step).min(bytes.len());
        let read = reader.advance(&bytes[..end])?;
        if read.is_some() || end == bytes.len() {
            return Ok(read);
        }
    }
}

fn hello(host: Option<&str>, alpn: &[&str]) -> Hello {
    Hello { host: host.map(str::to_owned), alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect() }
}

#[test]
fn hellos_of_a_real_client_are_read_wherever_they_are_cut() {
    for (host, alpn) in [("Shop.example.com", &["h2", "http/1.1"][..]), ("a.b.c.example.com", &[])] {
        let bytes = real(host, alpn);
        let expected = Ok(Some(hello(Some(&host.to_lowercase()), alpn)));
        assert_eq!(read(&bytes), expected);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None), "{end}");
        }
        for step in [1, 2, 3, 5, 6, 100] {
            assert_eq!(read_in_steps(&bytes, step), expected, "{step}");
        }
        // The same message in records of other sizes.
        let message = &bytes[5..];
        for each in [1, 2, 3, 4, 5, 100, 16384] {
            let bytes = records(message, each);
            for step in [1, 7, bytes.len()] {
                assert_eq!(read_in_steps(&bytes, step), expected, "records of {each}, steps of {step}");
            }
        }
    }
    // Addresses are not named.
    assert_eq!(read(&real("192.0.2.1", &["h2"])), Ok(Some(hello(None, &["h2"]))));
}

#[test]
fn hellos_by_hand() {
    let good = |extensions: &[Vec<u8>], expected: Hello| {
        assert_eq!(read(&records(&message(&extensions.concat()), 16384)), Ok(Some(expected)));
    };
    good(&[], hello(None, &[]));
    good(&[extension(10, &[1, 2, 3]), name(b"a_b.Example.com")], hello(Some("a_b.example.com"), &[]));
    good(&[offer(&["postgresql"]), name(b"x")], hello(Some("x"), &["postgresql"]));
    // From before there were extensions.
    let old = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 0x2f], &[1, 0]].concat();
    let old = [&[1][..], &vector(3, &old)].concat();
    assert_eq!(read(&records(&old, 16384)), Ok(Some(hello(None, &[]))));
    let bad = |extensions: &[Vec<u8>]| {
        let read = read(&records(&message(&extensions.concat()), 16384));
        assert!(read.is_err(), "{extensions:?}: {read:?}");
    };
    bad(&[name(b"a.example.com"), name(b"b.example.com")]);
    bad(&[name(b"a.example.com"), offer(&["h2"]), offer(&["h2"])]);
    for host in [&b""[..], b".example.com", b"example.com.", b"a..b", b"a b", b"a\0b", b"\xffab", b"a/b", &[b'a'; 254]]
    {
        bad(&[name(host)]);
    }
    // Two names in one extension, a name of another kind, something behind.
    let one = [&[0][..], &vector(2, b"a")].concat();
    bad(&[extension(0, &vector(2, &[one.clone(), one.clone()].concat()))]);
    bad(&[extension(0, &vector(2, &[&[1][..], &vector(2, b"a")].concat()))]);
    bad(&[extension(0, &[vector(2, &one), vec![0]].concat())]);
    bad(&[extension(0, &[])]);
    bad(&[offer(&[])]);
    bad(&[offer(&[""])]);
    bad(&[extension(16, &[])]);
    bad(&[vec![0, 16, 0, 9, 0]]);
}

#[test]
fn what_is_no_hello_is_refused_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x15\x03\x01\0\x02\x02\x28",
        b"\x17",
        b"\x80\x2e\x01",
        b"\x16\x02\x01\0\x05",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\0\x05\x02",
        b"\x16\x03\x01\0\x04\x01\x00\x40\x01",
    ] {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
    // Another record in the middle, and something behind the hello in its own.
    let whole = message(&name(b"a.example.com"));
    let cut = [records(&whole[..20], 20), vec![20, 3, 3, 0, 1, 1], records(&whole[20..], 500)].concat();
    assert!(read(&cut).is_err());
    assert!(read(&records(&[whole, vec![1]].concat(), 16384)).is_err());
}

#[test]
fn what_never_ends_is_bounded() {
    // One byte in each record, for ever.
    let long = [&[1, 0, 0x3f, 0xff][..], &vec![0; MESSAGE_BYTES_MAX]].concat();
    let bytes = records(&long, 1);
    let mut reader = HelloReader::default();
    let refused = (0..bytes.len()).find(|&end| reader.advance(&bytes[..end]).is_err()).unwrap();
    assert!(refused <= BYTES_MAX + 6, "{refused}");
}

proptest! {
    #[test]
    fn any_bytes_read_the_same_in_pieces(
        mut bytes: Vec<u8>,
        cut in 0usize..400,
        changed in any::<(u16, u8)>(),
        step in 1usize..20,
        each in 1usize..400,
    ) {
        let whole = records(&message(&[name(b"a.example.com"), offer(&["h2"])].concat()), each);
        let mut start = whole[..cut.min(whole.len())].to_vec();
        let len = start.len();
        if let Some(byte) = start.get_mut(usize::from(changed.0) % len.max(1)) {
            *byte = changed.1;
        }
        bytes.splice(..0, start);
        let once = read(&bytes);
        let stepped = read_in_steps(&bytes, step);
        // Bytes behind a hello are refused when they are seen with it, and may come later.
        if once.is_ok() {
            prop_assert_eq!(stepped, once);
        }
    }
}
