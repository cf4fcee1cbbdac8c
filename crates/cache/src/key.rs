//! What entries are found by: the bytes of a key.

/// A key of a cache. Its bytes are its identity in every tier and for every instance, so they must not change from one
/// release to the next, and two keys of one cache that differ must have different bytes.
///
/// Numbers are written in decimal, so that a key can be read in Redis. For a type of your own, write all that tells one
/// value from another:
///
/// ```
/// struct Page { host: String, number: u32 }
///
/// impl cache::Key for Page {
///     fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
///         use_bytes(format!("{}/{}", self.host, self.number).as_bytes())
///     }
/// }
/// ```
pub trait Key {
    /// Lends the bytes. A hit in memory copies none.
    fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R;

    /// The number whose digits the bytes are, if that is known without writing them. For the numbers of the language.
    #[doc(hidden)]
    #[inline]
    fn number(&self) -> Option<u64> {
        None
    }
}

impl Key for str {
    fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        use_bytes(self.as_bytes())
    }
}

impl Key for String {
    fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        use_bytes(self.as_bytes())
    }
}

impl Key for [u8] {
    fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        use_bytes(self)
    }
}

impl Key for Vec<u8> {
    fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        use_bytes(self)
    }
}

impl<T: Key + ?Sized> Key for &T {
    fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        (**self).with_bytes(use_bytes)
    }

    #[inline]
    fn number(&self) -> Option<u64> {
        (**self).number()
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Key for $number {
            fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
                use_bytes(itoa::Buffer::new().format(*self).as_bytes())
            }

            #[inline]
            fn number(&self) -> Option<u64> {
                u64::try_from(*self).ok()
            }
        }

        impl ReadKey for $number {
            type Owned = $number;

            fn from_bytes(bytes: &[u8]) -> Option<$number> {
                std::str::from_utf8(bytes).ok()?.parse().ok()
            }
        })*
    };
}

numbers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

/// A key that can be read back from its bytes, for what happens without a caller: the loader that a cache was given, and its refreshes.
pub trait ReadKey: Key {
    /// What the loader is given.
    type Owned: Send + 'static;

    /// The key of these bytes, if they are one's.
    fn from_bytes(bytes: &[u8]) -> Option<Self::Owned>;
}

impl ReadKey for str {
    type Owned = String;

    fn from_bytes(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl ReadKey for String {
    type Owned = String;

    fn from_bytes(bytes: &[u8]) -> Option<String> {
        str::from_bytes(bytes)
    }
}

impl ReadKey for [u8] {
    type Owned = Vec<u8>;

    fn from_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }
}

impl ReadKey for Vec<u8> {
    type Owned = Vec<u8>;

    fn from_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }
}

/// The bytes of a key, for what outlives the call.
pub(crate) fn owned<K: Key + ?Sized>(key: &K) -> Box<[u8]> {
    key.with_bytes(|bytes| Box::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_people_would_write() {
        assert_eq!(&*owned("a"), b"a");
        assert_eq!(&*owned(&"a".to_owned()), b"a");
        assert_eq!(&*owned(&-7_i64), b"-7");
        assert_eq!(&*owned(&u128::MAX), b"340282366920938463463374607431768211455");
        assert_eq!(&*owned(&&[1_u8, 0][..]), [1, 0]);
        assert_eq!(i64::from_bytes(b"-7"), Some(-7));
        assert_eq!((u8::from_bytes(b"256"), str::from_bytes(b"a").as_deref()), (None, Some("a")));
    }
}
