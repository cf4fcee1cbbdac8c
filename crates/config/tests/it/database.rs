//! What the tables of databases come to.

use std::time::Duration;

use balance::Algorithm;
use config::{Loaded, load_str};
use pgproxy::{
    AuthMethod, BackendTls, CausalityParams, CausalityScope, DatabaseName, DatabaseParams, LeaseParams, Listen, Mode,
    NoReplica, Pid, PinPolicy, PoolParams, RoutePolicy, ServerAddress,
};
use pgroute::auth::{Method, Stored};

use super::env;

fn loaded(text: &str) -> Loaded {
    load_str(text, &env).unwrap_or_else(|found| panic!("{found}\n{text}"))
}

#[test]
fn two_lines_do() {
    let loaded =
        loaded("[database.shop]\nlisten = \"127.0.0.1:6432\"\nprimary = \"postgres://web:${ADMIN_TOKEN}@db1/shop\"\n");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let [listener] = loaded.database_listeners.as_slice() else { panic!("{:?}", loaded.database_listeners) };
    assert_eq!(listener.listen, Listen::Tcp("127.0.0.1:6432".parse().unwrap()));
    assert_eq!((listener.name.as_str(), listener.databases.as_slice()), ("shop", &["shop".to_owned()][..]));
    let [shop] = loaded.databases.as_slice() else { panic!("{:?}", loaded.databases) };
    assert_eq!(shop.primary.address, ServerAddress::Tcp { host: "db1".to_owned(), port: 5432 });
    assert_eq!((shop.primary.dbname.as_deref(), shop.primary.user.as_deref()), (Some("shop"), Some("web")));
    // Its user is a client's as well, as nobody else is named.
    let [web] = shop.users.as_slice() else { panic!("{:?}", shop.users) };
    assert_eq!(web.name, "web");
    assert_eq!(web.stored, Some(Stored::parse("0123456789abcdef-from-env")));
    // All else is as the proxy's own defaults have it.
    let mut expected = DatabaseParams::new(DatabaseName::Named("shop".to_owned()), shop.primary.clone());
    expected.users = shop.users.clone();
    assert_eq!(*shop, expected);
}

