//! The cache's disk through a gateway, which is killed while it fetches: afterwards it answers what it has with the right bytes, and
//! has nearly all that clients had had whole a second before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::{RawConn, TempDir, Tenfold, free_port};

use super::trouble::{Damage, Random};
use super::{SETTLED, SURVIVING_SHARE};
use crate::proof::Verdict;

/// Clients that ask at once, and how long each takes for one object at least. Together they fetch some 200 MB a second: what a disk does not take
/// is not stored, and this is about what it took.
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_micros(2_500);
/// An answer within a round takes so long at most, also when the file system is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of what clients have had in a round so many are purged, spread over it.
const PURGED_MAX: usize = 8;
const PURGED_STEP: usize = 29;

/// Bytes of the disk: more than clients fetch in a round, so that what is not there was lost and did not have to go.
const DISK_BYTES: u64 = 1 << 30;

/// Asks for what is stored alone.
const STORED: &str = "Cache-Control: only-if-cached\r\n";

/// What is found of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    There,
    Gone,
    /// The answer broke off, and showed it.
    Cut,
    /// It did so twice, though what cannot be read to its end is to be forgotten.
    CutAgain,
    Wrong,
}

pub(super) fn kill_often(program: &Path, rounds: u32, verdict: &mut Verdict) -> Result<()> {
    let (folder, origin) = (TempDir::new()?, start_origin()?);
    let text = config(origin, folder.path());
    let mut random = Random::new(11);
    let mut stored: BTreeMap<u64, Instant> = BTreeMap::new();
    let (mut settled, mut survived, mut purged) = (0_u64, 0_u64, BTreeSet::new());
    for round in 0..rounds {
        let first = u64::from(round) * 1_000_000;
        let killed = fetch_and_kill(program, &text, first, &mut random, (&mut stored, &mut purged))?;
        let damage = Damage::of_round(round);
        let hit = damage.apply(folder.path(), &mut random)?;
        let concerned: Vec<u64> = stored.keys().copied().filter(|number| *number >= first).collect();
        ensure!(!concerned.is_empty(), "round {round}: nothing was fetched");
        let fetched: u64 = concerned.iter().map(|number| length(*number).1).sum();
        ensure!(
            fetched < DISK_BYTES / 4 * 3,
            "round {round}: {fetched} bytes were fetched, nearly more than the disk holds"
        );
        let earlier = stored.keys().copied().filter(|number| *number < first).step_by(37);
        let asked: BTreeSet<u64> = concerned.iter().copied().chain(earlier).chain(purged.iter().copied()).collect();
        let site = Tenfold::start_with(Command::new(program), &text)?;
        let found = look(site.address(), asked)?;
        for (number, state) in &found {
            let outcome = match state {
                State::Wrong => Err("is served with other bytes".to_owned()),
                State::There if purged.contains(number) => Err("was purged and came back".to_owned()),
                State::Cut if damage == Damage::None => Err("breaks off".to_owned()),
                State::CutAgain => Err("breaks off again".to_owned()),
                _ => Ok(()),
            };
            verdict.check("gateway_never_wrong", &format!("round {round}, {damage:?} {hit}: {number}"), &outcome);
        }
        if !damage.spares_records() {
            continue;
        }
        let is_early = |number: &&u64| stored[*number] + SETTLED <= killed && !purged.contains(*number);
        let early: Vec<_> = concerned.iter().filter(is_early).collect();
        let there = early.iter().filter(|number| found[number] == State::There).count();
        let is_enough = there as f64 >= early.len() as f64 * SURVIVING_SHARE;
        let outcome = if is_enough { Ok(()) } else { Err(format!("{there} of {} are there", early.len())) };
        verdict.check("gateway_survival", &format!("round {round}, {damage:?}"), &outcome);
        settled += early.len() as u64;
        survived += there as u64;
        println!("gateway, round {round}: {damage:?} {hit}, {there} of {} are there", early.len());
    }
    ensure!(settled > 0, "clients had nothing a second before a kill: nothing was proved of what survives");
    ensure!(!purged.is_empty(), "nothing was purged: nothing was proved of what stays purged");
    verdict.notes.insert("purged through a gateway".into(), purged.len() as u64);
    verdict.notes.insert("had by clients a second before".into(), settled);
    verdict.notes.insert("of them there, through a gateway".into(), survived);
    Ok(())
}

/// Little memory, so that most of what is there comes from disk.
fn config(origin: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[listener.web]\nlisten = \"127.0.0.1:{}\"\n\
         [cache]\nmemory = \"32MiB\"\ndisk = {{ path = \"{folder}\", size = \"{DISK_BYTES}B\" }}\n\
         [[route]]\nservice = \"origin\"\ncache = {{ object_bytes_max = \"64MiB\" }}\n\
         [service.origin]\nendpoints = [\"{origin}\"]\n",
        free_port(),
        free_port()
    )
}

