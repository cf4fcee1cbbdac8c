//! What an error drops took no effect, and nothing of it is believed afterwards.

use std::time::Duration;

use pgproxy::ServerAddress;
use testkit::{PgMessages, Postgres, PostgresOptions, Relay, Way};

use crate::proxy::Proxy;

/// One backend for everybody: whatever is believed of it wrongly is seen.
fn one_backend() -> Proxy {
    Proxy::start(|params| params.pool.size = 1)
}

/// Messages whose answers are asked for, without an end of their group.
fn flush(messages: PgMessages) -> PgMessages {
    messages.raw(b'H', &[])
}

fn parse(name: &str, text: &str) -> PgMessages {
    PgMessages::default().parse(name, text)
}

fn run(name: &str) -> PgMessages {
    PgMessages::default().bind(name, &[]).execute().sync()
}

#[test]
fn what_others_have_prepared_outlives_the_error_of_a_group_that_prepares_it_too() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask(&parse("s", "SELECT 1").sync()).unwrap();
    for _ in 0..2 {
        let failed = two.ask(&parse("a", "SELEC").parse("b", "SELECT 1").sync()).unwrap();
        assert_eq!((failed.kinds.as_str(), failed.code()), ("EZ", "42601"));
        assert_eq!(one.ask(&run("s")).unwrap().value(), "1");
        assert_eq!(two.ask(&run("b")).unwrap().code(), "26000");
    }
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_is_older_than_a_change_outlives_the_error_of_a_group_that_prepares_it_anew() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    let mut two = proxy.client();
    one.ask(&parse("s", "SELECT 1").sync()).unwrap();
    other.query("CREATE TABLE t (a int)").unwrap();
    // The other backend is taken.
    other.query("BEGIN").unwrap();
    for _ in 0..2 {
        let failed = two.ask(&parse("a", "SELEC").parse("b", "SELECT 1").sync()).unwrap();
        assert_eq!((failed.kinds.as_str(), failed.code()), ("EZ", "42601"));
        assert_eq!(one.ask(&run("s")).unwrap().value(), "1");
    }
    assert_eq!(two.ask(&parse("b", "SELECT 1").bind("b", &[]).execute().sync()).unwrap().value(), "1");
    assert_eq!(one.ask(&run("s")).unwrap().value(), "1");
    other.query("COMMIT").unwrap();
    drop((one, two, other));
    proxy.check_accounts();
}

#[test]
fn a_statement_that_cannot_be_looked_at_can_be_prepared_again() {
    let proxy = one_backend();
    let (mut one, mut two, mut three) = (proxy.client(), proxy.client(), proxy.client());
    two.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let prepare = parse("s", "SELECT * FROM t").describe("s").sync();
    one.ask(&prepare).unwrap();
    two.query("CREATE TABLE other (a int)").unwrap();
    assert_eq!(three.ask(&prepare).unwrap().kinds, "1tTZ");
    // A change that nobody sees: the server has a plan that it will not describe.
    proxy.postgres.sql(0, "ALTER TABLE t ALTER a TYPE text").unwrap();
    assert_eq!(one.ask(&run("s")).unwrap().code(), "0A000");
    for _ in 0..2 {
        three.ask(&PgMessages::default().close("s").sync()).unwrap();
        assert_eq!(three.ask(&prepare).unwrap().kinds, "1tTZ");
        assert_eq!(three.ask(&run("s")).unwrap().value(), "1");
    }
    drop((one, two, three));
    proxy.check_accounts();
}

