//! What a pool is told.

use std::time::Duration;

/// Bounds and times of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolParams {
    /// Backends that are kept, at most.
    pub size: usize,
    /// Backends that are kept open even if nobody wants them; never more than `size`.
    pub min: usize,
    /// Backends beyond `size` when all of them are lent.
    pub overflow: usize,
    /// How long a backend beyond `size` stays idle.
    pub overflow_idle: Duration,
    /// Backends beyond those, when somebody has waited for long.
    pub reserve: usize,
    /// How long that is.
    pub reserve_after: Duration,
    /// How long anybody waits.
    pub acquire_timeout: Duration,
    /// How long a backend stays idle beyond `min`; for ever if there is none.
    pub idle_timeout: Option<Duration>,
    /// How long a backend lives; for ever if there is none.
    pub lifetime: Option<Duration>,
    /// After which time of idleness a backend is asked whether it is still there; never if there is none.
    pub ping_after: Option<Duration>,
}

impl Default for PoolParams {
    /// Twenty backends serve some thousands of short statements a second. A connection costs a PostgreSQL server some megabytes, and
    /// an hour is what others give one to live.
    fn default() -> Self {
        Self {
            size: 20,
            min: 0,
            overflow: 0,
            overflow_idle: Duration::from_secs(10),
            reserve: 0,
            reserve_after: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(600)),
            lifetime: Some(Duration::from_secs(3600)),
            ping_after: Some(Duration::from_secs(30)),
        }
    }
}
