//! What valid files come to.

use std::time::Duration;

use balance::Algorithm;
use balance::health::{OutlierParams, PassiveParams};
use config::{Loaded, load_str};
use gateway::params::{
    CheckKind, Coding, Effort, FilePath, HashKey, Host, HostMatch, ListenerKind, MediaRange, PathChange, PathMatch,
    RetryOn, RouteTarget, Scheme, StreamRouteParams, ValueMatch, ValueSource, WhenEmpty,
};
use telemetry::trace::{Follow, Sampling};
use telemetry::{AccessLogFormat, AccessLogTarget, LogFormat, LogLevel};

use super::env;

const FULL: &str = include_str!("full.toml");

const MINIMAL: &str = r#"
[listener.web]
listen = ":8080"
[[route]]
service = "api"
[service.api]
endpoints = ["10.0.0.1:8080"]
"#;

fn loaded(text: &str) -> Loaded {
    load_str(text, &env).unwrap_or_else(|found| panic!("{found}\n{text}"))
}

/// Whether a JSON value names a table's key anywhere.
fn keys(value: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
    for (key, value) in value["properties"].as_object().into_iter().flatten() {
        into.insert(key.clone());
        keys(value, into);
    }
    for definition in value["$defs"].as_object().into_iter().flat_map(|map| map.values()) {
        keys(definition, into);
    }
}

#[test]
fn the_full_file_uses_every_key() {
    let mut all = std::collections::BTreeSet::new();
    keys(&config::schema(), &mut all);
    assert!(all.len() > 50, "{all:?}");
    for key in all.iter().filter(|key| !matches!(key.as_str(), "cookie" | "token_file" | "endpoints_file")) {
        let named = FULL.contains(&format!("{key} ="))
            || FULL.contains(&format!("[{key}"))
            || FULL.contains(&format!(".{key}]"));
        assert!(named, "full.toml lacks {key}");
    }
}

#[test]
fn minimal_file_has_safe_defaults() {
    let loaded = loaded(MINIMAL);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.log, telemetry::LogParams::default());
    assert_eq!((loaded.trace, loaded.buckets), (None, telemetry::LatencyBuckets::default()));
    let admin = loaded.admin.unwrap();
    assert_eq!((admin.listen().to_string().as_str(), admin.token().is_none()), ("127.0.0.1:9900", true));
    assert!(loaded.named.is_empty());
    let gateway = loaded.gateway;
    assert_eq!(gateway.workers(), std::thread::available_parallelism().unwrap());
    let listener = &gateway.listeners()[0];
    assert_eq!(listener.addresses, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!((listener.connections_max.get(), listener.body_bytes_max), (20_000, Some(1 << 30)));
    assert_eq!((listener.head_bytes_max.get(), listener.head_fields_max.get()), (32 << 10, 100));
    let route = &gateway.routes()[0];
    assert_eq!((route.name.as_str(), route.listener.as_str()), ("api", "web"));
    assert_eq!((&route.host, &route.path, route.timeout), (&HostMatch::Any, &PathMatch::Prefix("/".to_owned()), None));
    let service = &gateway.services()[0];
    assert_eq!((service.balance, &service.hash_key), (Algorithm::LeastConnections, &HashKey::ClientIp));
    assert_eq!(service.health.passive, Some(PassiveParams { max_fails: 1, fail_timeout: Duration::from_secs(10) }));
    assert_eq!((service.health.outlier, service.health.panic_threshold), (None, 0.0));
    assert_eq!((&service.check, service.health.active), (&None, None));
    let retry = service.retry.as_ref().unwrap();
    assert_eq!(retry.on, RetryOn { error: true, timeout: true, invalid_header: false, statuses: vec![] });
    assert_eq!((retry.retries_max, retry.budget.share, retry.budget.floor_per_sec), (2, 0.2, 10));
    assert_eq!(service.pool, gateway::params::PoolParams::default());
    assert!(service.keep_host);
}

