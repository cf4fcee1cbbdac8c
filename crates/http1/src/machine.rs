//! Whether an authority names this machine.
//!
//! What listens on loopback without a password is still within reach of pages in a browser on this machine: one whose name an attacker
//! has pointed at 127.0.0.1 (DNS rebinding). It shows in `Host`.

use std::net::IpAddr;

/// Whether `HOST` or `HOST:PORT` is a name of this machine that no DNS server decides about.
///
/// ```
/// assert!(http1::machine::is_loopback("localhost:9900") && http1::machine::is_loopback("[::1]"));
/// assert!(!http1::machine::is_loopback("localhost.example.com"));
/// ```
pub fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
        None => authority.split_once(':').map_or((authority, Some("")), |(host, port)| (host, Some(port))),
    };
    if !port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        return false;
    }
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
