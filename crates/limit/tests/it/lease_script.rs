//! The script in a real Redis against the reference, number by number.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use limit::Rate;
use limit::lease::store::{Bucket, Grant, LeaseQuota, Request, SCRIPT};

/// A Redis on a socket file, ended with the test.
struct Redis {
    child: Child,
    folder: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Redis {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("limit-redis-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        command.arg("--dir").arg(&folder).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().expect("redis-server; `cargo xtask install` installs it");
        let log = BufReader::new(child.stdout.take().unwrap());
        let ready = log.lines().map_while(Result::ok).any(|line| line.contains("eady to accept connections"));
        assert!(ready, "redis-server ended at its start");
        let stream = BufReader::new(UnixStream::connect(&socket).unwrap());
        Self { child, folder, stream }
    }

    fn eval(&mut self, key: &str, arguments: &[u64]) -> Vec<u64> {
        let mut words = vec!["EVAL".to_owned(), SCRIPT.to_owned(), "1".to_owned(), key.to_owned()];
        words.extend(arguments.iter().map(u64::to_string));
        let mut message = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| message.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.stream.get_mut().write_all(message.as_bytes()).unwrap();
        let count = self.line();
        let count: usize = count.strip_prefix('*').unwrap_or_else(|| panic!("{count}")).parse().unwrap();
        (0..count).map(|_| self.line().strip_prefix(':').unwrap().parse().unwrap()).collect()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.by_ref().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn grant_of(numbers: &[u64]) -> Grant {
    let &[tokens, stamp, hungry, wait_micros] = numbers else { panic!("{numbers:?}") };
    Grant { tokens, stamp, hungry, wait_micros }
}

#[test]
fn the_script_computes_what_the_reference_does() {
    let mut redis = Redis::start();
    let mut random = fastrand::Rng::with_seed(7);
    let day = Duration::from_secs(86_400);
    let quotas = [
        (Rate::per_sec(1_000), 200),
        (Rate { amount: 7, per: Duration::from_millis(333) }, 3),
        (Rate { amount: 999_983, per: day }, 50_000),
        (Rate::per_sec(2_000_003), 1_000_000),
    ];
    for (index, (rate, burst)) in quotas.into_iter().enumerate() {
        let quota = LeaseQuota::new(rate, burst).unwrap();
        let mut bucket = Bucket::default();
        // As long after 1970 as Redis says.
        let mut now = 1_790_000_000_000_000_u64;
        let mut last = Grant::default();
        for step in 0..2_000 {
            now = match random.u8(..40) {
                0 | 1 => now - 1_000,
                2 => now - 1_000_000 - random.u64(..3),
                _ => now + random.u64(..quota.drain_micros() / 8 + 2),
            };
            let mut request = Request {
                want: random.u64(..u64::from(burst)),
                least: random.u64(..u64::from(burst).min(5) + 1),
                instance: u64::MAX - random.u64(..3),
                ..Request::default()
            };
            if random.u8(..4) == 0 {
                (request.returned, request.returned_stamp) = (random.u64(..last.tokens + 1), last.stamp);
            }
            let (first, second) = (quota.script_arguments(), request.script_arguments());
            let arguments: Vec<_> = first.into_iter().chain(second).chain([now]).collect();
            let found = grant_of(&redis.eval(&format!("bucket-{index}"), &arguments));
            last = bucket.lease(&quota, now, request);
            assert_eq!(found, last, "quota {index}, step {step}: {request:?} at {now}");
        }
    }
    // On its own clock: a burst and no more.
    let quota = LeaseQuota::new(Rate { amount: 1, per: day }, 10).unwrap();
    let mut take = |want: u64| {
        let request = Request { want, least: 1, instance: 1, ..Request::default() };
        let arguments: Vec<_> = quota.script_arguments().into_iter().chain(request.script_arguments()).collect();
        grant_of(&redis.eval("own-clock", &arguments))
    };
    assert_eq!(take(7).tokens, 7);
    let second = take(7);
    assert_eq!((second.tokens, take(7).tokens), (3, 0));
    assert!(second.stamp > 1_600_000_000_000_000, "{second:?}");
}
