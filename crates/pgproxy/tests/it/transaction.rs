//! Transaction mode: what a session is stays its own, whatever backend it is on.

use pgproxy::*;
use testkit::{PgClient, PgMessages};

use crate::proxy::Proxy;

/// One backend for everybody: whatever leaks is seen.
fn one_backend() -> Proxy {
    Proxy::start(|params| params.pool.size = 1)
}

fn value(client: &mut PgClient, text: &str) -> String {
    client.query(text).unwrap().value().to_owned()
}

#[test]
fn settings_follow_their_client_and_nobody_else() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("SET timezone TO 'Asia/Tokyo'; SET work_mem = '7MB'").unwrap();
    two.query("SET search_path TO private, public").unwrap();
    for _ in 0..3 {
        assert_eq!(value(&mut one, "SHOW timezone"), "Asia/Tokyo");
        assert_eq!(value(&mut one, "SHOW work_mem"), "7MB");
        assert_eq!(value(&mut one, "SHOW search_path"), "\"$user\", public");
        assert_eq!(value(&mut two, "SHOW search_path"), "private, public");
        assert_ne!(value(&mut two, "SHOW timezone"), "Asia/Tokyo");
        assert_eq!(value(&mut two, "SHOW work_mem"), "4MB");
    }
    one.query("RESET timezone").unwrap();
    let plain = value(&mut two, "SHOW timezone");
    assert_eq!(value(&mut one, "SHOW timezone"), plain);
    assert_eq!(value(&mut one, "SHOW work_mem"), "7MB");
    // What fails leaves nothing.
    one.query("BEGIN").unwrap();
    one.query("SET work_mem = '9MB'").unwrap();
    assert_eq!(value(&mut one, "SHOW work_mem"), "9MB");
    one.query("ROLLBACK").unwrap();
    one.query("SET work_mem = '11MB'; SELECT 1 / 0").unwrap();
    value(&mut two, "SELECT 1");
    assert_eq!(value(&mut one, "SHOW work_mem"), "7MB");
    proxy.check_accounts();
    assert_eq!(proxy.backends(), 1);
}

#[test]
fn settings_of_the_startup_message_are_the_sessions_own() {
    let proxy = one_backend();
    let parameters = [
        ("user", "web"),
        ("database", "shop"),
        ("application_name", "one"),
        ("options", "-c work_mem=9MB --datestyle=German"),
    ];
    let mut one = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
    let mut two = proxy.client();
    assert_eq!((one.report("application_name"), one.report("DateStyle")), (Some("one"), Some("German, DMY")));
    assert_eq!(two.report("DateStyle"), Some("ISO, MDY"));
    for _ in 0..2 {
        assert_eq!(value(&mut one, "SHOW work_mem"), "9MB");
        assert_eq!(value(&mut one, "SHOW application_name"), "one");
        assert_eq!(value(&mut two, "SHOW work_mem"), "4MB");
        assert_eq!(value(&mut two, "SHOW application_name"), "");
    }
    // What it is reset to is what it began with.
    one.query("SET work_mem = '1MB'").unwrap();
    one.query("RESET work_mem").unwrap();
    assert_eq!(value(&mut one, "SHOW work_mem"), "9MB");
    one.query("RESET ALL").unwrap();
    assert_eq!(value(&mut one, "SHOW work_mem"), "9MB");
    one.query("DISCARD ALL").unwrap();
    assert_eq!(value(&mut one, "SHOW datestyle"), "German, DMY");
    let bad = [("user", "web"), ("database", "shop"), ("work_mem", "many")];
    let error = PgClient::connect_with(proxy.port, &bad, "").unwrap_err().to_string();
    assert!(error.starts_with("22023"), "{error}");
    proxy.check_accounts();
}

