//! HPACK (RFC 7541) for tests: fields are written in the form that a test wants, and read strictly.

use std::collections::VecDeque;

use super::huffman;

/// Octets that an entry takes beside its name and value.
const ENTRY_OVERHEAD: usize = 32;

/// Size of the dynamic table until something else is agreed on.
const SIZE_DEFAULT: usize = 4096;

/// The static table (RFC 7541 appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// An integer with a prefix of so many bits, whose first octet has `pattern` above them (section 5.1).
pub fn integer(pattern: u8, prefix: u32, value: usize) -> Vec<u8> {
    let max = (1 << prefix) - 1;
    if value < max {
        return vec![pattern | value as u8];
    }
    let mut out = vec![pattern | max as u8];
    let mut rest = value - max;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

/// A string as it is (section 5.2).
pub fn string(text: &[u8]) -> Vec<u8> {
    [integer(0, 7, text.len()), text.to_vec()].concat()
}

/// A string of these Huffman-coded octets.
pub fn huffman_string(encoded: &[u8]) -> Vec<u8> {
    [integer(0x80, 7, encoded.len()), encoded.to_vec()].concat()
}

/// A field of a table (section 6.1).
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A field that is not added to the table, with its name (section 6.2.2).
pub fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], string(name.as_ref()), string(value.as_ref())].concat()
}

/// A field that is added to the table (section 6.2.1).
pub fn incremental(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x40], string(name.as_ref()), string(value.as_ref())].concat()
}

/// A change of the table's size (section 6.3).
pub fn size_update(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

/// Fields, none of them added to the table.
pub fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// Reads the field blocks of a connection, strictly.
#[derive(Debug)]
pub struct Decoder {
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    size_max: usize,
    /// Most that the other side may choose; it has to choose less when this sinks below what it uses.
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, size_max: SIZE_DEFAULT, limit: SIZE_DEFAULT }
    }
}

/// Name and value.
pub type Field = (Vec<u8>, Vec<u8>);

impl Decoder {
    /// Sets the size that the other side was allowed and has acknowledged.
    pub fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Reads a whole block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, String> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(&first) = rest.first() {
            if first & 0xe0 == 0x20 {
                if !fields.is_empty() {
                    return Err("a change of the table's size behind a field".into());
                }
                self.resize(take_integer(&mut rest, 5)?)?;
                continue;
            }
            if self.size_max > self.limit {
                return Err("the table was not made smaller as agreed".into());
            }
            let is_added = first & 0xc0 == 0x40;
            let field = match (first & 0x80 != 0, is_added) {
                (true, _) => self.at(take_integer(&mut rest, 7)?)?,
                (false, true) => self.take_literal(&mut rest, 6)?,
                (false, false) => self.take_literal(&mut rest, 4)?,
            };
            if is_added {
                self.add(field.clone());
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn resize(&mut self, size: usize) -> Result<(), String> {
        if size > self.limit {
            return Err(format!("a table of {size}, where {} is allowed", self.limit));
        }
        self.size_max = size;
        self.evict();
        Ok(())
    }

    fn take_literal(&self, rest: &mut &[u8], prefix: u32) -> Result<Field, String> {
        let index = take_integer(rest, prefix)?;
        let name = if index == 0 { take_string(rest)? } else { self.at(index)?.0 };
        Ok((name, take_string(rest)?))
    }

    fn at(&self, index: usize) -> Result<Field, String> {
        let missing = || format!("index {index}, where {} fields are", STATIC.len() + self.table.len());
        let at = index.checked_sub(1).ok_or_else(missing)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.table.get(at - STATIC.len()).cloned().ok_or_else(missing)
    }

    fn add(&mut self, field: Field) {
        self.size += field.0.len() + field.1.len() + ENTRY_OVERHEAD;
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.size_max {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

fn take_integer(rest: &mut &[u8], prefix: u32) -> Result<usize, String> {
    let torn = || "an integer that is cut off".to_owned();
    let max = (1_usize << prefix) - 1;
    let (&first, mut tail) = rest.split_first().ok_or_else(torn)?;
    let mut value = usize::from(first) & max;
    if value == max {
        for shift in (0..).step_by(7) {
            let (&octet, after) = tail.split_first().ok_or_else(torn)?;
            tail = after;
            if shift > 28 {
                return Err("an integer that is too long".into());
            }
            value += usize::from(octet & 127) << shift;
            if octet & 128 == 0 {
                break;
            }
        }
    }
    *rest = tail;
    Ok(value)
}

fn take_string(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let len = take_integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(len).ok_or("a string that is cut off")?;
    *rest = tail;
    if is_coded { huffman::decode(text) } else { Ok(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(fields: Vec<Field>) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7541 appendix C.4: three requests on one connection.
        let mut decoder = Decoder::default();
        let first = [
            &[0x82, 0x86, 0x84, 0x41, 0x8c][..],
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
        ];
        let found = texts(decoder.decode(&first.concat()).unwrap());
        assert_eq!(found[3], (":authority".into(), "www.example.com".into()));
        let second = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        let found = texts(decoder.decode(&second).unwrap());
        assert_eq!(found[3], (":authority".into(), "www.example.com".into()));
        assert_eq!(found[4], ("cache-control".into(), "no-cache".into()));
        assert_eq!(decoder.size, 110);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_wrong_is_refused() {
        let mut decoder = Decoder::default();
        let long = "v".repeat(1000);
        let block = [literal("a", &long), incremental("b", "1"), indexed(62), indexed(8)].concat();
        let found = texts(decoder.decode(&block).unwrap());
        assert_eq!(found[0].1, long);
        assert_eq!((found[1].clone(), found[3].clone()), (found[2].clone(), (":status".into(), "200".into())));
        decoder.limit(0);
        assert!(decoder.decode(&indexed(8)).is_err(), "it has to become smaller first");
        assert!(decoder.decode(&[size_update(0), indexed(8)].concat()).is_ok());
        for wrong in [indexed(0), indexed(62), size_update(1), vec![0xff; 9], vec![0x40, 5, b'a'], vec![0]] {
            assert!(decoder.decode(&wrong).is_err(), "{wrong:?}");
        }
    }
}
