//! Mistakes that proofs make on purpose, to see that they would be found. Without the feature `planted`, which is there for the tests
//! of this crate alone, there are none.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(not(feature = "planted"), allow(unreachable_pub, reason = "tests alone reach it"))]
pub enum Bug {
    /// A replica is taken to have what it has received, whether it has replayed it or not.
    ReceivedIsReplayed = 1,
    /// A probe counts for whoever has written before its answer, and not before its question.
    ProbeFromAnswer,
    /// What somebody has written need not be seen by others who share the database.
    WriteNotShared,
    /// What a session has written need not be seen by itself.
    WriteForgotten,
    /// What a session has read need not be seen by it again.
    ReadForgotten,
}

#[cfg(feature = "planted")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    impl Bug {
        /// All of them.
        pub const ALL: [Self; 5] = [
            Self::ReceivedIsReplayed,
            Self::ProbeFromAnswer,
            Self::WriteNotShared,
            Self::WriteForgotten,
            Self::ReadForgotten,
        ];

        /// Makes it, in all databases of this process.
        pub fn plant(self) {
            PLANTED.store(self as u8, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(feature = "planted")]
pub(crate) use switch::is_planted;

#[cfg(not(feature = "planted"))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}
