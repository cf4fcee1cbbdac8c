use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use testkit::{Process, free_port};

/// Origins as child processes, so that they can be killed and started again at the same address.
#[derive(Debug)]
pub struct Origins {
    program: PathBuf,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    address: SocketAddr,
    /// How often it was started.
    lives: u32,
    process: Process,
}

impl Origins {
    /// Starts so many, by this program's own hidden command.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(count: usize) -> Result<Self> {
        Self::start_by(std::env::current_exe()?, count)
    }

    /// Starts so many by the hidden command of the `xtask` program given.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_by(program: PathBuf, count: usize) -> Result<Self> {
        let mut members = Vec::new();
        for index in 0..count {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let process = spawn(&program, address, &name(index, 1))?;
            members.push(Member { address, lives: 1, process });
        }
        Ok(Self { program, members })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Where each listens, whichever of its lives it is in.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// The process of each.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.process.pid()).collect()
    }

    /// Kills one (SIGKILL).
    pub fn kill(&mut self, index: usize) {
        self.members[index].process.kill();
    }

    /// Starts one again that was killed, under a name of its own: `a1` becomes `a2`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn revive(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        member.lives += 1;
        member.process = spawn(&self.program, member.address, &name(index, member.lives))?;
        Ok(())
    }

    /// The names of every life of every origin so far.
    pub fn lives(&self) -> Vec<String> {
        let members = self.members.iter().enumerate();
        members.flat_map(|(index, member)| (1..=member.lives).map(move |life| name(index, life))).collect()
    }
}

fn name(index: usize, life: u32) -> String {
    format!("{}{life}", char::from(b'a' + index as u8))
}

fn spawn(program: &PathBuf, address: SocketAddr, name: &str) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(["origin", "--address", &address.to_string(), "--name", name]);
    let mut process = Process::spawn(&format!("origin {name}"), command)?;
    process.wait_for_port(address.port(), Duration::from_secs(10))?;
    Ok(process)
}
