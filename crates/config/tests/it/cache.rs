//! What a file says of the edge cache.

use std::time::Duration;

use config::{Loaded, load_str};
use gateway::params::cache_policy::{Condition, FieldCondition, KeyParts, QueryParts, SetCookie, StatusTtl};
use gateway::params::{CacheParams, CacheTold, GatewayParams};

fn loaded(head: &str, route: &str) -> GatewayParams {
    let text = format!(
        "{head}\n[listener.web]\nlisten = \":8080\"\n[[route]]\nservice = \"api\"\n{route}\n\
         [service.api]\nendpoints = [\"10.0.0.1:80\"]\n"
    );
    let Loaded { gateway, .. } = load_str(&text, &super::env).unwrap_or_else(|found| panic!("{found}\n{text}"));
    gateway
}

fn cache(route: &str) -> Option<CacheParams> {
    loaded("", route).routes()[0].cache.clone()
}

#[test]
fn nothing_is_cached_unless_the_file_says_so() {
    assert_eq!(cache(""), None);
    assert_eq!(cache("cache = {}"), Some(CacheParams::default()));
    assert_eq!(loaded("", "").cache().memory_bytes_max, 64 << 20);
    assert_eq!(loaded("[cache]\nmemory = \"2GiB\"", "").cache().memory_bytes_max, 2 << 30);
}

#[test]
fn every_key_arrives() {
    let found = cache(
        "cache = { default_ttl = \"5s\", status_ttl = { \"404\" = \"10s\", \"500-599\" = \"0s\" }, ttl_max = \"1h\", \
         stale_while_revalidate = \"30s\", stale_if_error = \"1d\", never_store = [\"X-Private\"], \
         request_directives = \"ignore\", set_cookie = \"stripped\", object_bytes_max = \"1MiB\", collapse_wait = \"1s\", \
         cache_status = \"key\", bypass = { headers = [\"X-Skip\"], cookies = [\"session\"], query = [\"preview\"] } }",
    );
    let found = found.unwrap();
    let secs = Duration::from_secs;
    let policy = &found.policy;
    assert_eq!((policy.default_ttl, policy.ttl_max), (Some(secs(5)), Some(secs(3600))));
    let ttl = |first, last, ttl| StatusTtl { first, last, ttl };
    assert_eq!(policy.status_ttls, [ttl(404, 404, secs(10)), ttl(500, 599, secs(0))]);
    assert_eq!((policy.stale_while_revalidate, policy.stale_if_error), (secs(30), secs(86_400)));
    assert!(!policy.obeys_requests && policy.set_cookie == SetCookie::Stripped);
    let field = |name: &str| FieldCondition { name: name.to_owned(), value: None };
    assert_eq!(policy.never_store, [field("x-private")]);
    let expected =
        [Condition::Field(field("x-skip")), Condition::Cookie("session".into()), Condition::Query("preview".into())];
    assert_eq!(policy.bypass, expected);
    assert_eq!((found.object_bytes_max, found.collapse_wait, found.told), (1 << 20, secs(1), CacheTold::Key));
}

#[test]
fn keys() {
    let check = |key: &str, expected: KeyParts| {
        let found = cache(&format!("cache = {{ key = {{ {key} }} }}")).unwrap().policy.key;
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{key}");
    };
    let all = KeyParts::default();
    check("", all.clone());
    check("host = false, scheme = false", KeyParts { host: false, scheme: false, ..all.clone() });
    check("query = \"none\"", KeyParts { query: QueryParts::Only(Vec::new()), ..all.clone() });
    check("query_only = [\"q\"]", KeyParts { query: QueryParts::Only(vec!["q".into()]), ..all.clone() });
    check(
        "query_except = [\"utm_source\"], sort_query = true",
        KeyParts { query: QueryParts::Except(vec!["utm_source".into()]), sorts_query: true, ..all.clone() },
    );
    check(
        "headers = [\"X-Tenant\"], cookies = [\"lang\"]",
        KeyParts { fields: vec!["x-tenant".into()], cookies: vec!["lang".into()], ..all },
    );
}
