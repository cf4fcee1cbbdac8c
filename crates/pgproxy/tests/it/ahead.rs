//! What is said ahead of answers, and by those who are only about to come, is nobody else's either.

use testkit::{PgAnswer, PgClient, PgMessages};

use crate::proxy::Proxy;

/// One backend for everybody: whatever leaks is seen.
fn one_backend() -> Proxy {
    Proxy::start(|params| params.pool.size = 1)
}

#[test]
fn a_login_leaves_nothing_of_its_settings_on_a_backend() {
    let proxy = one_backend();
    let mut one = proxy.client();
    assert_eq!(one.query("SHOW work_mem").unwrap().value(), "4MB");
    for size in ["5MB", "6MB"] {
        let options = format!("-c work_mem={size}");
        let parameters = [("user", "web"), ("database", "shop"), ("options", options.as_str())];
        let mut two = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
        assert_eq!(one.query("SHOW work_mem").unwrap().value(), "4MB", "as it was before the other one came");
        assert_eq!(two.query("SHOW work_mem").unwrap().value(), size);
    }
}

#[test]
fn a_login_that_is_refused_spoils_none() {
    let proxy = one_backend();
    let connect = |options: &str| {
        let parameters = [("user", "web"), ("database", "shop"), ("client_encoding", "LATIN1"), ("options", options)];
        PgClient::connect_with(proxy.port, &parameters, "")
    };
    for wrong in ["-c statement_timeout=abc", "-c no.such=1 -c nonsense=2"] {
        assert!(connect(wrong).is_err());
        let mut client = connect("").unwrap();
        assert_eq!(client.report("client_encoding"), Some("LATIN1"));
        assert_eq!(client.query("SHOW client_encoding").unwrap().value(), "LATIN1");
    }
    assert_eq!(proxy.client().query("SHOW client_encoding").unwrap().value(), "UTF8");
    proxy.check_accounts();
}

#[test]
fn what_is_sent_behind_a_discard_is_not_forgotten_with_it() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let messages = PgMessages::default().query("DISCARD ALL");
    let make = messages.parse("", "CREATE TEMPORARY TABLE own (a int)").bind("", &[]).execute().sync();
    one.send(&make.0).unwrap();
    assert_eq!(one.answer().unwrap().tags, ["DISCARD ALL"]);
    assert_eq!(one.answer().unwrap().tags, ["CREATE TABLE"]);
    // The table keeps its session's backend, so that the other one waits for it in vain, or gets a clean one.
    let seen = two.query("SELECT count(*) FROM own").unwrap();
    assert!(["42P01", "53300"].contains(&seen.code()), "{seen:?}");
    // The same name twice, with the first one forgotten in between.
    one.query("DISCARD ALL").unwrap();
    let again =
        PgMessages::default().query("PREPARE a AS SELECT 1").query("DEALLOCATE ALL").query("PREPARE a AS SELECT 2");
    one.send(&again.query("EXECUTE a").0).unwrap();
    let answers = [0; 4].map(|_| one.answer().unwrap());
    assert!(answers.iter().all(|answer| answer.errors.is_empty()), "{answers:?}");
    assert_eq!(answers[3].value(), "2");
}

#[test]
fn a_group_that_is_under_way_when_another_one_ends_has_its_effects() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let flush = |messages: PgMessages| messages.raw(b'H', &[]);
    let first = PgMessages::default().parse("", "SELECT pg_sleep(0.2)").bind("", &[]).execute().sync();
    let begun = first.parse("", "SET work_mem = '9MB'").bind("", &[]);
    one.send(&flush(begun).0).unwrap();
    // The first group's end, and what the second has been told.
    assert_eq!(one.answer().unwrap().tags, ["SELECT 1"]);
    one.send(&PgMessages::default().execute().sync().0).unwrap();
    assert_eq!(one.answer().unwrap().tags, ["SET"]);
    assert_eq!(two.query("SHOW work_mem").unwrap().value(), "4MB", "it is another session's");
    assert_eq!(one.query("SHOW work_mem").unwrap().value(), "9MB");
    proxy.check_accounts();
}

fn parse(name: &str, text: &str) -> PgMessages {
    PgMessages::default().parse(name, text)
}

fn run(name: &str) -> PgMessages {
    PgMessages::default().bind(name, &[]).execute().sync()
}

/// Groups that are sent together, and what each of them hears.
fn together<const COUNT: usize>(client: &mut PgClient, groups: [PgMessages; COUNT]) -> [PgAnswer; COUNT] {
    client.send(&groups.iter().flat_map(|group| group.0.clone()).collect::<Vec<_>>()).unwrap();
    groups.map(|_| client.answer().unwrap())
}

#[test]
fn what_an_error_passes_over_is_not_run_by_a_later_group() {
    let proxy = one_backend();
    let mut one = proxy.client();
    let bad = || parse("bad", "SELEC");
    one.ask(&parse("", "SELECT 'kept'").sync()).unwrap();
    let [failed, kept] = together(&mut one, [bad().parse("", "SELECT 'lost'").sync(), run("")]);
    assert_eq!((failed.kinds.as_str(), kept.value()), ("EZ", "kept"));
    let changes = bad().close("").parse("", "SELECT 'lost'").query("SELECT 'lost'").sync();
    let [_, again, other] = together(&mut one, [changes, parse("", "SELECT 'other'").sync(), run("")]);
    assert_eq!((again.kinds.as_str(), other.value()), ("1Z", "other"), "it was taken since");
    let [_, kept] = together(&mut one, [bad().query("SELECT 'lost'").sync(), run("")]);
    assert_eq!(kept.value(), "other");
    // One that fails itself has forgotten the one before.
    let [failed, none] = together(&mut one, [parse("", "SELEC").sync(), run("")]);
    assert_eq!((failed.code(), none.code()), ("42601", "26000"));
    proxy.check_accounts();
}

