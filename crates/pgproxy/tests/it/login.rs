//! Who may connect, and how they prove it.

use pgproxy::*;
use pgroute::auth::{Method, Stored, scram};
use testkit::{PgClient, PostgresOptions};
use vocab::Secret;

use crate::proxy::Proxy;

/// `psql` with a password: what it printed, or what it said went wrong.
pub(crate) fn psql(proxy: &Proxy, user: &str, password: &str, more: &str) -> Result<String, String> {
    let url = format!("postgresql://{user}:{password}@127.0.0.1:{}/shop?{more}", proxy.port);
    let output = proxy.tool("psql", &["-X", "-A", "-t", "-d", &url, "-c", "SELECT current_user"]);
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn passwords_are_proved_in_every_way() {
    let scram = scram::Secret::from_password("sesame", b"0123456789abcdef", 4096).to_text();
    for (method, expected) in [(Method::Scram, true), (Method::Md5, true), (Method::Cleartext, true)] {
        let proxy = Proxy::start(|params| {
            params.auth.method = AuthMethod::Password(method);
            let user = |name: &str, stored| UserParams::new(name, Some(stored));
            params.users = vec![
                user("plain", Stored::Password(Secret::new("sesame"))),
                user("scram", Stored::parse(&scram)),
                user("digest", Stored::parse(pgroute::auth::md5::stored("sesame", "digest").expose())),
            ];
        });
        for name in ["plain", "scram", "digest"] {
            // A digest serves for no proof by SCRAM.
            let may = expected && !(name == "digest" && method == Method::Scram);
            let right = psql(&proxy, name, "sesame", "");
            assert_eq!(right.is_ok(), may, "{method:?} {name}: {right:?}");
            let wrong = psql(&proxy, name, "other", "").unwrap_err();
            assert!(wrong.contains("password authentication failed"), "{wrong}");
        }
        let nobody = psql(&proxy, "nobody", "sesame", "").unwrap_err();
        assert!(nobody.contains("password authentication failed for user \"nobody\""), "{nobody}");
    }
}

#[test]
fn the_proof_of_a_client_logs_in_at_the_server() {
    let options = PostgresOptions {
        rules: vec!["host all secret 127.0.0.1/32 scram-sha-256".into(), "host all old 127.0.0.1/32 md5".into()],
        ..PostgresOptions::default()
    };
    let proxy = Proxy::start_with(&options, |params, _| params.auth.method = AuthMethod::default());
    drop(proxy);
    // The server's own secrets are what the proxy knows.
    let postgres = testkit::Postgres::start(&options).unwrap();
    postgres.sql(0, "CREATE ROLE secret LOGIN PASSWORD 'sesame'").unwrap();
    postgres.sql(0, "SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 'sesame'").unwrap();
    let stored = |name: &str| {
        let text = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{name}'");
        Stored::parse(&postgres.sql(0, &text).unwrap().concat())
    };
    let users = vec![UserParams::new("secret", Some(stored("secret"))), UserParams::new("old", Some(stored("old")))];
    let proxy = Proxy::before(postgres, |params, _| {
        params.primary.user = None;
        params.auth.method = AuthMethod::Password(Method::Md5);
        params.users = users;
    });
    assert_eq!(psql(&proxy, "secret", "sesame", "").unwrap(), "secret");
    assert_eq!(psql(&proxy, "old", "sesame", "").unwrap(), "old");
    assert!(psql(&proxy, "secret", "other", "").is_err());
}

#[test]
fn rules_decide_from_the_top() {
    let proxy = Proxy::start(|params| {
        let rule = |user: &str| RuleParams { users: vec![user.into()], ..RuleParams::default() };
        params.rules = vec![
            RuleParams { deny: true, ..rule("banned") },
            RuleParams { clients: vec!["10.0.0.0/8".parse().unwrap()], deny: true, ..RuleParams::default() },
            RuleParams { method: Some(AuthMethod::Password(Method::Scram)), ..rule("careful") },
            RuleParams { mode: Some(Mode::Statement), ..rule("quick") },
        ];
    });
    let refused = |user: &str, database: &str| {
        PgClient::connect(proxy.port, user, database, "").unwrap_err().to_string()[..5].to_owned()
    };
    assert_eq!(refused("banned", "shop"), "28000");
    assert_eq!(refused("web", "elsewhere"), "3D000");
    assert!(psql(&proxy, "careful", "x", "").unwrap_err().contains("password authentication failed"));
    assert_eq!(proxy.client_of("quick").query("BEGIN").unwrap().code(), "0A000");
    assert_eq!(proxy.client().query("BEGIN").unwrap().code(), "");
    proxy.check_accounts();
}

#[test]
fn clients_are_counted() {
    let proxy = Proxy::start(|params| {
        params.limits.clients_max = 3;
        params.limits.clients_per_user_max = Some(2);
    });
    let connect = |user: &str| PgClient::connect(proxy.port, user, "shop", "");
    let (one, two) = (connect("web").unwrap(), connect("web").unwrap());
    assert!(connect("web").unwrap_err().to_string().starts_with("53300"));
    let three = connect("report").unwrap();
    assert!(connect("report").unwrap_err().to_string().starts_with("53300"));
    assert_eq!(proxy.database().clients, 3);
    drop((one, two, three));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while connect("web").is_err() {
        assert!(std::time::Instant::now() < deadline, "places are not given back");
    }
}

#[test]
fn tls_is_offered_demanded_and_spoken_with_servers() {
    let authority = testkit::Authority::new("the shop's own").unwrap();
    let issued = authority.issue("db", &["localhost", "127.0.0.1"]).unwrap();
    let proxy = Proxy::start_with(&PostgresOptions::default(), |_, listener| {
        listener.tls = Some(PgTls { server: crate::proxy::server_tls(&issued), required: true });
    });
    let full = format!("sslmode=verify-full&sslrootcert={}", authority.file().display());
    let url = |host: &str, more: &str| format!("postgresql://web@{host}:{}/shop?{more}", proxy.port);
    let run = |url: &str, text: &str| proxy.tool("psql", &["-X", "-A", "-t", "-d", url, "-c", text]);
    let output = run(&url("localhost", &full), "SELECT repeat('x', 1000000)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.len(), 1_000_001);
    let output = run(&url("localhost", "sslmode=disable"), "SELECT 1");
    assert!(String::from_utf8_lossy(&output.stderr).contains("TLS only"));
    // Something between the question and the handshake is somebody else's.
    let mut client = PgClient::begin(proxy.port).unwrap();
    client.send(b"\0\0\0\x08\x04\xd2\x16\x2fmore").unwrap();
    assert_eq!(client.message().unwrap().field(b'C'), "08P01");
}

#[test]
fn what_is_wrong_with_the_server_is_told() {
    let proxy = Proxy::start(|params| {
        params.primary.dbname = Some("nowhere".into());
        params.timeouts.reconnect_pause = std::time::Duration::from_millis(10);
    });
    let error = PgClient::connect(proxy.port, "web", "shop", "").unwrap_err().to_string();
    assert!(error.starts_with("3D000"), "{error}");
    let away = Proxy::start(|params| {
        params.primary.address = ServerAddress::Tcp { host: "127.0.0.1".into(), port: testkit::free_port() };
    });
    let error = PgClient::connect(away.port, "web", "shop", "").unwrap_err().to_string();
    assert!(error.starts_with("08001"), "{error}");
}

#[test]
fn a_unix_socket_leads_to_the_server() {
    let postgres = testkit::Postgres::start(&PostgresOptions::default()).unwrap();
    let socket = postgres.socket_folder().join(format!(".s.PGSQL.{}", postgres.port(0)));
    let dir = testkit::TempDir::new().unwrap();
    let path = dir.path().join(".s.PGSQL.6432");
    let proxy = Proxy::before(postgres, |params, listener| {
        params.primary.address = ServerAddress::Unix(socket);
        listener.listen = Listen::Unix(path);
    });
    let folder = dir.path().display().to_string();
    let output = proxy.tool("psql", &["-X", "-A", "-t", "-h", &folder, "-p", "6432", "-c", "SELECT 'by a file'"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "by a file", "{output:?}");
    proxy.check_accounts();
}

#[test]
fn a_wildcard_stands_for_any_database() {
    let proxy = Proxy::start(|params| {
        params.name = DatabaseName::Any;
        params.primary.dbname = None;
    });
    let mut client = PgClient::connect(proxy.port, "web", "template1", "").unwrap();
    assert_eq!(client.query("SELECT current_database()").unwrap().value(), "template1");
    let mut client = PgClient::connect(proxy.port, "web", "postgres", "").unwrap();
    assert_eq!(client.query("SELECT current_database()").unwrap().value(), "postgres");
    assert!(PgClient::connect(proxy.port, "web", "nowhere", "").unwrap_err().to_string().starts_with("3D000"));
}

#[test]
fn servers_are_spoken_to_under_tls() {
    let authority = testkit::Authority::new("the server's own").unwrap();
    let issued = authority.issue("server", &["localhost"]).unwrap();
    let dir = testkit::TempDir::new().unwrap();
    let (certificate, key) = (dir.path().join("server.pem"), dir.path().join("server.key"));
    std::fs::copy(&issued.certificate, &certificate).unwrap();
    std::fs::copy(&issued.key, &key).unwrap();
    let is_root = std::process::Command::new("chown").args(["-R", "postgres"]).arg(dir.path()).status();
    assert!(is_root.unwrap().success() || std::env::var("USER").is_ok_and(|user| user != "root"));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let options = PostgresOptions {
        settings: vec![
            "ssl = on".into(),
            format!("ssl_cert_file = '{}'", certificate.display()),
            format!("ssl_key_file = '{}'", key.display()),
        ],
        rules: vec!["hostnossl all postgres 127.0.0.1/32 reject".into()],
        ..PostgresOptions::default()
    };
    let postgres = testkit::Postgres::start(&options);
    // The rule refuses whoever asks in clear; `psql` prefers TLS.
    let postgres = postgres.unwrap();
    let tls = |trust| {
        let params = net::tls::ClientTlsParams {
            trust,
            server_name: None,
            certificate: None,
            min_version: net::tls::MinVersion::Tls12,
            protocol: net::tls::HTTP11,
        };
        BackendTls::Require(net::tls::ClientTls::new(params).unwrap())
    };
    let believed = net::tls::Trust::Authorities(net::tls::Authorities::load(&authority.file()).unwrap());
    let port = postgres.port(0);
    let mut proxy = Proxy::before(postgres, |params, _| {
        params.primary.address = ServerAddress::Tcp { host: "localhost".into(), port };
        params.primary.tls = tls(believed);
        params.pool.size = 2;
    });
    // Backends under TLS move between cores like others.
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for _ in 0..20 {
        for client in &mut clients {
            let text = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            assert_eq!(client.query(text).unwrap().value(), "t");
            let long = client.query("SELECT repeat('x', 300000)").unwrap();
            assert_eq!(long.value().len(), 300_000);
        }
    }
    drop(clients);
    // Another authority's certificate is not believed.
    let other = testkit::Authority::new("somebody").unwrap();
    let believed = net::tls::Trust::Authorities(net::tls::Authorities::load(&other.file()).unwrap());
    proxy.params.primary.tls = tls(believed);
    proxy.reload();
    let error = PgClient::connect(proxy.port, "web", "shop", "").unwrap_err().to_string();
    assert!(error.starts_with("08001"), "{error}");
}
