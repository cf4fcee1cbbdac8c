//! Several processes with one cache, and everything that can go wrong around them: what they did goes to files, and is checked.
//!
//! A subject is any program that takes the words of a folder, a URL of Redis, a number, a place, how many there are, a seed and a word of its own, says `ready`, and then reads and writes until it is killed. Its database
//! is a folder in which each key is a file, to which a commit appends eight bytes; its history is a file of [`Operation`]s.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::history::{OPERATION_BYTES, Operation, Promise, Rows, violations};
use crate::{Process, Redis, Relay, Signal, TempDir, Way};

/// Time for a subject to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often what is done by then is checked.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// What is to be proved.
#[derive(Clone, Debug)]
pub struct Coherence {
    /// Operations to be done, at least.
    pub operations: u64,
    /// However few they are, no longer than this.
    pub longest: Duration,
    /// What troubles are drawn from.
    pub seed: u64,
    /// Processes.
    pub instances: usize,
    /// Who is promised to read what was acknowledged.
    pub promise: Promise,
    /// Whether Redis may come back with what it had some time ago.
    pub redis_forgets: bool,
    /// A word for the subjects.
    pub word: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct CoherenceReport {
    /// Reads.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Troubles, by what they were.
    pub troubles: Vec<(&'static str, u64)>,
    /// A sentence for each read that should not have been.
    pub violations: Vec<String>,
    /// The longest that a read and a write took, in nanoseconds.
    pub longest: [u64; 2],
}

/// What can happen, and how often in a hundred times.
const TROUBLES: [(&str, u32); 9] = [
    ("a process stands still", 26),
    ("its answers are late", 12),
    ("its answers are slow", 18),
    ("its questions are late", 12),
    ("its connection breaks", 10),
    ("all connections break", 6),
    ("a process is killed", 5),
    ("Redis stands still", 7),
    ("Redis is killed", 4),
];

impl Coherence {
    /// Runs it, and stops at the first violations.
    ///
    /// # Errors
    /// When something cannot be started.
    pub fn run(&self, subject: &dyn Fn(&[String]) -> Command) -> Result<CoherenceReport> {
        let mut site = Site::start(self, subject)?;
        let (began, mut checked) = (Instant::now(), Instant::now());
        loop {
            site.trouble()?;
            let is_over = site.operations()? >= self.operations || began.elapsed() > self.longest;
            if !is_over && checked.elapsed() < CHECK_EVERY {
                continue;
            }
            checked = Instant::now();
            if is_over {
                site.subjects.clear();
            }
            let report = site.report()?;
            if is_over || !report.violations.is_empty() {
                return Ok(report);
            }
        }
    }
}

struct Site<'c> {
    coherence: &'c Coherence,
    subject: &'c dyn Fn(&[String]) -> Command,
    random: fastrand::Rng,
    // Subjects end before what they need.
    subjects: Vec<Subject>,
    redis: Redis,
    folder: TempDir,
    started: u64,
    troubles: [u64; TROUBLES.len()],
}

struct Subject {
    process: Process,
    relay: Relay,
    /// When one that stands still goes on.
    still_until: Option<Instant>,
}

impl<'c> Site<'c> {
    fn start(coherence: &'c Coherence, subject: &'c dyn Fn(&[String]) -> Command) -> Result<Self> {
        let folder = TempDir::new()?;
        std::fs::create_dir(folder.path().join("rows"))?;
        std::fs::create_dir(folder.path().join("histories"))?;
        let mut site = Self {
            coherence,
            subject,
            random: fastrand::Rng::with_seed(coherence.seed),
            subjects: Vec::new(),
            redis: Redis::start(&[])?,
            folder,
            started: 0,
            troubles: [0; TROUBLES.len()],
        };
        for place in 0..coherence.instances {
            let started = site.begin(place)?;
            site.subjects.push(started);
        }
        Ok(site)
    }

