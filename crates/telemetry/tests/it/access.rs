//! The access log against real files, pipes and full disks.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use telemetry::{
    AccessEntry, AccessLog, AccessLogFormat, AccessLogParams, AccessLogTarget, AccessLogTotals, CoreAccessLog,
};

const SOON: Duration = Duration::from_secs(10);

/// A folder of its own for a test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("telemetry-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn entry(path: &str) -> AccessEntry<'_> {
    AccessEntry {
        time: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        client: "127.0.0.1".parse().expect("an address"),
        method: b"GET",
        host: b"shop.example",
        path: path.as_bytes(),
        protocol: "HTTP/1.1",
        status: Some(200),
        bytes_in: 0,
        bytes_out: 10,
        duration_micros: 100,
        listener: "web",
        route: Some("api"),
        service: Some("backend"),
        upstream: Some("10.0.0.1:80".parse().expect("an address")),
        tries: 1,
        request_id: b"0123456789abcdef",
        user_agent: b"test",
        referer: b"",
        error: None,
    }
}

/// A log to a file.
fn to(path: &Path) -> AccessLogParams {
    AccessLogParams { target: AccessLogTarget::File(path.to_owned()), format: AccessLogFormat::Json }
}

fn start(target: &Path) -> (AccessLog, CoreAccessLog) {
    let log = AccessLog::start(&to(target), 1).expect("the log starts");
    let core = log.for_core();
    (log, core)
}

/// Recorded lines of a log's text, and the lines that its notices call missing.
fn parse(text: &str) -> (u64, u64) {
    let (mut lines, mut missing) = (0, 0);
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        match json["event"].as_str() {
            Some("access_log_dropped") => missing += json["lines"].as_u64().expect("a count"),
            Some(other) => panic!("unknown event {other}"),
            None => lines += 1,
        }
    }
    (lines, missing)
}

fn wait_for(log: &AccessLog, done: impl Fn(AccessLogTotals) -> bool) -> AccessLogTotals {
    let deadline = Instant::now() + SOON;
    loop {
        let totals = log.totals();
        if done(totals) {
            return totals;
        }
        assert!(Instant::now() < deadline, "still {totals:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn lines_of_all_cores_arrive_whole() {
    let folder = Folder::new("whole");
    let path = folder.file("access.log");
    let log = AccessLog::start(&to(&path), 2).expect("the log starts");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut core = log.for_core();
            scope.spawn(move || {
                for _ in 0..2_000 {
                    core.record(&entry("/x"));
                    // Slower than the disk, so that nothing is dropped.
                    std::thread::sleep(Duration::from_micros(20));
                }
            });
        }
    });
    assert!(log.shutdown(SOON));
    let (lines, missing) = parse(&fs::read_to_string(&path).expect("the log"));
    let totals = log.totals();
    assert_eq!((lines, missing), (totals.written, totals.dropped));
    assert_eq!(lines + missing, 4_000);
    assert_eq!(missing, 0);
}

#[test]
fn a_tick_writes_what_a_quiet_core_recorded() {
    let folder = Folder::new("tick");
    let path = folder.file("access.log");
    let (log, mut core) = start(&path);
    core.record(&entry("/quiet"));
    core.flush();
    wait_for(&log, |totals| totals.written == 1);
    assert!(fs::read_to_string(&path).expect("the log").contains("\"/quiet\""));
}