#[test]
fn functions_that_set_something_leak_to_nobody() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let function = "CREATE FUNCTION hide() RETURNS void LANGUAGE plpgsql AS \
                    $$BEGIN PERFORM set_config('search_path', 'hidden', false); SET work_mem = '13MB'; END$$";
    assert_eq!(one.query(function).unwrap().code(), "");
    one.query("SELECT hide()").unwrap();
    assert_eq!(value(&mut two, "SHOW work_mem"), "4MB");
    assert_eq!(value(&mut two, "SHOW search_path"), "\"$user\", public");
    // What decides about names is the session's still.
    assert_eq!(value(&mut one, "SHOW search_path"), "hidden");
    assert_eq!(value(&mut two, "SHOW search_path"), "\"$user\", public");
    proxy.check_accounts();
}

#[test]
fn settings_by_a_function_are_the_sessions_own() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    value(&mut one, "SELECT set_config('TimeZone', 'Asia/Tokyo', false)");
    value(&mut one, "SELECT set_config('search_path', 'hidden', false)");
    let plain = value(&mut two, "SHOW timezone");
    assert_ne!(plain, "Asia/Tokyo");
    assert_eq!(value(&mut one, "SHOW timezone"), "Asia/Tokyo");
    assert_eq!(value(&mut one, "SHOW search_path"), "hidden");
    // For the transaction alone, which leaves nothing.
    one.query("BEGIN").unwrap();
    assert_eq!(value(&mut one, "SELECT set_config('app.user', '7', true)"), "7");
    assert_eq!(value(&mut one, "SELECT current_setting('app.user')"), "7");
    one.query("COMMIT").unwrap();
    assert_ne!(value(&mut two, "SELECT current_setting('app.user', true)"), "7");
    assert_eq!(proxy.database().pinned, 0);
    // Nobody tells what this is: the session keeps its backend.
    value(&mut one, "SELECT set_config('app.user', '8', false)");
    assert_eq!((proxy.database().pinned, value(&mut one, "SELECT current_setting('app.user')").as_str()), (1, "8"));
    drop(one);
    assert_ne!(value(&mut two, "SELECT current_setting('app.user', true)"), "8");
    assert_eq!(value(&mut two, "SHOW timezone"), plain);
    drop(two);
    proxy.check_accounts();
}

#[test]
fn transactions_keep_their_backend_and_others_wait() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.pool.acquire_timeout = std::time::Duration::from_millis(300);
    });
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    assert_eq!(one.query("BEGIN").unwrap().status, 'T');
    one.query("INSERT INTO t VALUES (1)").unwrap();
    // As a statement that fails, and not as the session's end.
    let late = two.query("SELECT 1").unwrap();
    assert_eq!((late.code(), late.status), ("53300", 'I'));
    let late = two.ask(&PgMessages::default().parse("", "SELECT 1").bind("", &[]).execute().sync()).unwrap();
    assert_eq!((late.code(), late.kinds.as_str()), ("53300", "EZ"));
    assert_eq!(one.query("COMMIT").unwrap().status, 'I');
    assert_eq!(value(&mut two, "SELECT count(*) FROM t"), "1");
    proxy.check_accounts();
    assert_eq!(proxy.database().waits[1], 2);
}

#[test]
fn what_only_a_backend_can_keep_pins() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TEMP TABLE mine (a int)").unwrap();
    for number in 0..5 {
        one.query(&format!("INSERT INTO mine VALUES ({number})")).unwrap();
        value(&mut two, "SELECT 1");
    }
    assert_eq!(value(&mut one, "SELECT count(*) FROM mine"), "5");
    assert_eq!(two.query("SELECT * FROM mine").unwrap().code(), "42P01");
    assert_eq!(proxy.database().pinned, 1);
    assert!(proxy.database().pins.contains(&("temporary_table", 1)));
    one.query("DISCARD ALL").unwrap();
    assert_eq!(proxy.database().pinned, 0);
    assert_eq!(one.query("SELECT * FROM mine").unwrap().code(), "42P01");
    // The lock goes with its session.
    one.query("SELECT pg_advisory_lock(7)").unwrap();
    assert_eq!(value(&mut two, "SELECT pg_try_advisory_lock(7)"), "f");
    two.query("DISCARD ALL").unwrap();
    drop(one);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while value(&mut two, "SELECT pg_try_advisory_lock(7)") != "t" {
        assert!(std::time::Instant::now() < deadline, "the lock is still held");
    }
    drop(two);
    proxy.check_accounts();
}

