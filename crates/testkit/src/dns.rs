use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

mod message;

use message::{Asked, Section};

/// How often the server looks whether it was told to stop.
const POLL: Duration = Duration::from_millis(20);

/// Patience with a client over TCP.
const TCP_TIMEOUT: Duration = Duration::from_secs(2);

/// A name server with records of its own, over UDP and TCP on one port of 127.0.0.1. Records and moods change while it
/// runs. It writes messages by hand and knows no library that does.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsData {
    /// `A` or `AAAA`.
    Address(IpAddr),
    /// `CNAME`.
    Alias(String),
    /// `SRV`.
    Service {
        /// Lower ones come first.
        priority: u16,
        /// Share within the priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host; `.` for none.
        target: String,
    },
}

/// How the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsMood {
    /// By its records.
    Well,
    /// With this code and nothing else: 2 is `SERVFAIL`, 5 is `REFUSED`.
    Code(u8),
    /// With this code, where `AAAA` is asked for.
    CodeOfAaaa(u8),
    /// Not at all.
    Silent,
    /// By its records, but over UDP always cut.
    Truncated,
    /// Cut over UDP, and over TCP not at all.
    TruncatedForGood,
    /// By its records under another id, and to another question.
    Strangers,
    /// With what begins as an answer and goes on as noise.
    Garbage,
    /// With noise.
    Noise,
    /// With code 1 where the question is not as it was in 1987, as old servers do.
    Old,
}

/// A question that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuestion {
    /// Lower case.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, or the type's number.
    pub kind: String,
    /// Whether it came over TCP.
    pub is_tcp: bool,
    /// When it came.
    pub at: Instant,
}

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<String, (u32, Vec<DnsData>)>,
    mood: DnsMood,
    with_glue: bool,
    questions: Vec<DnsQuestion>,
}

impl DnsServer {
    /// Starts a server that knows no name.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start() -> Result<Self> {
        for _ in 0..20 {
            let port = crate::free_port();
            if let Ok(server) = Self::start_at((Ipv4Addr::LOCALHOST, port)) {
                return Ok(server);
            }
        }
        bail!("no port is free for UDP and TCP")
    }

    /// Starts one at an address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start_at(address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let tcp = TcpListener::bind(address).context("name server: bind TCP")?;
        let udp = UdpSocket::bind(address).context("name server: bind UDP")?;
        tcp.set_nonblocking(true)?;
        udp.set_read_timeout(Some(POLL))?;
        let state = State { records: BTreeMap::new(), mood: DnsMood::Well, with_glue: false, questions: Vec::new() };
        let shared = Arc::new(Shared { stopping: AtomicBool::new(false), state: Mutex::new(state) });
        let (of_udp, of_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &of_udp)),
            std::thread::spawn(move || serve_tcp(&tcp, &of_tcp)),
        ];
        Ok(Self { address, shared, threads })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a name these records and no others; without any, the name is there all the same.
    pub fn set(&self, name: &str, ttl_secs: u32, records: &[DnsData]) {
        self.shared.state().records.insert(name.to_ascii_lowercase(), (ttl_secs, records.to_vec()));
    }

    /// Gives a name these addresses and no other records.
    pub fn set_addresses(&self, name: &str, ttl_secs: u32, addresses: &[IpAddr]) {
        let records: Vec<DnsData> = addresses.iter().copied().map(DnsData::Address).collect();
        self.set(name, ttl_secs, &records);
    }

    /// Takes a name away.
    pub fn remove(&self, name: &str) {
        self.shared.state().records.remove(name);
    }

    /// Answers in another way from now on.
    pub fn set_mood(&self, mood: DnsMood) {
        self.shared.state().mood = mood;
    }

    /// Sends the addresses of targets along with `SRV` records from now on, or no longer.
    pub fn set_glue(&self, with_glue: bool) {
        self.shared.state().with_glue = with_glue;
    }

    /// The questions so far.
    pub fn questions(&self) -> Vec<DnsQuestion> {
        self.shared.state().questions.clone()
    }

    /// How many questions there were of a name and a kind.
    pub fn count(&self, name: &str, kind: &str) -> usize {
        let state = self.shared.state();
        state.questions.iter().filter(|asked| asked.name == name && asked.kind == kind).count()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a thread of the name server panicked")
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// What is sent for a message, in this order.
    fn answer(&self, bytes: &[u8], is_tcp: bool) -> Vec<Vec<u8>> {
        let Some(asked) = message::read(bytes) else { return Vec::new() };
        let mut state = self.state();
        let (name, kind) = (asked.name.clone(), message::kind_name(asked.kind));
        state.questions.push(DnsQuestion { name, kind, is_tcp, at: Instant::now() });
        let bound = if is_tcp { usize::from(u16::MAX) } else { asked.udp_bytes };
        let good = state.reply(&asked, bound);
        match state.mood {
            DnsMood::Well => vec![good],
            DnsMood::Code(code) => vec![message::bare(&asked, code, false)],
            DnsMood::CodeOfAaaa(code) if asked.kind == message::AAAA => vec![message::bare(&asked, code, false)],
            DnsMood::CodeOfAaaa(_) => vec![good],
            DnsMood::Silent => Vec::new(),
            DnsMood::Truncated | DnsMood::TruncatedForGood if !is_tcp => vec![message::bare(&asked, 0, true)],
            DnsMood::Truncated => vec![good],
            DnsMood::TruncatedForGood => Vec::new(),
            DnsMood::Strangers => {
                let mut other_id = good.clone();
                other_id[0] ^= 0x55;
                let mut other_question = good;
                other_question[13] ^= 1;
                vec![other_id, other_question, vec![0; 3]]
            }
            DnsMood::Garbage => {
                let mut spoilt = message::bare(&asked, 0, false);
                // Two answers are announced, and something else follows.
                spoilt[7] = 2;
                spoilt.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0xff, 0xff, 1, 2, 3, 4]);
                vec![spoilt]
            }
            DnsMood::Noise => vec![bytes.iter().map(|byte| byte.wrapping_mul(31).wrapping_add(7)).collect()],
            DnsMood::Old if asked.is_extended => vec![message::bare(&asked, 1, false)],
            DnsMood::Old => vec![good],
        }
    }
}

