//! Messages of PostgreSQL's protocol, from anyone.
//!
//! No bytes make a reader panic, and how they are cut does not matter. The first byte of an input chooses the direction and
//! the cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgroute::wire::backend::{self, Authentication, BackendKey, Fields, Negotiated, Notification};
use pgroute::wire::frontend::{self, Bind, Execute, Parse, SaslInitial};
use pgroute::wire::startup::{self, Opening};
use pgroute::wire::{Look, Piece, Splitter, WireError, write};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let step = usize::from(choice >> 2) + 1;
    match choice & 3 {
        0 => opening(bytes),
        1 => stream(bytes, step, |tag| frontend::look(tag, 1 << 16)),
        2 => stream(bytes, step, backend::look),
        _ => stream(bytes, step, backend::look_at_beginning),
    }
});

fn opening(bytes: &[u8]) {
    let Ok(Some((Opening::Startup(found), len))) = startup::read(bytes) else { return };
    assert!(len <= bytes.len() && !found.user.is_empty() && !found.database.is_empty());
    let mut written = Vec::new();
    write::startup(&mut written, &found);
    if let Ok(Some((Opening::Startup(again), _))) = startup::read(&written) {
        assert_eq!((&again.user, &again.database), (&found.user, &found.database));
    }
}

/// Where each message begins, and what was wrong in the end.
fn starts(bytes: &[u8], step: usize, look: impl Fn(u8) -> Look) -> (Vec<usize>, Option<WireError>) {
    let (mut splitter, mut starts) = (Splitter::default(), Vec::new());
    let (mut at, mut end) = (0, 0);
    loop {
        match splitter.next(&bytes[at..end], &look) {
            Err(error) => return (starts, Some(error)),
            Ok(Piece::Wait { .. }) if end == bytes.len() => return (starts, None),
            Ok(Piece::Wait { .. }) => end = (end + step).min(bytes.len()),
            Ok(piece) => {
                if !matches!(piece, Piece::More { .. }) {
                    starts.push(at);
                }
                if let Piece::Message { len, .. } = piece {
                    views(&bytes[at..at + len]);
                }
                at += piece.len();
            }
        }
    }
}

fn stream(bytes: &[u8], step: usize, look: impl Fn(u8) -> Look) {
    assert_eq!(starts(bytes, step, &look), starts(bytes, bytes.len().max(1), &look));
}

fn views(message: &[u8]) {
    let _ = frontend::query(message);
    let _ = frontend::target(message);
    let _ = Execute::read(message);
    let _ = SaslInitial::read(message);
    let _ = Authentication::read(message);
    let _ = BackendKey::read(message);
    let _ = Notification::read(message);
    let _ = Negotiated::read(message);
    let _ = backend::ready(message);
    let _ = backend::parameter_status(message);
    assert!(Fields::of(message).iter().count() <= message.len());
    if let Ok(parse) = Parse::read(message) {
        let mut written = Vec::new();
        write::parse(&mut written, parse.name, &parse);
        assert_eq!(written[5..], message[5..]);
    }
    if let Ok(bind) = Bind::read(message) {
        let mut written = Vec::new();
        write::bind_names(&mut written, &bind, bind.statement, message.len());
        written.extend(&message[bind.values_at..]);
        assert_eq!(written[1..], message[1..]);
    }
}
