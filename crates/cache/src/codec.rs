//! From values to bytes and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What values are written by in Redis. Which one wrote an entry stands in it, so it can be changed at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Postcard: small and quick. It writes fields by their order alone, so a change of a type needs another
    /// [`schema`](crate::Builder::schema).
    #[default]
    Postcard,
    /// JSON, by which services in other languages can read the body of an entry, and fields have names.
    Json,
}

/// Why a value has no bytes, or bytes no value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CodecError(String);

impl CodecError {
    fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl Codec {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Postcard => 0,
            Self::Json => 1,
        }
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        [Self::Postcard, Self::Json].into_iter().find(|codec| codec.number() == number)
    }

    pub(crate) fn encode<V: Serialize>(self, value: &V) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Postcard => postcard::to_allocvec(value).map_err(CodecError::new),
            Self::Json => serde_json::to_vec(value).map_err(CodecError::new),
        }
    }

    pub(crate) fn decode<V: DeserializeOwned>(self, bytes: &[u8]) -> Result<V, CodecError> {
        match self {
            Self::Postcard => match postcard::take_from_bytes(bytes) {
                Ok((value, [])) => Ok(value),
                // Another type's bytes may begin like this one's.
                Ok((_, rest)) => Err(CodecError(format!("{} bytes are left over", rest.len()))),
                Err(error) => Err(CodecError::new(error)),
            },
            Self::Json => serde_json::from_slice(bytes).map_err(CodecError::new),
        }
    }
}

/// The bytes, shorter if compression makes them so: whether they are.
pub(crate) fn compressed(bytes: Vec<u8>, above: usize) -> (Vec<u8>, bool) {
    if bytes.len() <= above {
        return (bytes, false);
    }
    let smaller = lz4_flex::block::compress(&bytes);
    if smaller.len() < bytes.len() { (smaller, true) } else { (bytes, false) }
}

/// What was compressed, if it has as many bytes as were said.
pub(crate) fn expanded(bytes: &[u8], whole_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let whole = lz4_flex::block::decompress(bytes, whole_bytes).map_err(CodecError::new)?;
    if whole.len() == whole_bytes { Ok(whole) } else { Err(CodecError("it has another length".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_read_what_they_wrote_and_nothing_beside_it() {
        for codec in [Codec::Postcard, Codec::Json] {
            let value = (7_u32, Some("text".to_owned()));
            let bytes = codec.encode(&value).unwrap();
            assert_eq!(codec.decode::<(u32, Option<String>)>(&bytes).unwrap(), value);
            assert!(codec.decode::<(u32, Option<String>)>(&[&bytes[..], b"x"].concat()).is_err(), "{codec:?}");
            assert!(codec.decode::<(u32, Option<String>)>(&bytes[..bytes.len() - 1]).is_err());
            assert_eq!(Codec::of_number(codec.number()), Some(codec));
        }
        assert_eq!(Codec::of_number(9), None);
    }

    #[test]
    fn compression_is_kept_where_it_helps_and_bounded_on_the_way_back() {
        let (short, is_compressed) = compressed(vec![7; 100], 100);
        assert_eq!((short.len(), is_compressed), (100, false));
        let (small, is_compressed) = compressed(vec![7; 10_000], 100);
        assert!(is_compressed && small.len() < 200);
        assert_eq!(expanded(&small, 10_000).unwrap(), [7; 10_000]);
        assert!(expanded(&small, 9_999).is_err());
        assert!(expanded(&small, 10_001).is_err());
        let noise: Vec<u8> = (0..1000).map(|_| fastrand::u8(..)).collect();
        assert_eq!(compressed(noise.clone(), 100), (noise, false));
    }
}