impl State {
    /// The answer by the records.
    fn reply(&self, asked: &Asked, bound: usize) -> Vec<u8> {
        let (mut answers, mut name, mut exists) = (Section::default(), asked.name.clone(), false);
        for _ in 0..10 {
            let Some((ttl, records)) = self.records.get(&name) else { break };
            exists = true;
            let own = records.iter().filter(|record| message::kind_of(record) == asked.kind);
            own.for_each(|record| answers.push(&name, *ttl, record));
            let alias = records.iter().find_map(|record| match record {
                DnsData::Alias(to) => Some((record, to)),
                _ => None,
            });
            let Some((record, to)) = alias else { break };
            answers.push(&name, *ttl, record);
            (name, exists) = (to.clone(), false);
        }
        let mut glue = Section::default();
        if self.with_glue && asked.kind == message::SRV {
            let records = self.records.get(&asked.name).into_iter().flat_map(|(_, records)| records);
            for target in records.filter_map(|record| match record {
                DnsData::Service { target, .. } => Some(target),
                _ => None,
            }) {
                let Some((ttl, records)) = self.records.get(target) else { continue };
                let addresses = records.iter().filter(|record| matches!(record, DnsData::Address(_)));
                addresses.for_each(|record| glue.push(target, *ttl, record));
            }
        }
        let code = if exists { 0 } else { 3 };
        let reply = message::reply(asked, code, &answers, &glue);
        if reply.len() > bound { message::bare(asked, code, true) } else { reply }
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while !shared.is_stopping() {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                for answer in shared.answer(&buffer[..length], false) {
                    let _gone = socket.send_to(&answer, from);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // A client that has gone already is told of by the next call.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Shared) {
    while !shared.is_stopping() {
        match listener.accept() {
            Ok((stream, _)) => {
                let _client_gone = converse(stream, shared);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(POLL / 4),
            Err(_) => return,
        }
    }
}

fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TCP_TIMEOUT))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    for answer in shared.answer(&message, true) {
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
    }
    Ok(())
}
