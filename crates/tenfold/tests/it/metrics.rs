//! What is used is shown, each in its own rows.

use std::io;
use std::time::Duration;

use tenfold::cache::Cache;
use tenfold::metrics::{FAMILIES, Metrics};
use tenfold::resilience::{
    Breaker, BreakerParams, Bulkhead, BulkheadParams, Limiter, Quota, Rate, Retry, RetryParams, Shedder, ShedderParams,
};

#[tokio::test]
async fn a_cache_shows_its_tiers_and_loads() {
    let cache = Cache::<u64, String>::builder("product").memory_entries(1).build().await.unwrap();
    let load = async || {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok::<_, io::Error>("a".to_owned())
    };
    for key in [1, 1, 2] {
        cache.get_or_load(&key, load).await.unwrap();
    }
    assert!(cache.get_or_load(&3, async || Err(io::Error::other("no"))).await.is_err());
    let metrics = Metrics::default();
    metrics.watch(&cache);
    let page = metrics.page(None).text;
    for row in [
        "# TYPE app_cache_lookups_total counter",
        "app_cache_lookups_total{cache=\"product\",tier=\"memory\"} 1",
        "app_cache_lookups_total{cache=\"product\",tier=\"none\"} 3",
        "app_cache_loads_total{cache=\"product\",result=\"loaded\"} 2",
        "app_cache_loads_total{cache=\"product\",result=\"failed\"} 1",
        "app_cache_load_duration_seconds_bucket{le=\"+Inf\",cache=\"product\"} 3",
        "app_cache_load_duration_seconds_count{cache=\"product\"} 3",
        "app_cache_evictions_total{cache=\"product\"} 1",
        "app_cache_entries{cache=\"product\"} 1",
    ] {
        assert!(page.lines().any(|line| line.starts_with(row)), "{row} is not in\n{page}");
    }
    let open = metrics.page(Some("application/openmetrics-text")).text;
    assert!(open.ends_with("# EOF\n") && !page.contains("# EOF"));
}

#[test]
fn pieces_show_their_names() {
    let metrics = Metrics::default();
    metrics.watch(&Breaker::new("b", BreakerParams::default()));
    metrics.watch(&Bulkhead::new("h", BulkheadParams::default()));
    metrics.watch(&Limiter::new("l", Quota::gcra(Rate::per_sec(1), 1).unwrap()));
    metrics.watch(&Shedder::new("s", ShedderParams::default()));
    metrics.watch(&Retry::new("r", RetryParams::default()));
    let page = metrics.clone().page(None).text;
    for row in [
        "app_breaker_open{breaker=\"b\"} 0",
        "app_bulkhead_in_flight{bulkhead=\"h\"} 0",
        "app_limiter_refused_total{limiter=\"l\"} 0",
        "app_shedder_in_flight{shedder=\"s\"} 0",
        "app_retries_total{retry=\"r\"} 0",
    ] {
        assert!(page.lines().any(|line| line.starts_with(row)), "{row} is not in\n{page}");
    }
}

#[test]
fn the_page_of_the_library_has_every_family() {
    let page = include_str!("../../../../docs/library.md");
    for family in FAMILIES {
        let row = format!("| `{}` |", family.name());
        let has_it =
            page.lines().any(|line| line.starts_with(&row) && line.ends_with(&format!("| {} |", family.help())));
        assert!(has_it, "{row} … {}", family.help());
    }
}
