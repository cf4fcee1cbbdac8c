use pgroute::classify::{Catalogue, Effects, Hint, Route};
use proptest::prelude::*;

use super::classify;

fn replica(text: &str) {
    let plan = classify(text);
    assert_eq!(plan.route, Route::Replica, "{text}");
    assert_eq!(plan.effects, pgroute::classify::Effects::default(), "{text}");
}

fn primary(text: &str) {
    assert_eq!(classify(text).route, Route::Primary, "{text}");
}

#[test]
fn what_only_reads_may_go_to_a_replica() {
    let texts = "
        SELECT 1
        select * from t where id = $1 order by name limit 10 offset 5
        SELECT \"users\".* FROM \"users\" WHERE \"users\".\"id\" = 1
        (SELECT 1) UNION ALL (SELECT 2)
        VALUES (1, 'a'), (2, 'b')
        TABLE t
        WITH a AS (SELECT 1), b(x, y) AS MATERIALIZED (SELECT 1, 2) SELECT * FROM a, b
        WITH a AS (SELECT 1) (SELECT count(*) FROM a) ORDER BY lower('x')
        WITH recursive AS (SELECT 1), \"b\" (x) AS (SELECT 2) SELECT * FROM \"b\"
        SELECT a.check, a.fetch, a.update FROM a
        WITH RECURSIVE r (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) FROM r
        SELECT count(*) FILTER (WHERE x > 1) OVER (PARTITION BY y ORDER BY z) FROM t
        SELECT LOWER(name), pg_catalog.upper(name), \"lower\"(name) FROM t
        SELECT x::numeric(10, 2), CAST(y AS varchar(5)) FROM t WHERE x IN (1, 2) AND y BETWEEN (1) AND (2)
        SELECT extract(year FROM d), substring(s FROM 1 FOR 3), trim(BOTH FROM s), coalesce(a, b) FROM t
        SELECT * FROM a LEFT JOIN LATERAL (SELECT 1) x ON (true) JOIN b USING (id)
        SELECT x FROM t GROUP BY GROUPING SETS ((a), (b)), ROLLUP (c), cube (d)
        SELECT * FROM t WHERE EXISTS (SELECT 1) AND x = ANY ($1) AND NOT (y) OR (z, 1) = (1, 2)
        SELECT price_of(id) FROM t
        SELECT random(), clock_timestamp()
        SELECT current_setting('x'), current_user, current_date, now()
        SELECT into_x, \"into\", \"update\", 'FOR UPDATE', $$ FOR UPDATE $$ FROM t
        SELECT E'\\' FOR UPDATE --' FROM t
        SELECT 'it''s' FROM t -- FOR UPDATE
        SELECT /* FOR UPDATE /* nested */ INTO */ 1
        SELECT update, delete FROM t
        SELECT a ->> 'b', a @> b, a - -1, @ a FROM t
        SELECT left('abc', 2)
        SELECT * FROM unnest($1, $2) WITH ORDINALITY AS u (a, b, n)
        SELECT '2026-01-01'::timestamp WITH TIME ZONE, lower(x) FROM t
        SELECT COLLATION FOR (x) FROM t
        EXPLAIN SELECT * FROM t
        EXPLAIN (ANALYZE, COSTS off) SELECT * FROM t
        SELECT 1; SELECT 2;
        ;; SELECT 1 ;
    ";
    texts.lines().map(str::trim).filter(|text| !text.is_empty()).for_each(replica);
    replica("SELECT 'a'\n  -- and\n 'b FOR UPDATE'");
    replica(r"SELECT U&'d\0061t\+000061' FROM t");
}