    fn begin(&mut self, place: usize) -> Result<Subject> {
        self.started += 1;
        let relay = Relay::start(self.redis.address())?;
        let words = [
            self.folder.path().display().to_string(),
            format!("redis://{}", relay.address()),
            self.started.to_string(),
            place.to_string(),
            self.coherence.instances.to_string(),
            self.random.u64(..).to_string(),
            self.coherence.word.clone(),
        ];
        let mut process = Process::spawn("subject", (self.subject)(&words))?;
        process.wait_for_output("ready", PATIENCE)?;
        Ok(Subject { process, relay, still_until: None })
    }

    /// Lets some time go by, and then makes some trouble.
    fn trouble(&mut self) -> Result<()> {
        let between = Duration::from_millis(self.random.u64(5..120));
        self.rest(between)?;
        let mut chance = self.random.u32(..100);
        let drawn = TROUBLES.iter().position(|(_, share)| {
            let is_it = chance < *share;
            chance = chance.saturating_sub(*share);
            is_it
        });
        let drawn = drawn.context("the shares make a hundred")?;
        self.troubles[drawn] += 1;
        let (place, time) = (self.random.usize(..self.subjects.len()), Duration::from_millis(self.random.u64(1..700)));
        let subject = &mut self.subjects[place];
        match TROUBLES[drawn].0 {
            "a process stands still" => {
                subject.process.signal(Signal::STOP)?;
                subject.still_until = Some(Instant::now() + time);
            }
            "its answers are late" => subject.relay.stall(Way::ToClient, 2 * time),
            "its answers are slow" => subject.relay.slow(Way::ToClient, time / 2, 4 * time),
            "its questions are late" => subject.relay.stall(Way::ToServer, time),
            "its connection breaks" => subject.relay.cut(),
            "all connections break" => drop(self.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"])?),
            "a process is killed" => {
                subject.process.kill();
                self.subjects[place] = self.begin(place)?;
            }
            "Redis stands still" => {
                self.redis.hang()?;
                self.rest(time)?;
                self.redis.go_on()?;
            }
            _ => {
                if self.coherence.redis_forgets {
                    // It comes back with what it had then.
                    self.redis.command(&["SAVE"])?;
                    self.rest(time)?;
                }
                self.redis.kill();
                self.rest(time / 4)?;
                self.redis.restart()?;
            }
        }
        Ok(())
    }

    /// Waits, and has go on who has stood still for long enough.
    fn rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            let now = Instant::now();
            for subject in &mut self.subjects {
                if subject.still_until.take_if(|until| *until <= now).is_some() {
                    subject.process.signal(Signal::CONT)?;
                }
                ensure!(subject.process.is_running(), "a subject has ended:\n{}", subject.process.output());
            }
            if now >= until {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(3).min(until - now));
        }
    }

    fn files(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.folder.path().join(folder))?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    fn operations(&self) -> Result<u64> {
        let bytes = self.files("histories")?.iter().map(|path| Ok(path.metadata()?.len())).sum::<Result<u64>>()?;
        Ok(bytes / OPERATION_BYTES as u64)
    }

    fn report(&self) -> Result<CoherenceReport> {
        let mut operations = Vec::new();
        for path in self.files("histories")? {
            operations.extend(Operation::read(&path)?);
        }
        // After the histories, so that all that these know of is there.
        let mut rows = Rows::new();
        for path in self.files("rows")? {
            rows.insert(key(&path)?, row(&path)?);
        }
        let longest = |is_write: bool| {
            let of_kind = operations.iter().filter(|operation| operation.is_write == is_write);
            of_kind.map(|operation| operation.ended - operation.began).max().unwrap_or(0)
        };
        let writes = operations.iter().filter(|operation| operation.is_write).count() as u64;
        Ok(CoherenceReport {
            reads: operations.len() as u64 - writes,
            writes,
            troubles: TROUBLES.iter().zip(self.troubles).map(|((name, _), count)| (*name, count)).collect(),
            violations: violations(&rows, &operations, self.coherence.promise),
            longest: [longest(false), longest(true)],
        })
    }
}

fn key(path: &Path) -> Result<u64> {
    let name = path.file_name().and_then(|name| name.to_str()).context("a file without a name")?;
    name.parse().with_context(|| format!("{name} is no key"))
}

fn row(path: &Path) -> Result<Vec<u64>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(8).map(|value| u64::from_le_bytes(value.try_into().expect("eight bytes"))).collect())
}
