//! Turning keys and addresses into numbers.
//!
//! The problem: two cores, two processes and two releases must send one key to one endpoint, so the hash can have no
//! random seed and can never change. The rule: XXH64 with seed 0, a published function with published test vectors
//! that other languages have as well. It spreads well and reads eight bytes at a time; it is not cryptographic, and a
//! client that chooses its keys can choose its endpoint. That is what hashing on a client's key means anyway.
//!
//! Source: the xxHash specification, version 0.1.1, section "XXH64".

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// XXH64 of some bytes, seed 0: the same on every core, after every restart and in every release.
///
/// ```
/// assert_eq!(balance::hash::bytes(b""), 0xEF46_DB37_51D8_E999);
/// ```
pub fn bytes(input: &[u8]) -> u64 {
    let mut stripes = input.chunks_exact(32);
    let mut hash = if input.len() >= 32 {
        let mut lanes = [PRIME_1.wrapping_add(PRIME_2), PRIME_2, 0, PRIME_1.wrapping_neg()];
        for stripe in &mut stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, word_64(word));
            }
        }
        let [a, b, c, d] = lanes;
        let mixed = a.rotate_left(1).wrapping_add(b.rotate_left(7)).wrapping_add(c.rotate_left(12));
        lanes.iter().fold(mixed.wrapping_add(d.rotate_left(18)), |mixed, &lane| {
            (mixed ^ round(0, lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
        })
    } else {
        PRIME_5
    };
    hash = hash.wrapping_add(input.len() as u64);
    let mut words = stripes.remainder().chunks_exact(8);
    for word in &mut words {
        hash = (hash ^ round(0, word_64(word))).rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
    }
    let mut rest = words.remainder();
    if let Some((half, tail)) = rest.split_first_chunk::<4>() {
        let word = u64::from(u32::from_le_bytes(*half));
        hash = (hash ^ word.wrapping_mul(PRIME_1)).rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
        rest = tail;
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(PRIME_5)).rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

/// The identity of the endpoint at an address, as [`Candidate::id`](crate::Candidate::id) wants it. The text is taken
/// as it is, so write an address one way everywhere: as `SocketAddr` displays it.
pub fn endpoint_id(address: &str) -> u64 {
    bytes(address.as_bytes())
}

/// Spreads a number over all 64 bits; 0 stays 0. The finishing steps of SplitMix64 (Steele, Lea, Flood 2014).
#[inline]
pub(crate) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The golden ratio's fraction of 2^64: successive multiples of it stay as far apart as possible.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The `index`-th number of the SplitMix64 sequence that starts from `id`.
pub(crate) fn nth(id: u64, index: u64) -> u64 {
    mix(mix(id).wrapping_add((index + 1).wrapping_mul(GOLDEN)))
}

/// Scales an evenly spread 64-bit number to `0..bound` without a division.
#[inline]
pub(crate) fn scale(number: u64, bound: u64) -> u64 {
    ((u128::from(number) * u128::from(bound)) >> 64) as u64
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

fn word_64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"))
}
