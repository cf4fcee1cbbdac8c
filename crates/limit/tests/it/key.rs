//! Keys: a published hash, parts that stay apart, prefixes.

use std::hash::{DefaultHasher, Hasher};

use limit::{KeyHasher, Prefixes};
use proptest::prelude::*;

proptest! {
    #[test]
    fn it_is_siphash_1_3_of_the_words(words in prop::collection::vec(any::<u64>(), 0..40)) {
        // The standard library's hasher is the same function under a seed of zeros.
        let mut expected = DefaultHasher::new();
        words.iter().for_each(|word| expected.write(&word.to_le_bytes()));
        let own = words.iter().fold(KeyHasher::new((0, 0)), |hasher, &word| hasher.number(word));
        prop_assert_eq!(own.finish(), expected.finish());
    }

    #[test]
    fn parts_stay_apart(one in "[ab]{0,18}", other in "[ab]{0,18}", cut in 0..18_usize, seed in any::<(u64, u64)>()) {
        let hash = |parts: &[&str]| {
            parts.iter().fold(KeyHasher::new(seed), |hasher, part| hasher.part(part.as_bytes())).finish()
        };
        prop_assert_eq!(hash(&[&one]) == hash(&[&other]), one == other);
        let whole = format!("{one}{other}");
        let (left, right) = whole.split_at(cut.min(whole.len()));
        prop_assert_eq!(hash(&[&one, &other]) == hash(&[left, right]), one == left);
        prop_assert_ne!(hash(&[&one, &other]), hash(&[&whole]));
    }
}

#[test]
fn addresses_are_cut_to_their_prefixes() {
    let check = |address: &str, ipv4_bits: u8, ipv6_bits: u8, expected: &str| {
        let prefixes = Prefixes { ipv4_bits, ipv6_bits };
        assert_eq!(prefixes.cut(address.parse().unwrap()).to_string(), expected, "{address}");
    };
    check("192.0.2.255", 32, 64, "192.0.2.255");
    check("192.0.2.255", 24, 64, "192.0.2.0");
    check("192.0.2.255", 0, 64, "0.0.0.0");
    check("192.0.2.255", 99, 64, "192.0.2.255");
    check("2001:db8:1:2:3:4:5:6", 32, 64, "2001:db8:1:2::");
    check("2001:db8:1:2:3:4:5:6", 32, 56, "2001:db8:1::");
    check("2001:db8:1:2:3:4:5:6", 32, 128, "2001:db8:1:2:3:4:5:6");
    check("2001:db8:1:2:3:4:5:6", 32, 0, "::");
    check("::ffff:192.0.2.255", 24, 64, "192.0.2.0");
    assert_eq!(Prefixes::default(), Prefixes { ipv4_bits: 32, ipv6_bits: 64 });
    let hash = |address: &str| KeyHasher::new((1, 2)).address(address.parse().unwrap(), Prefixes::default()).finish();
    assert_eq!(hash("2001:db8::1"), hash("2001:db8::ffff"));
    assert_ne!(hash("2001:db8::1"), hash("2001:db8:0:1::1"));
    assert_eq!(hash("::ffff:192.0.2.1"), hash("192.0.2.1"));
    assert_ne!(hash("192.0.2.1"), hash("::c000:201"));
}
