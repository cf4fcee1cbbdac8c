//! A proxy before servers of PostgreSQL that are broken: `cluster_subject PORT SCOPE SERVER...`, ports of the loopback address, the primary first;
//! the scope of causality is `database`, `connection` or `none`, with a mistake's number behind a colon if one is planted. It says `ready`, does what each line that it reads asks for and says `done`, or tells its counters
//! for any other one, and ends with its standard input.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgproxy::planted::Bug;
use pgproxy::{
    AuthMethod, BackendTls, CausalityScope, DatabaseName, DatabaseParams, Databases, Listen, PgListenerParams,
    PoolView, ReplicaParams, ServerAddress, ServerParams, Whom,
};
use tokio::runtime::{Builder, LocalOptions, Runtime};

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
    let (databases, parts) = Databases::with_gathering(2, 1);
    for part in parts {
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = runtime.expect("a runtime");
            runtime.spawn_local(net::together::serve());
            runtime.block_on(part.run());
        });
    }
    let control = Builder::new_current_thread().enable_all().build()?;
    let mut site = Site { control, databases, listener, params };
    site.load()?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        match site.does(&line?)? {
            true => writeln!(out, "done")?,
            false => site.tell(&mut out)?,
        }
    }
    site.control.block_on(site.databases.stop(Duration::from_millis(100)));
    Ok(())
}

/// The proxy, and what it goes by.
struct Site {
    control: Runtime,
    databases: Databases,
    listener: PgListenerParams,
    params: DatabaseParams,
}

impl Site {
    fn load(&mut self) -> Result<()> {
        let listeners = std::slice::from_ref(&self.listener);
        let databases = std::slice::from_ref(&self.params);
        let prepared = self.databases.prepare(listeners, databases, &mut Default::default())?;
        self.control.block_on(self.databases.commit(prepared));
        Ok(())
    }

    /// Does what a line asks for, if it does.
    fn does(&mut self, line: &str) -> Result<bool> {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["pause"] => self.databases.pause(None)?,
            ["resume"] => self.databases.resume(None)?,
            ["reconnect"] => self.databases.reconnect(None)?,
            ["size", size, min] => {
                (self.params.pool.size, self.params.pool.min) = (size.parse()?, min.parse()?);
                self.load()?;
            }
            ["work_mem", value] => {
                self.params.primary.settings = vec![("work_mem".into(), value.into())];
                self.load()?;
            }
            ["kill", "all"] => self.kill(&Whom::All)?,
            ["kill", "server"] => self.kill(&Whom::Server(self.params.primary.address.to_string()))?,
            ["kill", "client", number] => {
                let clients = self.databases.view().clients("shop").context("no database")?;
                let one = clients.get(number.parse::<usize>()? % clients.len().max(1));
                // It may have gone meanwhile.
                let _gone = one.map(|client| self.kill(&Whom::Client(client.number)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn kill(&self, whom: &Whom) -> Result<()> {
        Ok(self.control.block_on(self.databases.kill("shop", whom, false))?)
    }

    fn tell(&self, out: &mut impl Write) -> Result<()> {
        let pools = self.databases.view().pools();
        let sum = |of: fn(&PoolView) -> usize| pools.iter().map(of).sum::<usize>();
        for view in self.databases.view().databases() {
            writeln!(
                out,
                "replica_reads {} probes {} causal_waits {} causal_misses {} reruns {} cut {} clients {} pinned {} opening {} idle {} lent {} \
                 waiting {} servers {}",
                view.replica_reads,
                view.probes,
                view.causal_waits[0],
                view.causal_waits[1],
                view.reruns,
                view.cut_transactions,
                view.clients,
                view.pinned,
                sum(|pool| pool.opening),
                sum(|pool| pool.idle),
                sum(|pool| pool.lent),
                sum(|pool| pool.waiting),
                view.servers.iter().map(|server| server.state).collect::<Vec<_>>().join(" "),
            )?;
        }
        Ok(())
    }
}
