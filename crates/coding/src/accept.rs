//! Which codings a client accepts, by its `Accept-Encoding`: RFC 9110 section 12.5.3.
//!
//! - A client that sends no such field may understand any coding, as far as the text goes. As everywhere, it gets none:
//!   those that say nothing are the ones that understand nothing.
//! - What is listed with `q=0` is refused, `*` stands for what is not listed, and a coding is no better than plain content
//!   that the client gives a higher weight to.
//! - A member that cannot be read is passed over. Of a coding that is listed twice, the first says what holds.
//! - Weights are in thousandths, which is all the digits that they may have.

use crate::Coding;

/// The weight of what is listed without one.
const WHOLE: u16 = 1000;

/// What a client accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// By coding, if listed.
    listed: [Option<u16>; Coding::ALL.len()],
    /// Of plain content, if listed.
    identity: Option<u16>,
    /// Of all that is not listed, if `*` is.
    others: Option<u16>,
}

impl Accepted {
    /// Reads the values of all `Accept-Encoding` fields of a request.
    pub fn read<'v>(values: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut accepted = Self::default();
        for member in values.flat_map(|value| value.split(|&b| b == b',')) {
            let mut parts = member.split(|&b| b == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let Some(weight) = weight_of(parts) else { continue };
            let place = match Coding::of(name) {
                Some(coding) => &mut accepted.listed[coding as usize],
                None if name.eq_ignore_ascii_case(b"identity") => &mut accepted.identity,
                None if name == b"*" => &mut accepted.others,
                None => continue,
            };
            place.get_or_insert(weight);
        }
        accepted
    }

    /// The weight of a coding, in thousandths; 0 when the client does not accept it.
    pub fn weight(&self, coding: Coding) -> u16 {
        self.listed[coding as usize].or(self.others).unwrap_or(0)
    }

    /// Those of the offered codings that the client accepts and does not like less than plain content: the heaviest
    /// first, and those of one weight in the order in which they are offered.
    pub fn ranked(&self, offered: &[Coding]) -> impl Iterator<Item = Coding> + use<> {
        let least = self.identity.unwrap_or(0).max(1);
        let mut ranked = [None; Coding::ALL.len()];
        let wanted = offered.iter().copied().filter(|&coding| self.weight(coding) >= least);
        for (place, coding) in ranked.iter_mut().zip(wanted) {
            *place = Some(coding);
        }
        // What is not there goes to the end; the sort keeps the order of equals.
        ranked.sort_by_key(|coding| std::cmp::Reverse(coding.map_or(0, |coding| self.weight(coding))));
        ranked.into_iter().flatten()
    }

    /// The best of the offered codings; `None` for plain content.
    pub fn best(&self, offered: &[Coding]) -> Option<Coding> {
        self.ranked(offered).next()
    }
}

/// The weight among the parameters of a member; `None` when it cannot be read.
fn weight_of<'p>(parameters: impl Iterator<Item = &'p [u8]>) -> Option<u16> {
    let mut weight = WHOLE;
    for parameter in parameters {
        let [b'q' | b'Q', b'=', digits @ ..] = parameter else { return None };
        weight = thousandths(digits)?;
    }
    Some(weight)
}

/// A number from 0 to 1 with up to three decimals.
fn thousandths(digits: &[u8]) -> Option<u16> {
    let (whole, decimals) = match digits {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (*whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut sum = u16::from(whole - b'0') * WHOLE;
    for (digit, unit) in decimals.iter().zip([100, 10, 1]) {
        sum += u16::from(digit - b'0') * unit;
    }
    (sum <= WHOLE).then_some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Accepted {
        Accepted::read([value.as_bytes()].into_iter())
    }

    #[test]
    fn the_best_coding_is_chosen() {
        let check = |value: &str, expected: &str| {
            let best = read(value).best(&Coding::ALL);
            assert_eq!(best.map_or("", Coding::as_str), expected, "{value:?}");
        };
        check("gzip", "gzip");
        check("gzip, br, zstd", "zstd");
        check("GZIP;Q=1", "gzip");
        check("x-gzip", "gzip");
        check("gzip;q=0.9, br;q=0.8", "gzip");
        check("gzip;q=0.001, br ; q=0.002", "br");
        check("*", "zstd");
        check("*, zstd;q=0", "br");
        check("gzip;q=0.5, *;q=0.4", "gzip");
        check("deflate, compress", "");
        check("", "");
        check("identity", "");
        check("gzip;q=0", "");
        check("*;q=0", "");
        check("identity;q=0, *;q=0", "");
        check("identity;q=0, gzip", "gzip");
        // Plain content is liked better, or as much.
        check("gzip;q=0.5, identity", "");
        check("gzip;q=0.5, identity;q=0.5", "gzip");
        check("gzip;q=0.5, identity;q=0.6, br;q=0.7", "br");
        // What cannot be read is passed over.
        check("gzip;q=2, br;q=0.5", "br");
        check("gzip;q=0.1234, br", "br");
        check("gzip;q=1.001, br", "br");
        check("gzip;q=, br", "br");
        check("gzip;level=9, br", "br");
        check(",,gzip,", "gzip");
        check("gzip;q=0, gzip", "");
    }

    #[test]
    fn no_field_means_plain_content() {
        assert_eq!(Accepted::read(std::iter::empty()).best(&Coding::ALL), None);
    }

    #[test]
    fn several_fields_are_one_list() {
        let accepted = Accepted::read([b"br;q=0.1".as_slice(), b"gzip"].into_iter());
        assert_eq!(accepted.best(&Coding::ALL), Some(Coding::Gzip));
    }

    #[test]
    fn only_what_is_offered_is_chosen_in_its_order() {
        let ranked = |value: &str, offered: &[Coding]| read(value).ranked(offered).collect::<Vec<_>>();
        let (gzip, brotli, zstd) = (Coding::Gzip, Coding::Brotli, Coding::Zstd);
        assert_eq!(ranked("gzip, br, zstd", &[brotli, gzip]), [brotli, gzip]);
        assert_eq!(ranked("gzip, br;q=0.9, zstd", &[brotli, gzip, zstd]), [gzip, zstd, brotli]);
        assert_eq!(ranked("zstd", &[brotli, gzip]), []);
    }

    proptest! {
        #[test]
        fn weights_are_read_as_numbers(thousandths in 0_u16..=1000) {
            let text = format!("gzip;q={}.{:03}", thousandths / 1000, thousandths % 1000);
            prop_assert_eq!(read(&text).weight(Coding::Gzip), thousandths);
        }

        #[test]
        fn nothing_a_client_sends_is_too_much(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let accepted = Accepted::read([value.as_slice()].into_iter());
            for coding in accepted.ranked(&Coding::ALL) {
                prop_assert!((1..=1000).contains(&accepted.weight(coding)));
            }
        }
    }
}