/// Has clients fetch what is new until the gateway is killed; says when that was.
fn fetch_and_kill(
    program: &Path,
    text: &str,
    first: u64,
    random: &mut Random,
    (stored, purged): (&mut BTreeMap<u64, Instant>, &mut BTreeSet<u64>),
) -> Result<Instant> {
    let mut site = Tenfold::start_with(Command::new(program), text)?;
    let (next, is_over, had) = (AtomicU64::new(first), AtomicBool::new(false), Mutex::new(Vec::new()));
    let address = site.address();
    let admin = site.admin().context("the gateway has no admin listener")?;
    let killed = std::thread::scope(|scope| -> Result<Instant> {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let Ok(mut conn) = RawConn::connect(address) else { return };
                let mut next_at = Instant::now();
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(next_at.saturating_duration_since(Instant::now()));
                    next_at = Instant::now() + PACE;
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // Whatever was under way at the kill breaks off.
                    let Ok(answer) = ask(&mut conn, number, "") else { return };
                    if answer == State::There {
                        had.lock().expect("no client panics").push((number, Instant::now()));
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(1_600 + random.below(900)));
        // The last purges are written just before the end.
        let had = had.lock().expect("no client panics");
        let chosen: Vec<u64> = had.iter().map(|(number, _)| *number).step_by(PURGED_STEP).take(PURGED_MAX).collect();
        drop(had);
        let outcome = chosen.iter().try_for_each(|number| purge(admin, *number));
        let killed = Instant::now();
        site.process().kill();
        // Clients go on until then, whatever came of it.
        is_over.store(true, Ordering::Relaxed);
        purged.extend(chosen);
        outcome.map(|()| killed)
    })?;
    stored.extend(had.into_inner().expect("no client panics"));
    Ok(killed)
}

/// Purges an object. When this returns, that is written down.
fn purge(admin: SocketAddr, number: u64) -> Result<()> {
    let body = format!("{{\"url\": \"http://shop.example.com/{number}\"}}");
    let mut conn = RawConn::connect(admin)?.timeout(PATIENCE);
    let head = format!("POST /api/cache/purge HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\n");
    conn.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))?;
    let response = conn.read_response("POST")?;
    ensure!(response.status == 200, "purge of {number}: status {}: {}", response.status, response.text());
    Ok(())
}

/// Asks for what is stored, and compares it.
fn look(address: SocketAddr, numbers: BTreeSet<u64>) -> Result<BTreeMap<u64, State>> {
    let mut found = BTreeMap::new();
    let mut conn = RawConn::connect(address)?.timeout(PATIENCE);
    for number in numbers {
        let state = match ask(&mut conn, number, STORED) {
            Ok(state) => state,
            Err(error) if conn.has_ended() => {
                println!("  {number}: {}", error.to_string().chars().take(120).collect::<String>());
                conn = RawConn::connect(address)?.timeout(PATIENCE);
                match ask(&mut conn, number, STORED) {
                    Ok(_) => State::Cut,
                    Err(_) => {
                        conn = RawConn::connect(address)?.timeout(PATIENCE);
                        State::CutAgain
                    }
                }
            }
            Err(error) => bail!("{number}: {error:#}"),
        };
        found.insert(number, state);
    }
    Ok(found)
}

fn ask(conn: &mut RawConn, number: u64, fields: &str) -> Result<State> {
    conn.send(format!("GET /{number} HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n"))?;
    let response = conn.read_response("GET")?;
    match response.status {
        200 if response.body == body(number) => Ok(State::There),
        200 => Ok(State::Wrong),
        504 => Ok(State::Gone),
        status => bail!("status {status}: {}", response.text()),
    }
}

/// What an object holds: up to 64 KiB mostly, and now and then more than is written with its object or kept in memory.
fn body(number: u64) -> Vec<u8> {
    let (mut random, length) = length(number);
    let length = length as usize;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.below(u64::MAX).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// How many bytes it has, and what they are drawn from.
fn length(number: u64) -> (Random, u64) {
    let mut random = Random::new(number);
    let most = match number % 40 {
        0 => 6 << 20,
        1..=4 => 600 << 10,
        _ => 64 << 10,
    };
    let length = random.below(most);
    (random, length)
}

/// A service that knows each object, for as long as this program runs.
fn start_origin() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // Whoever breaks off is gone.
            std::thread::spawn(move || serve(&socket).ok());
        }
    });
    Ok(address)
}

fn serve(socket: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(socket);
    loop {
        let (mut line, mut number) = (String::new(), None);
        while reader.read_line(&mut line)? > 0 && line != "\r\n" {
            if let Some(target) = line.strip_prefix("GET /") {
                number = target.split(' ').next().and_then(|number| number.parse().ok());
            }
            line.clear();
        }
        let Some(number) = number else { return Ok(()) };
        let body = body(number);
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=86400\r\nContent-Length: {length}\r\n\r\n");
        let mut writer = socket;
        writer.write_all(&[head.as_bytes(), &body].concat())?;
    }
}