#[test]
fn what_is_asked_while_the_server_passes_over_all_is_not_believed() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask(&parse("s", "SELECT 's'").sync()).unwrap();
    // The backend forgets it.
    two.query("SET work_mem = '5MB'; DISCARD ALL").unwrap();
    let fail = |client: &mut testkit::PgClient| {
        client.send(&flush(parse("bad", "SELEC")).0).unwrap();
        assert_eq!(client.message().unwrap().tag, b'E');
    };
    fail(&mut one);
    let passed_over = PgMessages::default().bind("s", &[]).execute().parse("b", "SELECT 'b'");
    let passed_over = passed_over.parse("", "SELECT 1").query("SELECT 'lost'").close("s");
    assert_eq!(one.ask(&passed_over.sync()).unwrap().kinds, "Z");
    assert_eq!(one.ask(&run("s")).unwrap().value(), "s");
    assert_eq!(one.ask(&parse("b", "SELECT 'b'").sync()).unwrap().kinds, "1Z");
    // Nor does a later error take back what was done meanwhile.
    fail(&mut one);
    assert_eq!(one.ask(&parse("c", "SELECT 'c'").sync()).unwrap().kinds, "Z");
    assert_eq!(one.ask(&parse("c", "SELECT 'c'").sync()).unwrap().kinds, "1Z");
    assert_eq!(one.ask(&parse("", "SELECT 'mine'").sync()).unwrap().kinds, "1Z");
    assert_eq!(one.ask(&parse("bad", "SELEC").sync()).unwrap().kinds, "EZ");
    assert_eq!(one.ask(&run("c")).unwrap().value(), "c");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn names_that_a_failed_group_gave_up_and_took_are_what_they_were() {
    let proxy = one_backend();
    let mut one = proxy.client();
    one.ask(&parse("kept", "SELECT 'kept'").sync()).unwrap();
    let bad = || parse("", "SELEC");
    // It is closed and taken again, or taken and closed again, behind the error.
    assert_eq!(one.ask(&bad().close("kept").parse("kept", "SELECT 'other'").sync()).unwrap().kinds, "EZ");
    assert_eq!(one.ask(&run("kept")).unwrap().value(), "kept");
    assert_eq!(one.ask(&bad().parse("new", "SELECT 'new'").close("new").sync()).unwrap().kinds, "EZ");
    assert_eq!(one.ask(&run("new")).unwrap().code(), "26000");
    assert_eq!(one.ask(&parse("new", "SELECT 'new'").bind("new", &[]).execute().sync()).unwrap().value(), "new");
    proxy.check_accounts();
}

