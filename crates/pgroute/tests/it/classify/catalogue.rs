//! What a real server says of its names, and what is made of it.

use pgroute::classify::{Catalogue, Effects, Function, Plan, Route};
use testkit::{Postgres, PostgresOptions};

/// Asks for the catalogue as a shell does.
fn read(cluster: &Postgres) -> Catalogue {
    let mut catalogue = Catalogue::default();
    // Texts of views have several lines: they are put into one for `psql`.
    let flat = format!(
        "SELECT kind, name, replace(detail, chr(10), ' ') FROM ({}) rows (kind, name, detail)",
        Catalogue::QUERY
    );
    for row in cluster.sql(0, &flat).unwrap() {
        let mut columns = row.splitn(3, '|');
        let mut column = || columns.next().unwrap_or_default();
        let (kind, mut name, mut detail) = (column(), column(), column());
        // An operator may be a bar itself.
        if kind == "operator" {
            (name, detail) = (&row["operator|".len()..row.len() - 1], "");
        }
        catalogue.add_row(kind, name, detail);
    }
    catalogue.settle();
    catalogue
}

const SCHEMA: &str = "
    CREATE TABLE plain (id serial PRIMARY KEY, at timestamptz DEFAULT now(), u uuid DEFAULT gen_random_uuid());
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('search_path', 'evil', false); RETURN NEW; END $$;
    CREATE TABLE watched (id int PRIMARY KEY);
    CREATE TRIGGER touch BEFORE INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int REFERENCES parent ON DELETE CASCADE);
    CREATE TRIGGER touch BEFORE DELETE ON child FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TABLE leaning (id int REFERENCES watched);
    CREATE TABLE whole (id int) PARTITION BY RANGE (id);
    CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (10);
    CREATE TRIGGER touch BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE FUNCTION own() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION steady() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
    CREATE TABLE defaults (id int DEFAULT own());
    CREATE VIEW over_watched AS SELECT * FROM watched;
    CREATE VIEW sets AS SELECT set_config('search_path', 'evil', false);
    CREATE VIEW over_sets AS WITH x (a) AS (SELECT 1) SELECT x.a, sets.* FROM x, sets;
    CREATE VIEW harmless AS SELECT lower('A'), count(*) FROM plain;
    CREATE VIEW numbers AS SELECT nextval('plain_id_seq');
    CREATE TABLE ruled (id int);
    CREATE RULE r AS ON INSERT TO ruled DO ALSO INSERT INTO watched VALUES (new.id);
    CREATE TABLE guarded (id int);
    CREATE POLICY p ON guarded USING (own() = 1);
    CREATE FUNCTION of_row(plain) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE UNLOGGED TABLE scratch (id int);
    CREATE EXTENSION IF NOT EXISTS plpgsql;
";

#[test]
fn a_database_says_which_of_its_names_may_do_anything() {
    let cluster = Postgres::start(&PostgresOptions::default()).unwrap();
    cluster.sql(0, SCHEMA).unwrap();
    let catalogue = read(&cluster);
    assert!(catalogue.is_known());
    let plan = |text: &str| -> Plan { pgroute::classify::classify(text.as_bytes(), true, &catalogue) };
    for name in ["watched", "parent", "whole", "part", "defaults", "over_watched", "ruled"] {
        let text = format!("INSERT INTO {name} (id) VALUES (1)");
        assert!(plan(&text).effects.opaque, "{text}");
        let text = format!("SELECT * FROM {name}");
        assert_eq!((plan(&text).route, plan(&text).effects), (Route::Replica, Effects::default()), "{text}");
    }
    for name in ["plain", "leaning", "scratch"] {
        let text = format!("INSERT INTO {name} (id) VALUES (1)");
        assert_eq!(plan(&text).effects, Effects::default(), "{text}");
    }
    for name in ["sets", "over_sets", "guarded"] {
        let text = format!("SELECT * FROM {name}");
        assert_eq!((plan(&text).route, plan(&text).effects.opaque), (Route::Primary, true), "{text}");
    }
    for (text, route) in [
        ("SELECT * FROM harmless", Route::Replica),
        ("SELECT * FROM numbers", Route::Primary),
        ("SELECT * FROM scratch", Route::Primary),
        ("SELECT steady(), lower('A'), random()", Route::Replica),
    ] {
        assert_eq!((plan(text).route, plan(text).effects), (route, Effects::default()), "{text}");
    }
    assert!(plan("SELECT own()").effects.opaque && plan("SELECT p.of_row FROM plain p").effects.opaque);
    assert_eq!(catalogue.function("gen_random_uuid"), Some(Function::Stable));
    assert_eq!(catalogue.function("query_to_xml"), Some(Function::Opaque));
    assert_eq!(catalogue.function("nextval"), Some(Function::Volatile));
}

/// What the tables above take for granted of the server.
#[test]
fn a_server_does_what_the_rules_are_made_for() {
    let cluster = Postgres::start(&PostgresOptions::default()).unwrap();
    cluster.sql(0, SCHEMA).unwrap();
    cluster
        .sql(
            0,
            "CREATE SCHEMA app; CREATE FUNCTION app.fetch(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE ROLE ada; CREATE ROLE reader",
        )
        .unwrap();
    let said = |text: &str| cluster.sql(0, text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let last = |text: &str| said(text).last().cloned().unwrap_or_default();
    let evil = [
        "WITH t AS (SELECT 1) (SELECT 1) ORDER BY set_config('search_path', 'evil', false)",
        "SELECT U&\"set\\005fconfig\"('search_path', 'evil', false)",
        "SET U&\"search\\005fpath\" TO evil",
        "SELECT * FROM over_sets",
        "SELECT query_to_xml('SELECT set_config(''search_path'', ''evil'', false)', true, true, '')",
        "INSERT INTO public.watched VALUES (1)",
        "INSERT INTO public.part VALUES (1)",
    ];
    for text in evil {
        assert_eq!(last(&format!("{text}; SHOW search_path")), "evil", "{text}");
    }
    said("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1)");
    assert_eq!(last("DELETE FROM parent; SHOW search_path"), "evil");
    assert_eq!(last("SELECT app.fetch(1)"), "1");
    // A change of the session's user takes the role with it, both ways.
    assert_eq!(last("SET ROLE reader; SET SESSION AUTHORIZATION ada; SHOW role"), "none");
    assert_eq!(last("SET SESSION AUTHORIZATION ada; RESET SESSION AUTHORIZATION; SHOW role"), "none");
    // Strings and numbers as they are replayed.
    assert_eq!(last("SET search_path TO E'a', E'B c'; SHOW search_path"), "a, \"B c\"");
    assert_eq!(last("SET cursor_tuple_fraction TO 1e-1; SHOW cursor_tuple_fraction"), "0.1");
    assert_eq!(last("SET TIME ZONE INTERVAL E'-08:00' HOUR TO MINUTE; SHOW timezone"), "<-08>+08");
    assert_eq!(last("SET standard_conforming_strings TO off; SET a.b TO E'x\\\\''y'; SHOW a.b"), "x\\'y");
    // A literal becomes a value when it is parsed.
    let fixed = "SET timezone TO 'America/New_York'; PREPARE p AS SELECT '2026-01-01'::timestamptz AT TIME ZONE 'UTC';
                 SET timezone TO 'UTC'; EXECUTE p";
    assert_eq!(last(fixed), "2026-01-01 05:00:00");
}
