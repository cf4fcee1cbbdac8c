//! What is answered to a request for a file: all of it, parts of it, or that the client has it.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use http1::{Method, write};
use vocab::ErrorCode;

use super::precondition::{Validators, Verdict};
use super::range::{self, Wanted};
use super::{FoundFile, representation};
use crate::action::{Edits, Prepared};
use crate::router::Asked;

/// A file that is to be sent.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) file: Arc<File>,
    /// 200 or 206.
    pub(crate) status: u16,
    /// Lines of fields, beside those of framing, of the connection, and of the route.
    pub(crate) fields: Vec<u8>,
    /// What is sent of it, in this order.
    pub(crate) pieces: Vec<Piece>,
    /// What follows behind the last piece.
    pub(crate) after: Vec<u8>,
    /// Bytes of all of that.
    pub(crate) length: u64,
    /// Whether the disk had to be read for it so far.
    pub(crate) from_disk: bool,
}

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Piece {
    /// What is sent before it.
    pub(crate) before: Vec<u8>,
    /// Where it is.
    pub(crate) range: Range<u64>,
}

/// Lines of fields, without those that the route takes out.
struct Lines<'e> {
    out: Vec<u8>,
    edits: Option<&'e Edits>,
}

impl Lines<'_> {
    fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        if self.edits.is_none_or(|edits| !edits.drops(name.as_bytes())) {
            write::field(&mut self.out, name.as_bytes(), value.as_ref());
        }
    }
}

/// What is answered with a file. `random` makes the mark between parts, which must not stand in the file.
///
/// # Errors
/// The answer, where nothing of the file is sent.
pub(crate) fn answer(
    found: FoundFile,
    asked: &Asked<'_>,
    (edits, varies): (Option<&Edits>, bool),
    now: SystemTime,
    random: u128,
) -> Result<Box<Serving>, Box<Prepared>> {
    let (request, head) = (asked.request, asked.head);
    let validators = representation::validators(&found.stat, found.coding, now);
    let mut lines = Lines { out: Vec::with_capacity(320), edits };
    lines.push("Date", httpdate::fmt_http_date(now));
    lines.push("ETag", &validators.etag);
    lines.push("Last-Modified", httpdate::fmt_http_date(validators.modified));
    if varies {
        lines.push("Vary", "Accept-Encoding");
    }
    match validators.judge(request, head) {
        Verdict::Send => {}
        Verdict::NotModified => return Err(Box::new(Prepared::new(304, lines.out))),
        Verdict::Failed => return Err(Box::new(Prepared::new(412, lines.out))),
    }
    let size = found.stat.st_size as u64;
    let wanted = wanted(asked, &validators, size);
    if wanted == Wanted::Unsatisfiable {
        write::field(&mut lines.out, b"Content-Range", format!("bytes */{size}").as_bytes());
        return Err(Box::new(Prepared::new(416, lines.out)));
    }
    if let Some(coding) = found.coding {
        lines.push("Content-Encoding", coding.as_str());
    }
    lines.push("Accept-Ranges", "bytes");
    let (kind, is_text) = found.kind;
    let kind = if is_text { format!("{kind}; charset=utf-8") } else { kind.to_owned() };
    Ok(Box::new(serving(found.file, (size, wanted), &kind, lines, random)))
}

/// What of the file is asked for. A range of something else than a GET has no meaning.
fn wanted(asked: &Asked<'_>, validators: &Validators, size: u64) -> Wanted {
    if asked.request.method != Method::Get {
        return Wanted::Whole;
    }
    let mut fields = asked.request.fields.named(asked.head, b"range");
    match (fields.next(), fields.next()) {
        (Some(value), None) if validators.allow_ranges(asked.request, asked.head) => range::read(value, size),
        _ => Wanted::Whole,
    }
}

fn serving(file: Arc<File>, (size, wanted): (u64, Wanted), kind: &str, mut lines: Lines<'_>, random: u128) -> Serving {
    let ranges = match wanted {
        Wanted::Whole | Wanted::Unsatisfiable => {
            lines.push("Content-Type", kind);
            let whole = (size > 0).then(|| Piece { before: Vec::new(), range: 0..size });
            let pieces = whole.into_iter().collect();
            let fields = lines.out;
            return Serving { file, status: 200, fields, pieces, after: Vec::new(), length: size, from_disk: false };
        }
        Wanted::Parts(ranges) => ranges,
    };
    let content_range = |range: &Range<u64>| format!("bytes {}-{}/{size}", range.start, range.end - 1);
    if let [range] = ranges.as_slice() {
        lines.push("Content-Type", kind);
        write::field(&mut lines.out, b"Content-Range", content_range(range).as_bytes());
        let length = range.end - range.start;
        let pieces = vec![Piece { before: Vec::new(), range: range.clone() }];
        return Serving { file, status: 206, fields: lines.out, pieces, after: Vec::new(), length, from_disk: false };
    }
    let mark = format!("{random:032x}");
    // It says where each part ends, so the route cannot take it out.
    write::field(&mut lines.out, b"Content-Type", format!("multipart/byteranges; boundary={mark}").as_bytes());
    let mut length = range::total(&ranges);
    let mut pieces = Vec::with_capacity(ranges.len());
    for range in ranges {
        let start = if pieces.is_empty() { "" } else { "\r\n" };
        let within = content_range(&range);
        let before = format!("{start}--{mark}\r\nContent-Type: {kind}\r\nContent-Range: {within}\r\n\r\n").into_bytes();
        length += before.len() as u64;
        pieces.push(Piece { before, range });
    }
    let after = format!("\r\n--{mark}--\r\n").into_bytes();
    length += after.len() as u64;
    Serving { file, status: 206, fields: lines.out, pieces, after, length, from_disk: false }
}

/// There is no such file.
pub(crate) fn missing() -> Box<Prepared> {
    Box::new(Prepared::error(ErrorCode::NoFile, "there is no such file"))
}

/// Files are read, and nothing else is done with them.
pub(crate) fn wrong_method() -> Box<Prepared> {
    let message = "files are read by GET and HEAD only";
    let error = Prepared::error(ErrorCode::MethodNotAllowed, message);
    Box::new(Prepared { fields: b"Allow: GET, HEAD\r\n".to_vec(), ..error })
}
