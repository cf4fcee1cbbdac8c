//! Keys.

use httpcache::{KeyParts, QueryParts, Target};

use crate::edge::{borrowed, owned};

fn key(parts: &KeyParts, target: (&str, &str), fields: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    let target = Target { https: true, host: target.0.as_bytes(), path_and_query: target.1.as_bytes() };
    parts.write(&mut out, target, borrowed(&owned(fields)));
    String::from_utf8(out).unwrap().replace('\0', "|").replace('\u{1}', "=")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn of_targets() {
    let all = KeyParts::default();
    let check = |parts: &KeyParts, host: &str, path: &str, expected: &str| {
        assert_eq!(key(parts, (host, path), &[]), expected);
    };
    check(&all, "Shop.Example.COM:443", "/Cart?b=1&a=2", "shop.example.com|/Cart?b=1&a=2|s|");
    check(&all, "a.example.com:80", "/", "a.example.com:80|/|s|");
    check(&all, "a.example.com", "/?", "a.example.com|/?|s|");
    let sorted = KeyParts { sorts_query: true, ..KeyParts::default() };
    check(&sorted, "h", "/?b=1&a=2&b=0&a", "h|/?a=2&a&b=1&b=0|s|");
    let many: Vec<_> = (0..50).rev().map(|at| format!("p{at:02}")).collect();
    let expected: Vec<_> = (0..50).map(|at| format!("p{at:02}")).collect();
    check(&sorted, "h", &format!("/?{}", many.join("&")), &format!("h|/?{}|s|", expected.join("&")));
    let only = KeyParts { query: QueryParts::Only(names(&["id", "q"])), ..KeyParts::default() };
    check(&only, "h", "/?utm=1&id=7&idx=8&q", "h|/?id=7&q|s|");
    check(&only, "h", "/?utm=1", "h|/|s|");
    // However a name is spelt, it is what its origin reads.
    check(&only, "h", "/?%69d=7&i%64x=8&%6", "h|/?%69d=7|s|");
    check(&only, "h", "/?x=1;id=7&y", "h|/?x=1;id=7|s|");
    let none = KeyParts { query: QueryParts::Only(Vec::new()), ..KeyParts::default() };
    check(&none, "h", "/a?x", "h|/a|s|");
    let except = KeyParts { query: QueryParts::Except(names(&["utm"])), sorts_query: true, ..KeyParts::default() };
    check(&except, "h", "/?z&utm=1&a", "h|/?a&z|s|");
    check(&except, "h", "/?ut%6D=1&utm=1;id=7&utm%20=1&ut+m", "h|/?ut+m&utm=1;id=7&utm%20=1|s|");
    check(&none, "h", "/a?x;y", "h|/a|s|");
    let bare = KeyParts { host: false, scheme: false, path: false, ..none };
    check(&bare, "h", "/a?x", "|||");
}

#[test]
fn of_fields_and_cookies() {
    let parts = KeyParts { fields: names(&["x-tenant", "x-b"]), cookies: names(&["s"]), ..KeyParts::default() };
    let check = |fields: &[(&str, &str)], expected: &str| {
        assert_eq!(key(&parts, ("h", "/"), fields), format!("h|/|s|{expected}"), "{fields:?}");
    };
    check(&[], "x-tenant|x-b|s|");
    check(&[("X-Tenant", ""), ("Cookie", "t=1; s=2;u")], "x-tenant=|x-b|s=2|");
    check(&[("X-Tenant", "a"), ("x-tenant", "b"), ("Cookie", "s=1"), ("Cookie", "s")], "x-tenant=a=b|x-b|s=1=|");
}

#[test]
fn keys_of_a_target_begin_alike() {
    let parts = KeyParts { fields: names(&["x"]), ..KeyParts::default() };
    let target = Target { https: false, host: b"Example.com:80", path_and_query: b"/a?b" };
    let (mut beginning, mut whole) = (Vec::new(), Vec::new());
    parts.write_beginning(&mut beginning, target);
    parts.write(&mut whole, target, borrowed(&owned(&[("X", "1")])));
    assert!(whole.starts_with(&beginning));
    assert!(beginning.starts_with(b"example.com\0/a"), "what lies under a path begins with it");
}
