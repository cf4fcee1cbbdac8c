//! The access log as those who read and rotate it see it.

use std::path::Path;
use std::time::Duration;

use testkit::{Load, LoadParams, Origin, Signal, TempDir, Tenfold};

use crate::site::{config, get, start};

const SOON: Duration = Duration::from_secs(10);

/// A site that logs to `access.log` in a folder, with further keys of `[log]`.
fn logging(folder: &Path, keys: &str, endpoint: &Origin) -> Tenfold {
    let file = folder.join("access.log");
    start(&format!("[log]\naccess = \"{}\"\n{keys}\n{}", file.display(), config(&[endpoint.address()], "")))
}

#[test]
fn a_line_of_the_combined_format_is_what_log_analysers_read() {
    let origin = Origin::start("a").unwrap();
    let folder = TempDir::new().unwrap();
    let mut site = logging(folder.path(), "access_format = \"combined\"", &origin);
    let fields = "User-Agent: probe \"1.0\"\r\nReferer: https://example.com/from?token=secret\r\n";
    get(&site, "/page?token=secret", fields);
    site.process().stop(SOON).unwrap();
    let text = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    let (before, rest) = text.split_once('[').unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(before, "127.0.0.1 - - ");
    assert_eq!((time.len(), &time[20..]), (26, " +0000"), "{text}");
    let mut parts = rest.split(' ').collect::<Vec<_>>();
    let bytes: u64 = parts.remove(4).parse().unwrap();
    assert!(bytes > 0, "{text}");
    assert_eq!(parts.join(" "), "\"GET /page HTTP/1.1\" 200 \"https://example.com/from\" \"probe \\x221.0\\x22\"\n");
}

/// Lines of every file in the folder, each of which must be whole.
fn lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .map(|text| {
            assert!(text.is_empty() || text.ends_with('\n'), "a line was cut");
            let count = text.lines().inspect(|line| assert!(line.ends_with('}'), "{line}")).count();
            assert_eq!(text.matches("access_log_dropped").count(), 0);
            count
        })
        .sum()
}

/// Rotates five times under load, and compares the lines of all files with the requests that were made.
fn rotate(told: Option<Signal>) {
    let origin = Origin::start("a").unwrap();
    let folder = TempDir::new().unwrap();
    let mut site = logging(folder.path(), "", &origin);
    let file = folder.path().join("access.log");
    let load = Load::start(&LoadParams { connections: 8, ..LoadParams::new(site.address()) });
    for number in 0..5 {
        site.wait_until("a new file", |_| Ok(file.exists())).unwrap();
        std::fs::rename(&file, folder.path().join(format!("access.log.{number}"))).unwrap();
        if let Some(signal) = told {
            site.process().signal(signal).unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = load.stop();
    assert_eq!(report.failures, Vec::<String>::new());
    site.process().stop(SOON).unwrap();
    assert_eq!(lines(folder.path()) as u64, report.counts.ok, "{}", site.output());
    // On a machine that has little time to spare there are fewer; a rotation under load has seen some all the same.
    assert!(report.counts.ok > 50, "{} requests", report.counts.ok);
}

#[test]
fn a_rotation_that_tells_by_a_signal_loses_no_line() {
    rotate(Some(Signal::USR1));
}

#[test]
fn a_rotation_that_tells_nobody_loses_no_line() {
    rotate(None);
}