#[test]
fn what_does_more_goes_to_the_primary() {
    let texts = "
        INSERT INTO t VALUES (1)
        UPDATE t SET a = 1
        DELETE FROM t
        MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE
        SELECT * FROM t FOR UPDATE
        SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED
        SELECT * FROM t for key share
        SELECT * FROM (SELECT * FROM t FOR SHARE) x
        SELECT * FROM t FOR /* x */ UPDATE
        SELECT * INTO new FROM t
        SELECT 1INTO new
        WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a
        WITH a AS MATERIALIZED (DELETE FROM t RETURNING *) SELECT * FROM a
        WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a
        WITH a AS (SELECT 1) UPDATE t SET x = 1
        WITH a AS (WITH b AS (SELECT 1) DELETE FROM t RETURNING 1) SELECT 1
        SELECT nextval('s')
        SELECT '2026-01-01'::timestamp WITH TIME ZONE, nextval('s')
        SELECT * FROM unnest($1) WITH ORDINALITY, book(1)
        WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY id SET s UPDATE t SET x = 1
        SELECT * FROM U&\"order\\005fid_seq\"
        SELECT pg_catalog.nextval('s')
        SELECT \"nextval\"('s')
        SELECT NEXTVAL ('s')
        SELECT book(1)
        SELECT log_it(1)
        SELECT unknown_function(1)
        SELECT \"LOWER\"(x) FROM t
        SELECT pg_backend_pid()
        SELECT txid_current()
        SELECT last_value FROM order_id_seq
        SELECT * FROM pg_stat_activity
        SELECT * FROM pg_catalog.pg_locks
        SELECT a <<| b FROM t
        SELECT * FROM pg_temp.t
        COPY t TO STDOUT
        COPY (SELECT 1) TO STDOUT
        CREATE TABLE t (a int)
        EXPLAIN ANALYZE DELETE FROM t
        EXPLAIN (ANALYZE) INSERT INTO t VALUES (1)
        EXPLAIN DELETE FROM t
        SHOW search_path
        SET x = 1
        BEGIN
        CALL p()
        DO $$ BEGIN END $$
        TRUNCATE t
        LOCK TABLE t
        VACUUM
        SELECT 1; DELETE FROM t
        SELECT 1; SET x = 1; SELECT 2
        NOTIFY c
        gibberish
        WITH t AS (SELECT 1) (SELECT 1) ORDER BY set_config('search_path', 'evil', false)
        WITH t AS (SELECT 1) (SELECT 1) ORDER BY 1, nextval('s')
        WITH t(a) AS (SELECT 1), u AS MATERIALIZED (SELECT 1) (SELECT 1) LIMIT pg_advisory_lock(1)
        WITH RECURSIVE t AS (SELECT 1) CYCLE a SET b USING c (SELECT 1) ORDER BY book(1)
        WITH t AS (SELECT 1) (SELECT * FROM x) FOR SHARE
        SELECT app.fetch(1)
        SELECT app . check(1)
        SELECT app.position(1)
        SELECT app.by(1)
        SELECT U&\"set\\005fconfig\"('search_path', 'evil', false)
        EXECUTE p(set_config('search_path', 'evil', false))
        WITH y AS (WITH RECURSIVE x AS (SELECT 1 a) SEARCH DEPTH FIRST BY a SET o DELETE FROM t RETURNING *) SELECT * FROM y
        SELECT query_to_xml('select 1', true, true, '')
        SELECT 'a
        SELECT /* a
        SELECT $a$ b
        SELECT \"a
        SELECT 1 \\ 2
        SELECT E'\\''; DELETE FROM t; --'
    ";
    texts.lines().map(str::trim).filter(|text| !text.is_empty()).for_each(primary);
    primary("");
    primary("-- nothing");
    primary("SELECT e'a'\n'\\''; DELETE FROM t; --'");
}

#[test]
fn the_setting_of_strings_changes_what_a_text_means() {
    let route = |text: &str, standard: bool| {
        pgroute::classify::classify(text.as_bytes(), standard, &Catalogue::default()).route
    };
    let text = r"SELECT '\'; DELETE FROM t; --'";
    assert_eq!((route(text, true), route(text, false)), (Route::Primary, Route::Replica));
    let text = r"SELECT '\' || ' FOR UPDATE'";
    assert_eq!((route(text, true), route(text, false)), (Route::Replica, Route::Primary));
}

#[test]
fn hints_decide() {
    let check = |text: &str, hint: Option<Hint>, route: Route| {
        let plan = classify(text);
        assert_eq!((plan.hint, plan.route), (hint, route), "{text}");
    };
    check("/* tenfold: primary */ SELECT 1", Some(Hint::Primary), Route::Primary);
    check("SELECT 1 /*tenfold:primary*/", Some(Hint::Primary), Route::Primary);
    check("-- tenfold: replica\nSELECT book(1)", Some(Hint::Replica), Route::Replica);
    check("/* tenfold: somewhere */ SELECT 1", None, Route::Replica);
    check("SELECT '/* tenfold: primary */'", None, Route::Replica);
    check("/* app */ /* tenfold: primary */ SELECT 1 /* tenfold: replica */", Some(Hint::Primary), Route::Primary);
}

