//! Fields that a route takes out of heads and puts into them.

use http1::write;

use crate::params::{FieldEdits, FieldLine};

/// Names of fields.
#[derive(Debug, Default)]
pub(crate) struct Names(Box<[Box<[u8]>]>);

impl Names {
    /// These names.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self(names.into_iter().map(|name| name.as_bytes().into()).collect())
    }

    /// Whether a name is among them.
    pub(crate) fn have(&self, name: &[u8]) -> bool {
        self.0.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether a name is among them, or would be with dashes in the place of underscores. Endpoints that read fields as
    /// variables, as CGI does, cannot tell the two apart.
    pub(crate) fn have_alike(&self, name: &[u8]) -> bool {
        let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        self.0.iter().any(|own| own.len() == name.len() && own.iter().map(plain).eq(name.iter().map(plain)))
    }
}

/// Changes of fields, ready to be made.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Names of those that go, in lower case.
    dropped: Box<[Box<[u8]>]>,
    /// Lines of those that come.
    lines: Box<[u8]>,
}

impl Edits {
    /// The changes with these settings; fields of the names `also` go as well.
    pub(crate) fn new(params: &FieldEdits, also: &[&str]) -> Self {
        let removed = params.remove.iter().map(|name| name.as_str());
        let set = params.set.iter().map(|line| line.name().as_str());
        let names = removed.chain(set).chain(also.iter().copied());
        let mut lines = Vec::new();
        for line in params.set.iter().chain(&params.add) {
            push(&mut lines, line);
        }
        Self { dropped: names.map(|name| name.to_ascii_lowercase().into_bytes().into()).collect(), lines: lines.into() }
    }

    /// Whether a field of this name goes.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        self.dropped.iter().any(|dropped| dropped.eq_ignore_ascii_case(name))
    }

    /// Whether any field goes.
    pub(crate) fn drop_any(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// The lines of the fields that come.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }
}

fn push(lines: &mut Vec<u8>, line: &FieldLine) {
    write::field(lines, line.name().as_str().as_bytes(), line.value().as_bytes());
}

/// Adds lines to a head that the gateway writes by itself, but for names that stand there already: those describe this
/// very answer. `Set-Cookie` and `Vary` may stand there several times.
pub(crate) fn push_absent(head: &mut Vec<u8>, lines: &[u8]) {
    for line in lines.split_inclusive(|&b| b == b'\n') {
        let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
        let repeats = name.eq_ignore_ascii_case(b"set-cookie") || name.eq_ignore_ascii_case(b"vary");
        let mut names = head.split(|&b| b == b'\n').map(|known| &known[..memchr::memchr(b':', known).unwrap_or(0)]);
        if repeats || !names.any(|known| known.eq_ignore_ascii_case(name)) {
            head.extend_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{FieldName, Message};

    #[test]
    fn names_are_alike_but_for_case_and_underscores() {
        let names = Names::new(["X-User", "x_id"]);
        let check = |name: &str, is: bool, alike: bool| {
            assert_eq!((names.have(name.as_bytes()), names.have_alike(name.as_bytes())), (is, alike), "{name}");
        };
        check("x-user", true, true);
        check("X_USER", false, true);
        check("X-Id", false, true);
        check("X-Use", false, false);
        check("X-Users", false, false);
        check("", false, false);
    }

    #[test]
    fn names_go_and_lines_come() {
        let line = |name: &str, value: &str| FieldLine::new(Message::Response, name, value).unwrap();
        let edits = Edits::new(
            &FieldEdits {
                remove: vec![FieldName::new(Message::Response, "Server").unwrap()],
                set: vec![line("X-A", "1")],
                add: vec![line("Set-Cookie", "a=b"), line("X-B", "2")],
            },
            &["Also"],
        );
        let dropped = ["server", "x-a", "X-B", "set-cookie", "ALSO"].map(|name| edits.drops(name.as_bytes()));
        assert_eq!(dropped, [true, true, false, false, true]);
        assert_eq!(edits.lines(), b"X-A: 1\r\nSet-Cookie: a=b\r\nX-B: 2\r\n");
        let mut head = b"HTTP/1.1 200 OK\r\nx-b: own\r\nSet-Cookie: c=d\r\n".to_vec();
        push_absent(&mut head, edits.lines());
        let expected = b"HTTP/1.1 200 OK\r\nx-b: own\r\nSet-Cookie: c=d\r\nX-A: 1\r\nSet-Cookie: a=b\r\n";
        assert_eq!(head, expected);
    }
}
