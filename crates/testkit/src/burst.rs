use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::open_loop;

/// Time for the last answer of a burst.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connections on which requests begin at the same moment, as when what many ask for has just gone from a cache.
#[derive(Debug)]
pub struct Burst {
    runtime: Runtime,
    sockets: Vec<TcpStream>,
}

impl Burst {
    /// Opens so many connections.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(address: SocketAddr, count: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sockets = runtime.block_on(async {
            let mut sockets = Vec::with_capacity(count);
            for _ in 0..count {
                let socket = TcpStream::connect(address).await.context("connect")?;
                socket.set_nodelay(true)?;
                sockets.push(socket);
            }
            Ok::<_, anyhow::Error>(sockets)
        })?;
        Ok(Self { runtime, sockets })
    }

    /// Asks for a path on every connection at once, and waits for all answers: the times from the beginning of it all to
    /// the end of each answer, the shortest first. The connections stay.
    ///
    /// # Errors
    /// When an answer is none, is not 200, ends its connection, or is not there in 30 s.
    pub fn ask(&mut self, path: &str) -> Result<Vec<Duration>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
        let sockets = std::mem::take(&mut self.sockets);
        let asked = LocalSet::new().block_on(&self.runtime, async move {
            let begun = Instant::now();
            let mut tasks = Vec::with_capacity(sockets.len());
            for mut socket in sockets {
                let request = request.clone();
                tasks.push(tokio::task::spawn_local(async move {
                    socket.write_all(request.as_bytes()).await.context("send")?;
                    let answer = tokio::time::timeout(TIMEOUT, open_loop::read(&mut socket)).await;
                    let answer = answer.context("no answer in time")??;
                    ensure!(answer.status == 200, "status {}", answer.status);
                    ensure!(answer.keeps, "an answer ended its connection");
                    Ok((socket, begun.elapsed()))
                }));
            }
            let mut kept = Vec::with_capacity(tasks.len());
            for task in tasks {
                kept.push(task.await.context("a task panicked")??);
            }
            Ok::<_, anyhow::Error>(kept)
        })?;
        let (sockets, mut times): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        self.sockets = sockets;
        times.sort_unstable();
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheOrigin;

    #[test]
    fn all_ask_at_once_and_again() {
        let origin = CacheOrigin::start().unwrap();
        let mut burst = Burst::open(origin.address(), 50).unwrap();
        for round in 1..=2 {
            let times = burst.ask("/16/100/60/plain/a").unwrap();
            assert_eq!((times.len(), origin.requests()), (50, 50 * round));
            // One after the other they would take five seconds.
            assert!(times[0] >= Duration::from_millis(100) && times[49] < Duration::from_secs(4), "{times:?}");
            assert!(times.is_sorted());
        }
        let error = burst.ask("/").unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
    }
}