#[test]
fn the_full_file_arrives_in_the_parameters() {
    let loaded = loaded(include_str!("full.toml"));
    let listeners: Vec<_> = loaded.database_listeners.iter().map(|listener| listener.listen.to_string()).collect();
    assert_eq!(listeners, ["0.0.0.0:6432", "/run/tenfold/.s.PGSQL.6432", "127.0.0.1:6433"]);
    let listener = &loaded.database_listeners[1];
    assert_eq!((listener.name.as_str(), listener.clients_max), ("databases", 300));
    assert_eq!(listener.databases, ["shop", "*"]);
    assert_eq!((listener.login_timeout, listener.stall_timeout), (Duration::from_secs(20), Duration::from_secs(120)));
    let console = listener.console.as_ref().unwrap();
    let may: Vec<_> = console.users.iter().map(|user| (user.name.as_str(), user.is_admin)).collect();
    assert_eq!((console.method, may.as_slice()), (Method::Md5, &[("monitor", false), ("ops", true)][..]));
    assert_eq!(console.users[0].stored, Stored::parse("0123456789abcdef-from-env"));
    assert!(!listener.tls.as_ref().unwrap().required);
    assert!(loaded.gateway.listeners().iter().all(|listener| listener.name.as_str() != "databases"));
    let [shop, any] = loaded.databases.as_slice() else { panic!("{:?}", loaded.databases) };
    assert_eq!((&shop.name, &any.name), (&DatabaseName::Named("shop".to_owned()), &DatabaseName::Any));
    servers(shop, any);
    users(shop, any);
    assert_eq!((shop.mode, shop.route), (Mode::Session, RoutePolicy::Primary));
    // Eight are busy on average, and twice the root of eight come to that.
    let estimate = &loaded.estimates[0];
    assert_eq!((estimate.busy, estimate.suggested, estimate.size), (8.0, 14, 14));
    let pool = PoolParams {
        size: 14,
        min: 2,
        overflow: 5,
        overflow_idle: Duration::from_secs(20),
        reserve: 3,
        reserve_after: Duration::from_secs(2),
        acquire_timeout: Duration::from_secs(4),
        idle_timeout: None,
        lifetime: Some(Duration::from_secs(7200)),
        ping_after: Some(Duration::from_secs(60)),
    };
    assert_eq!(shop.pool, pool);
    let of_web = PoolParams { size: 40, idle_timeout: Some(Duration::from_secs(300)), ..pool };
    assert_eq!(shop.users[0].pool, Some(of_web));
    assert_eq!((shop.replica.balance, shop.replica.lag_max), (Algorithm::RoundRobin, None));
    assert_eq!(shop.replica.none, NoReplica::Error);
    let causality = CausalityParams { scope: Some(CausalityScope::Token), wait_max: Duration::from_millis(50) };
    assert_eq!((&shop.causality, any.causality.scope), (&causality, None));
    assert!(shop.failover.state.as_ref().unwrap().ends_with("shop.seen"), "{:?}", shop.failover);
    let (ttl, interval) = (Duration::from_secs(3), Duration::from_millis(500));
    let lease = LeaseParams { ttl, interval, ..LeaseParams::new("http://{host}:8008/primary".to_owned()) };
    assert_eq!(shop.failover.lease, Some(lease));
    assert_eq!((shop.prepared.bytes_max, shop.prepared.per_backend_max, shop.prepared.names_max), (8 << 20, 50, 500));
    assert_eq!((shop.limits.clients_max, shop.limits.clients_per_user_max), (400, Some(100)));
    assert_eq!((shop.limits.statement_bytes_max, shop.limits.pipeline_bytes_max), (1 << 20, 128 << 10));
    let timeouts = &shop.timeouts;
    assert_eq!((timeouts.connect, timeouts.statement), (Duration::from_secs(2), Some(Duration::from_secs(30))));
    assert_eq!((shop.listen.shared, shop.listen.notifications_max), (false, 10));
    assert_eq!((shop.pin, shop.pid), (PinPolicy::Error, Pid::Tenfold));
    assert_eq!((shop.catalogue.read, any.catalogue.read), (true, false));
    assert_eq!((shop.ignored_settings.as_slice(), shop.replication), (&["extra_float_digits".to_owned()][..], true));
}

fn servers(shop: &DatabaseParams, any: &DatabaseParams) {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let settings = [pair("work_mem", "64MB"), pair("application_name", "tenfold")];
    assert_eq!(shop.primary.settings, settings);
    assert!(matches!(shop.primary.tls, BackendTls::Require(_)));
    let [second, third] = shop.replicas.as_slice() else { panic!("{:?}", shop.replicas) };
    // What they do not say is as the primary has it.
    assert_eq!((second.server.user.as_deref(), second.server.dbname.as_deref()), (Some("app"), Some("shop")));
    assert_eq!(second.server.password, shop.primary.password);
    assert_eq!((third.server.user.as_deref(), third.server.password.is_none()), (Some("reader"), true));
    assert_eq!((third.weight, third.zone.as_deref()), (3, Some("eu-1a")));
    assert_eq!(second.server.settings, settings);
    assert_eq!(any.primary.address, ServerAddress::Unix("/run/postgresql/.s.PGSQL.5432".into()));
    assert_eq!((&any.primary.dbname, &any.primary.tls), (&None, &BackendTls::Off));
}

