use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::frame::{Frame, flag, kind, setting};
use super::hpack::Decoder;

/// Octets of a frame's payload until a client allows more.
const FRAME_BYTES_MAX: usize = 1 << 14;

/// Fields that say something about a connection and have no place in HTTP/2 (RFC 9113 section 8.2.2).
const ABOUT_CONNECTIONS: [&[u8]; 5] =
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

/// A head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The fields, without the status.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What a client has heard of a server. What no server may send is an error.
#[derive(Debug, Default)]
pub struct Heard {
    /// How many frames have come.
    pub frames: usize,
    /// The server's settings, in the order in which they came.
    pub settings: Vec<(u16, u32)>,
    /// How many of the client's settings it has acknowledged.
    pub acks: usize,
    /// Answers to pings.
    pub pongs: Vec<[u8; 8]>,
    /// Heads by stream, interim ones first.
    pub heads: BTreeMap<u32, Vec<Head>>,
    /// Bodies by stream.
    pub data: BTreeMap<u32, Vec<u8>>,
    /// Trailers by stream.
    pub trailers: BTreeMap<u32, Vec<(String, String)>>,
    /// Streams that the server has ended.
    pub ended: BTreeSet<u32>,
    /// Codes of the streams that it has reset.
    pub resets: BTreeMap<u32, u32>,
    /// The last stream and the code of each GOAWAY.
    pub goaways: Vec<(u32, u32)>,
    /// What the server has opened the windows by; stream 0 is the connection.
    pub windows: BTreeMap<u32, u64>,
    decoder: Decoder,
    /// A block that is not whole yet: its stream, whether that ends, and the octets.
    block: Option<(u32, bool, Vec<u8>)>,
    /// What the client's settings that are not acknowledged yet allow: a table's size and a frame's.
    allowed: VecDeque<(Option<usize>, Option<usize>)>,
    frame_bytes_max: Option<usize>,
}

