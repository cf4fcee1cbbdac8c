//! What is said of a file: its validators, and its type.
//!
//! **The tag is strong** when it stands for these very bytes: it is made of the file's inode, size, and times of
//! modification and of change, in nanoseconds, and of the coding. The time of change is set by the kernel with each write
//! and cannot be set back, so a file that is written in place has another tag even if its size and date stay. But clocks
//! of file systems tick, on many every 4 ms: two writes within one tick look alike. So **a file that was changed within
//! the last two seconds gets a weak tag**, and ranges of it are not put together. The parts are hashed; nobody learns an
//! inode's number.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coding::Coding;
use rustix::fs::Stat;
use sha2::{Digest as _, Sha256};

use super::precondition::{Validators, in_seconds};

/// How long a file must have been left alone for its tag to be strong: the coarsest clock of a file system in use, that of
/// FAT, has two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Bytes of the hash in a tag: more than enough that no two versions of a file meet.
const TAG_BYTES: usize = 12;

/// The validators of a file in a coding, or as it is, at this time.
pub(crate) fn validators(stat: &Stat, coding: Option<Coding>, now: SystemTime) -> Validators {
    let modified = modified(stat);
    let changed = time(stat.st_ctime, stat.st_ctime_nsec);
    let settled = now.duration_since(modified.max(changed)).is_ok_and(|since| since >= SETTLED_AFTER);
    let mut hash = Sha256::new();
    for number in [
        stat.st_ino,
        stat.st_size as u64,
        stat.st_mtime as u64,
        stat.st_mtime_nsec,
        stat.st_ctime as u64,
        stat.st_ctime_nsec,
    ] {
        hash.update(number.to_le_bytes());
    }
    hash.update(coding.map_or("", Coding::as_str));
    let mut etag = String::from(if settled { "\"" } else { "W/\"" });
    for byte in &hash.finalize()[..TAG_BYTES] {
        etag.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        etag.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    etag.push('"');
    // RFC 9110 section 8.8.2.1: no time to come.
    Validators { etag, modified: in_seconds(modified.min(now)), settled }
}

/// When a file was modified.
pub(crate) fn modified(stat: &Stat) -> SystemTime {
    time(stat.st_mtime, stat.st_mtime_nsec)
}

/// A time of a file system; what was before 1970 is 1970, for nobody asks about it.
fn time(secs: i64, nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(secs.max(0) as u64) + Duration::from_nanos(nanos)
}

/// The type of a file, by the end of its name, and whether it says how its text is encoded, which is UTF-8.
pub(crate) fn kind(relative: &[u8]) -> (&'static str, bool) {
    let name = relative.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let extension = memchr::memrchr(b'.', name).and_then(|dot| std::str::from_utf8(&name[dot + 1..]).ok());
    let known = extension.and_then(|extension| mime_guess::from_ext(extension).first_raw());
    let kind = match known {
        None => "application/octet-stream",
        // RFC 9239 has one name for it.
        Some("application/javascript") => "text/javascript",
        Some(known) => known,
    };
    // XML says by itself how it is encoded.
    (kind, kind.starts_with("text/") && kind != "text/xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat_of(content: &str, name: &str) -> Stat {
        let path = std::env::temp_dir().join(format!("tenfold-representation-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        stat
    }

    #[test]
    fn tags_are_strong_when_no_change_can_hide() {
        let stat = stat_of("text", "strong");
        let changed = time(stat.st_ctime, stat.st_ctime_nsec);
        let at = |after: Duration| validators(&stat, None, changed + after);
        let (early, late) = (at(Duration::from_millis(1999)), at(Duration::from_secs(2)));
        assert!(early.etag.starts_with("W/\"") && !early.settled, "{early:?}");
        assert!(late.etag.starts_with('"') && late.settled, "{late:?}");
        assert_eq!(early.etag.trim_start_matches("W/"), late.etag);
        // A clock that runs behind proves nothing.
        assert!(!validators(&stat, None, UNIX_EPOCH).settled);
        assert_eq!(validators(&stat, None, UNIX_EPOCH).modified, UNIX_EPOCH);
    }

    #[test]
    fn tags_tell_versions_and_codings_apart() {
        let stat = stat_of("text", "apart");
        let tag = |stat: &Stat, coding| validators(stat, coding, SystemTime::now() + SETTLED_AFTER).etag;
        let plain = tag(&stat, None);
        assert_eq!(plain.len(), 2 + 2 * TAG_BYTES);
        let mut all = vec![plain.clone()];
        all.extend(Coding::ALL.map(|coding| tag(&stat, Some(coding))));
        let changes: [fn(&mut Stat); 5] = [
            |stat| stat.st_size += 1,
            |stat| stat.st_ino += 1,
            |stat| stat.st_mtime += 1,
            |stat| stat.st_mtime_nsec ^= 1,
            |stat| stat.st_ctime_nsec ^= 1,
        ];
        for change in changes {
            let mut other = stat;
            change(&mut other);
            all.push(tag(&other, None));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(tag(&stat, None), plain);
    }

    #[test]
    fn types_follow_the_end_of_the_name() {
        let check = |name: &str, expected: &str, is_text: bool| {
            assert_eq!(kind(name.as_bytes()), (expected, is_text), "{name}");
        };
        check("index.html", "text/html", true);
        check("a/b.CSS", "text/css", true);
        check("app.js", "text/javascript", true);
        check("app.mjs", "text/javascript", true);
        check("logo.svg", "image/svg+xml", false);
        check("photo.avif", "image/avif", false);
        check("font.woff2", "font/woff2", false);
        check("app.wasm", "application/wasm", false);
        check("data.json", "application/json", false);
        check("feed.xml", "text/xml", false);
        check("archive.tar.gz", "application/gzip", false);
        check("a.b/none", "application/octet-stream", false);
        check("none.", "application/octet-stream", false);
        check("some.unheard-of", "application/octet-stream", false);
    }
}
