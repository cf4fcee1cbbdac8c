//! Users whom the server is asked about: `auth.query`.

use std::time::{Duration, Instant};

use pgproxy::*;
use testkit::{PgClient, PostgresOptions};

use crate::login::psql;
use crate::proxy::Proxy;
use crate::replicas::wait_until;

/// How many connections ask, in a database or in any.
fn askers(proxy: &Proxy, database: &str) -> usize {
    let text = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenfold users' AND datname LIKE ";
    proxy.postgres.sql(0, &format!("{text} '{database}'")).unwrap()[0].parse().unwrap()
}

/// A server whose roles prove themselves by SCRAM, and a proxy that has to ask it about them.
fn asked(change: impl FnOnce(&mut DatabaseParams)) -> Proxy {
    let rules = vec!["host all ada,bob 127.0.0.1/32 scram-sha-256".to_owned()];
    let postgres = testkit::Postgres::start(&PostgresOptions { rules, ..PostgresOptions::default() }).unwrap();
    postgres.sql(0, "CREATE ROLE ada LOGIN PASSWORD 'sesame'; CREATE ROLE nologin LOGIN").unwrap();
    Proxy::before(postgres, |params, _| {
        params.primary.user = None;
        params.auth.method = AuthMethod::default();
        params.auth.query = Some(AuthQuery {
            text: "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1".into(),
            user: "postgres".into(),
            password: None,
            dbname: None,
            ttl: Duration::from_secs(60),
        });
        change(params);
    })
}

#[test]
fn the_server_is_asked_about_users() {
    let proxy = asked(|_| ());
    assert_eq!(psql(&proxy, "ada", "sesame", "").unwrap(), "ada");
    let wrong = psql(&proxy, "ada", "other", "").unwrap_err();
    assert!(wrong.contains("password authentication failed for user \"ada\""), "{wrong}");
    for nobody in ["bob", "nologin", "o'hara", "a' OR 'a' = 'a", "a\\"] {
        let name = nobody.replace('\'', "%27").replace(' ', "%20").replace('\\', "%5C").replace('=', "%3D");
        let wrong = psql(&proxy, &name, "sesame", "").unwrap_err();
        assert!(wrong.contains("password authentication failed for user"), "{nobody}: {wrong}");
    }
    // Who was not there is, a second later; and a new password is seen when the old one has failed.
    proxy.postgres.sql(0, "CREATE ROLE bob LOGIN PASSWORD 'open'").unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(psql(&proxy, "bob", "open", "").unwrap(), "bob");
    proxy.postgres.sql(0, "ALTER ROLE ada PASSWORD 'changed'").unwrap();
    assert!(psql(&proxy, "ada", "changed", "").is_err());
    assert_eq!(psql(&proxy, "ada", "changed", "").unwrap(), "ada");
    proxy.check_accounts();
}

#[test]
fn a_flood_of_names_costs_the_server_one_connection() {
    let proxy = asked(|_| ());
    let port = proxy.port;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for number in 0..25 {
                    // It gives up when it is asked for a proof.
                    let _refused = PgClient::connect(port, &format!("nobody{thread}_{number}"), "shop", "");
                }
            });
        }
    });
    let text = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenfold users'";
    assert_eq!(proxy.postgres.sql(0, text).unwrap(), ["1"]);
    assert_eq!(psql(&proxy, "ada", "sesame", "").unwrap(), "ada");
    // The one who asks is lost, and another one asks.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenfold users'";
    proxy.postgres.sql(0, end).unwrap();
    assert!(psql(&proxy, "somebody", "sesame", "").unwrap_err().contains("password authentication failed"));
    assert_eq!(proxy.postgres.sql(0, text).unwrap(), ["1"]);
}

#[test]
fn who_cannot_be_asked_about_is_told_so() {
    let proxy = asked(|params| {
        let query = params.auth.query.as_mut().unwrap();
        query.text = "SELECT nothing FROM nowhere WHERE name = $1".into();
    });
    let told = psql(&proxy, "ada", "sesame", "").unwrap_err();
    assert!(told.contains("users cannot be looked up now"), "{told}");
}