#[test]
fn what_a_function_does_to_the_session_is_known() {
    let effects = |text: &str| classify(text).effects;
    assert!(effects("SELECT pg_advisory_lock(1)").advisory_lock);
    assert!(!effects("SELECT pg_advisory_xact_lock(1)").advisory_lock);
    for (text, opaque, hides) in [
        ("SELECT set_config('a.b', 'c', false)", true, true),
        ("SELECT set_config('a.b', $1, $2)", true, true),
        ("SELECT set_config($1, $2, true), 1", false, false),
        ("SELECT pg_catalog.set_config('a.b', lower('C'), TRUE)", false, false),
        ("SELECT set_config('a.b', 'c', not true)", true, true),
        ("SELECT set_config('TimeZone', 'UTC', false)", true, false),
        ("SELECT set_config('search_path', $1, false), set_config('a.b', 'c', true)", true, false),
        ("INSERT INTO t SELECT set_config('a.b', 'c', false)", true, true),
    ] {
        let found = effects(text);
        assert_eq!((found.opaque, found.hides_setting), (opaque, hides), "{text}");
    }
    assert!(effects("SELECT setseed(0.5)").irreversible);
    assert!(effects("INSERT INTO t (a) VALUES (currval('s'))").recalls);
    assert!(effects("SELECT book(1)").opaque && effects("INSERT INTO t VALUES (book(1))").opaque);
    assert!(effects("CALL p()").opaque && effects("DO $$ $$").opaque);
    assert!(!effects("INSERT INTO t (a) VALUES (nextval('s'))").opaque, "a table before a parenthesis is no call");
    assert!(effects("SELECT * INTO TEMP x FROM t").temporary);
    assert!(effects("CREATE TEMPORARY TABLE x (a int)").temporary);
    for text in [
        "CREATE TABLE pg_temp.x (a int)",
        "CREATE TABLE \"pg_temp\".\"x\" (a int)",
        "CREATE TABLE pg_temp_3.x (a int)",
        "SELECT 1 AS a INTO pg_temp.x",
        "SET search_path TO pg_temp, public",
        "SET LOCAL search_path = 'PG_TEMP'",
        "SET SCHEMA E'pg\\x5ftemp'",
    ] {
        assert!(effects(text).temporary, "{text}");
    }
    assert!(!effects("SET search_path TO app, public").temporary);
    assert!(effects("DECLARE c CURSOR WITH HOLD FOR SELECT 1").holds_cursor);
    assert!(!effects("DECLARE c CURSOR FOR SELECT 1").holds_cursor);
    assert!(effects("LOAD 'x'").irreversible);
}

#[test]
fn what_may_do_anything_to_its_session_says_so() {
    let texts = "
        SELECT U&\"set\\005fconfig\"('search_path', 'evil', false)
        SELECT U&\"pg_advisory\\005flock\"(1)
        SELECT app.fetch(1)
        EXECUTE p(set_config('search_path', 'evil', false))
        SELECT * FROM settings_view
        INSERT INTO settings_view VALUES (1)
        SELECT query_to_xml('select set_config(...)', true, true, '')
        CREATE TABLE t AS SELECT my_func()
        ALTER TABLE t ADD COLUMN a int DEFAULT my_func()
        SELECT 1 AS a INTO t
        UPDATE t SET a = f()
        INSERT INTO t (a) VALUES (f(1))
        INSERT INTO s.t (a) SELECT f(1)
        COPY t FROM STDIN WHERE f(a)
        DELETE FROM t WHERE a = 1 RETURNING f(a)
        INSERT INTO watched (a) VALUES (1)
        UPDATE app.\"watched\" SET a = 1
        WITH x AS (DELETE FROM watched RETURNING *) SELECT * FROM x
        WITH x AS (SELECT 1) INSERT INTO watched SELECT * FROM x
        MERGE INTO watched USING t ON true WHEN MATCHED THEN DELETE
        COPY watched FROM STDIN
        TRUNCATE t CASCADE
        DELETE FROM U&\"watche\\0064\"
        SET U&\"search\\005fpath\" TO evil
        SELECT a <<| b FROM t
    ";
    for text in texts.lines().map(str::trim).filter(|text| !text.is_empty()) {
        assert!(classify(text).effects.opaque, "{text}");
    }
}

