//! Whose allowance a request takes: the values that make its key, and two hashes of them.
//!
//! Within a gateway a key is 64 bits under a secret of the process. Between gateways there is no secret, and whoever chooses a
//! field's value would find one that meets another's key in as few bits; so a store is told 128 bits of SHA-256. That is
//! computed once, when a key first comes.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use limit::{KeyHasher, Prefixes};
use sha2::{Digest as _, Sha256};

/// What a limit's key is hashed under, so that nobody outside can find keys that meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed((u64, u64));

/// A value that is part of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Address(IpAddr),
    /// Of a field or cookie, if it is there.
    Text(Option<&'a [u8]>),
    /// A name, told from what clients write by its place in the key.
    Name(&'a [u8]),
}

/// A key as a store knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 16]);

impl Seed {
    /// A seed from the system's random numbers.
    pub(crate) fn random() -> Self {
        let state = RandomState::new();
        Self((state.hash_one(0), state.hash_one(1)))
    }
}

/// The hash of a key within this process.
#[inline]
pub(super) fn hash<'a>(seed: Seed, prefixes: Prefixes, values: impl Iterator<Item = Value<'a>>) -> u64 {
    let add = |hasher: KeyHasher, value: Value<'_>| match value {
        Value::Address(address) => hasher.address(address, prefixes),
        // What is not there is told apart from what is empty.
        Value::Text(Some(text)) => hasher.number(1).part(text),
        Value::Text(None) => hasher.number(0),
        Value::Name(name) => hasher.part(name),
    };
    values.fold(KeyHasher::new(seed.0), add).finish()
}

impl Digest {
    /// The hash of a key between gateways.
    pub(super) fn of<'a>(prefixes: Prefixes, values: impl Iterator<Item = Value<'a>>) -> Self {
        let mut hasher = Sha256::new();
        for value in values {
            // Parts are told apart by their kinds and lengths.
            let mut part = |kind: u8, bytes: &[u8]| {
                hasher.update([kind]);
                hasher.update((bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            };
            match value {
                Value::Address(address) => match prefixes.cut(address) {
                    IpAddr::V4(address) => part(4, &address.octets()),
                    IpAddr::V6(address) => part(6, &address.octets()),
                },
                Value::Text(Some(text)) => part(1, text),
                Value::Text(None) => part(0, b""),
                Value::Name(name) => part(2, name),
            }
        }
        let whole: [u8; 32] = hasher.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&whole[..16]);
        Self(half)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(Some(text.as_bytes()))
    }

    #[test]
    fn both_hashes_tell_the_same_keys_apart() {
        let address = |text: &str| Value::Address(text.parse().unwrap());
        let keys = [
            vec![],
            vec![text("")],
            vec![Value::Text(None)],
            vec![text("ab"), text("c")],
            vec![text("a"), text("bc")],
            vec![text("abc")],
            vec![address("192.0.2.1")],
            vec![address("192.0.2.2")],
            vec![address("2001:db8::1")],
            vec![address("2001:db8:0:1::1")],
            vec![address("192.0.2.1"), text("a")],
            vec![text("a"), address("192.0.2.1")],
            vec![Value::Name(b"web"), text("a")],
        ];
        let (seed, prefixes) = (Seed::random(), Prefixes::default());
        for (at, one) in keys.iter().enumerate() {
            for (other_at, other) in keys.iter().enumerate() {
                let same = |values: &Vec<Value<'static>>| hash(seed, prefixes, values.iter().copied());
                assert_eq!(same(one) == same(other), at == other_at, "{one:?} {other:?}");
                let same = |values: &Vec<Value<'static>>| Digest::of(prefixes, values.iter().copied());
                assert_eq!(same(one) == same(other), at == other_at, "{one:?} {other:?}");
            }
        }
        // One client, however its address is written.
        let of = |text| Digest::of(prefixes, [address(text)].into_iter());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_store_is_told_the_same_by_every_gateway() {
        let values =
            [Value::Address("192.0.2.1".parse().unwrap()), text("shop"), Value::Text(None), Value::Name(b"web")];
        let digest = Digest::of(Prefixes::default(), values.into_iter());
        // Buckets outlive gateways: whoever changes this makes all of them full at once.
        assert_eq!(digest.to_string(), "7d6bf983f2019d3eccadc51a4b072146");
    }
}
