//! What tells the keys of a limit apart: a hash under a secret, and addresses cut to their prefixes.
//!
//! The hash is SipHash-1-3, made for tables whose keys an attacker chooses: without the seed nobody can find two keys
//! that meet. Parts are told apart by their lengths, so that `a`, `bc` and `ab`, `c` are two keys.
//!
//! Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012, with one and three rounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hashes the parts of a key one after the other.
#[derive(Clone, Debug)]
pub struct KeyHasher {
    state: [u64; 4],
    words: u64,
}

impl KeyHasher {
    /// A hasher under a seed, which a process makes at random once and keeps to itself.
    #[inline]
    pub fn new(seed: (u64, u64)) -> Self {
        let (low, high) = seed;
        let state = [
            low ^ 0x736F_6D65_7073_6575,
            high ^ 0x646F_7261_6E64_6F6D,
            low ^ 0x6C79_6765_6E65_7261,
            high ^ 0x7465_6462_7974_6573,
        ];
        Self { state, words: 0 }
    }

    /// Adds a part, with its length in front.
    #[inline]
    #[must_use]
    pub fn part(self, part: &[u8]) -> Self {
        let (words, rest) = part.as_chunks::<8>();
        let hasher =
            words.iter().fold(self.number(part.len() as u64), |hasher, word| hasher.number(u64::from_le_bytes(*word)));
        if rest.is_empty() {
            return hasher;
        }
        hasher.number(rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)))
    }

    /// Adds a number, such as that of a route.
    #[inline]
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.state[3] ^= number;
        round(&mut self.state);
        self.state[0] ^= number;
        self.words += 1;
        self
    }

    /// Adds an address, cut to its prefix.
    #[inline]
    #[must_use]
    pub fn address(self, address: IpAddr, prefixes: Prefixes) -> Self {
        match prefixes.cut(address) {
            IpAddr::V4(address) => self.number(4).number(u64::from(address.to_bits())),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                self.number(6).number((bits >> 64) as u64).number(bits as u64)
            }
        }
    }

    /// The hash of all that was added.
    #[inline]
    pub fn finish(self) -> u64 {
        let last = self.words << 59;
        let mut state = self.number(last).state;
        state[2] ^= 0xFF;
        for _ in 0..3 {
            round(&mut state);
        }
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

#[inline]
fn round(state: &mut [u64; 4]) {
    let [a, b, c, d] = state;
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

/// How much of an address is one client. A home or a phone has a whole /64 of IPv6 addresses, and changes within it at
/// will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Leading bits of an IPv4 address that count; default 32, and what is more counts as 32.
    pub ipv4_bits: u8,
    /// Leading bits of an IPv6 address that count; default 64, and what is more than 128 counts as 128.
    pub ipv6_bits: u8,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { ipv4_bits: 32, ipv6_bits: 64 }
    }
}

impl Prefixes {
    /// The address with all bits behind its prefix zero. An IPv4 address that came as IPv6 (`::ffff:192.0.2.1`) is
    /// IPv4: one client is one key, however the listener was bound.
    #[inline]
    pub fn cut(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let dropped = 32_u32.saturating_sub(u32::from(self.ipv4_bits));
                let mask = u32::MAX.checked_shl(dropped).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let dropped = 128_u32.saturating_sub(u32::from(self.ipv6_bits));
                let mask = u128::MAX.checked_shl(dropped).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }
}