#[test]
fn pins_can_be_refused() {
    let proxy = Proxy::start(|params| params.pin = PinPolicy::Error);
    let mut client = proxy.client();
    let refused = client.query("CREATE TEMP TABLE mine (a int)").unwrap();
    assert_eq!((refused.code(), refused.kinds.as_str(), refused.status), ("0A000", "EZ", 'I'));
    client.query("BEGIN").unwrap();
    let refused = client
        .ask(
            &PgMessages::default()
                .parse("s", "DECLARE c CURSOR WITH HOLD FOR SELECT 1")
                .bind("s", &[])
                .execute()
                .sync(),
        )
        .unwrap();
    assert_eq!((refused.code(), refused.kinds.as_str(), refused.status), ("0A000", "EZ", 'E'));
    assert_eq!(client.query("COMMIT").unwrap().tags, ["ROLLBACK"]);
    proxy.check_accounts();
}

#[test]
fn names_of_statements_belong_to_their_clients() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let prepare = |client: &mut PgClient, text: &str| {
        client.ask(&PgMessages::default().parse("s", text).describe("s").sync()).unwrap()
    };
    assert_eq!(prepare(&mut one, "SELECT $1::int + 1").kinds, "1tTZ");
    assert_eq!(prepare(&mut two, "SELECT 'two' || $1::text").kinds, "1tTZ");
    let run = |client: &mut PgClient, argument: &str| {
        let answer = client.ask(&PgMessages::default().bind("s", &[argument]).execute().sync()).unwrap();
        assert_eq!(answer.kinds, "2DCZ", "{answer:?}");
        answer.value().to_owned()
    };
    for number in 0..10 {
        assert_eq!(run(&mut one, &number.to_string()), (number + 1).to_string());
        assert_eq!(run(&mut two, &number.to_string()), format!("two{number}"));
        // On another backend.
        two.query("BEGIN").unwrap();
        assert_eq!(run(&mut one, "1"), "2");
        two.query("COMMIT").unwrap();
    }
    // A third one that says the same finds it there.
    let mut three = proxy.client();
    assert_eq!(prepare(&mut three, "SELECT $1::int + 1").kinds, "1tTZ");
    assert_eq!(run(&mut three, "41"), "42");
    let again = prepare(&mut one, "SELECT 1");
    assert_eq!(again.errors, [("42P05".to_owned(), "prepared statement \"s\" already exists".to_owned())]);
    let nothing = one.ask(&PgMessages::default().bind("t", &[]).execute().sync()).unwrap();
    assert_eq!(nothing.errors, [("26000".to_owned(), "prepared statement \"t\" does not exist".to_owned())]);
    assert_eq!(one.ask(&PgMessages::default().close("s").sync()).unwrap().kinds, "3Z");
    assert_eq!(one.ask(&PgMessages::default().bind("s", &["1"]).execute().sync()).unwrap().code(), "26000");
    assert_eq!(prepare(&mut one, "SELECT $1::int + 2").kinds, "1tTZ");
    assert_eq!(run(&mut one, "1"), "3");
    // By texts that name them.
    assert_eq!(one.query("EXECUTE s (5)").unwrap().value(), "7");
    assert_eq!(one.query("DEALLOCATE s").unwrap().tags, ["DEALLOCATE"]);
    assert_eq!(one.ask(&PgMessages::default().bind("s", &["1"]).execute().sync()).unwrap().code(), "26000");
    assert_eq!(run(&mut two, "x"), "twox");
    two.query("DEALLOCATE ALL").unwrap();
    assert_eq!(two.ask(&PgMessages::default().bind("s", &["1"]).execute().sync()).unwrap().code(), "26000");
    assert_eq!(run(&mut three, "1"), "2");
    assert_eq!(proxy.database().pinned, 0);
    proxy.check_accounts();
}

