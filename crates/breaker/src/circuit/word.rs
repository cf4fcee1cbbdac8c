//! A breaker's state in one word, so that one load reads it and one compare-exchange moves it.
//!
//! | bits | hold |
//! |---|---|
//! | 3 | which phase it is |
//! | 5 | how many openings are not forgotten yet |
//! | 16 | the generation, raised by every move |
//! | 40 | what the phase has to say: a time in milliseconds (34 years), or the two counts of probes |
//!
//! A permit carries the generation that it was given in. It could be taken for a later one of the same number only after
//! 65,536 moves while its call was under way, and then one result would be counted that should not be.

/// What the word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) phase: Phase,
    /// Openings that are not forgotten yet.
    pub(super) level: u8,
    pub(super) generation: u16,
}

/// The phase, with times in milliseconds since the breaker's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed { since: u64 },
    Open { until: u64 },
    HalfOpen { out: u32, passed: u32 },
    ForcedOpen,
    ForcedClosed,
}

const PAYLOAD_BITS: u32 = 40;
const GENERATION_BITS: u32 = 16;
const LEVEL_BITS: u32 = 5;
const GENERATION_AT: u32 = PAYLOAD_BITS;
const LEVEL_AT: u32 = GENERATION_AT + GENERATION_BITS;
const PHASE_AT: u32 = LEVEL_AT + LEVEL_BITS;
const PAYLOAD_MAX: u64 = (1 << PAYLOAD_BITS) - 1;
const COUNT_BITS: u32 = PAYLOAD_BITS / 2;

/// Most probes, and most openings that are remembered.
pub(super) const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
const LEVEL_MAX: u8 = (1 << LEVEL_BITS) - 1;

impl Word {
    /// Whether a word says that every call may pass and is counted: the one question of the fast path.
    #[inline]
    pub(super) fn is_closed(packed: u64) -> bool {
        packed >> PHASE_AT == 0
    }

    /// The generation of a word.
    #[inline]
    pub(super) fn generation_of(packed: u64) -> u16 {
        (packed >> GENERATION_AT) as u16
    }

    pub(super) fn unpack(packed: u64) -> Self {
        let payload = packed & PAYLOAD_MAX;
        let phase = match packed >> PHASE_AT {
            0 => Phase::Closed { since: payload },
            1 => Phase::Open { until: payload },
            2 => Phase::HalfOpen { out: (payload >> COUNT_BITS) as u32, passed: payload as u32 & COUNT_MAX },
            3 => Phase::ForcedOpen,
            _ => Phase::ForcedClosed,
        };
        let level = (packed >> LEVEL_AT) as u8 & LEVEL_MAX;
        Self { phase, level, generation: Self::generation_of(packed) }
    }

    pub(super) fn pack(self) -> u64 {
        let (number, payload) = match self.phase {
            Phase::Closed { since } => (0, since.min(PAYLOAD_MAX)),
            Phase::Open { until } => (1, until.min(PAYLOAD_MAX)),
            Phase::HalfOpen { out, passed } => {
                (2, u64::from(out.min(COUNT_MAX)) << COUNT_BITS | u64::from(passed.min(COUNT_MAX)))
            }
            Phase::ForcedOpen => (3, 0),
            Phase::ForcedClosed => (4, 0),
        };
        let level = u64::from(self.level.min(LEVEL_MAX));
        number << PHASE_AT | level << LEVEL_AT | u64::from(self.generation) << GENERATION_AT | payload
    }

    /// The word after a move into another phase.
    pub(super) fn moved(self, phase: Phase, level: u8) -> Self {
        Self { phase, level, generation: self.generation.wrapping_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let phases = [
            Phase::Closed { since: 0 },
            Phase::Closed { since: PAYLOAD_MAX },
            Phase::Open { until: 12_345_678_901 },
            Phase::HalfOpen { out: COUNT_MAX, passed: 0 },
            Phase::HalfOpen { out: 1, passed: COUNT_MAX },
            Phase::ForcedOpen,
            Phase::ForcedClosed,
        ];
        for phase in phases {
            for (level, generation) in [(0, 0), (LEVEL_MAX, u16::MAX), (3, 700)] {
                let word = Word { phase, level, generation };
                assert_eq!(Word::unpack(word.pack()), word);
                assert_eq!(Word::is_closed(word.pack()), matches!(phase, Phase::Closed { .. }));
                assert_eq!(Word::generation_of(word.pack()), generation);
            }
        }
    }

    #[test]
    fn what_is_too_large_stays_within_its_bits() {
        let word = Word { phase: Phase::Open { until: u64::MAX }, level: 200, generation: 9 };
        let expected = Word { phase: Phase::Open { until: PAYLOAD_MAX }, level: LEVEL_MAX, generation: 9 };
        assert_eq!(Word::unpack(word.pack()), expected);
        let moved = Word { generation: u16::MAX, ..word }.moved(Phase::ForcedOpen, 0);
        assert_eq!((moved.generation, moved.level), (0, 0));
    }
}
