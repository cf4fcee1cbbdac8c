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

// No kind and no length: two keys that differ in those alone may meet, and are told apart then.
impl Hash for Query<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::Number(number) => hasher.write_u64(*number),
            Self::Bytes(bytes) => hasher.write(bytes),
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
                assert_eq!(query.equivalent(&name), one == other, "{one} {other}");
                assert!(one != other || hasher.hash_one(query) == hasher.hash_one(&name));
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