#[test]
fn a_simple_query_goes_with_the_group_that_it_is_in() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    for (client, number) in [(&mut one, 1), (&mut two, 2)] {
        client.query(&format!("PREPARE p AS SELECT {number}")).unwrap();
    }
    // The server passes over it, as over all that stands before the group's end.
    let bad = parse("", "SELECT 1 / 0").bind("", &[]).execute();
    let failed = one.ask(&bad.query("EXECUTE p").sync()).unwrap();
    assert_eq!((failed.kinds.as_str(), failed.code()), ("1EZ", "22012"));
    // What fails takes back what the group has done before it. It is refused, since nothing could be put before it.
    let insert = parse("", "INSERT INTO t VALUES (1)").bind("", &[]).execute();
    for text in ["EXECUTE p", "SELECT 1 / 0"] {
        two.query("EXECUTE p").unwrap();
        let answer = one.ask(&insert.clone().query(text)).unwrap();
        assert_eq!(answer.errors.len(), 1, "{answer:?}");
        assert_eq!(two.query("SELECT count(*) FROM t").unwrap().value(), "0", "{text}");
    }
    let answer = one.ask(&insert.query("SELECT 1")).unwrap();
    assert_eq!((answer.code(), answer.value()), ("", "1"));
    assert_eq!(two.query("SELECT count(*) FROM t").unwrap().value(), "1");
    assert_eq!(one.query("EXECUTE p").unwrap().value(), "1");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn a_statement_of_others_that_has_gone_stale_is_run_again_for_whom_it_is_new() {
    let proxy = one_backend();
    proxy.postgres.sql(0, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    // As the JDBC driver does it.
    let both = |name: &str| parse(name, "SELECT * FROM t").bind(name, &[]).raw(b'D', b"P\0").execute().sync();
    assert_eq!(one.ask(&both("S_1")).unwrap().kinds, "12TDCZ");
    proxy.postgres.sql(0, "ALTER TABLE t ADD COLUMN b int DEFAULT 2").unwrap();
    let answer = two.ask(&both("S_1")).unwrap();
    assert_eq!((answer.kinds.as_str(), answer.code()), ("12TDCZ", ""));
    assert_eq!(answer.rows[0].len(), 2);
    assert_eq!(proxy.database().healed, 1);
    // It has the name, and behind other names as well.
    assert_eq!(two.ask(&parse("S_1", "SELECT 1").sync()).unwrap().code(), "42P05");
    proxy.postgres.sql(0, "ALTER TABLE t ADD COLUMN c int DEFAULT 3").unwrap();
    let answered = parse("S_3", "SELECT * FROM t").close("S_1").bind("S_3", &[]).raw(b'D', b"P\0").execute().sync();
    let answer = two.ask(&answered).unwrap();
    assert_eq!((answer.kinds.as_str(), answer.code()), ("132TDCZ", ""));
    assert_eq!((answer.rows[0].len(), proxy.database().healed), (3, 2));
    assert_eq!(two.ask(&run("S_3")).unwrap().rows[0].len(), 3);
    assert_eq!(two.ask(&run("S_1")).unwrap().code(), "26000");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_fails_when_it_is_run_again_says_nothing_of_the_next_group() {
    let proxy = one_backend();
    let mut one = proxy.client();
    let function = |kind: &str| format!("CREATE FUNCTION f({kind}) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'");
    one.query(&format!("CREATE TABLE t (a int); {}", function("int"))).unwrap();
    one.ask(&parse("s", "SELECT a FROM t WHERE f($1) = 1").parse("u", "SELECT $1::int").sync()).unwrap();
    // Its parameters are told, then it is stale; and when it is parsed anew, nobody knows which function is meant.
    proxy.postgres.sql(0, &format!("ALTER TABLE t ALTER a TYPE text; {}", function("date"))).unwrap();
    let failed = one.ask(&PgMessages::default().describe("s").sync()).unwrap();
    assert_eq!((failed.kinds.as_str(), failed.code()), ("tEZ", "42725"));
    assert_eq!(proxy.database().healed, 1);
    assert_eq!(one.ask(&PgMessages::default().describe("u").sync()).unwrap().kinds, "tTZ");
    proxy.check_accounts();
}

#[test]
fn an_error_is_told_or_mended_though_the_next_group_comes_before_its_end() {
    let postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let relay = Relay::start(([127, 0, 0, 1], postgres.port(0)).into()).unwrap();
    let proxy = Proxy::before(postgres, |params, _| {
        params.pool.size = 1;
        params.primary.address = ServerAddress::Tcp { host: "127.0.0.1".into(), port: relay.address().port() };
    });
    let mut one = proxy.client();
    one.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    one.ask(&parse("s", "SELECT * FROM t").sync()).unwrap();
    assert_eq!(one.ask(&run("s")).unwrap().value(), "1");
    proxy.postgres.sql(0, "ALTER TABLE t ADD COLUMN b int DEFAULT 2").unwrap();
    // The server is told of the group's end as long after its beginning as it takes to hear of the error.
    let step = Duration::from_millis(300);
    relay.slow(Way::ToServer, step, Duration::from_secs(2));
    one.send(&PgMessages::default().describe("s").bind("s", &[]).execute().0).unwrap();
    std::thread::sleep(step / 6);
    one.send(&PgMessages::default().sync().0).unwrap();
    std::thread::sleep(step * 4 / 3);
    one.send(&parse("", "SELECT 'next'").bind("", &[]).execute().sync().0).unwrap();
    let first = one.answer().unwrap();
    assert_eq!((first.kinds.as_str(), first.code()), ("tT2DCZ", ""));
    let next = one.answer().unwrap();
    assert_eq!((next.kinds.as_str(), next.value()), ("12DCZ", "next"));
    assert_eq!(proxy.database().healed, 1);
    drop(one);
    proxy.check_accounts();
}

/// Groups that are sent together, and the kinds of what each of them hears.
fn together(client: &mut testkit::PgClient, groups: &[PgMessages]) -> Vec<String> {
    let all: Vec<u8> = groups.iter().flat_map(|group| group.0.clone()).collect();
    client.send(&all).unwrap();
    groups.iter().map(|_| client.answer().unwrap().kinds).collect()
}

#[test]
fn an_error_takes_nothing_back_that_the_next_group_has_done_again() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let bad = || parse("", "SELEC");
    let groups = [bad().parse("a", "SELECT 'shared'").sync(), parse("b", "SELECT 'shared'").sync()];
    assert_eq!(together(&mut one, &groups), ["EZ", "1Z"]);
    // The backend has it, and that is known.
    assert_eq!(two.ask(&parse("c", "SELECT 'shared'").sync()).unwrap().kinds, "1Z");
    for (client, name) in [(&mut one, "b"), (&mut two, "c")] {
        assert_eq!(client.ask(&run(name)).unwrap().value(), "shared");
    }
    // Nor does what follows at once find it missing.
    let use_of = |name: &str| parse(name, "SELECT 'more'").sync();
    let groups = [bad().parse("d", "SELECT 'more'").sync(), use_of("e"), use_of("f"), run("e"), run("f")];
    assert_eq!(together(&mut one, &groups), ["EZ", "1Z", "1Z", "2DCZ", "2DCZ"]);
    assert_eq!(two.ask(&use_of("f")).unwrap().kinds, "1Z");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_goes_to_make_room_is_known_though_an_error_has_it_stay() {
    let proxy = Proxy::start(|params| (params.pool.size, params.prepared.per_backend_max) = (1, 1));
    let mut one = proxy.client();
    let (a, b) = (|| parse("a", "SELECT 'a'"), || parse("b", "SELECT 'b'"));
    one.ask(&a().sync()).unwrap();
    // The first has it forgotten, which is passed over.
    let groups = [parse("", "SELEC").parse("b", "SELECT 'b'").sync(), parse("c", "SELECT 'a'").sync(), run("c")];
    assert_eq!(together(&mut one, &groups), ["EZ", "1Z", "2DCZ"]);
    assert_eq!(together(&mut one, &[b().sync(), run("b"), run("a"), run("b")]), ["1Z", "2DCZ", "2DCZ", "2DCZ"]);
    drop(one);
    proxy.check_accounts();
}

#[test]
fn an_error_takes_no_name_of_the_next_group_back() {
    let proxy = one_backend();
    let mut one = proxy.client();
    let bad = || parse("", "SELEC");
    let next = || PgMessages::default().close("a").parse("a", "SELECT 'next'").sync();
    assert_eq!(together(&mut one, &[bad().parse("a", "SELECT 'first'").sync(), next()]), ["EZ", "31Z"]);
    assert_eq!(one.ask(&run("a")).unwrap().value(), "next");
    // What was never there does not come back.
    let never = bad().parse("n", "SELECT 1").sync();
    assert_eq!(together(&mut one, &[never, bad().close("n").parse("n", "SELECT 2").sync()]), ["EZ", "EZ"]);
    assert_eq!(one.ask(&parse("n", "SELECT 'new'").sync()).unwrap().kinds, "1Z");
    assert_eq!(one.ask(&run("n")).unwrap().value(), "new");
    assert_eq!(together(&mut one, &[bad().sync(), parse("", "SELECT 'good'").sync()]), ["EZ", "1Z"]);
    assert_eq!(one.ask(&run("")).unwrap().value(), "good");
    assert_eq!(together(&mut one, &[bad().sync(), run("")]), ["EZ", "EZ"]);
    drop(one);
    proxy.check_accounts();
}

#[test]
fn nobody_runs_the_statement_without_a_name_of_others_behind_an_error() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let take = |two: &mut testkit::PgClient| {
        assert_eq!(two.ask(&parse("", "SELECT 'other'").sync()).unwrap().kinds, "1Z");
    };
    one.ask(&parse("", "SELECT 'mine'").sync()).unwrap();
    take(&mut two);
    let bad = || parse("bad", "SELEC");
    assert_eq!(one.ask(&bad().bind("", &[]).execute().sync()).unwrap().kinds, "EZ");
    assert_eq!(one.ask(&run("")).unwrap().value(), "mine");
    take(&mut two);
    assert_eq!(together(&mut one, &[bad().bind("", &[]).sync(), parse("x", "SELECT 1").sync()]), ["EZ", "1Z"]);
    assert_eq!(one.ask(&run("")).unwrap().value(), "mine");
    take(&mut two);
    one.send(&bad().bind("", &[]).sync().bind("", &[]).execute().sync().0).unwrap();
    assert_eq!(one.answer().unwrap().kinds, "EZ");
    assert_eq!(one.answer().unwrap().value(), "mine");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_an_error_keeps_from_being_forgotten_is_run_by_nobody_else() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask(&parse("", "SELECT 'secret'").sync()).unwrap();
    // The server passes over the Close.
    let failed = one.ask(&PgMessages::default().bind("nosuch", &[]).close("").sync()).unwrap();
    assert_eq!((failed.kinds.as_str(), failed.code()), ("EZ", "26000"));
    let other = two.ask(&run("")).unwrap();
    assert_eq!(other.code(), "26000", "{other:?}");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn a_query_whose_own_error_comes_before_what_it_names_hears_its_own() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    one.query("PREPARE p AS SELECT a FROM t").unwrap();
    two.query("DEALLOCATE ALL").unwrap();
    two.query("DROP TABLE t").unwrap();
    assert_eq!(one.query("SELECT 1 / 0; EXECUTE p").unwrap().code(), "22012");
    assert_eq!(one.query("EXECUTE p").unwrap().code(), "42P01");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn a_backend_of_which_too_much_is_in_doubt_is_given_up() {
    let proxy = Proxy::start(|params| (params.pool.size, params.prepared.per_backend_max) = (1, 4));
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let mut pid = || two.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    let before = pid();
    for at in 0..4 {
        let prepared = one.query(&format!("PREPARE kept{at} AS SELECT {at}")).unwrap();
        assert_eq!(prepared.tags, ["PREPARE"]);
    }
    assert_eq!(pid(), before);
    for at in 0..8 {
        let prepare = parse("bad", "SELEC").parse("", &format!("PREPARE s{at} AS SELECT 1")).bind("", &[]).execute();
        assert_eq!(one.ask(&prepare.sync()).unwrap().kinds, "EZ");
    }
    assert_ne!(pid(), before);
    for at in 0..4 {
        assert_eq!(one.query(&format!("EXECUTE kept{at}")).unwrap().value(), at.to_string());
    }
    drop((one, two));
    proxy.check_accounts();
}
