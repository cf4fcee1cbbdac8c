//! Tags, and what they invalidate.

use testkit::Reply;

use crate::site::{Site, ask, bulk, client, ok, params};

#[test]
fn a_tag_takes_with_it_what_carries_it() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let mut ask = |words: &str| ask(&mut client, words);
    assert_eq!(ask("SET page:1 one TAGS 2 product:7 category:3"), ok());
    assert_eq!(ask("SET page:2 two EX 100 TAGS 1 category:3"), ok());
    assert_eq!(ask("SET page:3 three"), ok());
    assert_eq!(ask("TENFOLD.TAG page:3 product:7"), Reply::Integer(1));
    assert_eq!(ask("TENFOLD.TAG nothing product:7"), Reply::Integer(0));
    assert_eq!(ask("TENFOLD.INVALIDATE product:7"), ok());
    assert_eq!(ask("MGET page:1 page:2 page:3"), Reply::Array(vec![Reply::Null, bulk("two"), Reply::Null]));
    assert_eq!(ask("EXISTS page:1 page:3"), Reply::Integer(0));
    // What is set afterwards is not concerned, and neither is what is set anew without tags.
    assert_eq!(ask("SET page:1 new TAGS 1 product:7"), ok());
    assert_eq!(ask("GET page:1"), bulk("new"));
    assert_eq!(ask("SET page:2 plain"), ok());
    assert_eq!(ask("TENFOLD.INVALIDATE category:3 product:7"), ok());
    assert_eq!(ask("MGET page:1 page:2"), Reply::Array(vec![Reply::Null, bulk("plain")]));
    // Changes of a value keep its tags.
    assert_eq!(ask("SET count 1 TAGS 1 t"), ok());
    assert_eq!(ask("INCR count"), Reply::Integer(2));
    assert_eq!(ask("EXPIRE count 100"), Reply::Integer(1));
    assert_eq!(ask("TENFOLD.INVALIDATE t"), ok());
    assert_eq!(ask("INCR count"), Reply::Integer(1));
}

#[test]
fn what_was_made_before_an_invalidation_is_not_stored_after_it() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let mut ask = |words: &str| ask(&mut client, words);
    let Reply::Integer(token) = ask("TENFOLD.TOKEN") else { panic!("no number") };
    assert_eq!(ask("SET row old TAGS 1 table"), ok());
    assert_eq!(ask("TENFOLD.INVALIDATE table"), ok());
    assert_eq!(ask(&format!("SET row older TAGS 1 table SINCE {token}")), Reply::Null);
    assert_eq!(ask("GET row"), Reply::Null);
    let Reply::Integer(token) = ask("TENFOLD.TOKEN") else { panic!("no number") };
    assert_eq!(ask(&format!("SET row new TAGS 1 table SINCE {token}")), ok());
    assert_eq!(ask("GET row"), bulk("new"));
}

#[test]
fn tokens_that_this_cache_did_not_give_store_nothing() {
    let mut params = params();
    let mut site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let mut ask = |words: &str| ask(&mut client, words);
    for _ in 0..20 {
        assert_eq!(ask("TENFOLD.INVALIDATE other"), ok());
    }
    let Reply::Integer(before) = ask("TENFOLD.TOKEN") else { panic!("no number") };
    // With another memory it begins anew, as it does in another process, and hears of fewer invalidations than before.
    params.memory_bytes *= 2;
    site.apply(std::slice::from_ref(&params));
    assert_eq!(ask("TENFOLD.INVALIDATE table"), ok());
    let Reply::Integer(latest) = ask("TENFOLD.TOKEN") else { panic!("no number") };
    // Small enough to be a number of JavaScript's.
    assert!(latest > before && latest < 1 << 53, "{latest} after {before}");
    for token in [0, 1, before, latest + 1, i64::MAX] {
        assert_eq!(ask(&format!("SET row old TAGS 1 table SINCE {token}")), Reply::Null, "{token}");
        assert_eq!(ask("GET row"), Reply::Null, "{token}");
    }
    assert_eq!(ask(&format!("SET row new TAGS 1 table SINCE {latest}")), ok());
    assert_eq!(ask("GET row"), bulk("new"));
}

#[test]
fn wrong_tags_are_told() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    for words in [
        "SET k v TAGS",
        "SET k v TAGS 2 a",
        "SET k v TAGS 0",
        "SET k v TAGS x a",
        "SET k v SINCE 1",
        "SET k v TAGS 1 a SINCE",
    ] {
        let reply = ask(&mut client, words);
        assert!(matches!(&reply, Reply::Error(text) if text.starts_with("ERR ")), "{words}: {reply:?}");
    }
    let many: String = (0..257).map(|number| format!(" {number}")).collect();
    let reply = ask(&mut client, &format!("SET k v TAGS 257{many}"));
    assert_eq!(reply, Reply::Error("ERR an entry has at most 256 tags".to_owned()));
    assert_eq!(ask(&mut client, "GET k"), Reply::Null);
}
