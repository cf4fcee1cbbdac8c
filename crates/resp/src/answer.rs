//! What goes back, in the version of the protocol that the client asked for.

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What every client speaks, and each begins with.
    #[default]
    Two,
    /// With maps and a null of its own, after `HELLO 3`.
    Three,
}

/// Answers, one behind the other, ready to be written at once.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<u8>,
    version: Version,
}

impl Answers {
    /// Answers in the memory of others before.
    pub fn reuse(mut bytes: Vec<u8>, version: Version) -> Self {
        bytes.clear();
        Self { bytes, version }
    }

    /// What has been written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its memory.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Speaks another version from here on.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// A short text that is no data, such as `OK`. It has no line end.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "{text:?}");
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    /// An error: a word in capitals, and what is wrong. Line ends, which a client's own words might bring in, become spaces.
    pub fn error(&mut self, text: &str) {
        self.bytes.push(b'-');
        self.bytes.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        self.end();
    }

    /// A whole number.
    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    /// Bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bulk_head(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.end();
    }

    /// What stands before bytes that are written by other means; [`bulk_end`](Self::bulk_end) comes behind them.
    pub fn bulk_head(&mut self, len: usize) {
        self.head(b'$', len as i64);
    }

    /// What stands behind bytes that were written by other means.
    pub fn bulk_end(&mut self) {
        self.end();
    }

    /// Nothing, where there might have been bytes.
    pub fn null(&mut self) {
        self.bytes.extend_from_slice(match self.version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// Nothing, where there might have been a list.
    pub fn null_array(&mut self) {
        self.bytes.extend_from_slice(match self.version {
            Version::Two => b"*-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// The head of a list of so many answers, which follow.
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }

    /// The head of so many pairs of a key and a value, which follow.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Two => self.head(b'*', 2 * pairs as i64),
            Version::Three => self.head(b'%', pairs as i64),
        }
    }

    /// A text for people, in lines.
    pub fn text(&mut self, text: &str) {
        match self.version {
            Version::Two => self.bulk(text.as_bytes()),
            Version::Three => {
                self.head(b'=', text.len() as i64 + 4);
                self.bytes.extend_from_slice(b"txt:");
                self.bytes.extend_from_slice(text.as_bytes());
                self.end();
            }
        }
    }

    fn head(&mut self, kind: u8, value: i64) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.end();
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_in_each_version() {
        let check = |write: &dyn Fn(&mut Answers), two: &str, three: &str| {
            for (version, expected) in [(Version::Two, two), (Version::Three, three)] {
                let mut answers = Answers::reuse(b"before".to_vec(), version);
                write(&mut answers);
                assert_eq!(answers.bytes(), expected.as_bytes());
            }
        };
        check(&|to| to.simple("OK"), "+OK\r\n", "+OK\r\n");
        check(&|to| to.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n");
        check(&|to| to.integer(-7), ":-7\r\n", ":-7\r\n");
        check(&|to| to.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n");
        check(&|to| to.null(), "$-1\r\n", "_\r\n");
        check(&|to| to.null_array(), "*-1\r\n", "_\r\n");
        check(&|to| to.array(2), "*2\r\n", "*2\r\n");
        check(&|to| to.map(2), "*4\r\n", "%2\r\n");
        check(&|to| to.text("a\n"), "$2\r\na\n\r\n", "=6\r\ntxt:a\n\r\n");
    }
}
