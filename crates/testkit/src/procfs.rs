//! What the kernel says about processes: time on a CPU, memory, descriptors, threads. Linux only, by `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};

/// The process and all its descendants, itself first.
pub fn with_descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        for task in tasks(parent) {
            let path = format!("/proc/{parent}/task/{task}/children");
            let children = std::fs::read_to_string(path).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

/// Time that the threads of these processes have spent on a CPU, to the nanosecond. Threads that have ended are not
/// in it, so this suits programs whose threads live as long as they do.
///
/// # Errors
/// When the kernel keeps no such account (`CONFIG_SCHED_INFO`) or a process has ended.
pub fn cpu_time(pids: &[u32]) -> Result<Duration> {
    let mut nanos = 0;
    for &pid in pids {
        anyhow::ensure!(!tasks(pid).is_empty(), "process {pid} has ended");
        for task in tasks(pid) {
            let path = format!("/proc/{pid}/task/{task}/schedstat");
            // A thread may end between the listing and the reading.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let run = text.split_whitespace().next().context(path)?;
            nanos += run.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Proportional set size of these processes together, in bytes: memory of their own plus their share of what is shared.
///
/// # Errors
/// When a process has ended.
pub fn pss_bytes(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| kib_of(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// When the process has ended.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    kib_of(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Open descriptors of a process.
///
/// # Errors
/// When the process has ended.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| format!("process {pid}"))?.count())
}

/// Threads of a process.
///
/// # Errors
/// When the process has ended.
pub fn threads(pid: u32) -> Result<usize> {
    let count = tasks(pid).len();
    anyhow::ensure!(count > 0, "process {pid} has ended");
    Ok(count)
}

/// The process's state letter (`R`, `S`, `Z`, ...); `None` when there is no such process.
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses and may itself hold some.
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn tasks(pid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn kib_of(path: &str, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let value = line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("{path}: no {key}"))?;
    Ok(value.parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_of_this_process_are_seen() {
        let own = std::process::id();
        // Other tests run in this process, and a thread that ends takes its time along; so a look may see less than was
        // worked, but not every look.
        let begun = std::time::Instant::now();
        loop {
            let before = cpu_time(&[own]).unwrap();
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(50) {
                std::hint::black_box(start);
            }
            let spent = cpu_time(&[own]).unwrap().saturating_sub(before);
            if spent > Duration::from_millis(5) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{spent:?}");
        }

        // One byte in each page makes the memory resident.
        let before = pss_bytes(&[own]).unwrap();
        let mut memory = vec![0_u8; 32 << 20];
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        assert!(pss_bytes(&[own]).unwrap() > before + (24 << 20));
        std::hint::black_box(&memory);
        assert!(rss_bytes(own).unwrap() > 32 << 20);
        assert!(descriptors(own).unwrap() >= 3);
        assert!(threads(own).unwrap() >= 1);
        assert_eq!(cpu_time(&[u32::MAX]).ok(), None);
    }
}