fn users(shop: &DatabaseParams, any: &DatabaseParams) {
    assert_eq!(shop.auth.method, AuthMethod::Password(Method::Md5));
    let query = shop.auth.query.as_ref().unwrap();
    assert_eq!((query.user.as_str(), query.dbname.as_deref()), ("asker", Some("postgres")));
    let names: Vec<_> = shop.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["web", "old \"one\"", "report"]);
    let web = &shop.users[0];
    assert_eq!(web.stored, Some(Stored::parse("0123456789abcdef-from-env")));
    assert_eq!((web.server_login.as_ref().unwrap().0.as_str(), web.mode), ("web_at_db", Some(Mode::Transaction)));
    assert_eq!(web.clients_max, Some(50));
    assert!(matches!(shop.users[1].stored, Some(Stored::Md5(_))));
    assert!(matches!(shop.users[2].stored, Some(Stored::Scram(_))));
    let [report, rest] = shop.rules.as_slice() else { panic!("{:?}", shop.rules) };
    assert_eq!((report.users.as_slice(), report.tls, report.deny), (&["report".to_owned()][..], Some(true), false));
    assert_eq!((report.clients.len(), report.mode), (2, Some(Mode::Statement)));
    assert_eq!((report.method, report.route), (Some(AuthMethod::Password(Method::Scram)), Some(RoutePolicy::Replica)));
    assert!(rest.deny && rest.users.is_empty());
    assert_eq!(any.rules[0].databases, ["one", "two"]);
    assert!(any.users.is_empty());
}

#[test]
fn tls_with_servers_is_as_their_urls_say() {
    let tls = |mode: &str| {
        let text = format!("[database.shop]\nlisten = \":6432\"\nprimary = \"postgres://web:x@db1/shop{mode}\"\n");
        loaded(&text).databases[0].primary.tls.clone()
    };
    assert_eq!(tls(""), BackendTls::Off);
    assert_eq!(tls("?sslmode=disable"), BackendTls::Off);
    assert!(matches!(tls("?sslmode=prefer"), BackendTls::Prefer(_)));
    let BackendTls::Require(require) = tls("?sslmode=require") else { panic!("no TLS") };
    assert_eq!(require.params().trust, net::tls::Trust::Anyone);
}

#[test]
fn a_listener_of_databases_is_not_the_only_one_for_routes() {
    let text = "[listener.db]\nkind = \"postgres\"\nlisten = \"127.0.0.1:6432\"\n\
                [database.shop]\nprimary = \"postgres://web:${ADMIN_TOKEN}@db1/shop\"\n\
                [listener.web]\nlisten = \":8080\"\n[[route]]\nservice = \"api\"\n\
                [service.api]\nendpoints = [\"10.0.0.1:80\"]\n";
    let loaded = loaded(text);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.gateway.routes()[0].listener.as_str(), "web");
    assert_eq!(loaded.database_listeners.len(), 1);
}

#[test]
fn passwords_of_urls_are_shown_nowhere() {
    let files = [
        "[database.shop]\nprimary = \"http://web:hunter2@db1/shop\"\n",
        "[database.shop]\nprimary = [\"postgres://web:hunter2@db1/shop\"]\n",
        "[database.shop]\nprimry = \"postgres://web:hunter2@db1/shop\"\n",
        "[database.shop]\nurl = \"postgres://web:hunter2@db1/shop\"\n",
        "[database.shop]\nprimary = \"postgres://db1\"\nreplicas = \"postgres://web:hunter2@db1/shop\"\n",
        "[database.shop]\nprimary = \"postgres://db1\"\nreplicas = [{ ur = \"postgres://web:hunter2@db1/shop\" }]\n",
        "[database.shop]\nprimary = \"postgres://web:hunter2@db1/shop\"\nreplicas = [\"postgres://web:hunter2@db1\"]\n",
        "[database]\nprimary = \"postgres://web:hunter2@db1/shop\"\n",
        "databse = { shop = { primary = \"postgres://web:hunter2@db1/shop\" } }\n",
        "[database.shop]\nprimary = \"postgres://db1\"\nuser = { web = { password = \"hunter2\", pasword = 1 } }\n",
        "[database.shop]\nprimary = \"postgres://db1\"\nuser = { web = { password = [\"hunter2\"] } }\n",
        "[database.shop]\nprimary = \"postgres://web:hunter2@db1/shop\"\nlisten = \":6432\"\n",
    ];
    for file in files {
        let (shown, effective) = match load_str(file, &env) {
            Ok(loaded) => {
                (loaded.warnings, format!("{loaded:?}", loaded = loaded.databases) + &loaded.effective.to_string())
            }
            Err(found) => (found, String::new()),
        };
        for shown in [shown.to_string(), shown.to_json().to_string(), format!("{shown:?}"), effective] {
            assert!(!shown.contains("hunter2"), "{file}\n{shown}");
        }
    }
}
