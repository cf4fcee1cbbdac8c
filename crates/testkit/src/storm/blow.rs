//! What happens to a pool in a storm.

use std::time::Duration;

/// Something that somebody does to a pool, or to a connection of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It lends nothing for a while.
    Pause(Duration),
    /// It is loaded anew, and keeps so many connections: at most, and at least.
    Size(usize, usize),
    /// It is loaded anew, and its connections have another setting, in kilobytes of `work_mem`.
    WorkMem(u32),
    /// Its connections are made anew.
    Reconnect,
    /// All of its clients are ended.
    KillAll,
    /// Those are ended that have a connection to its server.
    KillServer,
    /// One of its clients is ended, whichever comes of this number.
    KillClient(usize),
    /// One of the server's processes is ended, by this statement.
    Terminate(String),
}

impl Blow {
    /// One of them, with the pause after it, where the server lets in so many connections: the pool may want more.
    pub fn of(random: u64, connections_max: usize) -> (Self, Duration) {
        let mut random = fastrand::Rng::with_seed(random);
        let blow = match random.u8(..12) {
            0 | 1 => Self::Pause(Duration::from_millis(random.u64(..150))),
            2 => {
                let size = random.usize(2..connections_max + 3);
                Self::Size(size, random.usize(..4).min(size))
            }
            3 => Self::WorkMem(random.u32(100..1000)),
            4 => Self::Reconnect,
            5 => Self::KillAll,
            6 => Self::KillServer,
            7 | 8 => Self::KillClient(random.usize(..)),
            _ => Self::Terminate(format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                 AND pid <> pg_backend_pid() ORDER BY md5(pid || '{}') LIMIT 1",
                random.u32(..)
            )),
        };
        (blow, Duration::from_millis(random.u64(..30)))
    }
}
