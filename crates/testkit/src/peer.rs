use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Process, TempDir};

/// Time for a peer to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts nginx on a configuration and waits until it listens on `port`. `{dir}` in the text stands for a folder that
/// lives as long as the guard; the process stays in the foreground and keeps its pid file and error log there.
///
/// # Errors
/// When nginx is not installed or refuses the configuration; the message holds what it printed.
pub fn nginx(conf: &str, port: u16) -> Result<(Process, TempDir)> {
    let dir = TempDir::new()?;
    let folder = dir.path().display().to_string();
    let path = dir.write("nginx.conf", conf.replace("{dir}", &folder))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir.path()).arg("-c").arg(path);
    command.args(["-e", "stderr", "-g", &format!("daemon off; pid {folder}/nginx.pid;")]);
    let mut process = Process::spawn("nginx", command).context("is nginx installed? `make test` installs it")?;
    process.wait_for_port(port, START_TIMEOUT)?;
    Ok((process, dir))
}

/// Starts HAProxy on a configuration and waits until it listens on `port`. `{dir}` in the text stands for a folder that
/// lives as long as the guard.
///
/// # Errors
/// When HAProxy is not installed or refuses the configuration; the message holds what it printed.
pub fn haproxy(conf: &str, port: u16) -> Result<(Process, TempDir)> {
    let dir = TempDir::new()?;
    let path = dir.write("haproxy.cfg", conf.replace("{dir}", &dir.path().display().to_string()))?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    let mut process = Process::spawn("haproxy", command).context("is haproxy installed? `make test` installs it")?;
    process.wait_for_port(port, START_TIMEOUT)?;
    Ok((process, dir))
}

/// Starts Varnish on a VCL and waits until it listens on `port`; `options` are those of `varnishd` besides. What it works with,
/// its log among it, is in a folder in memory that lives as long as the guard.
///
/// # Errors
/// When Varnish is not installed or refuses the VCL; the message holds what it printed.
pub fn varnish(vcl: &str, options: &[String], port: u16) -> Result<(Process, TempDir)> {
    let dir = TempDir::in_memory()?;
    let path = dir.write("default.vcl", vcl)?;
    let mut command = Command::new("varnishd");
    // In the foreground, with no other way in than the port; a jail would want users that only the package makes.
    command.args(["-F", "-j", "none", "-T", "none", "-a", &format!("127.0.0.1:{port}")]);
    command.arg("-n").arg(dir.path().join("work")).arg("-f").arg(path).args(options);
    let mut process = Process::spawn("varnish", command).context("is varnish installed? `make test` installs it")?;
    // The port is open before the process that serves it runs, which says so.
    process.wait_for_output("Child launched OK", START_TIMEOUT)?;
    process.wait_for_port(port, START_TIMEOUT)?;
    Ok((process, dir))
}

/// Starts dnsmasq on `port` of 127.0.0.1, with these options and none of the machine's, and waits until it listens.
///
/// # Errors
/// When dnsmasq is not installed or refuses an option; the message holds what it printed.
pub fn dnsmasq(options: &[String], port: u16) -> Result<Process> {
    let mut command = Command::new("dnsmasq");
    command.args(["--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file", "--no-resolv"]);
    command.args(["--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1", "--user="]);
    command.arg(format!("--port={port}")).args(options);
    let mut process = Process::spawn("dnsmasq", command).context("is dnsmasq installed? `make test` installs it")?;
    process.wait_for_port(port, START_TIMEOUT)?;
    Ok(process)
}