/// What drivers, pgbench and mappers of objects send all day neither keeps a backend nor has it reset.
#[test]
fn ordinary_statements_leave_their_session_alone() {
    let texts = "
        UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP)
        INSERT INTO \"users\" (\"name\", \"created_at\") VALUES ($1, now()) RETURNING \"id\"
        INSERT INTO t AS x (a, b) VALUES (1, lower($2)) ON CONFLICT (a) DO UPDATE SET (b, c) = (excluded.b, 1)
        INSERT INTO s.t (a) SELECT lower(b) FROM u WHERE (a, b) IN ((1, 2))
        UPDATE t SET a = coalesce($1, a), b = CAST($2 AS numeric(10, 2)) FROM u WHERE EXISTS (SELECT 1)
        DELETE FROM t USING u WHERE t.id = ANY ($1)
        MERGE INTO t USING s ON (t.a = s.a) WHEN NOT MATCHED THEN INSERT (a) VALUES (s.a)
        COPY t (a, b) FROM STDIN WITH (FORMAT csv, HEADER true, FORCE_NULL (a))
        COPY t FROM STDIN (FORMAT binary)
        COPY (SELECT * FROM t) TO STDOUT
        TRUNCATE t RESTART IDENTITY
        SELECT * FROM watched WHERE id = $1
        SELECT * FROM t WHERE id = $1 FOR UPDATE
        SELECT nextval('s'), pg_advisory_xact_lock(1)
        WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT count(*) FROM x
        BEGIN
        COMMIT
        ROLLBACK
        SAVEPOINT sa_savepoint_1
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED
        SET application_name = 'x'
        SET search_path TO app, public
        SET LOCAL statement_timeout = 5
        SHOW transaction_isolation
        RESET ALL
        DISCARD ALL
        LOCK TABLE t IN EXCLUSIVE MODE
        VACUUM t
    ";
    for text in texts.lines().map(str::trim).filter(|text| !text.is_empty()) {
        assert_eq!(classify(text).effects, Effects::default(), "{text}");
    }
    for text in ["NOTIFY c, 'x'", "SELECT pg_notify($1, $2)"] {
        assert_eq!(classify(text).effects, Effects { notifies: true, ..Effects::default() }, "{text}");
    }
}

/// Without a catalogue nobody knows which tables have triggers.
#[test]
fn changes_may_do_anything_as_long_as_no_catalogue_is_known() {
    let effects = |text: &str| pgroute::classify::classify(text.as_bytes(), true, &Catalogue::default()).effects;
    for text in ["UPDATE t SET a = 1", "COPY t FROM STDIN", "WITH x AS (DELETE FROM t) SELECT 1"] {
        assert!(effects(text).opaque, "{text}");
    }
    for text in ["SELECT * FROM t WHERE a = lower($1)", "SELECT nextval('s')", "SELECT * FROM t FOR UPDATE", "BEGIN"] {
        assert_eq!(effects(text), Effects::default(), "{text}");
    }
}

/// A thousandfold text takes a thousandfold time and no more: every look goes on from where the last one ended.
#[test]
fn long_runs_of_signs_are_read_once() {
    let text = format!("SELECT 1 {} 1", "+-".repeat(4 << 20));
    let tokens = pgroute::scan::Scanner::new(text.as_bytes(), true).count();
    assert_eq!(tokens, 3 + (8 << 20));
    let split = |text: &str| -> Vec<String> {
        let tokens = pgroute::scan::Scanner::new(text.as_bytes(), true);
        tokens.map(|token| String::from_utf8(token.text.to_vec()).unwrap()).collect()
    };
    assert_eq!(split("a=-+-1"), ["a", "=", "-", "+", "-", "1"]);
    assert_eq!(split("a @-+- b"), ["a", "@-+-", "b"]);
    assert_eq!(split("a <-+-- b\n+-*1"), ["a", "<", "-", "+", "+-*", "1"]);
    assert_eq!(split("+-+/* c */-+"), ["+", "-", "+", "-", "+"]);
}

proptest! {
    /// Whatever stands in strings, comments and quoted names changes nothing; and nothing makes the reader panic.
    #[test]
    fn what_is_quoted_does_not_count(inner in "[a-z';\\-/* ]{0,30}") {
        let quoted = inner.replace('\'', "''");
        prop_assert_eq!(classify(&format!("SELECT '{quoted}'")).route, Route::Replica);
        prop_assert_eq!(classify(&format!("SELECT $q${inner}$q$")).route, Route::Replica);
        prop_assert_eq!(classify(&format!("SELECT 1 AS \"{inner}\"")).route, Route::Replica);
        prop_assert_eq!(classify(&format!("SELECT $q${inner}$q$; DELETE FROM t")).route, Route::Primary);
    }

    #[test]
    fn no_text_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..80), words in "(SELECT|SET|RESET|TO|\\(|\\)|;|'|,|a|=|\\$|WITH|AS|BEGIN|ATOMIC|PREPARE| |--|/\\*){0,30}") {
        for standard in [true, false] {
            let _ = pgroute::classify::classify(&text, standard, &Catalogue::default());
            let _ = pgroute::classify::classify(words.as_bytes(), standard, &Catalogue::default());
        }
    }
}
