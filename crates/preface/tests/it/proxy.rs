use std::net::{IpAddr, SocketAddr};

use preface::proxy::{self, Addresses, BYTES_MAX, Header, Version};
use proptest::prelude::*;

/// What a whole header reads as, with something behind it, and that no beginning of it reads as anything.
#[track_caller]
fn check(bytes: &[u8], expected: Option<(&str, &str)>) {
    let addresses = expected.map(|(source, destination)| Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    });
    let header = Header { len: bytes.len(), addresses };
    for behind in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"] {
        assert_eq!(proxy::read(&[bytes, behind].concat()), Ok(Some(header)));
    }
    for end in 0..bytes.len() {
        assert_eq!(proxy::read(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
    }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &len, body].concat()
}

#[test]
fn lines_of_version_1() {
    check(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", Some(("192.0.2.1:56324", "198.51.100.7:443")));
    check(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", Some(("[2001:db8::1]:1", "[::1]:65535")));
    check(b"PROXY TCP4 0.0.0.0 255.255.255.255 0 0\r\n", Some(("0.0.0.0:0", "255.255.255.255:0")));
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN ffff:f:f:f:f:f:f:f whatever 1 2 3\r\n", None);
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    check(format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n").as_bytes(), None);
}

#[test]
fn headers_of_version_2() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];
    check(&v2(0x21, 0x11, &v4), Some(("192.0.2.1:56324", "198.51.100.7:443")));
    let tlvs = [&v4[..], &[0x01, 0, 2, b'h', b'2', 0x04, 0, 1, 0]].concat();
    check(&v2(0x21, 0x11, &tlvs), Some(("192.0.2.1:56324", "198.51.100.7:443")));
    let mut v6 = [0; 36];
    (v6[0], v6[15], v6[31], v6[33], v6[35]) = (0xfd, 1, 2, 3, 4);
    check(&v2(0x21, 0x21, &v6), Some(("[fd00::1]:3", "[::2]:4")));
    // The proxy speaks for itself, or of something that is no TCP over IP.
    check(&v2(0x20, 0x00, &[]), None);
    check(&v2(0x20, 0x11, &v4), None);
    check(&v2(0x21, 0x00, &[7; 30]), None);
    check(&v2(0x21, 0x12, &v4), None);
    check(&v2(0x21, 0x31, &[b'/'; 216]), None);
    check(&v2(0x21, 0x11, &[&v4[..], &[9; BYTES_MAX - 28]].concat()), Some(("192.0.2.1:56324", "198.51.100.7:443")));
}

#[test]
fn what_is_malformed_is_refused() {
    let lines = [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r3\r\n",
    ];
    for line in lines {
        assert!(proxy::read(line.as_bytes()).is_err(), "{line:?}");
    }
    assert!(proxy::read(&[b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat()).is_err(), "107 bytes without an end");
    assert!(proxy::read(b"PROXY UNKNOWN \xff\r\n").is_err());
    for (command, family, body) in [
        (0x11, 0x11, 12),
        (0x22, 0x11, 12),
        (0x21, 0x41, 12),
        (0x21, 0x13, 12),
        (0x21, 0x11, 11),
        (0x21, 0x21, 35),
        (0x21, 0x11, BYTES_MAX),
    ] {
        assert!(proxy::read(&v2(command, family, &vec![0; body])).is_err(), "{command:x} {family:x} {body}");
    }
    // Refused as soon as that is known, and not when all has come.
    assert!(proxy::read(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff").is_err());
    assert!(proxy::read(b"\r\n\r\n\0\r\nQUIX").is_err() && proxy::read(b"P0").is_err());
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

proptest! {
    #[test]
    fn what_is_written_is_read(source in address(), destination in address(), binary: bool) {
        let version = if binary { Version::V2 } else { Version::V1 };
        let mut bytes = Vec::new();
        proxy::write(version, Some(Addresses { source, destination }), &mut bytes);
        prop_assert!(bytes.len() <= 107);
        let header = proxy::read(&bytes).unwrap().unwrap();
        let found = header.addresses.unwrap();
        prop_assert_eq!(header.len, bytes.len());
        let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        prop_assert_eq!(canonical(found.source), canonical(source));
        prop_assert_eq!(canonical(found.destination), canonical(destination));
        prop_assert_eq!(found.source.is_ipv4(), found.destination.is_ipv4());
    }

    #[test]
    fn any_bytes_read_the_same_in_pieces(mut bytes: Vec<u8>, kind in 0usize..3) {
        let begin: &[u8] = [&b""[..], b"PROXY TCP", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"][kind];
        bytes.splice(..0, begin.iter().copied());
        let whole = proxy::read(&bytes);
        // What a beginning is refused for, the whole is; where a beginning suffices, the rest does not matter.
        for end in 0..bytes.len() {
            match proxy::read(&bytes[..end]) {
                Ok(None) => {}
                decided => prop_assert_eq!(decided, whole),
            }
        }
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_says_so() {
    for version in [Version::V1, Version::V2] {
        let mut bytes = Vec::new();
        proxy::write(version, None, &mut bytes);
        assert_eq!(proxy::read(&bytes), Ok(Some(Header { len: bytes.len(), addresses: None })));
    }
}
