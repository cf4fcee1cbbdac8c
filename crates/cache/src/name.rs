//! Keys as they stand in the tables of memory: small, and quick to find.
//!
//! The bytes of a key are its identity. Those of a number are its digits, which take longer to write and to hash than the number does, so
//! bytes that are a number's are kept as it: whoever looks for the number need not write them. Other short keys stand in
//! the table itself, so that a lookup waits for no other memory.

use std::hash::{Hash, Hasher};

use quick_cache::Equivalent;

/// Bytes of a key that stand in the table.
const SHORT_BYTES: usize = 22;
/// Digits of the longest number that is told by its digits.
const DIGITS_MAX: usize = 19;

/// A key in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Number(u64),
    Short(u8, [u8; SHORT_BYTES]),
    Long(Box<[u8]>),
}

/// A key that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query<'k> {
    Number(u64),
    Bytes(&'k [u8]),
}

/// The number that is written so, and in no other way.
#[inline]
fn number(bytes: &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    if !first.is_ascii_digit() || bytes.len() > DIGITS_MAX || (*first == b'0' && !rest.is_empty()) {
        return None;
    }
    bytes.iter().try_fold(0, |sum: u64, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

impl<'k> From<&'k [u8]> for Query<'k> {
    #[inline]
    fn from(bytes: &'k [u8]) -> Self {
        number(bytes).map_or(Self::Bytes(bytes), Self::Number)
    }
}

impl Query<'_> {
    /// That of a number, if its digits are taken for it.
    #[inline]
    pub(crate) fn of_number(number: u64) -> Option<Self> {
        (number < 10_u64.pow(DIGITS_MAX as u32)).then_some(Self::Number(number))
    }
}

impl From<&[u8]> for Name {
    fn from(key: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        match (number(key), bytes.get_mut(..key.len())) {
            (Some(number), _) => Self::Number(number),
            (None, Some(short)) => {
                short.copy_from_slice(key);
                Self::Short(key.len() as u8, bytes)
            }
            (None, None) => Self::Long(key.into()),
        }
    }
}

impl Name {
    #[inline]
    fn query(&self) -> Query<'_> {
        match self {
            Self::Number(number) => Query::Number(*number),
            Self::Short(len, bytes) => Query::Bytes(&bytes[..usize::from(*len)]),
            Self::Long(bytes) => Query::Bytes(bytes),
        }
    }

    /// How long its bytes are.
    pub(crate) fn bytes_len(&self) -> u64 {
        match self {
            Self::Number(number) => u64::from(number.checked_ilog10().unwrap_or(0)) + 1,
            Self::Short(len, _) => u64::from(*len),
            Self::Long(bytes) => bytes.len() as u64,
        }
    }
}

/// A number that is looked for by a hit: its kind is not asked for again at each step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digits(pub(crate) u64);

/// Bytes that are looked for by a hit, and are no number's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'k>(pub(crate) &'k [u8]);

// No kind and no length: two keys that differ in those alone may meet, and are told apart then.
impl Hash for Digits {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0);
    }
}

impl Hash for Written<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.0);
    }
}

impl Hash for Query<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::Number(number) => Digits(*number).hash(hasher),
            Self::Bytes(bytes) => Written(bytes).hash(hasher),
        }
    }
}

impl Hash for Name {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.query().hash(hasher);
    }
}

impl Equivalent<Name> for Query<'_> {
    #[inline]
    fn equivalent(&self, name: &Name) -> bool {
        *self == name.query()
    }
}

impl Equivalent<Name> for Digits {
    #[inline]
    fn equivalent(&self, name: &Name) -> bool {
        matches!(name, Name::Number(number) if *number == self.0)
    }
}

impl Equivalent<Name> for Written<'_> {
    #[inline]
    fn equivalent(&self, name: &Name) -> bool {
        match name {
            Name::Number(_) => false,
            Name::Short(len, bytes) => usize::from(*len) == self.0.len() && begins_with(bytes, self.0),
            Name::Long(bytes) => **bytes == *self.0,
        }
    }
}

/// Whether a short key begins with these bytes, by words that may overlap: to call a function that compares takes longer than to compare.
#[inline]
fn begins_with(short: &[u8; SHORT_BYTES], bytes: &[u8]) -> bool {
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let is_same = |at: usize| word(short, at) == word(bytes, at);
    match bytes.len() {
        len @ 8..=16 => is_same(0) && is_same(len - 8),
        len @ 17..=SHORT_BYTES => is_same(0) && is_same(8) && is_same(len - 8),
        len => short.get(..len).is_some_and(|short| short == bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;
    use crate::key::Key;

    #[test]
    fn keys_are_the_same_if_their_bytes_are() {
        let long = "k".repeat(SHORT_BYTES + 1);
        let short = "k".repeat(SHORT_BYTES);
        let numbers = ["0", "7", "42", "9999999999999999999", "10000000000000000000", "18446744073709551615"];
        let others = ["", "00", "07", "-7", "7 ", "a", "12a4", "99999999999999999999", &short, &long];
        let all: Vec<&str> = numbers.into_iter().chain(others).collect();
        let hasher = std::hash::RandomState::new();
        for one in &all {
            let name = Name::from(one.as_bytes());
            assert_eq!(name.bytes_len(), one.len() as u64, "{one}");
            for other in &all {
                let query = Query::from(other.as_bytes());
                let (is_same, hash) = match query {
                    Query::Number(number) => (Digits(number).equivalent(&name), hasher.hash_one(Digits(number))),
                    Query::Bytes(bytes) => (Written(bytes).equivalent(&name), hasher.hash_one(Written(bytes))),
                };
                assert_eq!((is_same, query.equivalent(&name)), (one == other, is_same), "{one} {other}");
                assert!(one != other || [hash, hasher.hash_one(query)] == [hasher.hash_one(&name); 2]);
            }
        }
    }

    #[test]
    fn short_keys_differ_wherever_a_byte_does() {
        for len in 0..=SHORT_BYTES {
            let key = vec![b'k'; len];
            let name = Name::from(&key[..]);
            assert!(Written(&key).equivalent(&name), "{len}");
            for at in 0..len {
                let mut other = key.clone();
                other[at] = b'l';
                assert!(!Written(&other).equivalent(&name), "{len} {at}");
                assert!(!Written(&key[..at]).equivalent(&name), "{len} {at}");
            }
        }
    }

    #[test]
    fn numbers_are_found_by_themselves_or_by_their_bytes() {
        let check = |key: &dyn Fn() -> (Option<u64>, Vec<u8>)| {
            let (number, bytes) = key();
            let query = number.and_then(Query::of_number).unwrap_or(Query::from(&bytes[..]));
            assert_eq!(query, Query::from(&bytes[..]), "{bytes:?}");
        };
        for number in [0, 1, 9, 10, 255, 10_u64.pow(19) - 1, 10_u64.pow(19), u64::MAX] {
            check(&|| (number.number(), number.with_bytes(<[u8]>::to_vec)));
            check(&|| ((number as i64).number(), (number as i64).with_bytes(<[u8]>::to_vec)));
            check(&|| ((number as u8).number(), (number as u8).with_bytes(<[u8]>::to_vec)));
            let large = u128::from(number) << 60;
            check(&|| (large.number(), large.with_bytes(<[u8]>::to_vec)));
        }
    }
}
