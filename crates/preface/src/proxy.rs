//! The PROXY protocol, versions 1 and 2: reading and writing.
//!
//! A proxy that passes a connection on says first, in one header, where it came from and where it went to. The source is
//! the protocol's specification by HAProxy, of 2020-03-05.
//!
//! Version 1 is a line of text: at most 107 bytes, single spaces, and no other way to write a number than the shortest.
//! Version 2 is binary. What either says of protocols other than TCP over IP is passed over, as the specification has it:
//! the connection's own addresses hold then. So do they for `LOCAL`, which a proxy says when it asks for itself. Further
//! fields of version 2 (TLVs) are passed over too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is read. One of version 1 has at most 107 bytes; what proxies add to one of version 2 is some
/// hundred bytes, certificates among it a few thousand.
pub const BYTES_MAX: usize = 4096;

/// The longest header of version 1, its line end included.
const LINE_BYTES_MAX: usize = 107;

/// What version 2 begins with: nothing that any other protocol begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// Bytes of version 2 before what depends on the family.
const FIXED_BYTES: usize = 16;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Where a connection came from, and where it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client's address.
    pub source: SocketAddr,
    /// The address that it connected to.
    pub destination: SocketAddr,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it has.
    pub len: usize,
    /// Whose connection it is; `None` when the proxy speaks for itself, or of no TCP over IP.
    pub addresses: Option<Addresses>,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderError(&'static str);

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for HeaderError {}

/// Reads the header that `bytes` begin with; `None` when it is not there to its end, and then all of `bytes` belong to it.
///
/// # Errors
/// When there is none, it is malformed, or it is longer than [`BYTES_MAX`].
pub fn read(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    if begins(bytes, SIGNATURE) {
        return read_v2(bytes);
    }
    if begins(bytes, WORD) {
        return read_v1(bytes);
    }
    Err(HeaderError("there is no PROXY header"))
}

/// Whether `bytes` begin with `with`, as far as they have come.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let len = bytes.len().min(with.len());
    bytes[..len] == with[..len]
}

fn read_v1(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        let too_long = HeaderError("the PROXY line has no end");
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(too_long) };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(HeaderError("the PROXY line ends without a CR"))?;
    let text = line.get(WORD.len()..).and_then(|rest| std::str::from_utf8(rest).ok());
    let text = text.ok_or(HeaderError("the PROXY line is no text"))?;
    let addresses = line_addresses(text)?;
    Ok(Some(Header { len: end + 1, addresses }))
}

fn line_addresses(text: &str) -> Result<Option<Addresses>, HeaderError> {
    let mut words = text.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be passed over.
        return Ok(None);
    }
    let mut word = || words.next().ok_or(HeaderError("the PROXY line lacks an address or port"));
    let (source, destination, source_port, destination_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(HeaderError("the PROXY line goes on after its ports"));
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    if !matches!(family, "TCP4" | "TCP6") {
        return Err(HeaderError("the PROXY line names an unknown protocol"));
    }
    let socket = |address_text: &str, port_text: &str| {
        let address = address(address_text).ok_or(HeaderError("the PROXY line has no such address"))?;
        Ok(SocketAddr::new(address, port(port_text).ok_or(HeaderError("the PROXY line has no such port"))?))
    };
    let source = socket(source, source_port)?;
    Ok(Some(Addresses { source, destination: socket(destination, destination_port)? }))
}

/// A port in its one form: digits, without a sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn read_v2(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let version_and_command = bytes.get(12);
    if version_and_command.is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(HeaderError("the PROXY header has an unknown version or command"));
    }
    if bytes.get(13).is_some_and(|family| family >> 4 > 3 || family & 0x0f > 2) {
        return Err(HeaderError("the PROXY header has an unknown family or protocol"));
    }
    let Some(fixed) = bytes.get(..FIXED_BYTES) else { return Ok(None) };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > BYTES_MAX {
        return Err(HeaderError("the PROXY header is too long"));
    }
    let Some(rest) = bytes.get(FIXED_BYTES..len) else { return Ok(None) };
    let addresses = match (fixed[12] & 0x0f, fixed[13]) {
        (1, 0x11) => Some(pair::<4>(rest)?),
        (1, 0x21) => Some(pair::<16>(rest)?),
        _ => None,
    };
    Ok(Some(Header { len, addresses }))
}

/// Two addresses of this many bytes, and two ports.
fn pair<const BYTES: usize>(bytes: &[u8]) -> Result<Addresses, HeaderError>
where
    IpAddr: From<[u8; BYTES]>,
{
    let short = HeaderError("the PROXY header is too short for its addresses");
    let at = |start: usize| {
        let bytes = bytes.get(start..start + BYTES).and_then(|bytes| <[u8; BYTES]>::try_from(bytes).ok());
        bytes.map(IpAddr::from).ok_or(short)
    };
    let port = |start: usize| {
        let bytes = bytes.get(start..start + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
        bytes.map(u16::from_be_bytes).ok_or(short)
    };
    let source = SocketAddr::new(at(0)?, port(2 * BYTES)?);
    Ok(Addresses { source, destination: SocketAddr::new(at(BYTES)?, port(2 * BYTES + 2)?) })
}

/// Appends a header; `None` says that the connection is the proxy's own.
pub fn write(version: Version, addresses: Option<Addresses>, out: &mut Vec<u8>) {
    match version {
        Version::V1 => write_v1(addresses, out),
        Version::V2 => write_v2(addresses, out),
    }
}

/// Both addresses in one family.
fn alike(addresses: Addresses) -> (IpAddr, IpAddr) {
    match (addresses.source.ip().to_canonical(), addresses.destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V6(destination)) => (IpAddr::V6(source.to_ipv6_mapped()), IpAddr::V6(destination)),
        (IpAddr::V6(source), IpAddr::V4(destination)) => (IpAddr::V6(source), IpAddr::V6(destination.to_ipv6_mapped())),
        both => both,
    }
}

fn write_v1(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    let Some(addresses) = addresses else { return out.extend_from_slice(b"PROXY UNKNOWN\r\n") };
    let (source, destination) = alike(addresses);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let ports = (addresses.source.port(), addresses.destination.port());
    out.extend_from_slice(format!("PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1).as_bytes());
}

fn write_v2(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let Some(addresses) = addresses else { return out.extend_from_slice(&[0x20, 0, 0, 0]) };
    match alike(addresses) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&octets(source));
            out.extend_from_slice(&octets(destination));
        }
    }
    out.extend_from_slice(&addresses.source.port().to_be_bytes());
    out.extend_from_slice(&addresses.destination.port().to_be_bytes());
}
