//! Caches that are looked at and invalidated by hand.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cache::admin::{CacheAdmin, Peer};
use cache::{Cache, Coherence, Key, MIB};
use http::header::HeaderValue;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use testkit::{Redis, Relay, Way};

use crate::redis::{name, two};
use crate::{in_memory, product};

const TOKEN: &str = "0123456789abcdef";

/// A key of a type of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    host: String,
    number: u32,
}

impl Key for Page {
    fn with_bytes<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        use_bytes(format!("{}/{}", self.host, self.number).as_bytes())
    }
}

fn page(text: &str) -> Result<Page, String> {
    let (host, number) = text.rsplit_once(' ').ok_or("write HOST NUMBER")?;
    Ok(Page { host: host.to_owned(), number: number.parse().map_err(|_| "the number is none")? })
}

fn change(body: &Value) -> Request<String> {
    let request = Request::post("/anything").header("Authorization", format!("Bearer {TOKEN}"));
    request.header("Content-Type", "application/json").body(body.to_string()).unwrap()
}

async fn asked(admin: &CacheAdmin, request: Request<String>) -> (u16, Value) {
    let response = admin.answer(request).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    (response.status().as_u16(), serde_json::from_str(response.body()).unwrap())
}

#[tokio::test]
async fn a_key_a_tag_or_everything_goes() {
    let tags = |product: &crate::Product| vec![format!("category:{}", product.category)];
    let products = in_memory().tags(tags).build().await.unwrap();
    let pages: Cache<Page, String> = Cache::builder("page").memory(MIB).build().await.unwrap();
    let names: Cache<str, String> = Cache::builder("name").memory_entries(10).build().await.unwrap();
    let admin = CacheAdmin::builder().token(TOKEN).keyed(&products).keyed_by(&pages, page).cache(&names);
    let admin = admin.build().unwrap();
    let home = Page { host: "example.com".to_owned(), number: 7 };
    let fill = async || {
        for id in [7, 17, 8] {
            products.put(&id, product(id, "old")).await.unwrap();
        }
        pages.put(&home, "old".to_owned()).await.unwrap();
        names.put("a", "old".to_owned()).await.unwrap();
    };
    let there = async || {
        let products = products.get_many(&[7, 17, 8]).await;
        let others = [pages.get(&home).await.is_some(), names.get("a").await.is_some()];
        products.iter().map(Option::is_some).chain(others).collect::<Vec<_>>()
    };
    let all = |names: &[&str]| {
        let told = names.iter().map(|name| json!({ "name": name, "reach": "process" })).collect::<Vec<_>>();
        json!({ "caches": told })
    };
    for (body, concerned, left) in [
        (json!({ "cache": "product", "key": "7" }), &["product"][..], [false, true, true, true, true]),
        // The key, and not its text, is what counts.
        (json!({ "cache": "product", "key": "007" }), &["product"], [false, true, true, true, true]),
        (json!({ "cache": "product", "key": "9" }), &["product"], [true; 5]),
        (json!({ "cache": "page", "key": "example.com 7" }), &["page"], [true, true, true, false, true]),
        (json!({ "cache": "product", "tag": "category:7" }), &["product"], [false, false, true, true, true]),
        (
            json!({ "every_cache": true, "tag": "category:8" }),
            &["name", "page", "product"],
            [true, true, false, true, true],
        ),
        (json!({ "cache": "name", "everything": true }), &["name"], [true, true, true, true, false]),
        (json!({ "every_cache": true, "everything": true }), &["name", "page", "product"], [false; 5]),
    ] {
        fill().await;
        assert_eq!(asked(&admin, change(&body)).await, (200, all(concerned)), "{body}");
        assert_eq!(there().await, left, "{body}");
    }
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_told() {
    let products = in_memory().build().await.unwrap();
    let names: Cache<str, String> = Cache::builder("name").memory(MIB).build().await.unwrap();
    let admin = CacheAdmin::builder().token(TOKEN).keyed(&products).cache(&names).build().unwrap();
    products.put(&7, product(7, "old")).await.unwrap();
    for (body, status, part) in [
        (r#"{"cache": "products", "everything": true}"#, 404, "no cache products; there are name, product"),
        (r#"{"cache": "product", "key": "seven"}"#, 400, "cache product: no key \"seven\""),
        (r#"{"cache": "name", "key": "a"}"#, 400, "cache name: its keys cannot be given as text"),
        (r#"{"every_cache": true, "key": "7"}"#, 400, "cache name: its keys cannot be given as text"),
        (r#"{"cache": "product"}"#, 400, "one of key, tag and everything"),
        (r#"{"cache": "product", "everything": false}"#, 400, "one of key, tag and everything"),
        (r#"{"cache": "product", "key": "7", "tag": "a"}"#, 400, "one of key, tag and everything"),
        (r#"{"everything": true}"#, 400, "one of cache and every_cache"),
        (r#"{"cache": "product", "every_cache": true, "everything": true}"#, 400, "one of cache and every_cache"),
        (r#"{"cache": "product", "all": true}"#, 400, "unknown field"),
        ("", 400, "the body is empty"),
        ("[]", 400, "the body"),
    ] {
        let mut request = change(&Value::Null);
        *request.body_mut() = body.to_owned();
        let (answered, told) = asked(&admin, request).await;
        let text = told["error"].as_str().unwrap();
        assert!(answered == status && text.contains(part), "{body}: {answered} {text}");
    }
    let mut large = change(&Value::Null);
    *large.body_mut() = " ".repeat(16 * 1024 + 1);
    assert_eq!(asked(&admin, large).await.0, 413);
    let mut plain = change(&json!({ "cache": "product", "key": "7" }));
    plain.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
    assert_eq!(asked(&admin, plain).await.0, 415);
    let mut of_a_page = change(&json!({ "cache": "product", "key": "7" }));
    of_a_page.headers_mut().insert("origin", HeaderValue::from_static("http://localhost"));
    assert_eq!(asked(&admin, of_a_page).await.0, 403);
    let mut other = change(&json!({ "cache": "product", "key": "7" }));
    *other.method_mut() = http::Method::DELETE;
    let response: Response<String> = admin.answer(other).await;
    assert_eq!(
        (response.status(), &response.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("GET, HEAD, POST"))
    );
    assert_eq!(name(&products, 7).await.as_deref(), Some("old"));
}

#[tokio::test]
async fn only_this_machine_asks_without_a_token() {
    let products = in_memory().build().await.unwrap();
    let open = CacheAdmin::builder().without_token().keyed(&products).build().unwrap();
    let guarded = CacheAdmin::builder().token(TOKEN).keyed(&products).build().unwrap();
    let list = |peer: Option<&str>, fields: &[(&'static str, &'static str)]| {
        let mut request = Request::get("/").body(String::new()).unwrap();
        request.extensions_mut().extend(peer.map_or_else(http::Extensions::new, |peer| {
            let mut extensions = http::Extensions::new();
            extensions.insert(Peer(peer.parse().unwrap()));
            extensions
        }));
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    };
    let here = ("host", "localhost:8080");
    for (peer, fields, status) in [
        (Some("127.0.0.1"), &[here][..], 200),
        (Some("::1"), &[here], 200),
        (Some("::ffff:127.0.0.1"), &[here], 200),
        (Some("192.0.2.1"), &[here], 403),
        (None, &[here], 403),
        (Some("127.0.0.1"), &[("host", "shop.example.com")], 403),
        (Some("127.0.0.1"), &[here, ("origin", "https://evil.example")], 403),
        (Some("127.0.0.1"), &[here, ("x-forwarded-for", "192.0.2.1")], 403),
        (Some("127.0.0.1"), &[here, ("via", "1.1 proxy")], 403),
    ] {
        assert_eq!(asked(&open, list(peer, fields)).await.0, status, "{peer:?} {fields:?}");
    }
    let bears = ("authorization", "Bearer 0123456789abcdef");
    for (peer, fields, status) in [
        (Some("127.0.0.1"), &[here][..], 401),
        (Some("192.0.2.1"), &[bears], 200),
        (None, &[bears, ("x-forwarded-for", "192.0.2.1")], 200),
        (None, &[("authorization", "Bearer 0123456789abcdeF")], 401),
    ] {
        let response = guarded.answer(list(peer, fields)).await;
        assert_eq!(response.status(), status, "{peer:?} {fields:?}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    }
    assert!(!format!("{guarded:?}").contains(TOKEN));
    for mistake in [
        CacheAdmin::builder().token("short"),
        CacheAdmin::builder().keyed(&products),
        CacheAdmin::builder().token(TOKEN).without_token(),
    ] {
        assert_eq!(mistake.build().unwrap_err().field, "token");
    }
    let twice = CacheAdmin::builder().token(TOKEN).cache(&products).keyed(&products).build().unwrap_err();
    assert_eq!((twice.cache.as_str(), twice.field), ("product", "cache"));
}

#[tokio::test]
async fn a_reader_of_keys_that_panics_is_told_of_and_changes_nothing() {
    let pages: Cache<Page, String> = Cache::builder("page").memory(MIB).build().await.unwrap();
    let read = |text: &str| if text == "wrong" { panic!("a mistake of the service") } else { page(text) };
    let admin = CacheAdmin::builder().token(TOKEN).keyed_by(&pages, read).build().unwrap();
    let (status, told) = asked(&admin, change(&json!({ "cache": "page", "key": "wrong" }))).await;
    assert!(status == 500 && told["error"].as_str().unwrap().contains("panicked"), "{told}");
    assert_eq!(asked(&admin, change(&json!({ "cache": "page", "key": "example.com 7" }))).await.0, 200);
}

/// Changes that do not come to their end, since Redis does not answer, take all places.
#[tokio::test]
async fn more_changes_at_once_than_there_are_places_for_are_refused() {
    let redis = Redis::start(&[]).unwrap();
    let relay = Relay::start(redis.address()).unwrap();
    let builder = in_memory().redis(format!("redis://{}", relay.address()));
    let products = builder.redis_timeout(Duration::from_secs(20)).build().await.unwrap();
    let admin = CacheAdmin::builder().token(TOKEN).keyed(&products).build().unwrap();
    relay.stall(Way::ToClient, Duration::from_secs(3));
    let ask = || {
        let admin = admin.clone();
        async move { asked(&admin, change(&json!({ "cache": "product", "key": "7" }))).await.0 }
    };
    let many: Vec<_> = (0..70).map(|_| tokio::spawn(ask())).collect();
    let mut answers = Vec::new();
    for one in many {
        answers.push(one.await.unwrap());
    }
    let count = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(200), count(503)), (64, 6), "{answers:?}");
    assert_eq!(ask().await, 200, "places are given back");
}

/// A body of which nothing comes.
struct Silent;

impl http_body::Body for Silent {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_awaited_for_ever() {
    let admin = CacheAdmin::builder().token(TOKEN).build().unwrap();
    let request = change(&Value::Null).map(|_| Silent);
    assert_eq!(admin.answer(request).await.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn the_list_says_what_each_is_and_does() {
    let redis = Redis::start(&[]).unwrap();
    let (a, _b) = two(&redis).await;
    let leased = Coherence::leased();
    let url = format!("redis://{}", redis.address());
    let names: Cache<str, String> =
        Cache::builder("name").memory_entries(10).redis(url).coherence(leased).build().await.unwrap();
    let bounded = Coherence::BoundedStale(std::time::Duration::from_secs(60));
    let lone: Cache<str, String> = Cache::builder("lone").memory(MIB).coherence(bounded).build().await.unwrap();
    a.put(&7, product(7, "a")).await.unwrap();
    for id in [7, 7, 7, 8] {
        a.get(&id).await;
    }
    let admin = CacheAdmin::builder().token(TOKEN).keyed(&a).cache(&names).keyed(&lone).build().unwrap();
    let request = Request::get("/").header("Authorization", format!("Bearer {TOKEN}")).body(String::new()).unwrap();
    let (_, told) = asked(&admin, request).await;
    let of = |at: usize, name: &str| told[at][name].clone();
    let facts = ["name", "coherence", "coherence_millis", "takes_keys", "has_tags", "redis_is_up"];
    assert_eq!(
        facts.map(|fact| of(0, fact)),
        [json!("lone"), json!("bounded_stale"), json!(60_000), json!(true), json!(false), Value::Null]
    );
    assert_eq!(
        facts.map(|fact| of(1, fact)),
        [json!("name"), json!("leased"), json!(2_000), json!(false), json!(false), json!(true)]
    );
    assert_eq!(
        facts.map(|fact| of(2, fact)),
        [json!("product"), Value::Null, Value::Null, json!(true), json!(true), json!(true)]
    );
    let counts = ["entries", "entries_max", "bytes_max", "memory_hits", "misses", "hit_ratio"];
    assert_eq!(counts.map(|count| of(1, count)), [json!(0), json!(10), Value::Null, json!(0), json!(0), Value::Null]);
    assert_eq!(counts.map(|count| of(2, count)), [json!(1), Value::Null, json!(MIB), json!(3), json!(1), json!(0.75)]);
    assert!(of(2, "bytes").as_u64().unwrap() > 100 && of(1, "bytes").is_null());
}

#[tokio::test]
async fn what_redis_has_not_heard_of_is_not_said_to_be_done() {
    let mut redis = Redis::start(&[]).unwrap();
    let (a, _b) = two(&redis).await;
    let admin = CacheAdmin::builder().token(TOKEN).keyed(&a).build().unwrap();
    a.put(&7, product(7, "old")).await.unwrap();
    redis.kill();
    let (status, told) = asked(&admin, change(&json!({ "cache": "product", "key": "7" }))).await;
    assert_eq!((status, &told["caches"][0]["reach"]), (202, &json!("here")));
    assert_eq!(name(&a, 7).await, None);
}
