use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below the range that Linux gives to outgoing connections (from 32768 on), so that no connection of a test
/// takes a port between the moment it was found free and the moment a server binds it.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// A TCP port of 127.0.0.1 that nothing listens on. No two calls in one process give the same port until 17,000 were
/// given; other processes start their search elsewhere.
///
/// # Panics
/// When no port of the range is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // A multiplicative hash spreads neighbouring process ids over the range.
    let start = (u64::from(std::process::id()) * 7_919 % u64::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Whether any socket of this machine listens on the TCP port. Reads the kernel's tables instead of connecting, so the
/// server sees nothing of the question.
pub fn is_listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        listening_ports(&text).any(|listening| listening == port)
    })
}

fn listening_ports(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, state) = (columns.next()?, columns.nth(1)?);
        // 0A is TCP_LISTEN.
        if state != "0A" {
            return None;
        }
        u16::from_str_radix(local.rsplit(':').next()?, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound_and_is_then_seen_listening() {
        let port = free_port();
        assert!(!is_listening(port));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(is_listening(port));
        assert_ne!(free_port(), port);
        drop(listener);
        assert!(!is_listening(port));
    }
}