impl Heard {
    /// Notes settings that the client has sent.
    pub fn note_settings(&mut self, payload: &[u8]) {
        let last = |wanted: u16| {
            let mut values = payload.chunks_exact(6).filter(|entry| u16::from_be_bytes([entry[0], entry[1]]) == wanted);
            values.next_back().map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]) as usize)
        };
        self.allowed.push_back((last(setting::HEADER_TABLE_SIZE), last(setting::MAX_FRAME_SIZE)));
    }

    /// The final head on a stream.
    pub fn answer(&self, stream: u32) -> Option<&Head> {
        self.heads.get(&stream)?.iter().find(|head| head.status >= 200)
    }

    /// The server's setting that came last.
    pub fn setting(&self, id: u16) -> Option<u32> {
        self.settings.iter().rev().find(|(found, _)| *found == id).map(|(_, value)| *value)
    }

    /// How many octets of the body of a stream have come.
    pub fn data_len(&self, stream: u32) -> usize {
        self.data.get(&stream).map_or(0, Vec::len)
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// Why no server may send it.
    pub fn take(&mut self, frame: &Frame) -> Result<(), String> {
        let told = |problem: String| {
            format!("{problem}: type {} flags {:#x} stream {}", frame.kind, frame.flags, frame.stream)
        };
        self.check(frame).map_err(told)?;
        self.frames += 1;
        match frame.kind {
            kind::DATA => self.take_data(frame),
            kind::HEADERS | kind::CONTINUATION => self.take_headers(frame),
            kind::RST_STREAM => {
                self.resets.insert(frame.stream, word(&frame.payload)?);
                Ok(())
            }
            kind::SETTINGS => self.take_settings(frame),
            kind::PUSH_PROMISE => Err("a push".into()),
            kind::PING => {
                let data = frame.payload.as_slice().try_into().map_err(|_| "a length that pings do not have")?;
                if frame.has(flag::ACK) {
                    self.pongs.push(data);
                }
                Ok(())
            }
            kind::GOAWAY => {
                let code = word(frame.payload.get(4..).unwrap_or_default())?;
                self.goaways.push((word(&frame.payload)?, code));
                Ok(())
            }
            kind::WINDOW_UPDATE => match word(&frame.payload)? {
                0 => Err("a window opened by nothing".into()),
                increment => {
                    *self.windows.entry(frame.stream).or_default() += u64::from(increment);
                    Ok(())
                }
            },
            _ => Ok(()),
        }
        .map_err(told)
    }

    fn check(&self, frame: &Frame) -> Result<(), String> {
        let is_settings = frame.kind == kind::SETTINGS && !frame.has(flag::ACK);
        ensure(self.frames > 0 || is_settings, "the first frame is no SETTINGS")?;
        ensure(frame.payload.len() <= self.frame_bytes_max.unwrap_or(FRAME_BYTES_MAX), "a frame that is too long")?;
        ensure(frame.stream >> 31 == 0, "the reserved bit is set")?;
        if let Some((stream, ..)) = &self.block {
            let goes_on = frame.kind == kind::CONTINUATION && frame.stream == *stream;
            ensure(goes_on, "another frame within a block of fields")?;
        } else {
            ensure(frame.kind != kind::CONTINUATION, "a CONTINUATION of nothing")?;
        }
        let fits = match frame.kind {
            kind::SETTINGS | kind::PING | kind::GOAWAY => frame.stream == 0,
            kind::WINDOW_UPDATE => true,
            _ => frame.stream % 2 == 1 || frame.kind > kind::CONTINUATION,
        };
        ensure(fits, "a stream that it cannot be on")?;
        ensure(!self.resets.contains_key(&frame.stream), "a frame on a stream that the server has reset")?;
        let fits = match frame.kind {
            kind::RST_STREAM | kind::WINDOW_UPDATE => frame.payload.len() == 4,
            kind::GOAWAY => frame.payload.len() >= 8,
            _ => true,
        };
        ensure(fits, "a length that it cannot have")
    }

    fn take_data(&mut self, frame: &Frame) -> Result<(), String> {
        ensure(self.answer(frame.stream).is_some(), "a body before a head")?;
        ensure(!self.ended.contains(&frame.stream), "a body behind the end of the stream")?;
        let bytes = unpadded(frame)?;
        self.data.entry(frame.stream).or_default().extend_from_slice(bytes);
        if frame.has(flag::END_STREAM) {
            self.ended.insert(frame.stream);
        }
        Ok(())
    }

    fn take_headers(&mut self, frame: &Frame) -> Result<(), String> {
        let (stream, ends, mut block) = match self.block.take() {
            Some(begun) => begun,
            None => (frame.stream, frame.has(flag::END_STREAM), Vec::new()),
        };
        let mut part = if frame.kind == kind::HEADERS { unpadded(frame)? } else { &frame.payload };
        if frame.kind == kind::HEADERS && frame.has(flag::PRIORITY) {
            part = part.get(5..).ok_or("a priority that is cut off")?;
        }
        block.extend_from_slice(part);
        if !frame.has(flag::END_HEADERS) {
            self.block = Some((stream, ends, block));
            return Ok(());
        }
        let fields = self.decoder.decode(&block)?;
        ensure(!self.ended.contains(&stream), "a head behind the end of the stream")?;
        let fields = fields.into_iter().map(read_field).collect::<Result<Vec<_>, String>>()?;
        if self.answer(stream).is_some() {
            ensure(ends, "trailers that do not end the stream")?;
            ensure(fields.iter().all(|(name, _)| !name.starts_with(':')), "a pseudo field among trailers")?;
            self.trailers.insert(stream, fields);
        } else {
            let head = read_head(fields)?;
            ensure(head.status >= 200 || !ends, "an interim answer that ends the stream")?;
            self.heads.entry(stream).or_default().push(head);
        }
        if ends {
            self.ended.insert(stream);
        }
        Ok(())
    }

    fn take_settings(&mut self, frame: &Frame) -> Result<(), String> {
        if frame.has(flag::ACK) {
            ensure(frame.payload.is_empty(), "an acknowledgement with a payload")?;
            self.acks += 1;
            let (table, frames) = self.allowed.pop_front().ok_or("an acknowledgement of nothing")?;
            table.into_iter().for_each(|size| self.decoder.limit(size));
            self.frame_bytes_max = frames.or(self.frame_bytes_max);
            return Ok(());
        }
        ensure(frame.payload.len().is_multiple_of(6), "a length that settings do not have")?;
        for entry in frame.payload.chunks_exact(6) {
            let (id, value) = (u16::from_be_bytes([entry[0], entry[1]]), word(&entry[2..])?);
            let fits = match id {
                setting::ENABLE_PUSH => value == 0,
                setting::INITIAL_WINDOW_SIZE => value < 1 << 31,
                setting::MAX_FRAME_SIZE => (1 << 14..1 << 24).contains(&value),
                setting::ENABLE_CONNECT_PROTOCOL => value <= 1,
                _ => true,
            };
            ensure(fits, "a setting with a value that it cannot have")?;
            self.settings.push((id, value));
        }
        Ok(())
    }
}

