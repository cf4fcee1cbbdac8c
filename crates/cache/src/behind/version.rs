//! Versions: which of two writes of a key is the later one, whichever instance took them.
//!
//! The problem: a sink that is told a write twice, or two writes in the wrong order, has to know which one stands, and several
//! instances write the same keys without asking each other. The rule is a hybrid logical clock: the time in milliseconds, with a
//! counter below it, and never below what this instance has issued or seen before; and, to tell instances apart, a number drawn at
//! random at each start.
//!
//! - **What it proves.** No two writes have one version. The versions of one instance increase, over restarts too, whatever its clock does:
//!   each segment of the journal begins with the last version before it. A write that was begun after its instance had seen another
//!   version ([`observe`](Issuer::observe), which the sink's answers lead to) is above it.
//! - **What it needs.** Of two writes on two instances that know nothing of each other, the later one has the higher version if the clocks
//!   differ by less than the time between them. With clocks that NTP holds that is some milliseconds. Nothing needs to be configured, and a
//!   copy of a disk is no second instance with the same number.
//!
//! Source: S. Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases", 2014.

use std::fmt;

/// Bits of the counter below a millisecond: 65,536 versions in each. What comes beyond borrows from the next one.
const COUNTER_BITS: u32 = 16;
/// A version so far ahead of this clock is not taken over: one broken clock must not move those of all others.
const AHEAD_MILLIS_MAX: u64 = 3_600_000;

/// The version of a write: unique, and increasing on each instance over restarts; across instances as far as their clocks agree, and
/// always above a version that the sink told of.
///
/// 16 bytes: 6 of milliseconds since 1970, 2 of a counter, 8 of the instance. Its text, 32 hexadecimal digits, its big-endian bytes
/// and the number itself are all in one order, so that it fits a `uuid` or `bytea` of PostgreSQL and a `TEXT` or `BLOB` of SQLite.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u128);

impl Version {
    /// Below every version that is issued.
    pub const ZERO: Self = Self(0);

    /// The version that is this number.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// The version as a number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The version of a text of 32 hexadecimal digits.
    ///
    /// ```
    /// use cache::behind::Version;
    /// let version = Version::from_u128(0x1234);
    /// assert_eq!(Version::parse(&version.to_string()), Some(version));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_whole.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// When it was issued, by the clock of its instance, in milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        (self.0 >> (64 + COUNTER_BITS)) as u64
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

/// Issues the versions of one instance, from its start to its end.
#[derive(Debug)]
pub(super) struct Issuer {
    /// The high half of what was issued or seen last.
    last: u64,
    instance: u64,
}

impl Issuer {
    /// Versions above what an earlier start left behind. `instance` is drawn at random.
    pub(super) fn new(floor: Version, instance: u64) -> Self {
        Self { last: (floor.0 >> 64) as u64, instance }
    }

    /// The next version, at this time.
    pub(super) fn issue(&mut self, now_millis: u64) -> Version {
        self.last = (now_millis << COUNTER_BITS).max(self.last + 1);
        self.floor()
    }

    /// Sees to it that whatever is issued from now on is above a version of another instance. Says whether it could.
    pub(super) fn observe(&mut self, seen: Version, now_millis: u64) -> bool {
        let is_near = seen.millis() <= now_millis.saturating_add(AHEAD_MILLIS_MAX);
        if is_near {
            self.last = self.last.max((seen.0 >> 64) as u64);
        }
        is_near
    }

    /// Not below anything that was issued.
    pub(super) fn floor(&self) -> Version {
        Version((u128::from(self.last) << 64) | u128::from(self.instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_increase_whatever_the_clock_does() {
        let mut issuer = Issuer::new(Version::ZERO, 7);
        let mut last = Version::ZERO;
        for now in [1_000, 1_000, 999, 0, 5_000, 5_000, 4_999, 70_000] {
            let version = issuer.issue(now);
            assert!(version > last, "at {now}: {version} after {last}");
            last = version;
        }
        assert_eq!(last.millis(), 70_000);
        let mut later = Issuer::new(last, 3);
        assert!(later.issue(10) > last, "a clock that was set back over a restart");
    }

    #[test]
    fn one_millisecond_holds_more_than_its_counter() {
        let mut issuer = Issuer::new(Version::ZERO, 7);
        let versions: Vec<_> = (0..200_000).map(|_| issuer.issue(9)).collect();
        assert!(versions.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn two_instances_never_issue_the_same() {
        let (mut one, mut two) = (Issuer::new(Version::ZERO, 1), Issuer::new(Version::ZERO, 2));
        assert_ne!(one.issue(50), two.issue(50));
    }

    #[test]
    fn what_was_seen_is_below_what_comes_unless_its_clock_is_broken() {
        let mut issuer = Issuer::new(Version::ZERO, 1);
        let near = Issuer::new(Version::ZERO, 9).issue(10_000 + 500);
        assert!(issuer.observe(near, 10_000));
        assert!(issuer.issue(10_000) > near);
        let far = Issuer::new(Version::ZERO, 9).issue(10_000 + AHEAD_MILLIS_MAX + 1);
        assert!(!issuer.observe(far, 10_000));
        assert!(issuer.issue(10_001) < far);
    }

    #[test]
    fn texts_are_in_the_order_of_numbers() {
        let pairs = [(1_u128, 2_u128), (15, 16), (u128::MAX - 1, u128::MAX), (1 << 64, (1 << 64) + 1)];
        for (low, high) in pairs {
            assert!(Version(low).to_string() < Version(high).to_string());
        }
        for wrong in ["", "12", "+0000000000000000000000000000001", "zz000000000000000000000000000000"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
    }
}
