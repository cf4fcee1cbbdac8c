//! A proxy within the test's process.

use std::process::{Command, Output};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgproxy::*;
use testkit::{Issued, PgClient, Postgres, PostgresOptions, free_port};
use tokio::runtime::{Builder, LocalOptions};

/// A server, and a proxy of two cores before it.
pub(crate) struct Proxy {
    pub(crate) postgres: Postgres,
    pub(crate) port: u16,
    databases: Option<Databases>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) params: DatabaseParams,
    control: tokio::runtime::Runtime,
    pub(crate) listener: PgListenerParams,
}

/// The server of a test.
pub(crate) fn server(postgres: &Postgres, number: usize) -> ServerParams {
    ServerParams {
        address: ServerAddress::Tcp { host: "127.0.0.1".into(), port: postgres.port(number) },
        dbname: Some("postgres".into()),
        user: Some("postgres".into()),
        password: None,
        tls: BackendTls::Off,
        settings: Vec::new(),
    }
}

/// What a listener presents.
pub(crate) fn server_tls(issued: &Issued) -> net::tls::ServerTls {
    let certificate =
        net::tls::Certificate::load(&issued.certificate, &issued.key, std::time::SystemTime::now()).unwrap();
    let params = net::tls::ServerTlsParams {
        certificates: vec![certificate],
        managed: Vec::new(),
        min_version: net::tls::MinVersion::Tls12,
        client_auth: None,
        protocols: Vec::new(),
    };
    net::tls::ServerTls::new(params).unwrap()
}

/// Two cores, with no databases yet.
fn start_cores() -> (Databases, Vec<JoinHandle<()>>) {
    // So that a few clients are on both.
    let (databases, parts) = Databases::with_gathering(2, 1);
    let threads = parts.into_iter().map(|part| {
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = runtime.unwrap();
            runtime.spawn_local(net::together::serve());
            runtime.block_on(part.run());
        })
    });
    (databases, threads.collect())
}

impl Proxy {
    /// A database `shop` in transaction mode that trusts everybody, changed by `change`.
    pub(crate) fn start(change: impl FnOnce(&mut DatabaseParams)) -> Self {
        Self::start_with(&PostgresOptions::default(), |params, _| change(params))
    }

    pub(crate) fn start_with(
        options: &PostgresOptions,
        change: impl FnOnce(&mut DatabaseParams, &mut PgListenerParams),
    ) -> Self {
        Self::before(Postgres::start(options).unwrap(), change)
    }

    /// Before a server that is there.
    pub(crate) fn before(postgres: Postgres, change: impl FnOnce(&mut DatabaseParams, &mut PgListenerParams)) -> Self {
        let mut params = DatabaseParams::new(DatabaseName::Named("shop".into()), server(&postgres, 0));
        params.auth.method = AuthMethod::Trust;
        let port = free_port();
        let listen = Listen::Tcp(([127, 0, 0, 1], port).into());
        let mut listener = PgListenerParams::new("db".parse().unwrap(), listen);
        change(&mut params, &mut listener);
        let (databases, threads) = start_cores();
        let control = Builder::new_current_thread().enable_all().build().unwrap();
        let mut proxy = Self { postgres, port, databases: Some(databases), threads, params, control, listener };
        proxy.reload();
        proxy
    }

    /// Serves by the parameters as they are now.
    pub(crate) fn reload(&mut self) {
        let databases = self.databases.as_mut().unwrap();
        let listener = std::slice::from_ref(&self.listener);
        let prepared =
            databases.prepare(listener, std::slice::from_ref(&self.params), &mut Default::default()).unwrap();
        self.control.block_on(databases.commit(prepared));
    }

    /// Ends it, and begins anew with nothing of what it knew.
    pub(crate) fn restart(&mut self) {
        self.stop(Duration::from_secs(2));
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        let (databases, threads) = start_cores();
        (self.databases, self.threads) = (Some(databases), threads);
        self.reload();
    }

    /// Ends it: how many clients were cut.
    pub(crate) fn stop(&mut self, timeout: Duration) -> usize {
        self.control.block_on(self.databases.take().unwrap().stop(timeout))
    }

    pub(crate) fn view(&self) -> Vec<PoolView> {
        self.databases.as_ref().unwrap().view().pools()
    }

    /// How many backends the pool has.
    pub(crate) fn backends(&self) -> usize {
        self.view().iter().map(|pool| pool.idle + pool.lent + pool.opening).sum()
    }

    pub(crate) fn database(&self) -> DatabaseView {
        self.databases.as_ref().unwrap().view().databases().into_iter().find(|view| view.name == "shop").unwrap()
    }

    pub(crate) fn databases(&self) -> &Databases {
        self.databases.as_ref().unwrap()
    }

    /// Closes connections of clients.
    pub(crate) fn kill(&self, whom: &Whom) {
        self.try_kill(whom).unwrap();
    }

    /// The same, of whom may have gone.
    pub(crate) fn try_kill(&self, whom: &Whom) -> Result<(), ControlError> {
        self.control.block_on(self.databases().kill("shop", whom, false))
    }

    pub(crate) fn client(&self) -> PgClient {
        self.client_of("web")
    }

    pub(crate) fn client_of(&self, user: &str) -> PgClient {
        PgClient::connect(self.port, user, "shop", "").unwrap()
    }

    /// A program of PostgreSQL's, told how to connect.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(std::path::Path::new("/usr/lib/postgresql/15/bin").join(program));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", "web");
        command.env("PGDATABASE", "shop").env_remove("PGPASSWORD").args(arguments);
        command.output().unwrap()
    }

    /// What `psql` prints for a text; it must succeed.
    pub(crate) fn psql(&self, text: &str) -> String {
        let output = self.tool("psql", &["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Waits until no backend is lent, and holds what the proxy counts against what the server has.
    pub(crate) fn check_accounts(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let pools = self.view();
            let (lent, waiting): (usize, usize) =
                pools.iter().fold((0, 0), |(lent, waiting), pool| (lent + pool.lent, waiting + pool.waiting));
            let counted: usize = pools.iter().map(|pool| pool.idle + pool.lent + pool.opening).sum();
            let text = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name NOT LIKE 'tenfold %'";
            let there: usize = self.postgres.sql(0, text).unwrap()[0].parse().unwrap();
            let busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                        AND pid <> pg_backend_pid() AND state <> 'idle' AND application_name NOT LIKE 'tenfold %'";
            let busy: usize = self.postgres.sql(0, busy).unwrap()[0].parse().unwrap();
            if (lent, waiting, busy) == (0, 0, 0) && counted == there {
                return;
            }
            assert!(Instant::now() < deadline, "{pools:?}: {there} at the server, {busy} of them busy");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(databases) = self.databases.take() {
            self.control.block_on(databases.stop(Duration::from_secs(2)));
        }
        for thread in self.threads.drain(..) {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking(), "a core ended by a panic");
        }
    }
}