#[test]
fn the_full_file_arrives_in_the_parameters() {
    let loaded = loaded(FULL);
    assert_eq!((loaded.log.format, loaded.log.level), (LogFormat::Json, LogLevel::Debug));
    let access = &loaded.log.access;
    assert_eq!(access.target, AccessLogTarget::File("./access.log".into()));
    assert_eq!(access.format, AccessLogFormat::Combined);
    let buckets = [5, 300, 2_000].map(Duration::from_millis);
    assert_eq!(loaded.buckets, telemetry::LatencyBuckets::new(buckets).unwrap());
    assert_eq!(loaded.admin.unwrap().token().unwrap().expose(), "0123456789abcdef-from-env");
    let trace = loaded.trace.unwrap();
    assert_eq!(trace.endpoint.to_string(), "http://collector.example.com:4318/otlp/v1/traces");
    let sampling = Sampling { ratio: 0.25, follow: Follow::Trusted, client_address: false };
    assert_eq!((trace.sampling, trace.timeout), (sampling, Duration::from_secs(2)));
    let headers: Vec<_> = trace.headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect();
    assert_eq!(headers, [("Authorization", "Bearer 0123456789abcdef-from-env"), ("X-Tenant", "7")]);
    let cache = &loaded.caches[0];
    assert_eq!((cache.name.as_str(), cache.connections_max), ("sessions", 500));
    assert_eq!(
        (cache.listen, cache.http),
        (Some("0.0.0.0:6380".parse().unwrap()), Some("127.0.0.1:6381".parse().unwrap()))
    );
    assert_eq!((cache.memory_bytes, cache.value_bytes_max), (256 << 20, 2 << 20));
    assert_eq!((cache.ttl, cache.idle_timeout), (Some(Duration::from_mins(20)), Some(Duration::from_mins(10))));
    assert_eq!(cache.password.as_ref().unwrap().expose(), "0123456789abcdef-from-env");
    assert_eq!(cache.stall_timeout, Duration::from_secs(15));
    let gateway = loaded.gateway;
    assert_eq!((gateway.workers().get(), gateway.drain_timeout()), (3, Duration::from_secs(60)));
    let upgrade = loaded.upgrade;
    assert_eq!((upgrade.ready_timeout, upgrade.drain_timeout), (Duration::from_secs(45), Duration::from_secs(7200)));
    let web = &gateway.listeners()[0];
    assert_eq!(web.addresses, ["0.0.0.0:8080".parse().unwrap(), "[::]:8080".parse().unwrap()]);
    assert_eq!((web.body_bytes_max, web.idle_timeout), (None, Duration::from_secs(75)));
    assert_eq!(web.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    let internal = &gateway.listeners()[1];
    assert_eq!(internal.connections_per_client_max.map(std::num::NonZero::get), Some(100));
    assert_eq!(internal.proxy_protocol, ["10.0.0.0/8".parse().unwrap()]);
    let raw = &gateway.listeners()[2];
    assert_eq!(raw.idle_timeout, Duration::from_mins(10));
    let ListenerKind::Tcp(passed) = &raw.kind else { panic!("{:?}", raw.kind) };
    assert_eq!(passed[0], StreamRouteParams::every("shop.v2".parse().unwrap()));
    assert_eq!(passed[1].name.as_ref().map(vocab::Name::as_str), Some("passed"));
    assert_eq!(
        (&passed[1].host, passed[1].service.as_str()),
        (&HostMatch::Under("example.com".to_owned()), "database")
    );
    assert_eq!(passed[1].alpn, ["h2", "postgresql"]);
    let dns = &gateway.listeners()[3];
    assert_eq!(
        (&dns.kind, dns.idle_timeout),
        (&ListenerKind::Udp("database".parse().unwrap()), Duration::from_mins(1))
    );
    let routes: Vec<_> = gateway.routes().iter().map(|r| (r.name.as_str(), r.host.text(), &r.path)).collect();
    let prefix = |text: &str| PathMatch::Prefix(text.to_owned());
    assert_eq!(routes[0], ("main", Some("api.example.com".to_owned()), &prefix("/api/")));
    assert_eq!(routes[1], ("api", None, &PathMatch::Exact("/health".to_owned())));
    assert_eq!(routes[2], ("api-2", None, &prefix("/")));
    assert_eq!(routes[3], ("shop.v2", None, &prefix("/")));
    let PathMatch::Regex(pattern) = &routes[4].2 else { panic!("{:?}", routes[4]) };
    assert_eq!((routes[4].1.as_deref(), pattern.as_str()), (Some("*.example.com"), "/users/[0-9]+"));
    let RouteTarget::Split(split) = &gateway.routes()[4].target else { panic!("{:?}", gateway.routes()[4]) };
    assert_eq!(split.by, Some(HashKey::Cookie("session".to_owned())));
    let shares: Vec<_> = split.shares.iter().map(|share| (share.service.as_str(), share.weight)).collect();
    assert_eq!(shares, [("api", 95), ("shop.v2", 5)]);
    let conditions = &gateway.routes()[4].conditions;
    assert_eq!((conditions.methods(), conditions.count()), (&["GET".to_owned(), "POST".to_owned()][..], 7));
    let one_of = |texts: &[&str]| ValueMatch::OneOf(texts.iter().map(|&text| text.to_owned()).collect());
    let (source, test) = &conditions.values()[2];
    assert_eq!((source, test), (&ValueSource::Header("x-version".to_owned()), &one_of(&["2", "3"])));
    let edited = &gateway.routes()[5].actions;
    let auth = edited.basic_auth.as_ref().unwrap();
    let names: Vec<_> = auth.users.iter().map(|user| user.name()).collect();
    assert_eq!((auth.realm.as_str(), names), ("The shop", vec!["ann", "bob"]));
    assert_eq!(edited.path, Some(PathChange::Prefix("/v2/".to_owned())));
    assert_eq!((edited.host.as_deref(), edited.https_only), (Some("inside.example.com"), true));
    let added: Vec<_> = edited.request_fields.add.iter().map(|line| (line.name().as_str(), line.value())).collect();
    assert_eq!(added, [("X-Via", "a"), ("X-Via", "b")]);
    let RouteTarget::Redirect(moved) = &gateway.routes()[7].target else { panic!("{:?}", gateway.routes()[7]) };
    assert_eq!((moved.status, moved.scheme, moved.keep_query), (308, Some(Scheme::Https), false));
    let RouteTarget::Fixed(gone) = &gateway.routes()[9].target else { panic!("{:?}", gateway.routes()[9]) };
    assert_eq!((gone.status, gone.body.as_str(), gone.fields[0].value()), (410, "gone\n", "text/html"));
    let RouteTarget::Files(site) = &gateway.routes()[11].target else { panic!("{:?}", gateway.routes()[11]) };
    assert_eq!((site.root.to_str(), site.index.as_str(), site.hidden), (Some("pages"), "start.html", true));
    assert_eq!(site.precompressed, [Coding::Brotli, Coding::Gzip]);
    assert_eq!(site.fallback.as_ref().map(FilePath::as_str), Some("app/start.html"));
    let compress = gateway.routes()[10].compress.as_ref().unwrap();
    assert_eq!((&compress.codings[..], compress.bytes_min), (&[Coding::Gzip, Coding::Brotli][..], 2048));
    assert_eq!(compress.types.iter().map(MediaRange::as_str).collect::<Vec<_>>(), ["text/*", "application/json"]);
    assert_eq!(compress.effort, Effort::High);
    let api = &gateway.services()[0];
    assert_eq!((api.balance, &api.hash_key), (Algorithm::Ring, &HashKey::Header("x-user".to_owned())));
    let endpoint = &api.endpoints[1];
    assert_eq!((&endpoint.host, endpoint.port), (&Host::Name("api.internal".to_owned()), 9001));
    assert_eq!((endpoint.weight, endpoint.backup, endpoint.drain), (3, true, true));
    assert_eq!(api.endpoints[3].host, Host::Srv("_http._tcp.api.internal".to_owned()));
    let resolver = gateway.resolver();
    let servers: Vec<String> = resolver.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.53:53", "[fd00::53]:5353"]);
    assert_eq!((resolver.ttl_min, resolver.ttl_max), (Duration::from_secs(2), Duration::from_secs(1800)));
    assert_eq!((resolver.when_empty, resolver.stale_max), (WhenEmpty::Remove, Some(Duration::from_secs(86_400))));
    let check = api.check.as_ref().unwrap();
    assert_eq!((check.interval, check.timeout), (Duration::from_millis(500), Duration::from_millis(500)));
    let CheckKind::Http { statuses, body_contains, .. } = &check.kind else { panic!("{check:?}") };
    assert_eq!((statuses.as_slice(), body_contains.as_deref()), (&[(200, 200), (300, 399)][..], Some("ok")));
    assert_eq!(api.health.panic_threshold, 0.125);
    assert_eq!(api.retry.as_ref().unwrap().on.statuses, [503, 429]);
    let shop = &gateway.services()[1];
    assert_eq!((shop.balance, &shop.hash_key), (Algorithm::Maglev, &HashKey::ClientIp));
    assert_eq!(shop.check.as_ref().unwrap().kind, CheckKind::Tcp);
    assert_eq!((&shop.retry, shop.health.passive), (&None, None));
    let outlier = OutlierParams {
        consecutive: 5,
        base_ejection: Duration::from_secs(30),
        ejection_max: Duration::from_secs(300),
        ejected_share_max: 0.1,
    };
    assert_eq!(shop.health.outlier, Some(outlier));
}

#[test]
fn the_effective_configuration_means_the_same() {
    for text in [MINIMAL, FULL] {
        let first = loaded(text);
        let mut effective = first.effective.clone();
        if let Some(token) = effective.pointer_mut("/admin/token") {
            assert_eq!(token, "***");
            *token = "0123456789abcdef-from-env".into();
        }
        if let Some(password) = effective.pointer_mut("/cache/sessions/password") {
            assert_eq!(password, "***");
            *password = "0123456789abcdef-from-env".into();
        }
        if let Some(headers) = effective.pointer_mut("/trace/headers") {
            assert_eq!(headers["Authorization"], "***");
            *headers = serde_json::json!({ "Authorization": "Bearer 0123456789abcdef-from-env", "X-Tenant": "7" });
        }
        if let Some(key) = effective.pointer_mut("/listener/web/tls/acme/external_account/hmac_key") {
            assert_eq!(key, "***");
            *key = "bm90LWEtc2VjcmV0LWF0LWFsbA".into();
        }
        if let Some(user) = effective.pointer_mut("/route/5/basic_auth/users/0") {
            assert_eq!(user, "ann:***");
            *user = "ann:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2".into();
        }
        if let Some(store) = effective.pointer_mut("/limit/everywhere/store") {
            assert_eq!(store, "rediss://shop:***@redis.example.com:6380/1");
            *store = "rediss://shop:p%40ssword@redis.example.com:6380/1".into();
        }
        if let Some(shop) = effective.pointer_mut("/database/shop") {
            let primary = "postgres://app:***@db1.example.com:5433/shop?application_name=tenfold";
            assert_eq!(shop["primary"], primary);
            shop["primary"] = primary.replace("***", "0123456789abcdef-from-env").into();
            for pointer in ["/user/web/password", "/user/web/server_password", "/auth/query/password"] {
                let password = shop.pointer_mut(pointer).unwrap();
                assert_eq!(*password, "***");
                *password = "0123456789abcdef-from-env".into();
            }
        }
        if let Some(users) = effective.pointer_mut("/listener/databases/console/user") {
            for user in ["monitor", "ops"] {
                assert_eq!(users[user]["password"], "***");
                users[user]["password"] = "0123456789abcdef-from-env".into();
            }
        }
        let written = toml::to_string(&effective).unwrap();
        let second = loaded(&written);
        assert_eq!(first.gateway, second.gateway, "{written}");
        assert_eq!((first.log, first.admin), (second.log, second.admin));
        assert_eq!(first.caches, second.caches);
        assert_eq!((first.databases, first.database_listeners), (second.databases, second.database_listeners));
        assert_eq!((first.trace, first.buckets), (second.trace, second.buckets));
        assert_eq!(first.effective, second.effective);
    }
}

#[test]
fn secrets_are_not_shown() {
    let loaded = loaded(FULL);
    for shown in [format!("{loaded:?}"), loaded.effective.to_string(), loaded.warnings.to_string()] {
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        assert!(!shown.contains("p@ssword") && !shown.contains("p%40ssword"), "{shown}");
        assert!(!shown.contains("HNbAKRhp") && !shown.contains("myjXcpMp"), "{shown}");
        assert!(!shown.contains("bm90LWEt") && !shown.contains("not-a-secret"), "{shown}");
    }
    // In errors of every kind around the token, in text, JSON and Debug alike.
    let files = [
        "[admin]\ntoken = \"${SHORT_TOKEN}\"\n",
        "[admin]\ntoken = \"hunter2\"\n",
        "admin = { token = \"hunter2\", x = 1 }\n",
        "admin = { token = [\"hunter2\"] }\n",
        "route = [{ basic_auth = { users = \"ann:hunter2\" } }]\n",
        "route = [{ basic_auth = { users = [\"ann:hunter2\", 1] } }]\n",
        "route = [{ basic_auth = { users = { ann = \"hunter2\" } } }]\n",
        "route = [{ basic_auth = { user = \"ann:hunter2\" } }]\n",
        "admin = { token = { hunter = 1, text = \"hunter2\" } }\n",
        "admin = { x = 1, token = \"\"\"\nhunter2\"\"\" }\n",
        "admin = { token = \"\"\"\nhunter2-hunter2-hunter2\"\"\", x = 1 }\n",
        "[admin]\ntoken = \"hunter2\n",
        "[admin]\ntoken = hunter2\n",
        "[admin]\ntoken: hunter2\n",
        "admin { token: hunter2 }\n",
        "admin = { token = hunter2 }\n",
        "[admin]\ntokn = \"hunter2\"\n",
        "[admin]\npassword = \"hunter2\"\n",
        "[admin]\ntoken = \"a\"\ntoken = \"hunter2\"\n",
        "[trace.headers]\nAuthorization = \"hunter2\"\nHost = \"hunter2\"\n",
        "[trace.headers]\nAuthorization = [\"hunter2\"]\n",
        "[trace]\nheaders = { Authorization = \" hunter2\", \"a b\" = \"hunter2\" }\n",
        "[trace]\nheaders = \"Authorization=hunter2\"\n",
        "[trace]\nheaders = [\"Authorization=hunter2\"]\n",
        "[trace]\nheaders = { Authorization = hunter2 }\n",
        "[trace.headers]\nAuthorization = \"hunter2\n",
    ];
    for text in files {
        let found = load_str(text, &env).unwrap_err();
        for shown in [found.render(false), found.render(true), found.to_json().to_string(), format!("{found:?}")] {
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_variable_cannot_become_toml() {
    let text = MINIMAL.replace("10.0.0.1:8080", "${INJECTION}");
    let found = load_str(&text, &env).unwrap_err();
    assert_eq!(found.errors(), 1, "{found}");
    assert_eq!(found.iter().next().unwrap().key(), "service.api.endpoints[0]");
}

#[test]
fn files_are_joined_in_order_and_listed_for_watching() {
    let folder = std::env::temp_dir().join(format!("tenfold-config-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("conf.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("tenfold.toml", "include = [\"conf.d/*.toml\"]\n[listener.web]\nlisten = \":8080\"\n");
    write(
        "conf.d/20.toml",
        "[[route]]\npath = \"/b/*\"\nservice = \"b\"\n[service.b]\nendpoints = [\"10.0.0.2:80\"]\n",
    );
    write(
        "conf.d/10.toml",
        "[[route]]\npath = \"/a/*\"\nservice = \"a\"\n[service.a]\nendpoints = [\"10.0.0.1:80\"]\n",
    );
    write("conf.d/.hidden.toml", "not toml");
    write("conf.d/10.toml.bak", "not toml");
    let loaded = config::load(&folder.join("tenfold.toml"), &env);
    std::fs::remove_dir_all(&folder).unwrap();
    let loaded = loaded.unwrap();
    let files: Vec<_> = loaded.files.iter().map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
    assert_eq!(files, ["tenfold.toml", "conf.d/10.toml", "conf.d/20.toml"]);
    let routes: Vec<_> = loaded.gateway.routes().iter().map(|route| route.name.as_str()).collect();
    assert_eq!(routes, ["a", "b"]);
}

#[test]
fn a_token_may_be_in_a_file_of_its_own() {
    let folder = std::env::temp_dir().join(format!("tenfold-token-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("secrets")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("tenfold.toml", &format!("[admin]\ntoken_file = \"secrets/token\"\n{MINIMAL}"));
    write("secrets/token", "0123456789abcdef-from-file\n");
    let loaded = config::load(&folder.join("tenfold.toml"), &env).unwrap();
    write("secrets/token", "hunter2\n");
    let wrong = config::load(&folder.join("tenfold.toml"), &env).unwrap_err();
    // Another file, which begins like one.
    write("secrets/token", &format!("0123456789abcdef{}hunter2", " ".repeat(4096)));
    let long = config::load(&folder.join("tenfold.toml"), &env).unwrap_err();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(long.to_string().contains("has more than 4096 bytes"), "{long}");
    assert_eq!(loaded.named, [folder.join("secrets/token")]);
    for shown in [format!("{loaded:?}"), loaded.effective.to_string()] {
        assert!(!shown.contains("from-file"), "{shown}");
    }
    assert_eq!(loaded.admin.unwrap().token().unwrap().expose(), "0123456789abcdef-from-file");
    assert_eq!(wrong.errors(), 1, "{wrong}");
    let shown = wrong.to_string();
    assert!(shown.contains("holds no token") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let found = config::load(std::path::Path::new("no/such/tenfold.toml"), &env).unwrap_err();
    assert_eq!(found.errors(), 1);
    assert!(found.to_string().contains("cannot read no/such/tenfold.toml"), "{found}");
}

#[test]
fn a_file_lists_endpoints_beside_those_of_the_table() {
    let folder = std::env::temp_dir().join(format!("tenfold-lists-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let check = |list: (&str, &str), own: &str, expected: Result<&[(&str, u16)], &str>| {
        write(list.0, list.1);
        let main = format!(
            "[listener.web]\nlisten = \":8080\"\n[[route]]\nservice = \"api\"\n\
             [service.api]\n{own}endpoints_file = \"{}\"\n",
            list.0
        );
        write("tenfold.toml", &main);
        match (config::load(&folder.join("tenfold.toml"), &|_| None), expected) {
            (Ok(loaded), Ok(expected)) => {
                let endpoints = loaded.gateway.services()[0].endpoints.iter();
                let host = |host: &Host| match host {
                    Host::Address(address) => address.to_string(),
                    Host::Name(name) | Host::Srv(name) => name.clone(),
                };
                let found: Vec<_> =
                    endpoints.map(|one| (format!("{}:{}", host(&one.host), one.port), one.weight)).collect();
                assert_eq!(found.len(), expected.len(), "{found:?}");
                for ((found, weight), (part, expected)) in found.iter().zip(expected) {
                    assert!(found.contains(part) && weight == expected, "{found} {weight}: {part} {expected}");
                }
                assert_eq!(loaded.named, [folder.join(list.0)], "a change of it is noticed");
                assert_eq!(loaded.files.len(), 1);
            }
            (Err(found), Err(part)) => {
                let shown = found.render(false);
                assert!(shown.contains(part) && found.errors() == 1, "{part}: {shown}");
            }
            (found, _) => panic!("{list:?}: {found:?}"),
        }
    };
    let own = "endpoints = [\"10.0.0.9:80\"]\n";
    check(("a.json", "[\"10.0.0.1:80\"]"), "", Ok(&[("10.0.0.1:80", 1)]));
    let tables = "{\"endpoints\": [{\"address\": \"10.0.0.1:80\", \"weight\": 3}, \"10.0.0.2:80\"]}";
    check(("a.json", tables), own, Ok(&[("10.0.0.9:80", 1), ("10.0.0.1:80", 3), ("10.0.0.2:80", 1)]));
    check(
        ("a.toml", "endpoints = [\n  { address = \"a.example.com:80\", weight = 2 },\n]\n"),
        "",
        Ok(&[("a.example.com", 2)]),
    );
    check(("a.json", "[\"10.0.0.9:80\"]"), own, Err("listed twice"));
    check(("a.json", "[]"), "", Err("the list is empty"));
    check(("a.json", "[{\"address\": null}]"), "", Err("has a null"));
    check(("a.json", "{\"hosts\": []}"), "", Err("is not a list of endpoints alone"));
    check(("a.json", "[\"10.0.0.1:80\""), "", Err("is not JSON"));
    check(("a.json", "[{\"address\": \"10.0.0.1:80\", \"wieght\": 3}]"), own, Err("weight"));
    check(("a.toml", "endpoints = [\"10.0.0.1\"]\n"), own, Err("a.toml:1:14"));
    check(("a.toml", "endpoints = [\n"), own, Err("a.toml"));
    check(("a.toml", "other = 1\nendpoints = [\"10.0.0.1:80\"]\n"), own, Err("is not a list of endpoints alone"));
    std::fs::remove_file(folder.join("a.toml")).unwrap();
    let missing = folder.join("tenfold.toml");
    let found = config::load(&missing, &|_| None).unwrap_err();
    assert!(found.errors() == 1 && found.render(false).contains("cannot read"), "{}", found.render(false));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn datagrams_and_a_cache_may_have_the_same_port() {
    let text = "[listener.dns]\nkind = \"udp\"\nlisten = \"127.0.0.1:6380\"\nservice = \"dns\"\n\
                [service.dns]\nendpoints = [\"10.0.0.1:53\"]\n[cache.main]\nlisten = \"127.0.0.1:6380\"\n";
    let loaded = load_str(text, &super::env).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(loaded.caches.len(), 1);
}
