use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Process, Signal, TempDir, free_port};

/// Time for Redis to listen, and to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A real Redis on a port of its own, which keeps nothing on disk. It can be killed, started again and made to hang.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    options: Vec<String>,
    port: u16,
    dir: TempDir,
}

impl Redis {
    /// Starts Redis with further options, such as `--requirepass` and its value.
    ///
    /// # Errors
    /// When it is not installed, or does not listen in time.
    pub fn start(options: &[&str]) -> Result<Self> {
        let (port, dir) = (free_port(), TempDir::new()?);
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = spawn(port, &dir, &options)?;
        Ok(Self { process, options, port, dir })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it (SIGKILL), with all that it knows.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after it was killed: on the same port, and empty.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(self.port, &self.dir, &self.options)?;
        Ok(())
    }

    /// Makes it hang: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// When it has ended.
    pub fn hang(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Has it go on where it hung.
    ///
    /// # Errors
    /// When it has ended.
    pub fn go_on(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Sends it a command: the answer in words, one for each part of it, which is empty for nothing. An error of its own is an answer
    /// as well.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn command(&self, words: &[&str]) -> Result<Vec<String>> {
        let mut stream = TcpStream::connect_timeout(&self.address(), TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut message = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| message.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        stream.write_all(message.as_bytes())?;
        let mut parts = Vec::new();
        read(&mut BufReader::new(stream), &mut parts)?;
        Ok(parts)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // One that hangs would not hear that it is to end, and there is nothing that it has to save.
        self.process.kill();
    }
}

fn spawn(port: u16, dir: &TempDir, options: &[String]) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(dir.path()).args(options);
    let mut process = Process::spawn("redis", command).context("is redis-server installed? `make test` installs it")?;
    process.wait_for_output("eady to accept connections", TIMEOUT)?;
    Ok(process)
}

fn read(stream: &mut impl BufRead, parts: &mut Vec<String>) -> Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else { bail!("no answer") };
    match kind {
        "*" => (0..rest.parse::<i64>()?).try_for_each(|_| read(stream, parts))?,
        // Nothing is a part as well, so that the others keep their places.
        "$" if rest == "-1" => parts.push(String::new()),
        "$" => {
            let len = rest.parse::<usize>()?;
            let mut bytes = vec![0; len + 2];
            stream.read_exact(&mut bytes)?;
            parts.push(String::from_utf8_lossy(&bytes[..len]).into_owned());
        }
        _ => parts.push(rest.to_owned()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_an_answer() {
        let check = |answer: &str, expected: &[&str]| {
            let mut parts = Vec::new();
            super::read(&mut answer.as_bytes(), &mut parts).unwrap();
            assert_eq!(parts, expected, "{answer:?}");
        };
        check("$-1\r\n", &[""]);
        check("*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", &["a", "", "7"]);
        check("*-1\r\n", &[]);
        check("$0\r\n\r\n", &[""]);
    }
}
