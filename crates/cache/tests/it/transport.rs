//! Ways to Redis other than plain TCP.

use std::time::Duration;

use testkit::{Authority, Redis, TempDir};

use crate::{in_memory, product};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn by_a_unix_socket() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let redis = Redis::start(&["--unixsocket", &socket]).unwrap();
    let shared = || in_memory().redis(format!("redis+unix://{socket}")).redis_timeout(PATIENCE).build();
    let (a, b) = (shared().await.unwrap(), shared().await.unwrap());
    a.put(&7, product(7, "a")).await.unwrap();
    assert_eq!(b.get(&7).await.unwrap().name, "a");
    drop(redis);
}

#[tokio::test]
async fn by_tls_whose_authority_is_known() {
    let (authority, port) = (Authority::new("redis authority").unwrap(), testkit::free_port());
    let issued = authority.issue("redis", &["127.0.0.1"]).unwrap();
    let (cert, key, ca) = (issued.certificate.display(), issued.key.display(), authority.file());
    let (cert, key, ca_file) = (cert.to_string(), key.to_string(), ca.display().to_string());
    let port_text = port.to_string();
    let options = ["--tls-port", &port_text, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let all = [&options[..], &["--tls-ca-cert-file", &ca_file, "--tls-auth-clients", "no"]].concat();
    let redis = Redis::start(&all).unwrap();
    let url = format!("rediss://127.0.0.1:{port}");
    let shared = || in_memory().redis(&url).redis_timeout(PATIENCE);
    let known = std::fs::read(&ca).unwrap();
    let a = shared().redis_authority(known.clone()).build().await.unwrap();
    let b = shared().redis_authority(known).build().await.unwrap();
    assert!(a.stats().redis_is_up);
    a.put(&7, product(7, "a")).await.unwrap();
    assert_eq!(b.get(&7).await.unwrap().name, "a");
    // The system does not know it, and then nothing is sent there.
    let stranger = shared().build().await.unwrap();
    assert!(!stranger.stats().redis_is_up);
    drop(redis);
}
