//! Connections that wait to be accepted when their listener goes. One thread runs the core and the test, so that nothing is accepted
//! while the test does not wait.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cache_server::{CacheHandle, CacheParams, Caches};
use testkit::{Reply, RespClient, free_port};
use tokio::runtime::{Builder, LocalOptions};

use crate::site::{client, ok, params};

const WAITING: usize = 5;

fn on_one_core(test: impl AsyncFnOnce(Caches)) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(async {
        let (caches, parts) = Caches::new(1);
        for part in parts {
            tokio::task::spawn_local(part.run());
        }
        test(caches).await;
    });
}

/// Applies a configuration, and has the core come to rest.
async fn apply(caches: &mut Caches, params: &[CacheParams]) {
    let prepared = caches.prepare(params, &mut Default::default()).expect("free addresses");
    caches.commit(prepared).await;
    rest().await;
}

async fn rest() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn connections(cache: &CacheHandle) -> u64 {
    cache.shown()["connections"].as_u64().expect("a number")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} for too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn those_of_a_cache_that_goes_end_soon() {
    on_one_core(async |mut caches| {
        let first = params();
        let mut second = params();
        second.name = "second".parse().expect("a name");
        apply(&mut caches, &[first.clone(), second.clone()]).await;
        let gone = caches.view().named("second").expect("the cache");
        let clients: Vec<RespClient> = (0..WAITING).map(|_| client(&second)).collect();
        apply(&mut caches, std::slice::from_ref(&first)).await;
        assert_eq!(connections(&gone), WAITING as u64, "they are not reset");
        until("they stay", || connections(&gone) == 0).await;
        drop(clients);
        caches.stop(Duration::ZERO).await;
    });
}

#[test]
fn those_of_an_address_that_changes_hands_are_the_new_ones() {
    on_one_core(async |mut caches| {
        let (mut first, mut second) = (params(), params());
        second.name = "second".parse().expect("a name");
        apply(&mut caches, &[first.clone(), second.clone()]).await;
        let handles = ["main", "second"].map(|name| caches.view().named(name).expect("the cache"));
        let mut clients: Vec<RespClient> = (0..WAITING).map(|_| client(&second)).collect();
        // They swap, and who has connected to the second's address asks the first from now on.
        std::mem::swap(&mut first.listen, &mut second.listen);
        apply(&mut caches, &[first.clone(), second.clone()]).await;
        assert_eq!(handles.each_ref().map(connections), [WAITING as u64, 0]);
        let asked = tokio::task::spawn_blocking(move || {
            let told = clients.iter_mut().map(|client| client.command(&["SET", "k", "v"]).expect("an answer"));
            assert!(told.collect::<Vec<_>>().iter().all(|told| *told == ok()));
            // They are not ended either.
            std::thread::sleep(Duration::from_millis(1500));
            let told = clients.iter_mut().map(|client| client.command(&["GET", "k"]).expect("an answer"));
            assert!(told.collect::<Vec<_>>().iter().all(|told| matches!(told, Reply::Bulk(_))));
        });
        asked.await.expect("clients that are served");
        assert!(handles[0].get(b"k").is_some() && handles[1].get(b"k").is_none());
        caches.stop(Duration::ZERO).await;
    });
}

#[test]
fn those_of_a_process_that_is_followed_are_left_to_the_next() {
    on_one_core(async |mut caches| {
        let mut params = params();
        params.http = Some(([127, 0, 0, 1], free_port()).into());
        apply(&mut caches, std::slice::from_ref(&params)).await;
        let handles = caches.handles().expect("handles");
        let before = client(&params);
        rest().await;
        let view = caches.view().named("main").expect("the cache");
        assert_eq!(connections(&view), 1);
        let clients: Vec<RespClient> = (0..WAITING).map(|_| client(&params)).collect();
        caches.hand_over(Duration::from_secs(20)).await;
        let (_, socket) = handles.into_iter().find(|(address, _)| Some(*address) == params.listen).expect("a handle");
        let next = TcpListener::from(socket);
        next.set_nonblocking(true).expect("a socket");
        assert_eq!(std::iter::from_fn(|| next.accept().ok()).count(), WAITING);
        drop((before, clients));
    });
}
