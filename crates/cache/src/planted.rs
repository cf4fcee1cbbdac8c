//! Mistakes that proofs make on purpose, to see that they would be found. Without the feature `planted`, which is there for the tests
//! of this crate alone, there are none.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(not(feature = "planted"), allow(unreachable_pub, reason = "tests alone reach it"))]
pub enum Bug {
    /// A lease's end is reckoned from when Redis answered.
    LeaseFromAnswer = 1,
    /// A change does not wait for who may serve from memory.
    ChangeNotWaited,
    /// The invalidation of a tag does not wait for them.
    TagNotWaited,
    /// A Redis that was started again is read as if it were the same.
    EpochKept,
    /// What was loaded while somebody wrote is kept.
    FillDuringWrite,
    /// What was loaded without Redis is kept.
    KeptAlone,
    /// What a load brings that nobody confirmed is for those too who came while it was under way.
    UnconfirmedShared,
}

#[cfg(feature = "planted")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    static PLANTED: AtomicU8 = AtomicU8::new(0);

    impl Bug {
        /// All of them.
        pub const ALL: [Self; 7] = [
            Self::LeaseFromAnswer,
            Self::ChangeNotWaited,
            Self::TagNotWaited,
            Self::EpochKept,
            Self::FillDuringWrite,
            Self::KeptAlone,
            Self::UnconfirmedShared,
        ];

        /// Makes it, in all caches of this process.
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