#[test]
fn a_statement_without_a_name_lives_on_another_backend() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    assert_eq!(one.ask(&PgMessages::default().parse("", "SELECT 'one' || $1").sync()).unwrap().kinds, "1Z");
    assert_eq!(two.ask(&PgMessages::default().parse("", "SELECT 'two' || $1").sync()).unwrap().kinds, "1Z");
    let run = |client: &mut PgClient| client.ask(&PgMessages::default().bind("", &["x"]).execute().sync()).unwrap();
    for _ in 0..3 {
        assert_eq!(run(&mut one).value(), "onex");
        assert_eq!(run(&mut two).value(), "twox");
        two.query("BEGIN").unwrap();
        assert_eq!(run(&mut one).value(), "onex");
        two.query("END").unwrap();
        // A simple query has forgotten it, as it does without a proxy.
        assert_eq!(run(&mut two).code(), "26000");
        two.ask(&PgMessages::default().parse("", "SELECT 'two' || $1").sync()).unwrap();
    }
    // Nobody gets another one's.
    let mut three = proxy.client();
    assert_eq!(run(&mut three).code(), "26000");
    proxy.check_accounts();
}

#[test]
fn backends_have_a_bounded_number_of_statements() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.prepared.per_backend_max = 3;
    });
    let mut client = proxy.client();
    for number in 0..10 {
        let messages = PgMessages::default().parse(&format!("s{number}"), &format!("SELECT {number}")).sync();
        assert_eq!(client.ask(&messages).unwrap().kinds, "1Z");
    }
    for round in 0..3 {
        for number in 0..10 {
            let messages = PgMessages::default().bind(&format!("s{number}"), &[]).execute().sync();
            assert_eq!(client.ask(&messages).unwrap().value(), number.to_string(), "round {round}");
        }
    }
    // Who looks itself sees its own, so a function does that nobody looks into.
    let held = "CREATE FUNCTION held() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM pg_prepared_statements'";
    proxy.postgres.sql(0, held).unwrap();
    assert_eq!(value(&mut client, "SELECT held()"), "3");
    proxy.check_accounts();
}

#[test]
fn a_change_of_the_schema_is_heard_of_as_without_a_proxy() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut old, mut other) = (proxy.client(), proxy.client());
    other.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let parse = PgMessages::default().parse("s", "SELECT * FROM t").sync();
    let run = PgMessages::default().bind("s", &[]).execute().sync();
    assert_eq!(old.ask(&parse).unwrap().kinds, "1Z");
    assert_eq!(old.ask(&run).unwrap().value(), "1");
    other.query("ALTER TABLE t ADD COLUMN b int DEFAULT 2").unwrap();
    // It had prepared before the change, and hears of it; whoever prepares now does not.
    let mut new = proxy.client();
    assert_eq!(new.ask(&parse).unwrap().kinds, "1Z");
    for client in [&mut new, &mut other] {
        client.ask(&parse).unwrap();
        assert_eq!(client.ask(&run).unwrap().rows, [[Some("1".into()), Some("2".into())]]);
    }
    let heard = old.ask(&run).unwrap();
    assert!(heard.code() == "0A000" || heard.rows.len() == 1, "{heard:?}");
    old.ask(&PgMessages::default().close("s").sync()).unwrap();
    old.ask(&parse).unwrap();
    assert_eq!(old.ask(&run).unwrap().rows.len(), 1);
    proxy.check_accounts();
}

