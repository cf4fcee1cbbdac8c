//! Which requests are sampled.
//!
//! A trace is worth most when it is whole, so a request that belongs to a trace goes by that trace's flag, where its
//! sender may decide; a trace that begins here, or whose flag is not believed, is sampled by chance. The chance is taken of
//! the lowest 56 bits of a random number, which are a new trace's id, as OpenTelemetry's samplers do.
//!
//! All of it is one word, so that a core needs one read of shared memory to decide.

/// A sampling rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Share of the requests that go by chance, from 0 to 1.
    pub ratio: f64,
    /// Whose flag is believed.
    pub follow: Follow,
    /// Whether spans tell the client's address.
    pub client_address: bool,
}

/// Whose flag in `traceparent` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Everyone's.
    Any,
    /// Trusted proxies'.
    Trusted,
    /// Nobody's.
    None,
}

/// Bits that chance is taken of.
const CHANCE_BITS: u32 = 56;
const ON: u64 = 1 << 63;
const CLIENT_ADDRESS: u64 = 1 << 62;
const FOLLOW_ANY: u64 = 1 << 61;
const FOLLOW_TRUSTED: u64 = 1 << 60;
/// The threshold may be all of 2^56, so it takes 57 bits.
const THRESHOLD: u64 = (1 << (CHANCE_BITS + 1)) - 1;

impl Sampling {
    /// The rule as a word that is never 0.
    pub(super) fn packed(self) -> u64 {
        let follow = match self.follow {
            Follow::Any => FOLLOW_ANY,
            Follow::Trusted => FOLLOW_TRUSTED,
            Follow::None => 0,
        };
        ON | follow | if self.client_address { CLIENT_ADDRESS } else { 0 } | self.threshold()
    }

    /// The rule of a word that [`Self::packed`] made.
    pub(super) fn from_packed(packed: u64) -> Self {
        let follow = match packed & (FOLLOW_ANY | FOLLOW_TRUSTED) {
            FOLLOW_ANY => Follow::Any,
            FOLLOW_TRUSTED => Follow::Trusted,
            _ => Follow::None,
        };
        let ratio = (packed & THRESHOLD) as f64 / (1_u64 << CHANCE_BITS) as f64;
        Self { ratio, follow, client_address: packed & CLIENT_ADDRESS != 0 }
    }

    /// Whether a flag that came from a trusted peer, or from another, is believed.
    pub(super) fn believes(self, trusted: bool) -> bool {
        match self.follow {
            Follow::Any => true,
            Follow::Trusted => trusted,
            Follow::None => false,
        }
    }

    /// Whether chance samples the request that drew this random number.
    pub(super) fn by_chance(self, random: u128) -> bool {
        let drawn = random as u64 & ((1 << CHANCE_BITS) - 1);
        drawn < self.threshold()
    }

    /// What a number must be below to be sampled. A share that is not 0 samples something.
    fn threshold(self) -> u64 {
        (self.ratio.clamp(0.0, 1.0) * (1_u64 << CHANCE_BITS) as f64).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_survives_its_word() {
        for follow in [Follow::Any, Follow::Trusted, Follow::None] {
            for (ratio, client_address) in [(0.0, true), (0.25, false), (1.0, true)] {
                let rule = Sampling { ratio, follow, client_address };
                assert_ne!(rule.packed(), 0);
                assert_eq!(Sampling::from_packed(rule.packed()), rule);
            }
        }
        let rule = Sampling { ratio: 0.01, follow: Follow::Any, client_address: true };
        let unpacked = Sampling::from_packed(rule.packed());
        assert!((unpacked.ratio - 0.01).abs() < 1e-15, "{unpacked:?}");
    }

    #[test]
    fn chance_samples_the_share_and_nothing_beside_all_and_none() {
        let check = |ratio: f64, random: u64, expected: bool| {
            let rule = Sampling { ratio, follow: Follow::None, client_address: false };
            // What stands above the lowest 56 bits does not matter.
            for random in [u128::from(random), u128::MAX << CHANCE_BITS | u128::from(random)] {
                let rule = Sampling::from_packed(rule.packed());
                assert_eq!(rule.by_chance(random), expected, "{ratio} {random:x}");
            }
        };
        let most = (1 << CHANCE_BITS) - 1;
        check(0.0, 0, false);
        check(1.0, most, true);
        check(0.5, most / 2, true);
        check(0.5, most / 2 + 1, false);
        check(1e-18, 0, true);
        check(1e-18, 1, false);
    }
}
