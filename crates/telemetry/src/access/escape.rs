//! How texts from the network are made harmless within a line.
//!
//! A client may send anything, and a log line is read by programs and by terminals. So whatever could end a value or a
//! line, or move a cursor, is escaped.

/// Appends bytes as the inside of a JSON string.
pub(super) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nearly every text is printable ASCII without quotes and needs one look and one copy.
    if bytes.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| json_char(out, c));
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Whether a byte is printable ASCII that stands for itself in a quoted text.
pub(super) fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

fn json_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        control if control.is_control() => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let code = control as usize;
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4 & 15], HEX[code & 15]]);
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends bytes as nginx does by default: `\xXX` for control characters, quotes, backslashes and whatever is not ASCII.
pub(super) fn nginx(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        if is_plain(byte) {
            out.push(byte);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_texts_are_escaped() {
        let check = |bytes: &[u8], expected: &str| {
            let mut out = Vec::new();
            json(&mut out, bytes);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{bytes:?}");
        };
        check(b"/plain", "/plain");
        check(b"a\"b\\c", "a\\\"b\\\\c");
        check(b"\n\r\t\0\x1b\x7f", "\\n\\r\\t\\u0000\\u001b\\u007f");
        check("caf\u{e9} \u{1f600}".as_bytes(), "caf\u{e9} \u{1f600}");
        check("\u{9b}31m".as_bytes(), "\\u009b31m");
        check(b"\xff\xc3(", "\\ufffd\\ufffd(");
        check(b"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd");
    }

    #[test]
    fn nginx_texts_are_escaped() {
        let check = |bytes: &[u8], expected: &str| {
            let mut out = Vec::new();
            nginx(&mut out, bytes);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{bytes:?}");
        };
        check(b"Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (X11; Linux)");
        check(b"a\"b\\c", "a\\x22b\\x5Cc");
        check(b"\n\r\t\0\x1b\x7f", "\\x0A\\x0D\\x09\\x00\\x1B\\x7F");
        check("\u{e9}".as_bytes(), "\\xC3\\xA9");
    }
}