#[test]
fn a_change_that_nobody_saw_is_healed() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let parse = PgMessages::default().parse("s", "SELECT * FROM t").sync();
    let run = PgMessages::default().bind("s", &[]).execute().sync();
    let describe = PgMessages::default().describe("s").bind("s", &[]).execute().sync();
    for client in [&mut one, &mut two] {
        client.ask(&parse).unwrap();
        assert_eq!(client.ask(&run).unwrap().value(), "1");
    }
    proxy.postgres.sql(0, "ALTER TABLE t ADD COLUMN b int DEFAULT 2").unwrap();
    // Who asks what the rows are is told what they are now; who has prepared since is none the wiser.
    assert_eq!(one.ask(&describe).unwrap().kinds, "tT2DCZ");
    assert_eq!(one.ask(&run).unwrap().rows[0].len(), 2);
    let mut three = proxy.client();
    three.ask(&parse).unwrap();
    assert_eq!(three.ask(&run).unwrap().rows[0].len(), 2);
    assert_eq!(proxy.database().healed, 1);
    // Who knew what they are hears that it is not so any more, as without a proxy, or gets what it would get if it prepared again.
    let heard = two.ask(&run).unwrap();
    assert!(heard.code() == "0A000" || heard.rows[0].len() == 2, "{heard:?}");
    two.ask(&PgMessages::default().close("s").sync()).unwrap();
    two.ask(&parse).unwrap();
    assert_eq!(two.ask(&run).unwrap().rows[0].len(), 2);
    // In a transaction nothing can be undone.
    proxy.postgres.sql(0, "ALTER TABLE t ADD COLUMN c int DEFAULT 3").unwrap();
    one.query("BEGIN").unwrap();
    assert_eq!(one.ask(&describe).unwrap().code(), "0A000");
    one.query("ROLLBACK").unwrap();
    // It was told of two columns, and gets no more of them before it has prepared again.
    let again = |client: &mut PgClient| {
        assert_eq!(client.ask(&run).unwrap().code(), "0A000");
        client.ask(&PgMessages::default().close("s").sync()).unwrap();
        client.ask(&parse).unwrap();
        client.ask(&describe).unwrap().rows[0].len()
    };
    assert_eq!(again(&mut one), 3);
    // With more behind it, the error is the client's as well, and what is behind it is answered in order.
    proxy.postgres.sql(0, "ALTER TABLE t ADD COLUMN d int DEFAULT 4").unwrap();
    one.send(&[&describe.0[..], &PgMessages::default().query("SELECT 'behind'").0[..]].concat()).unwrap();
    let first = one.answer().unwrap();
    assert!(first.code() == "0A000" || first.rows[0].len() == 4, "{first:?}");
    assert_eq!(one.answer().unwrap().value(), "behind");
    assert_eq!(again(&mut one), 4);
    drop((one, two, three));
    proxy.check_accounts();
}

#[test]
fn statement_mode_refuses_transactions() {
    let proxy = Proxy::start(|params| params.mode = Mode::Statement);
    let mut client = proxy.client();
    assert_eq!(client.query("BEGIN").unwrap().code(), "0A000");
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    proxy.check_accounts();
}

#[test]
fn session_mode_is_a_session() {
    let proxy = Proxy::start(|params| {
        params.mode = Mode::Session;
        params.pool.size = 2;
    });
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let pid = value(&mut one, "SELECT pg_backend_pid()");
    one.query("CREATE TEMP TABLE mine (a int); PREPARE p AS SELECT 'one'; SET work_mem = '5MB'").unwrap();
    assert_ne!(value(&mut two, "SELECT pg_backend_pid()"), pid);
    assert_eq!(value(&mut one, "EXECUTE p"), "one");
    assert_eq!(one.ask(&PgMessages::default().bind("p", &[]).execute().sync()).unwrap().value(), "one");
    assert_eq!(value(&mut one, "SELECT pg_backend_pid()"), pid);
    drop(one);
    // It comes back as it began.
    let mut three = proxy.client();
    assert_eq!(value(&mut three, "SELECT pg_backend_pid()"), pid);
    assert_eq!(value(&mut three, "SHOW work_mem"), "4MB");
    assert_eq!(three.query("SELECT * FROM mine").unwrap().code(), "42P01");
    assert_eq!(three.query("EXECUTE p").unwrap().code(), "26000");
    drop((two, three));
    proxy.check_accounts();
}