#[test]
fn a_pipe_that_nobody_empties_blocks_no_request_and_every_drop_is_counted() {
    let folder = Folder::new("pipe");
    let path = folder.file("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
    // Opened for both, so that opening does not wait for the other side.
    let mut reader = File::options().read(true).write(true).open(&path).expect("the pipe's end");
    let (log, mut core) = start(&path);

    const LINES: u64 = 20_000;
    let mut slowest = Duration::ZERO;
    for _ in 0..LINES {
        let before = Instant::now();
        core.record(&entry("/blocked"));
        slowest = slowest.max(before.elapsed());
    }
    // A blocked record would wait for ever; the limit leaves room for a scheduler's pause on a busy machine.
    assert!(slowest < Duration::from_secs(1), "a record took {slowest:?}");
    assert!(log.totals().dropped > 0, "the pipe took everything");
    assert!(!log.shutdown(Duration::from_millis(50)), "the writer cannot be done yet");

    const END: &[u8] = b"end of the test\n";
    let collect = std::thread::spawn(move || {
        let (mut text, mut chunk) = (Vec::new(), [0; 65_536]);
        while !text.ends_with(END) {
            let n = reader.read(&mut chunk).expect("the pipe");
            text.extend_from_slice(&chunk[..n]);
        }
        text.truncate(text.len() - END.len());
        String::from_utf8(text).expect("lines are UTF-8")
    });
    drop(core);
    assert!(log.shutdown(SOON));
    File::options().append(true).open(&path).and_then(|mut pipe| pipe.write_all(END)).expect("the pipe");
    let (lines, missing) = parse(&collect.join().expect("the reader"));
    let totals = log.totals();
    assert_eq!(lines, totals.written);
    assert_eq!(missing, totals.dropped);
    assert_eq!(lines + missing, LINES);
}

#[test]
fn a_pipe_without_reader_is_an_error_and_no_hang() {
    let folder = Folder::new("no-reader");
    let path = folder.file("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
    let target = to(&path);
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || tell.send(AccessLog::start(&target, 1).map(drop)));
    let error = told.recv_timeout(SOON).expect("it does not hang").expect_err("nobody reads");
    assert!(error.to_string().starts_with(&format!("access log {}: ", path.display())), "{error}");
}

#[test]
fn a_full_disk_is_counted_and_stops_nothing() {
    let (log, mut core) = start(Path::new("/dev/full"));
    for _ in 0..10 {
        core.record(&entry("/full"));
        core.flush();
    }
    let totals = wait_for(&log, |totals| totals.dropped == 10);
    assert_eq!(totals, AccessLogTotals { written: 0, dropped: 10, write_errors: totals.write_errors });
    assert!(totals.write_errors >= 1, "{totals:?}");
}

#[test]
fn after_a_full_disk_the_log_says_how_many_lines_are_missing() {
    let folder = Folder::new("recovered");
    let path = folder.file("access.log");
    let (log, mut core) = start(Path::new("/dev/full"));
    core.record(&entry("/lost"));
    core.flush();
    wait_for(&log, |totals| totals.dropped == 1);
    log.change(&to(&path)).expect("the file");
    core.record(&entry("/kept"));
    drop(core);
    assert!(log.shutdown(SOON));
    assert_eq!(parse(&fs::read_to_string(&path).expect("the log")), (1, 1));
}

#[test]
fn reopening_follows_a_rotation() {
    let folder = Folder::new("rotation");
    let (path, old) = (folder.file("access.log"), folder.file("access.log.1"));
    let (log, mut core) = start(&path);
    core.record(&entry("/one"));
    core.flush();
    wait_for(&log, |totals| totals.written == 1);
    fs::rename(&path, &old).expect("a rename");
    log.reopen().expect("the file");
    core.record(&entry("/two"));
    drop(core);
    assert!(log.shutdown(SOON));
    assert!(fs::read_to_string(&old).expect("the old log").contains("\"/one\""));
    let text = fs::read_to_string(&path).expect("the new log");
    assert!(text.contains("\"/two\"") && !text.contains("\"/one\""), "{text}");
}

#[test]
fn a_target_that_cannot_be_opened_leaves_the_old_one() {
    let folder = Folder::new("kept");
    let path = folder.file("access.log");
    let (log, mut core) = start(&path);
    log.change(&to(&folder.file("no/such/folder/access.log"))).expect_err("there is no such folder");
    core.record(&entry("/still"));
    drop(core);
    assert!(log.shutdown(SOON));
    assert_eq!(log.totals().written, 1);
}

#[test]
fn a_log_that_is_off_takes_no_lines_until_it_is_switched_on() {
    let folder = Folder::new("off");
    let path = folder.file("access.log");
    let log = AccessLog::start(&AccessLogParams::default(), 1).expect("the log starts");
    let mut core = log.for_core();
    assert!(!log.is_on());
    core.record(&entry("/off"));
    log.change(&to(&path)).expect("the file");
    core.record(&entry("/on"));
    drop(core);
    assert!(log.shutdown(SOON));
    let text = fs::read_to_string(&path).expect("the log");
    assert!(text.contains("\"/on\"") && !text.contains("\"/off\""), "{text}");
    assert_eq!(log.totals(), AccessLogTotals { written: 1, dropped: 0, write_errors: 0 });
}

#[test]
fn what_is_recorded_after_the_end_is_counted_as_dropped() {
    let folder = Folder::new("after");
    let (log, mut core) = start(&folder.file("access.log"));
    assert!(log.shutdown(SOON));
    core.record(&entry("/late"));
    core.flush();
    assert_eq!(log.totals().dropped, 1);
}

/// Every line of the files of a folder, and how many files there are.
fn all_lines(folder: &Folder) -> (u64, u64, usize) {
    let files: Vec<_> =
        fs::read_dir(&folder.0).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    let texts = files.iter().map(|path| parse(&fs::read_to_string(path).expect("a log")));
    let (lines, missing) = texts.fold((0, 0), |sum, (lines, missing)| (sum.0 + lines, sum.1 + missing));
    (lines, missing, files.len())
}

/// Records lines on two cores for as long as `rotate` takes, and returns how many.
fn load_while(log: &AccessLog, rotate: impl FnOnce()) -> u64 {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let (mut core, done) = (log.for_core(), &done);
                scope.spawn(move || {
                    let mut recorded = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        core.record(&entry("/load"));
                        recorded += 1;
                        // A core flushes on a timer; here often, so that files change hands in the middle of it all.
                        if recorded % 16 == 0 {
                            core.flush();
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                    recorded
                })
            })
            .collect();
        rotate();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("a writer")).sum()
    })
}

