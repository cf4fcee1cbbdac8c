//! Sending a file without copying it through this process.

use std::fs::File;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Sends at most `limit` bytes of a file from a place on: how many, 0 when the file ends there. What is not in memory is
/// waited for, so whoever may not wait looks before.
///
/// # Errors
/// What the socket or the file reports; `InvalidInput` where the file system cannot do it.
pub fn poll_send_file(
    sink: &TcpStream,
    file: &File,
    offset: u64,
    limit: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(sink.poll_write_ready(cx))?;
        let mut at = offset;
        let sent = sink.try_io(Interest::WRITABLE, || Ok(rustix::fs::sendfile(sink, file, Some(&mut at), limit)?));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_part_of_a_file_arrives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut reader, _) = listener.accept().await.unwrap();
        let path = std::env::temp_dir().join(format!("tenfold-sendfile-{}", std::process::id()));
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let expected = content[100..2_900_000].to_vec();
        let read = tokio::spawn(async move {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut at = 100;
        while at < 2_900_000 {
            let limit = (2_900_000 - at).min(200_000);
            let sent = poll_fn(|cx| poll_send_file(&sink, &file, at as u64, limit, cx)).await.unwrap();
            assert!(sent > 0 && sent <= limit);
            at += sent;
        }
        // Beyond its end there is nothing.
        assert_eq!(poll_fn(|cx| poll_send_file(&sink, &file, 3_000_000, 10, cx)).await.unwrap(), 0);
        drop(sink);
        assert!(read.await.unwrap() == expected);
    }
}
