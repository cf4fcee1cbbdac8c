//! Bodies that are sent from the file in memory that they stand in.

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use store::{CHUNK_BYTES, Head};

use crate::tier::{MIB, body, head, hit, put, store};

#[test]
fn what_is_on_its_way_stays_as_it_was_when_its_memory_goes() {
    let store = store(16 * MIB);
    // A pipe has sixteen places, each for a page; the two chunks of it are in fifteen.
    let whole = body("k", 0, CHUNK_BYTES + 30_000);
    put(&store, "k", Head { body_bytes: Some(whole.len() as u64), ..Head::default() }, &whole);
    let found = hit(&store, "k").expect("in memory");
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let [first, second] = found.object.chunks() else { panic!("two") };
    let mut place = store.in_file(&first[40_000..]).expect("it stands in a file");
    assert!(place.join(&store.in_file(second).expect("it does too")), "one call sends both");
    let whole = whole[40_000..].to_vec();
    assert_eq!(place.bytes(), whole);
    let (mut at, mut sent) = (place.offset(), 0);
    while sent < whole.len() {
        let left = whole.len() - sent;
        sent += splice(place.file(), Some(&mut at), &writer, None, left, SpliceFlags::empty()).expect("it goes");
    }
    drop(writer);
    drop(found);
    store.remove(store.key(b"k"));
    // Whoever comes next gets the memory that is free.
    for version in 1..100 {
        let other = body("other", version, whole.len());
        put(&store, &format!("k{version}"), Head { body_bytes: Some(other.len() as u64), ..Head::default() }, &other);
    }
    let mut came = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(reader), &mut came).expect("it comes");
    assert!(came == whole);
}

#[test]
fn what_is_short_stands_elsewhere() {
    let store = store(16 * MIB);
    put(&store, "k", head("", &[]), b"short");
    let found = hit(&store, "k").expect("in memory");
    assert!(store.in_file(&found.object.chunks()[0]).is_none());
    assert!(store.in_file(b"of somebody else").is_none());
    // A part of a chunk stands where it does.
    put(&store, "l", head("", &[]), &body("l", 1, 2 * CHUNK_BYTES));
    let found = hit(&store, "l").expect("in memory");
    let [first, second] = found.object.chunks() else { panic!("two") };
    let offset = |piece: &[u8]| store.in_file(piece).expect("in the file").offset();
    assert_eq!(offset(&first[100..200]), offset(first) + 100);
    assert!(offset(second).abs_diff(offset(first)) >= CHUNK_BYTES as u64);
}