/// The payload without padding, if there is any.
fn unpadded(frame: &Frame) -> Result<&[u8], String> {
    if !frame.has(flag::PADDED) {
        return Ok(&frame.payload);
    }
    let (&padding, rest) = frame.payload.split_first().ok_or("padding without its length")?;
    let len = rest.len().checked_sub(usize::from(padding)).ok_or("more padding than there is room")?;
    Ok(&rest[..len])
}

fn read_field((name, value): (Vec<u8>, Vec<u8>)) -> Result<(String, String), String> {
    let shown = String::from_utf8_lossy(&name).into_owned();
    ensure(!name.is_empty() && !name.iter().any(u8::is_ascii_uppercase), &format!("the field name {shown:?}"))?;
    ensure(!ABOUT_CONNECTIONS.contains(&name.as_slice()), &format!("{shown}, which concerns a connection"))?;
    ensure(!value.iter().any(|octet| b"\0\r\n".contains(octet)), &format!("{shown} with control characters"))?;
    Ok((shown, String::from_utf8_lossy(&value).into_owned()))
}

fn read_head(mut fields: Vec<(String, String)>) -> Result<Head, String> {
    let status = fields.first().filter(|(name, _)| name == ":status").ok_or("a head that begins without a status")?;
    let status = status.1.parse().ok().filter(|status| (100..600).contains(status)).ok_or("a status that is none")?;
    ensure(status != 101, "the status 101")?;
    fields.remove(0);
    ensure(fields.iter().all(|(name, _)| !name.starts_with(':')), "a second pseudo field")?;
    Ok(Head { status, fields })
}

fn word(bytes: &[u8]) -> Result<u32, String> {
    bytes.first_chunk().map(|word| u32::from_be_bytes(*word)).ok_or_else(|| "a payload that is cut off".into())
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::super::hpack::{indexed, literal, size_update};
    use super::*;

    fn heard(frames: &[Vec<u8>]) -> Result<Heard, String> {
        let mut heard = Heard::default();
        heard.note_settings(&[0, 1, 0, 0, 0, 0]);
        for bytes in frames {
            heard.take(&Frame::read(bytes).unwrap().0)?;
        }
        Ok(heard)
    }

    #[test]
    fn an_answer_in_parts_is_read() {
        let first = frame::frame(kind::HEADERS, 0, 1, &[size_update(0), indexed(8)].concat());
        let frames = [
            frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]),
            frame::settings_ack(),
            first,
            frame::continuation(1, true, &literal("x-a", "1")),
            frame::padded_data(1, false, b"abc", 9),
            frame::headers(1, true, &literal("x-sum", "6")),
        ];
        let heard = heard(&frames).unwrap();
        let head = heard.answer(1).unwrap();
        assert_eq!((head.status, head.field("x-a")), (200, Some("1")));
        assert_eq!(heard.data[&1], b"abc");
        assert_eq!(heard.trailers[&1], [("x-sum".to_owned(), "6".to_owned())]);
        assert!(heard.ended.contains(&1) && heard.setting(setting::INITIAL_WINDOW_SIZE) == Some(10));
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        let head = |block: Vec<u8>| frame::headers(1, false, &block);
        let wrong: Vec<Vec<u8>> = vec![
            frame::data(1, false, b"early"),
            head(literal("x-a", "1")),
            head([indexed(8), literal("connection", "close")].concat()),
            head([indexed(8), literal("X-A", "1")].concat()),
            head([indexed(8), indexed(9)].concat()),
            frame::headers(2, false, &indexed(8)),
            frame::headers(1, true, &literal(":status", "103")),
            frame::continuation(1, true, &indexed(8)),
            frame::window(1, 0),
            frame::settings(&[(setting::ENABLE_PUSH, 1)]),
            frame::frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
            vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1].into_iter().chain([0; 0x4001]).collect(),
        ];
        for bytes in &wrong {
            assert!(heard(&[frame::settings(&[]), bytes.clone()]).is_err(), "{:?}", &bytes[..9]);
        }
        assert!(heard(&[frame::ping([0; 8])]).is_err(), "settings come first");
        let unshrunk = [frame::settings(&[]), frame::settings_ack(), head(indexed(8))];
        assert!(heard(&unshrunk).is_err(), "the table has to become smaller");
    }
}
