//! Leases from a real Redis, and what becomes of asks when it is killed, hangs, forgets or refuses.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use limit::Rate;
use limit::lease::store::{LeaseQuota, Request};
use limit_redis::{Store, StoreError, StoreParams};
use net::tls::{Authorities, ClientTls, ClientTlsParams, HTTP11, MinVersion, ServerName, Trust};
use testkit::{Authority, Redis, free_port};
use tokio::sync::Notify;
use vocab::Secret;

const TIMEOUT: Duration = Duration::from_millis(500);

/// What a store has reported, and a way to wait for more.
#[derive(Clone, Default)]
struct Reports(Rc<Heard>);

#[derive(Default)]
struct Heard {
    reports: RefCell<Vec<Result<(), String>>>,
    more: Notify,
}

impl Reports {
    fn open(&self, params: StoreParams) -> Store {
        let heard = Rc::clone(&self.0);
        Store::open(params, move |report| {
            heard.reports.borrow_mut().push(report.map_err(str::to_owned));
            heard.more.notify_one();
        })
    }

    /// Waits for the report of this number, and gives it.
    async fn wait(&self, number: usize) -> Result<(), String> {
        let found = async {
            loop {
                if let Some(report) = self.0.reports.borrow().get(number - 1).cloned() {
                    return report;
                }
                self.0.more.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("a report")
    }

    fn count(&self) -> usize {
        self.0.reports.borrow().len()
    }
}

fn params(redis: &Redis) -> StoreParams {
    let address = redis.address();
    StoreParams {
        host: address.ip().to_string(),
        port: address.port(),
        database: 0,
        user: None,
        password: None,
        tls: None,
        timeout: TIMEOUT,
    }
}

fn quota() -> LeaseQuota {
    LeaseQuota::new(Rate { amount: 1, per: Duration::from_secs(86_400) }, 100).unwrap()
}

async fn take(store: &Store, key: &str, want: u64) -> Result<u64, StoreError> {
    let ask = Request { want, least: 1, instance: 7, ..Request::default() };
    store.lease(key, &quota(), &ask).await.map(|grant| grant.tokens)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn leases_come_from_one_bucket_and_go_back_to_it() {
    let redis = Redis::start(&[]).unwrap();
    run(async {
        let (one, two) = (Reports::default().open(params(&redis)), Reports::default().open(params(&redis)));
        // The first ask waits for the connection.
        let ask = Request { want: 60, least: 1, instance: 1, ..Request::default() };
        let first = one.lease("tenfold:limit:a", &quota(), &ask).await.unwrap();
        assert_eq!(first.tokens, 60);
        assert_eq!(take(&two, "tenfold:limit:a", 60).await.unwrap(), 40);
        assert_eq!(take(&one, "tenfold:limit:a", 1).await.unwrap(), 0);
        assert_eq!(take(&one, "tenfold:limit:b", 100).await.unwrap(), 100);
        let back = Request { returned: 25, returned_stamp: first.stamp, instance: 1, ..Request::default() };
        assert_eq!(one.lease("tenfold:limit:a", &quota(), &back).await.unwrap().tokens, 0);
        assert_eq!(take(&two, "tenfold:limit:a", 100).await.unwrap(), 25);
    });
}

#[test]
fn a_store_that_forgot_the_script_is_told_again() {
    let redis = Redis::start(&[]).unwrap();
    run(async {
        let store = Reports::default().open(params(&redis));
        assert_eq!(take(&store, "a", 10).await.unwrap(), 10);
        assert_eq!(redis.command(&["SCRIPT", "FLUSH"]).unwrap(), ["OK"]);
        assert_eq!(take(&store, "a", 100).await.unwrap(), 90);
        assert_eq!(take(&store, "b", 100).await.unwrap(), 100);
    });
}

#[test]
fn a_killed_store_is_lost_at_once_and_heals_when_it_is_back() {
    let mut redis = Redis::start(&[]).unwrap();
    run(async {
        let reports = Reports::default();
        let store = reports.open(params(&redis));
        assert_eq!(take(&store, "a", 100).await.unwrap(), 100);
        reports.wait(1).await.unwrap();
        redis.kill();
        assert!(!reports.wait(2).await.unwrap_err().is_empty());
        assert!(store.is_lost());
        let begun = Instant::now();
        for _ in 0..100 {
            assert!(matches!(take(&store, "a", 1).await, Err(StoreError::Lost)));
        }
        assert!(begun.elapsed() < TIMEOUT, "nobody waits for what is known to be lost: {:?}", begun.elapsed());
        redis.restart().unwrap();
        reports.wait(3).await.unwrap();
        assert_eq!(take(&store, "a", 100).await.unwrap(), 100);
        assert_eq!(reports.count(), 3, "tries in between are not reported");
    });
}

#[test]
fn a_store_that_hangs_costs_one_time_and_no_more() {
    let mut redis = Redis::start(&[]).unwrap();
    run(async {
        let reports = Reports::default();
        let store = Rc::new(reports.open(params(&redis)));
        assert_eq!(take(&store, "a", 1).await.unwrap(), 1);
        redis.hang().unwrap();
        let begun = Instant::now();
        let asks: Vec<_> = (0..50)
            .map(|number| {
                let store = Rc::clone(&store);
                tokio::task::spawn_local(async move { take(&store, &format!("key-{number}"), 1).await })
            })
            .collect();
        for ask in asks {
            ask.await.unwrap().unwrap_err();
        }
        assert!(begun.elapsed() >= TIMEOUT && begun.elapsed() < 20 * TIMEOUT, "{:?}", begun.elapsed());
        assert!(store.is_lost());
        let begun = Instant::now();
        take(&store, "a", 1).await.unwrap_err();
        assert!(begun.elapsed() < TIMEOUT);
        reports.wait(2).await.unwrap_err();
        redis.go_on().unwrap();
        reports.wait(3).await.unwrap();
        assert_eq!(take(&store, "a", 1).await.unwrap(), 1);
    });
}

#[test]
fn who_may_not_use_it_hears_why_and_gets_nothing() {
    // The rights that the documentation names.
    let rights = "+@connection +script|load +eval +evalsha +time +hgetall +hset +hdel +pexpire";
    let mut options =
        vec!["--requirepass", "right-password", "--user", "shop", "on", ">shop-password", "~tenfold:limit:*"];
    options.extend(rights.split(' '));
    let redis = Redis::start(&options).unwrap();
    let with = |user: Option<&str>, password: Option<&str>| StoreParams {
        user: user.map(str::to_owned),
        password: password.map(Secret::new),
        ..params(&redis)
    };
    run(async {
        let wrong = [(None, None), (None, Some("wrong-password")), (Some("shop"), Some("right-password"))];
        for (user, password) in wrong {
            let reports = Reports::default();
            let store = reports.open(with(user, password));
            let why = reports.wait(1).await.unwrap_err();
            assert!(why.contains("NOAUTH") || why.contains("refuses the user or the password"), "{why}");
            assert!(!why.contains("-password"), "{why}");
            assert!(matches!(take(&store, "tenfold:limit:a", 1).await, Err(StoreError::Lost)));
        }
        let right = [(None, Some("right-password")), (Some("shop"), Some("shop-password"))];
        for (user, password) in right {
            let store = Reports::default().open(with(user, password));
            assert_eq!(take(&store, "tenfold:limit:a", 1).await.unwrap(), 1, "{user:?}");
        }
    });
}

#[test]
fn a_key_that_is_somebody_elses_harms_no_other() {
    let redis = Redis::start(&[]).unwrap();
    run(async {
        let reports = Reports::default();
        let store = reports.open(StoreParams { database: 3, ..params(&redis) });
        assert_eq!(take(&store, "mine", 1).await.unwrap(), 1);
        // The command goes to the database 0, where the buckets are not.
        assert_eq!(redis.command(&["DBSIZE"]).unwrap(), ["0"]);
        assert_eq!(redis.command(&["SET", "other", "1"]).unwrap(), ["OK"]);
        assert_eq!(redis.command(&["MOVE", "other", "3"]).unwrap(), ["1"]);
        take(&store, "other", 1).await.unwrap_err();
        assert_eq!(take(&store, "mine", 1).await.unwrap(), 1);
        assert_eq!(reports.count(), 1);
    });
}

#[test]
fn a_store_under_tls_is_verified() {
    let authority = Authority::new("Redis authority").unwrap();
    let issued = authority.issue("redis", &["redis.example.com"]).unwrap();
    let (certificate, key, port) =
        (issued.certificate.display().to_string(), issued.key.display().to_string(), free_port());
    let (ca, port_text) = (authority.file().display().to_string(), port.to_string());
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let redis = Redis::start(&[&["--tls-auth-clients", "no", "--tls-port", &port_text], &files[..]].concat()).unwrap();
    let with = |trust: Trust, name: &'static str| {
        let (server_name, certificate, min_version) = (None, None, MinVersion::Tls12);
        let tls = ClientTls::new(ClientTlsParams { trust, server_name, certificate, min_version, protocol: HTTP11 });
        let tls = Some((tls.unwrap(), ServerName::try_from(name).unwrap()));
        StoreParams { port, tls, timeout: Duration::from_secs(2), ..params(&redis) }
    };
    let trusted = || Trust::Authorities(Authorities::load(&authority.file()).unwrap());
    let other = Authority::new("another").unwrap();
    let untrusted = Trust::Authorities(Authorities::load(&other.file()).unwrap());
    run(async {
        let store = Reports::default().open(with(trusted(), "redis.example.com"));
        assert_eq!(take(&store, "a", 100).await.unwrap(), 100);
        for wrong in [with(trusted(), "other.example.com"), with(untrusted, "redis.example.com")] {
            let reports = Reports::default();
            let _store = reports.open(wrong);
            let why = reports.wait(1).await.unwrap_err();
            assert!(why.contains("certificate"), "{why}");
        }
    });
}

#[test]
fn a_replica_that_may_not_be_written_to_is_no_store() {
    let main = Redis::start(&[]).unwrap();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &main.address().port().to_string()]).unwrap();
    run(async {
        let reports = Reports::default();
        let store = reports.open(params(&replica));
        let why = reports.wait(1).await.unwrap_err();
        assert!(store.is_lost() && !why.is_empty(), "{why}");
    });
}
