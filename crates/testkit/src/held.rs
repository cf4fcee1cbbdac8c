//! Threads of a process that stand still, as those do that wait for a disk that does not answer.
//!
//! Signals stop whole processes. A tracer can stop one thread, and the others go on (`ptrace`, as debuggers have it); what it waited for in
//! the kernel it waits for anew when it is let go.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

/// Threads that stand still until this is dropped, or the process has ended.
#[derive(Debug)]
pub struct HeldThreads {
    release: Option<SyncSender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl HeldThreads {
    /// Stops the threads of this name of a process that this one has started.
    ///
    /// # Errors
    /// When there are none, or the system does not let them be traced.
    pub fn hold(pid: u32, name: &str) -> Result<Self> {
        let threads = named(pid, name)?;
        ensure!(!threads.is_empty(), "process {pid} has no thread {name}");
        Self::hold_all(threads).with_context(|| format!("threads {name} of process {pid} cannot be held"))
    }

    /// The same, with each thread held by itself, so that they can be let go one by one.
    ///
    /// # Errors
    /// As [`HeldThreads::hold`].
    pub fn hold_each(pid: u32, name: &str) -> Result<Vec<Self>> {
        let threads = named(pid, name)?;
        ensure!(!threads.is_empty(), "process {pid} has no thread {name}");
        let each = threads.into_iter().map(|thread| Self::hold_all(vec![thread]));
        each.collect::<Result<_>>().with_context(|| format!("threads {name} of process {pid} cannot be held"))
    }

    fn hold_all(threads: Vec<libc::pid_t>) -> Result<Self> {
        let (release, released) = sync_channel::<()>(1);
        let (ready, held) = sync_channel(1);
        // The thread that traces is the one that has to let go.
        let tracer = std::thread::spawn(move || {
            let outcome = threads.iter().try_for_each(|thread| stop(*thread));
            let is_held = outcome.is_ok();
            if ready.send(outcome).is_ok() && is_held {
                let _dropped = released.recv();
            }
            threads.iter().for_each(|thread| let_go(*thread));
        });
        held.recv().context("the tracer has ended")??;
        Ok(Self { release: Some(release), tracer: Some(tracer) })
    }
}

impl Drop for HeldThreads {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(tracer) = self.tracer.take() {
            // It does nothing that could panic.
            let _ended = tracer.join();
        }
    }
}

fn named(pid: u32, name: &str) -> Result<Vec<libc::pid_t>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))? {
        let path = entry?.path();
        // A thread may end between the listing and the reading.
        let Ok(own) = std::fs::read_to_string(path.join("comm")) else { continue };
        if own.trim_end() == name {
            let number = path.file_name().and_then(|name| name.to_str()).context("a thread without a number")?;
            found.push(number.parse()?);
        }
    }
    Ok(found)
}

fn stop(thread: libc::pid_t) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, thread)?;
    request(libc::PTRACE_INTERRUPT, thread)?;
    let mut status = 0;
    // SAFETY: `status` is a place for an integer, and outlives the call.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    if waited == thread { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn let_go(thread: libc::pid_t) {
    // One that has ended meanwhile is let go when this thread ends.
    let _ended = request(libc::PTRACE_DETACH, thread);
}

fn request(what: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of the requests that are made here reads or writes memory of this process.
    let done = unsafe { libc::ptrace(what, thread, nothing, nothing) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
