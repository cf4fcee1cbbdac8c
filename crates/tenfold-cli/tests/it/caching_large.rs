//! Large bodies in the memory of the edge cache, which are sent without a copy: to who reads at once, and to who reads late.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use testkit::{RawUpstream, Script};

use crate::caching::{asked, config, told};
use crate::caching_disk::{FRESH, body, large};
use crate::site::{get, start};

/// Asks so many times for a path at once, and reads nothing for a while: all that came, up to the end of the connection.
fn read_late(address: SocketAddr, path: &str, times: usize) -> Vec<u8> {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for turn in 1..=times {
        let ends = if turn == times { "Connection: close\r\n" } else { "" };
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n{ends}\r\n").as_bytes()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut came = Vec::new();
    client.read_to_end(&mut came).unwrap();
    came
}

/// The bodies of answers, each of so many bytes behind its head.
fn bodies(mut came: &[u8], bytes: usize) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while !came.is_empty() {
        assert!(came.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&came[..came.len().min(200)]));
        let head = came.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head") + 4;
        let (body, rest) = came[head..].split_at(bytes);
        bodies.push(body);
        came = rest;
    }
    bodies
}

/// On a listener of one address of this machine the head goes along with the body, and on one of all addresses by itself.
#[test]
fn what_is_sent_without_a_copy_arrives_however_late_it_is_read() {
    // Whole chunks, parts of one, and more than stands side by side or fits a pipe.
    for (listen, length) in
        [("127.0.0.1", 100 * 1024), ("127.0.0.1", 700_001), ("0.0.0.0", 100 * 1024), ("0.0.0.0", 700_001)]
    {
        let upstream = RawUpstream::start(Script::answer(large(length, FRESH))).unwrap();
        let listener = "[listener.web]\nlisten = \"";
        let text = config(upstream.address(), "object_bytes_max = \"2MiB\"");
        let site = start(&text.replace(&format!("{listener}127.0.0.1"), &format!("{listener}{listen}")));
        let address = SocketAddr::from(([127, 0, 0, 1], site.address().port()));
        let whole = body(length);
        assert!(bodies(&read_late(address, "/", 1), length) == [&whole[..]], "the first is a copy");
        let times = 8_000_000 / length;
        let came = read_late(address, "/", times);
        let came = bodies(&came, length);
        assert!(came.len() == times && came.iter().all(|body| body == &whole), "{listen}, {length} bytes");
        // A range begins in the midst of a page.
        let part = get(&site, "/", "Range: bytes=5000-99999\r\n");
        assert!(told(&part).starts_with("tenfold;hit") && part.body == whole[5_000..100_000], "{part:?}");
        assert_eq!(asked(&upstream), 1);
    }
}