#[test]
fn strangers_have_nobody_connect_anywhere() {
    let mut proxy = asked(|params| {
        params.name = DatabaseName::Any;
        params.primary.dbname = None;
        params.auth.query.as_mut().unwrap().dbname = Some("postgres".into());
    });
    let login = |proxy: &Proxy, user: &str, database: &str| psql(proxy, user, "sesame", &format!("dbname={database}"));
    for database in ["template1", "nowhere", "elsewhere", "postgres"] {
        assert!(login(&proxy, "nobody", database).is_err());
        assert_eq!((askers(&proxy, "%"), askers(&proxy, "postgres")), (1, 1), "{database}");
    }
    assert_eq!(login(&proxy, "ada", "template1").unwrap(), "ada");
    // Without a place of its own, nobody is asked; the file is refused then.
    proxy.params.auth.query.as_mut().unwrap().dbname = None;
    proxy.reload();
    assert!(login(&proxy, "ada", "postgres").is_err());
}

#[test]
fn who_asks_is_in_nobody_s_way() {
    let proxy = asked(|params| {
        params.auth.query.as_mut().unwrap().dbname = Some("users".into());
    });
    proxy.postgres.sql(0, "CREATE DATABASE users").unwrap();
    assert_eq!(psql(&proxy, "ada", "sesame", "").unwrap(), "ada");
    assert_eq!(askers(&proxy, "users"), 1);
    // Whoever comes through the proxy finds its way free.
    proxy.postgres.sql(0, "ALTER ROLE ada SUPERUSER").unwrap();
    let url = format!("postgresql://ada:sesame@127.0.0.1:{}/shop", proxy.port);
    let output = proxy.tool("psql", &["-X", "-d", &url, "-c", "CREATE DATABASE copy TEMPLATE users"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Whoever does not waits until nobody has been asked about for a while.
    assert!(psql(&proxy, "nobody", "sesame", "").is_err());
    assert_eq!(askers(&proxy, "users"), 1);
    wait_until("it ends by itself", || askers(&proxy, "users") == 0);
}

#[test]
fn names_mean_what_they_mean_to_the_server() {
    let proxy = asked(|params| {
        let query = params.auth.query.as_mut().unwrap();
        query.text = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1".into();
    });
    // Whoever owns the database would have it otherwise.
    let texts = [
        "CREATE SCHEMA evil",
        "CREATE TABLE evil.pg_authid AS SELECT 'bob'::name AS rolname, 'sesame'::text AS rolpassword",
        "ALTER DATABASE postgres SET search_path = evil, pg_catalog",
        "CREATE ROLE bob LOGIN PASSWORD 'secret'",
    ];
    for text in texts {
        proxy.postgres.sql(0, text).unwrap();
    }
    assert!(psql(&proxy, "bob", "sesame", "").unwrap_err().contains("password authentication failed"));
    assert_eq!(psql(&proxy, "ada", "sesame", "").unwrap(), "ada");
}

#[test]
fn a_flood_keeps_nobody_out_who_is_known() {
    let proxy = asked(|params| {
        let query = params.auth.query.as_mut().unwrap();
        query.ttl = Duration::from_millis(200);
        // Far away.
        query.text =
            "SELECT rolname, rolpassword FROM (SELECT pg_sleep(0.1) OFFSET 0) s LEFT JOIN pg_authid ON rolname = $1"
                .into();
    });
    assert_eq!(psql(&proxy, "ada", "sesame", "").unwrap(), "ada");
    std::thread::sleep(Duration::from_millis(300));
    let mut flood: Vec<_> = (0..300)
        .map(|number| {
            let mut client = PgClient::begin(proxy.port).unwrap();
            let parameters = format!("user\0nobody{number}\0database\0shop\0\0");
            let mut message = (parameters.len() as u32 + 8).to_be_bytes().to_vec();
            message.extend(196_608_u32.to_be_bytes());
            message.extend(parameters.as_bytes());
            client.send(&message).unwrap();
            client
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(psql(&proxy, "ada", "sesame", "").unwrap(), "ada");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Nobody is asked about for those who have gone.
    flood.clear();
    let begun = Instant::now();
    assert!(psql(&proxy, "somebody", "sesame", "").unwrap_err().contains("password authentication failed"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn when_the_server_is_away_everybody_hears_it_at_once() {
    let mut proxy = asked(|params| params.timeouts.connect = Duration::from_secs(2));
    proxy.postgres.hang(0).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..10 {
            let port = proxy.port;
            scope.spawn(move || {
                let refused = PgClient::connect(port, &format!("user{number}"), "shop", "sesame").unwrap_err();
                assert!(refused.to_string().contains("users cannot be looked up now"), "{refused}");
            });
        }
    });
    let time = begun.elapsed();
    proxy.postgres.go_on(0).unwrap();
    assert!(time < Duration::from_secs(6), "{time:?}");
    wait_until("it is asked again", || psql(&proxy, "ada", "sesame", "").is_ok());
}
