//! Programs of Debian's that tests and benches run: found, or installed with a word about it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Programs, or files by their paths, and the packages that hold them. The compiler's linker is first: without it nothing here was built, but a
/// test that builds something needs it named when it is gone.
const NEEDED: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("nginx", "nginx"),
    ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
    ("haproxy", "haproxy"),
    ("varnishd", "varnish"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("wrk", "wrk"),
    ("valgrind", "valgrind"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("h2load", "nghttp2-client"),
    ("openssl", "openssl"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("/usr/lib/python3/dist-packages/redis", "python3-redis"),
    ("/usr/share/nodejs/redis", "node-redis"),
    ("chromium", "chromium"),
    ("/usr/lib/python3/dist-packages/websockets", "python3-websockets"),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("/usr/bin/python3", "python3"),
    ("/usr/lib/python3.11/ensurepip", "python3.11-venv"),
    ("pgbouncer", "pgbouncer"),
    ("taskset", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Installs what is missing.
///
/// # Errors
/// When apt-get fails, or a program is still missing afterwards.
pub fn run() -> Result<()> {
    if missing(NEEDED, is_there).is_empty() {
        println!("install: nothing is missing");
        return Ok(());
    }
    install(NEEDED)
}

/// Installs those of some programs that are missing, for a proof that needs them.
///
/// # Errors
/// As [`run`].
pub(crate) fn require(programs: &[&str]) -> Result<()> {
    let needed: Vec<_> = NEEDED.iter().filter(|(program, _)| programs.contains(program)).copied().collect();
    if missing(&needed, is_there).is_empty() { Ok(()) } else { install(&needed) }
}

fn install(needed: &[(&str, &str)]) -> Result<()> {
    let missing = missing(needed, is_there);
    println!("install: missing {}; installing with apt-get", missing.join(" "));
    // The lists on the machine often suffice, and fetching them takes long; only a failure asks for fresh ones.
    if apt_get(&install_arguments(&missing)).is_err() {
        println!("install: apt-get did not find them; fetching fresh package lists");
        apt_get(&["update"])?;
        apt_get(&install_arguments(&missing))?;
    }
    let still = self::missing(needed, is_there);
    ensure!(still.is_empty(), "still missing after apt-get: {}", still.join(" "));
    Ok(())
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    // Recommended packages would start servers or fetch documentation.
    ["install", "--yes", "--no-install-recommends"].into_iter().chain(packages.iter().copied()).collect()
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
    if is_root {
        command.env("DEBIAN_FRONTEND", "noninteractive");
    } else {
        println!("install: asking sudo, since this is not root");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    let status = command.args(arguments).status().context("apt-get (install these packages by hand elsewhere)")?;
    ensure!(status.success(), "apt-get {}: {status}", arguments.join(" "));
    Ok(())
}

/// Packages of programs that are not there.
fn missing<'a>(needed: &[(&str, &'a str)], is_there: impl Fn(&str) -> bool) -> Vec<&'a str> {
    needed.iter().filter(|(program, _)| !is_there(program)).map(|&(_, package)| package).collect()
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    // Servers live in sbin, which is not on everyone's path but is where Debian puts them.
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).any(|folder| Path::new(folder).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let needed = [("a", "package-a"), ("b", "package-b")];
        assert_eq!(missing(&needed, |_| true), Vec::<&str>::new());
        assert_eq!(missing(&needed, |program| program == "a"), ["package-b"]);
        assert!(is_there("sh") && !is_there("no-such-program-anywhere"));
    }
}
