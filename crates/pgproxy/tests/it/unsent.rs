//! What counts as sent, and was not taken by whom it is for.

use std::time::{Duration, Instant};

use pgproxy::{PgTls, ServerAddress};
use testkit::{Authority, PgClient, PgMessages, Postgres, PostgresOptions, Relay, Way};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::proxy::{Proxy, server_tls};

/// Who sends to the port, or takes from it.
#[derive(Clone, Copy)]
enum Side {
    To,
    From,
}

/// Bytes that the system has of connections to a port of this machine, one way, and nobody has read.
fn under_way(port: u16, side: Side) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let port_of = |address: &str| number(address.split_once(':').unwrap().1) == u64::from(port);
    let connections = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let bytes = connections.filter(|fields| fields[3] == "01").map(|fields| {
        let (unsent, unread) = fields[4].split_once(':').unwrap();
        let (is_near, is_far) = (port_of(fields[1]), port_of(fields[2]));
        let (sends, takes) = match side {
            Side::To => (is_far, is_near),
            Side::From => (is_near, is_far),
        };
        u64::from(sends) * number(unsent) + u64::from(takes) * number(unread)
    });
    bytes.sum()
}

/// After which time what is not taken is not going to be, if the server has answered.
const NOT_TAKEN: Duration = Duration::from_millis(1_500);

/// How long a client may stall.
const STALL: Duration = Duration::from_secs(8);

/// Has pieces that are as long as each other sent, until one is not taken as a whole: how many were sent.
fn fill(port: u16, side: Side, has_answered: impl Fn() -> bool, mut send: impl FnMut()) -> usize {
    let begun = at_rest(port, side);
    send();
    wait_for("something is sent", || under_way(port, side) > begun);
    let piece = at_rest(port, side) - begun;
    for count in 2_u32..100_000 {
        send();
        let (wanted, mut until) = (begun + piece * u64::from(count), Instant::now() + NOT_TAKEN);
        loop {
            // The table takes much longer to read.
            std::thread::sleep(Duration::from_micros(200));
            if under_way(port, side) >= wanted {
                break;
            }
            if Instant::now() > until {
                // It may be that there was nothing to take yet.
                if has_answered() && at_rest(port, side) < wanted {
                    return count as usize;
                }
                until = Instant::now() + NOT_TAKEN;
            }
        }
    }
    panic!("everything is taken");
}

/// What is under way once it is the same for a while: what was not yet said to have come is counted at both ends.
fn at_rest(port: u16, side: Side) -> u64 {
    let mut last = under_way(port, side);
    loop {
        std::thread::sleep(Duration::from_millis(250));
        match under_way(port, side) {
            now if now == last => return now,
            now => last = now,
        }
    }
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + 4 * STALL;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

trait Connection: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Connection for T {}

/// A client that reads when it is told to.
struct Client {
    runtime: Runtime,
    connection: Box<dyn Connection>,
}

/// What an answer is as long as, and so small that it waits for others.
const ROW: usize = 1_900;

impl Client {
    fn connect(proxy: &Proxy, tls: Option<&net::tls::ClientTls>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let socket = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
            socket.set_nodelay(true).unwrap();
            match tls {
                Some(tls) => {
                    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
                    Box::new(tls.connect_whole(name, socket).await.unwrap()) as Box<dyn Connection>
                }
                None => Box::new(socket) as _,
            }
        });
        let mut client = Self { runtime, connection };
        let parameters = b"\0\x03\0\0user\0web\0database\0shop\0\0";
        let mut startup = (parameters.len() as u32 + 4).to_be_bytes().to_vec();
        startup.extend(parameters);
        client.send(&startup);
        client.take_answers(1);
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.runtime.block_on(async {
            self.connection.write_all(bytes).await.unwrap();
            self.connection.flush().await.unwrap();
        });
    }

    fn ask(&mut self) {
        self.send(&PgMessages::default().query(&format!("SELECT repeat('x', {ROW})")).0);
    }

    /// Reads so many answers: bytes of their rows.
    fn take_answers(&mut self, count: usize) -> usize {
        let (mut left, mut bytes) = (count, 0);
        self.runtime.block_on(async {
            while left > 0 {
                let kind = self.connection.read_u8().await.unwrap();
                let length = self.connection.read_u32().await.unwrap() as usize - 4;
                let mut body = vec![0; length];
                self.connection.read_exact(&mut body).await.unwrap();
                left -= usize::from(kind == b'Z');
                bytes += if kind == b'D' { length - 6 } else { 0 };
            }
        });
        bytes
    }
}

/// A client that stops reading, so that the end of an answer is left, takes it when it reads on, and is cut off when it does not.
fn stalls_with_the_end_of_an_answer(is_enciphered: bool) {
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT repeat%'";
    let authority = Authority::new("the shop's own").unwrap();
    let proxy = proxy_with_tls(&authority);
    let trust = net::tls::Trust::Authorities(net::tls::Authorities::load(&authority.file()).unwrap());
    let tls = net::tls::ClientTls::new(net::tls::ClientTlsParams {
        trust,
        server_name: None,
        certificate: None,
        min_version: net::tls::MinVersion::Tls12,
        protocol: net::tls::HTTP11,
    });
    let mut client = Client::connect(&proxy, is_enciphered.then(|| tls.unwrap()).as_ref());
    let has_answered = || proxy.postgres.sql(0, running).unwrap() == ["0"];
    let count = fill(proxy.port, Side::From, has_answered, || client.ask());
    assert_eq!(client.take_answers(count), count * ROW);
    // It has had its stall, and all the time there is again.
    std::thread::sleep(STALL + Duration::from_secs(1));
    fill(proxy.port, Side::From, has_answered, || client.ask());
    assert_eq!(proxy.database().clients, 1);
    // Who does not read has no backend.
    proxy.check_accounts();
    wait_for("it is cut off", || proxy.database().clients == 0);
    proxy.check_accounts();
}

