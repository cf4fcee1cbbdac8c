use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use testkit::{Load, LoadParams, Report};

use super::Origins;

/// Load before the first kill: a retry budget is a share of the requests of the last seconds.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long an origin stays away.
const AWAY: Duration = Duration::from_millis(300);
/// Time in which an origin that has returned has to be used again: a few intervals of the active check.
const BACK: Duration = Duration::from_millis(1200);

/// What was seen while origins were killed.
#[derive(Debug)]
pub struct Kills {
    /// What came of the load.
    pub report: Report,
    /// The names of all lives of all origins.
    pub lives: Vec<String>,
}

/// Sends load to `address` while the origins behind it are killed (SIGKILL) in turn, `rounds` times in all, and return.
///
/// # Errors
/// When an origin cannot be started again.
pub fn kill_and_return(address: SocketAddr, origins: &mut Origins, rounds: u32) -> Result<Kills> {
    let load = Load::start(&LoadParams::new(address));
    std::thread::sleep(WARM_UP);
    for round in 0..rounds {
        let index = round as usize % origins.count();
        origins.kill(index);
        std::thread::sleep(AWAY);
        origins.revive(index)?;
        std::thread::sleep(BACK);
        let counts = load.counts();
        println!(
            "  kill {}/{rounds}: {} ok, {} failed before their answer",
            round + 1,
            counts.ok,
            counts.failed_before_head
        );
    }
    Ok(Kills { report: load.stop(), lives: origins.lives() })
}

impl Kills {
    /// Whether every life of every origin answered something.
    ///
    /// # Errors
    /// The names of those that answered nothing.
    pub fn unused(&self) -> Result<(), String> {
        let unused: Vec<&str> =
            self.lives.iter().filter(|name| !self.report.instances.contains_key(*name)).map(String::as_str).collect();
        if unused.is_empty() { Ok(()) } else { Err(format!("no request reached {}", unused.join(", "))) }
    }
}
