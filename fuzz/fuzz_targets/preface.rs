//! What comes before a conversation, from anyone: PROXY headers and TLS hellos.
//!
//! No bytes make a reader panic, and how they are cut does not matter. What a header says is what another one says that
//! is written from it. The first byte of an input chooses the reader and the cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use preface::hello::{BYTES_MAX, HelloReader, MESSAGE_BYTES_MAX};
use preface::proxy::{self, Version};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let step = usize::from(choice >> 1) + 1;
    if choice & 1 == 0 { header(bytes, step) } else { hello(bytes, step) }
});

fn header(bytes: &[u8], step: usize) {
    let whole = proxy::read(bytes);
    for end in (0..bytes.len()).step_by(step) {
        let decided = proxy::read(&bytes[..end]);
        assert!(decided == Ok(None) || decided == whole, "{end}: {decided:?} and {whole:?}");
    }
    let Ok(Some(header)) = whole else { return };
    assert!(header.len <= bytes.len() && header.len <= proxy::BYTES_MAX);
    for version in [Version::V1, Version::V2] {
        let mut written = Vec::new();
        proxy::write(version, header.addresses, &mut written);
        let again = proxy::read(&written).unwrap().unwrap();
        let canonical = |found: Option<proxy::Addresses>| {
            found.map(|found| {
                let one = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
                (one(found.source), one(found.destination))
            })
        };
        assert_eq!(canonical(again.addresses), canonical(header.addresses));
    }
}

fn hello(bytes: &[u8], step: usize) {
    let once = HelloReader::default().advance(bytes);
    let mut reader = HelloReader::default();
    let mut stepped = Ok(None);
    let mut end = 0;
    while end < bytes.len() && stepped == Ok(None) {
        end = (end + step).min(bytes.len());
        stepped = reader.advance(&bytes[..end]);
    }
    if once.is_ok() {
        assert_eq!(stepped, once);
    }
    if let Ok(Some(hello)) = once {
        assert!(hello.host.is_none_or(|host| !host.is_empty() && host.len() <= 253 && host.is_ascii()));
        assert!(hello.alpn.iter().map(Vec::len).sum::<usize>() <= MESSAGE_BYTES_MAX);
    } else if bytes.len() > 2 * BYTES_MAX {
        assert!(once.is_err(), "what never ends is refused");
    }
}