fn proxy_with_tls(authority: &Authority) -> Proxy {
    let issued = authority.issue("db", &["localhost"]).unwrap();
    Proxy::start_with(&PostgresOptions::default(), |params, listener| {
        params.catalogue.read = false;
        listener.stall_timeout = STALL;
        listener.tls = Some(PgTls { server: server_tls(&issued), required: false });
    })
}

#[test]
fn who_does_not_take_the_end_of_an_answer_is_cut_off_in_time() {
    stalls_with_the_end_of_an_answer(false);
}

#[test]
fn who_does_not_take_the_end_of_an_answer_under_tls_is_cut_off_in_time() {
    stalls_with_the_end_of_an_answer(true);
}

/// A table that takes no row as long as a lock is held, and then refuses it.
const SLOW_TABLE: &str = "CREATE TABLE slow (a text); \
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
    PERFORM pg_advisory_xact_lock(7); RAISE EXCEPTION 'no rows' USING ERRCODE = '22000'; END$$; \
    CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait()";

/// A proxy of one backend, and a network before its server.
fn behind_a_relay() -> (Proxy, Relay) {
    let postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let relay = Relay::start(([127, 0, 0, 1], postgres.port(0)).into()).unwrap();
    let proxy = Proxy::before(postgres, |params, _| {
        params.pool.size = 1;
        params.primary.address = ServerAddress::Tcp { host: "127.0.0.1".into(), port: relay.address().port() };
    });
    proxy.client().query(SLOW_TABLE).unwrap();
    (proxy, relay)
}

/// A client that copies rows to a server which takes none, through a network that takes no more of them. Who holds the server up comes with it.
fn copies_more_than_is_taken(proxy: &Proxy, relay: &Relay) -> (PgClient, PgClient) {
    let mut holder = PgClient::connect(proxy.postgres.port(0), "postgres", "postgres", "").unwrap();
    assert_eq!(holder.query("SELECT pg_advisory_lock(7)").unwrap().kinds, "TDCZ");
    let mut client = proxy.client();
    client.send(&PgMessages::default().query("COPY slow FROM stdin").0).unwrap();
    assert_eq!(client.message().unwrap().tag, b'G');
    let row = [&[b'x'; 1_999][..], b"\n"].concat();
    let piece = PgMessages::default().raw(b'd', &row).0;
    // The server reads until it has a whole row, and some more.
    (0..60).for_each(|_| client.send(&piece).unwrap());
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    proxy.postgres.wait_for(0, waits, "1").unwrap();
    relay.stall(Way::ToServer, Duration::from_secs(600));
    // It takes one more piece, which it keeps.
    client.send(&piece).unwrap();
    fill(relay.address().port(), Side::To, || true, || client.send(&piece).unwrap());
    (client, holder)
}

#[test]
fn a_server_that_ends_without_having_read_everything_has_its_last_words_heard() {
    let (proxy, relay) = behind_a_relay();
    let (mut client, holder) = copies_more_than_is_taken(&proxy, &relay);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    assert_eq!(proxy.postgres.sql(0, end).unwrap(), ["t"]);
    assert_eq!(client.message().unwrap().field(b'C'), "57P01");
    relay.slow(Way::ToServer, Duration::ZERO, Duration::ZERO);
    drop(holder);
    assert_eq!(proxy.client().query("SELECT 1").unwrap().value(), "1");
    proxy.check_accounts();
}

#[test]
fn a_server_that_has_not_been_sent_everything_is_lent_to_nobody() {
    let (proxy, relay) = behind_a_relay();
    // They are on both cores.
    let mut others = [proxy.client(), proxy.client()];
    // What was done to tables is known to all after this, and what the trigger does.
    others.iter_mut().for_each(|other| assert_eq!(other.query("SELECT 1").unwrap().value(), "1"));
    std::thread::sleep(Duration::from_millis(500));
    let mut pids = others.each_mut().map(|other| other.query("SELECT pg_backend_pid()").unwrap().value().to_owned());
    assert_eq!(pids[0], pids[1]);
    let (mut client, mut holder) = copies_more_than_is_taken(&proxy, &relay);
    assert_eq!(holder.query("SELECT pg_advisory_unlock(7)").unwrap().value(), "t");
    assert_eq!(client.answer().unwrap().code(), "22000");
    std::thread::scope(|scope| {
        let waiting = others
            .each_mut()
            .map(|other| scope.spawn(|| other.query("SELECT pg_backend_pid()").unwrap().value().to_owned()));
        std::thread::sleep(Duration::from_millis(500));
        assert!(waiting.iter().all(|other| !other.is_finished()));
        relay.slow(Way::ToServer, Duration::ZERO, Duration::ZERO);
        assert_eq!(waiting.map(|other| other.join().unwrap()), std::mem::take(&mut pids));
    });
    assert_eq!(client.query("SELECT 3").unwrap().value(), "3");
    drop((others, holder));
    proxy.check_accounts();
}
