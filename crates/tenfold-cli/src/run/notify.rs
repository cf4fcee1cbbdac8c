//! Telling a service manager how the process is, by the protocol of `sd_notify(3)`: a datagram with lines of
//! `NAME=value` to the socket that the environment names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Where a service manager listens, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// The one that `env` names.
    pub(super) fn find(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let Some(name) = env("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        let address = match name.strip_prefix('@') {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
            None => SocketAddr::from_pathname(&name),
        };
        match UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).and(Ok((socket, address?)))) {
            Ok(found) => Self(Some(found)),
            Err(error) => {
                tracing::warn!(name, %error, "the service manager cannot be told of the process");
                Self::default()
            }
        }
    }

    /// The process serves.
    pub(super) fn ready(&self) {
        self.send("READY=1\nSTATUS=running\n");
    }

    /// The process reads its configuration again, or another is about to take over, until it is ready again.
    pub(super) fn reloading(&self, status: &str) {
        // The manager tells by it that this is not the answer to an earlier request.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS={status}\n"));
    }

    /// Another process serves in place of this one.
    pub(super) fn replaced_by(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}\nREADY=1\nSTATUS=running\n"));
    }

    /// The process stops.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=finishing the requests under way\n");
    }

    fn send(&self, lines: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(lines.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a manager at `name` hears.
    fn heard(name: &str, address: &SocketAddr) -> Vec<String> {
        let manager = UnixDatagram::bind_addr(address).expect("a socket");
        let notifier = Notifier::find(&|asked| (asked == "NOTIFY_SOCKET").then(|| name.to_owned()));
        notifier.ready();
        notifier.reloading("upgrading");
        notifier.replaced_by(7);
        notifier.stopping();
        let hear = |_| {
            let mut bytes = [0; 256];
            let count = manager.recv(&mut bytes).expect("a datagram");
            String::from_utf8(bytes[..count].to_vec()).expect("text")
        };
        (0..4).map(hear).collect()
    }

    #[test]
    fn a_manager_is_told_by_path_and_by_abstract_name() {
        let path = std::env::temp_dir().join(format!("tenfold-notify-{}", std::process::id()));
        let (path, name) = (path.to_str().expect("text"), format!("tenfold-notify-{}", std::process::id()));
        let by_path = heard(path, &SocketAddr::from_pathname(path).expect("short"));
        std::fs::remove_file(path).expect("it is there");
        let by_name = heard(&format!("@{name}"), &SocketAddr::from_abstract_name(&name).expect("short"));
        for heard in [by_path, by_name] {
            assert_eq!(heard[0], "READY=1\nSTATUS=running\n");
            assert!(heard[1].starts_with("RELOADING=1\nMONOTONIC_USEC=") && heard[1].ends_with("=upgrading\n"));
            assert!(heard[2].starts_with("MAINPID=7\nREADY=1\n"), "{}", heard[2]);
            assert!(heard[3].starts_with("STOPPING=1\n"));
        }
        // Without one, nobody is told.
        Notifier::find(&|_| None).ready();
    }
}
