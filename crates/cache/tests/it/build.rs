//! Every mistake is found when a cache is built, and names its field.

use std::time::Duration;

use cache::{Builder, Coherence};

use crate::{Product, in_memory};

#[tokio::test]
async fn every_mistake_names_its_field() {
    async fn check(builder: Builder<u64, Product>, expected: &str) {
        let error = builder.build().await.expect_err(expected);
        assert_eq!(error.to_string(), format!("cache product: {expected}"));
    }
    let zero = Duration::ZERO;
    check(in_memory().ttl(zero), "ttl: 0ns is not between 1 ms and 366 days").await;
    check(in_memory().ttl(Duration::MAX), &format!("ttl: {:?} is not between 1 ms and 366 days", Duration::MAX)).await;
    check(in_memory().negative_ttl(zero), "negative_ttl: 0ns is not between 1 ms and 366 days").await;
    check(in_memory().lease(zero), "lease: 0ns is not between 1 ms and 366 days").await;
    check(in_memory().redis_timeout(zero), "redis_timeout: 0ns is not between 1 ms and 366 days").await;
    check(in_memory().jitter(1.5), "jitter: 1.5 is not between 0 and 0.9").await;
    check(in_memory().jitter(f64::NAN), "jitter: NaN is not between 0 and 0.9").await;
    check(in_memory().jitter(-0.1), "jitter: -0.1 is not between 0 and 0.9").await;
    check(in_memory().memory(0), "memory: 0 keeps nothing").await;
    check(in_memory().memory_entries(0), "memory_entries: 0 keeps nothing").await;
    check(in_memory().bulkhead(0, zero), "bulkhead: 0 loads at once are not possible").await;
    check(in_memory().value_bytes_max(0), "value_bytes_max: between 1 byte and 512 MiB are allowed").await;
    check(in_memory().stale_on_error(Duration::MAX), "stale_on_error: it is longer than 366 days").await;
    let bound = Coherence::BoundedStale(Duration::from_secs(10));
    let why = "coherence: values may become 60s old by ttl and stale_on_error, and not 10s";
    check(in_memory().coherence(bound), why).await;
    let leased = in_memory().redis("redis://127.0.0.1:1").coherence(Coherence::leased());
    let sink = crate::write_behind::Database::default();
    let journal = cache::behind::BehindParams::new("/nowhere/journal");
    let why =
        "write_behind: other instances read the database before it has the value, which leased forbids: write through";
    check(leased.write_behind(journal, sink), why).await;
    let scheme = "redis: the scheme memcached:// is unknown: redis://, rediss:// or redis+unix://";
    check(in_memory().redis("memcached://127.0.0.1"), scheme).await;
    check(in_memory().redis("localhost"), "redis: it has no scheme, such as redis://host:6379/0").await;
    let loader = |id| async move { Ok::<_, std::io::Error>(Some(crate::product(id, "a"))) };
    let second = Duration::from_secs(1);
    check(in_memory().refresh_hot(10, second), "refresh_hot: it needs a loader and memory").await;
    let keys = "refresh_hot: between 1 key and 10000 are allowed";
    check(in_memory().loader(loader).refresh_hot(0, second), keys).await;
    check(in_memory().loader(loader).refresh_hot(1, zero), "refresh_hot: 0ns is not between 1 ms and 366 days").await;
    let channel = "invalidate_on: the scheme kafka:// is unknown: redis://, rediss:// or redis+unix://";
    check(in_memory().invalidate_on("kafka://127.0.0.1", "changes", |_| Vec::new()), channel).await;
    for prefix in ["", "{", "{tenfold:product}:v:"] {
        let own = format!("invalidate_tracked: the prefix {prefix:?} is of the records of caches");
        check(in_memory().invalidate_tracked("redis://127.0.0.1", prefix, |_| Vec::new()), &own).await;
    }
    let tracked = "invalidate_tracked: the scheme kafka:// is unknown: redis://, rediss:// or redis+unix://";
    check(in_memory().invalidate_tracked("kafka://127.0.0.1", "product:", |_| Vec::new()), tracked).await;
    let authority = "redis_authority: an authority is for rediss:// alone, and no URL is that";
    check(in_memory().redis("redis://127.0.0.1").redis_authority("pem"), authority).await;
    let none: Builder<u64, Product> = cache::Cache::builder("product");
    check(none, "memory: there is neither memory nor redis").await;
}

#[tokio::test]
async fn a_name_is_plain() {
    for name in ["", "a b", "{a}", &"x".repeat(65)] {
        let builder: Builder<u64, Product> = cache::Cache::builder(name).memory(cache::MIB);
        assert_eq!(builder.build().await.unwrap_err().field, "name", "{name}");
    }
    let builder: Builder<u64, Product> = cache::Cache::builder("shop.product-v2").memory(cache::MIB);
    assert!(builder.build().await.is_ok());
}

#[test]
fn a_password_is_not_shown() {
    let builder = in_memory().redis("redis://shop:hunter2@127.0.0.1");
    assert!(!format!("{builder:?}").contains("hunter2"));
}
