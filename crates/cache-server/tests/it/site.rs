use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use cache_server::{CacheParams, Caches, CachesView};
use testkit::{Reply, RespClient, free_port};
use tokio::runtime::{Builder, LocalOptions, Runtime};

/// Caches that run on two cores of their own.
pub(crate) struct Site {
    caches: Option<Caches>,
    pub(crate) view: CachesView,
    cores: Vec<JoinHandle<()>>,
    runtime: Runtime,
}

/// A cache called `main` that listens as Redis does.
pub(crate) fn params() -> CacheParams {
    CacheParams {
        name: "main".parse().expect("a name"),
        listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))),
        http: None,
        memory_bytes: 16 << 20,
        ttl: None,
        value_bytes_max: 1 << 20,
        connections_max: 100,
        password: None,
        idle_timeout: None,
        stall_timeout: Duration::from_secs(20),
    }
}

impl Site {
    pub(crate) fn start(caches: &[CacheParams]) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (made, parts) = Caches::new(2);
        let view = made.view();
        let cores = parts.into_iter().map(|part| {
            std::thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                runtime.expect("a runtime").block_on(part.run());
            })
        });
        let mut site = Self { caches: Some(made), view, cores: cores.collect(), runtime };
        site.apply(caches);
        site
    }

    /// Applies another configuration.
    pub(crate) fn apply(&mut self, caches: &[CacheParams]) {
        let Some(all) = &mut self.caches else { return };
        let prepared = all.prepare(caches, &mut Default::default()).expect("free addresses");
        self.runtime.block_on(all.commit(prepared));
    }

    /// Stops: how many connections were cut.
    pub(crate) fn stop(&mut self, timeout: Duration) -> usize {
        let cut = self.caches.take().map(|caches| self.runtime.block_on(caches.stop(timeout)));
        for core in self.cores.drain(..) {
            core.join().expect("a core that did not panic");
        }
        cut.unwrap_or_default()
    }

    /// A number of what the cache shows of itself.
    pub(crate) fn shown(&self, key: &str) -> u64 {
        self.view.named("main").expect("the cache").shown()[key].as_u64().expect("a number")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// A connection to a cache.
pub(crate) fn client(params: &CacheParams) -> RespClient {
    RespClient::connect(params.listen.expect("it listens")).expect("a connection")
}

/// Asks in words, and reads the answer.
pub(crate) fn ask(client: &mut RespClient, words: &str) -> Reply {
    let words: Vec<&str> = words.split(' ').collect();
    client.command(&words).expect("an answer")
}

pub(crate) fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

pub(crate) fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}