#[test]
fn a_file_that_is_moved_away_under_load_is_followed_and_no_line_is_lost() {
    let folder = Folder::new("moved");
    let path = folder.file("access.log");
    let log = AccessLog::start(&to(&path), 2).expect("the log starts");
    let recorded = load_while(&log, || {
        for number in 0..20 {
            let deadline = Instant::now() + SOON;
            while !path.exists() {
                assert!(Instant::now() < deadline, "no new file after move {number}");
                std::thread::sleep(Duration::from_millis(1));
            }
            fs::rename(&path, folder.file(&format!("access.log.{number}"))).expect("a rename");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(log.shutdown(SOON));
    let (lines, missing, files) = all_lines(&folder);
    assert_eq!((lines + missing, missing), (recorded, log.totals().dropped), "of {files} files");
    assert!(files >= 20 && recorded > 1_000, "{recorded} lines in {files} files");
}

#[test]
fn reopening_under_load_loses_no_line() {
    let folder = Folder::new("reopened");
    let path = folder.file("access.log");
    let log = AccessLog::start(&to(&path), 2).expect("the log starts");
    let recorded = load_while(&log, || {
        for number in 0..20 {
            fs::rename(&path, folder.file(&format!("access.log.{number}"))).expect("a rename");
            log.reopen().expect("the file");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(log.shutdown(SOON));
    let (lines, missing, files) = all_lines(&folder);
    assert_eq!((lines + missing, missing), (recorded, log.totals().dropped));
    assert_eq!(files, 21);
}

#[test]
fn a_file_that_was_deleted_is_made_anew() {
    let folder = Folder::new("deleted");
    let path = folder.file("access.log");
    let (log, mut core) = start(&path);
    core.record(&entry("/one"));
    core.flush();
    wait_for(&log, |totals| totals.written == 1);
    fs::remove_file(&path).expect("a file to delete");
    core.record(&entry("/two"));
    drop(core);
    assert!(log.shutdown(SOON));
    assert!(fs::read_to_string(&path).expect("the new log").contains("\"/two\""));
}

#[test]
fn without_a_place_for_a_new_file_the_old_one_goes_on() {
    let folder = Folder::new("no-place");
    let (inner, moved) = (folder.file("logs"), folder.file("moved"));
    fs::create_dir(&inner).expect("a folder");
    let (log, mut core) = start(&inner.join("access.log"));
    fs::rename(&inner, &moved).expect("a rename");
    core.record(&entry("/kept"));
    core.flush();
    let totals = wait_for(&log, |totals| totals.written == 1);
    assert!(totals.write_errors >= 1, "{totals:?}");
    assert!(fs::read_to_string(moved.join("access.log")).expect("the old log").contains("\"/kept\""));
    // As soon as there is a place, it is taken.
    fs::create_dir(&inner).expect("a folder");
    core.record(&entry("/new"));
    drop(core);
    assert!(log.shutdown(SOON));
    assert!(fs::read_to_string(inner.join("access.log")).expect("the new log").contains("\"/new\""));
}

#[test]
fn the_format_can_change_while_it_runs() {
    let folder = Folder::new("format");
    let path = folder.file("access.log");
    let (log, mut core) = start(&path);
    core.record(&entry("/json"));
    for format in [AccessLogFormat::Combined, AccessLogFormat::Logfmt] {
        log.change(&AccessLogParams { format, ..to(&path) }).expect("the file");
        core.record(&entry("/other"));
    }
    drop(core);
    assert!(log.shutdown(SOON));
    let text = fs::read_to_string(&path).expect("the log");
    let begins: Vec<&str> = text.lines().map(|line| line.split(['=', ':', ' ']).next().expect("a word")).collect();
    assert_eq!(begins, ["{\"time\"", "127.0.0.1", "time"], "{text}");
}