#[test]
fn a_name_is_what_the_groups_before_have_made_of_it() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let [failed, taken, value] =
        together(&mut one, [parse("a", "SELEC").sync(), parse("a", "SELECT 'good'").sync(), run("a")]);
    assert_eq!((failed.code(), taken.kinds.as_str(), value.value()), ("42601", "1Z", "good"));
    let bad = || parse("bad", "SELEC");
    let [_, none] = together(&mut one, [bad().parse("b", "SELECT 'lost'").sync(), run("b")]);
    assert_eq!(none.code(), "26000");
    let [_, kept, taken] = together(&mut one, [bad().close("a").sync(), run("a"), parse("a", "SELECT 'other'").sync()]);
    assert_eq!((kept.value(), taken.code()), ("good", "42P05"));
    // The backend has it no more.
    two.query("SET work_mem = '5MB'; DISCARD ALL").unwrap();
    let [_, good] = together(&mut one, [bad().bind("a", &[]).sync(), run("a")]);
    assert_eq!(good.value(), "good");
    let texts = ["PREPARE p AS SELECT * FROM nowhere", "PREPARE p AS SELECT 'p'", "DEALLOCATE p"];
    let [failed, none, _, value, _, free] = together(
        &mut one,
        [
            PgMessages::default().query(texts[0]),
            PgMessages::default().query("EXECUTE p"),
            PgMessages::default().query(texts[1]),
            PgMessages::default().query("EXECUTE p"),
            PgMessages::default().query(texts[2]),
            parse("p", "SELECT 'free'").sync(),
        ],
    );
    assert_eq!((failed.code(), none.code(), value.value()), ("42P01", "26000", "p"));
    assert_eq!(free.kinds, "1Z");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn who_looks_at_statements_behind_the_beginning_of_a_transaction_does_not_break_it() {
    let proxy = one_backend();
    let mut one = proxy.client();
    one.query("CREATE TABLE t (a int)").unwrap();
    one.ask(&parse("gone", "SELECT a FROM t").sync()).unwrap();
    one.query("DROP TABLE t").unwrap();
    let query = |text: &str| PgMessages::default().query(text);
    let look = "SELECT 1 FROM pg_prepared_statements WHERE false";
    let [_, seen, alive, end] =
        together(&mut one, [query("BEGIN"), query(look), query("SELECT 'alive'"), query("COMMIT")]);
    assert_eq!((seen.code(), alive.code(), end.tags.concat().as_str()), ("", "", "COMMIT"));
    proxy.check_accounts();
}

#[test]
fn an_error_over_many_names_is_soon_undone() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.limits.pipeline_bytes_max = 16 << 20;
    });
    let mut one = proxy.client();
    let of_all = |messages: PgMessages, each: fn(PgMessages, &str) -> PgMessages| {
        (0..8000).fold(messages, |messages, number| each(messages, &number.to_string())).sync()
    };
    // The first group's end is held back until the second one is there.
    let sleep = parse("", "SELECT pg_sleep(1)").bind("", &[]).execute().parse("bad", "SELEC");
    let taken = of_all(sleep, |messages, name| messages.parse(name, "SELECT 1"));
    let closed = of_all(PgMessages::default(), |messages, name| messages.close(name));
    let begun = std::time::Instant::now();
    let [failed, closed] = together(&mut one, [taken, closed]);
    assert_eq!((failed.code(), closed.kinds.len()), ("42601", 8001));
    let took = begun.elapsed();
    assert!(took < std::time::Duration::from_secs(4), "{took:?}");
    proxy.check_accounts();
}

#[test]
fn a_query_behind_messages_without_their_end_may_be_passed_over_with_what_follows() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    two.query("PREPARE s AS SELECT 'mine'").unwrap();
    one.query("PREPARE s AS SELECT 'another one'").unwrap();
    assert_eq!(one.query("EXECUTE s").unwrap().value(), "another one");
    let messages = parse("bad", "SELEC").query("SELECT 1").query("EXECUTE s").sync();
    let [failed, next] = together(&mut two, [messages, PgMessages::default().query("SELECT 'next'")]);
    assert_eq!((failed.kinds.as_str(), next.value()), ("EZ", "next"));
    // Where nothing fails, all of it runs.
    let copy = parse("", "SELECT 1").query("CREATE TEMPORARY TABLE t (a int); COPY t FROM STDIN");
    let copy = copy.raw(b'd', b"7\n").raw(b'c', &[]).query("TABLE t");
    let [copied, rows] = together(&mut two, [copy, PgMessages::default().sync()]);
    assert_eq!((copied.kinds.as_str(), rows.value()), ("1CGCZ", "7"));
    assert_eq!(two.answer().unwrap().kinds, "Z");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn the_statement_without_a_name_is_another_ones_as_long_as_what_forgets_it_may_be_passed_over() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let begun = || parse("bad", "SELEC").query("SELECT 1");
    for follows in [begun().query("SELECT 2"), begun().close("")] {
        one.ask(&parse("", "SELECT 'another one'").sync()).unwrap();
        let [failed, none] = together(&mut two, [follows.sync(), run("")]);
        assert_eq!((failed.kinds.as_str(), none.code()), ("EZ", "26000"), "{none:?}");
    }
    drop((one, two));
    proxy.check_accounts();
}
