//! A proxy before servers of PostgreSQL that are broken: `cluster_subject PORT SCOPE SERVER...`, ports of the loopback address, the primary first;
//! the scope of causality is `database`, `connection` or `none`, with a mistake's number behind a colon if one is planted. It says `ready`, tells its counters for every line that it reads, and ends with its
//! standard input.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgproxy::planted::Bug;
use pgproxy::{
    AuthMethod, BackendTls, CausalityScope, DatabaseName, DatabaseParams, Databases, Listen, PgListenerParams,
    ReplicaParams, ServerAddress, ServerParams,
};
use tokio::runtime::{Builder, LocalOptions};

fn server(port: u16) -> ServerParams {
    ServerParams {
        address: ServerAddress::Tcp { host: "127.0.0.1".into(), port },
        dbname: Some("postgres".into()),
        user: Some("postgres".into()),
        password: None,
        tls: BackendTls::Off,
        settings: Vec::new(),
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let port: u16 = words.next().context("a port")?.parse()?;
    let word = words.next().context("a scope")?;
    let (scope, mistake) = word.split_once(':').unwrap_or((&word, ""));
    if let Some(mistake) = mistake.parse().ok().and_then(|number: usize| Bug::ALL.get(number)) {
        mistake.plant();
    }
    let scope = match scope {
        "database" => Some(CausalityScope::Database),
        "connection" => Some(CausalityScope::Connection),
        "none" => None,
        other => bail!("no scope: {other:?}"),
    };
    let ports = words.map(|word| Ok(word.parse()?)).collect::<Result<Vec<u16>>>()?;
    let (first, replicas) = ports.split_first().context("a server")?;
    let mut params = DatabaseParams::new(DatabaseName::Named("shop".into()), server(*first));
    let replica = |port: &u16| ReplicaParams { server: server(*port), weight: 1, zone: None };
    params.replicas = replicas.iter().map(replica).collect();
    params.auth.method = AuthMethod::Trust;
    params.causality.scope = scope;
    params.pool.size = 8;
    let listener = PgListenerParams::new("db".parse()?, Listen::Tcp(([127, 0, 0, 1], port).into()));
    // So that a few clients are on both.
    let (mut databases, parts) = Databases::with_gathering(2, 1);
    for part in parts {
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            runtime.expect("a runtime").block_on(part.run());
        });
    }
    let control = Builder::new_current_thread().enable_all().build()?;
    let prepared = databases.prepare(&[listener], &[params], &mut Default::default())?;
    control.block_on(databases.commit(prepared));
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        for view in databases.view().databases() {
            writeln!(
                out,
                "replica_reads {} probes {} causal_waits {} causal_misses {} reruns {} cut {} servers {}",
                view.replica_reads,
                view.probes,
                view.causal_waits[0],
                view.causal_waits[1],
                view.reruns,
                view.cut_transactions,
                view.servers.iter().map(|server| server.state).collect::<Vec<_>>().join(" "),
            )?;
        }
    }
    control.block_on(databases.stop(Duration::from_millis(100)));
    Ok(())
}
