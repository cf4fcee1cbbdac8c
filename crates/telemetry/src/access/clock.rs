//! Times as log lines write them, in UTC: RFC 3339 with milliseconds, and the form of Apache's logs.

use std::time::{SystemTime, UNIX_EPOCH};

/// Writes times, and remembers the texts of the current second.
#[derive(Debug)]
pub(super) struct Clock {
    second: Option<u64>,
    rfc3339: [u8; 19],
    apache: [u8; 20],
}

impl Default for Clock {
    fn default() -> Self {
        Self { second: None, rfc3339: [b'0'; 19], apache: [b'0'; 20] }
    }
}

impl Clock {
    /// Appends `2024-02-28T23:59:59.042Z`.
    pub(super) fn write_rfc3339(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let millis = self.advance(time);
        out.extend_from_slice(&self.rfc3339);
        out.push(b'.');
        digits(out, millis, 3);
        out.push(b'Z');
    }

    /// Appends `28/Feb/2024:23:59:59 +0000`.
    pub(super) fn write_apache(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        self.advance(time);
        out.extend_from_slice(&self.apache);
        out.extend_from_slice(b" +0000");
    }

    /// Makes the texts those of a time, and returns its milliseconds.
    fn advance(&mut self, time: SystemTime) -> u32 {
        // A clock before 1970 is a clock that was never set; the log says 1970 then.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.rfc3339 = second_text(since.as_secs());
            self.apache = apache_text(&self.rfc3339);
        }
        since.subsec_millis()
    }
}

/// `DD/Mon/YYYY:HH:MM:SS` from `YYYY-MM-DDTHH:MM:SS`.
fn apache_text(rfc3339: &[u8; 19]) -> [u8; 20] {
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = usize::from((rfc3339[5] - b'0') * 10 + (rfc3339[6] - b'0'));
    let mut out = *b"DD/Mon/YYYY:HH:MM:SS";
    out[..2].copy_from_slice(&rfc3339[8..10]);
    out[3..6].copy_from_slice(MONTHS[month - 1]);
    out[7..11].copy_from_slice(&rfc3339[..4]);
    out[12..].copy_from_slice(&rfc3339[11..]);
    out
}

/// Appends `value` with leading zeros.
fn digits(out: &mut Vec<u8>, value: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10_u32.pow(place) % 10) as u8);
    }
}

/// `YYYY-MM-DDTHH:MM:SS` of a second since 1970 in UTC.
fn second_text(second: u64) -> [u8; 19] {
    let (year, month, day) = civil_date(second / 86_400);
    let of_day = (second % 86_400) as u32;
    let mut out = Vec::with_capacity(19);
    let mut part = |value: u32, width: u32, then: &[u8]| {
        digits(&mut out, value, width);
        out.extend_from_slice(then);
    };
    part(year, 4, b"-");
    part(month, 2, b"-");
    part(day, 2, b"T");
    part(of_day / 3600, 2, b":");
    part(of_day / 60 % 60, 2, b":");
    part(of_day % 60, 2, b"");
    out.try_into().expect("the widths add up to 19")
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year: then 400 years are always 146,097 days,
/// and a month's first day is a straight line over the months, rounded down (153 days in each five months).
fn civil_date(days: u64) -> (u32, u32, u32) {
    // 0000-03-01 is 719,468 days before 1970-01-01.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        let check = |second: u64, expected: &str| {
            assert_eq!(String::from_utf8_lossy(&second_text(second)), expected, "{second}");
        };
        check(0, "1970-01-01T00:00:00");
        check(951_782_399, "2000-02-28T23:59:59");
        check(951_782_400, "2000-02-29T00:00:00");
        check(1_709_251_199, "2024-02-29T23:59:59");
        check(1_709_251_200, "2024-03-01T00:00:00");
        check(4_107_542_399, "2100-02-28T23:59:59");
        check(4_107_542_400, "2100-03-01T00:00:00");
        check(253_402_300_799, "9999-12-31T23:59:59");
    }

    #[test]
    fn dates_follow_one_another() {
        // A naive calendar that counts day by day, over 500 years.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..182_621 {
            assert_eq!(civil_date(days), (year, month, day), "day {days}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn both_forms_tell_the_same_time() {
        let mut clock = Clock::default();
        let mut check = |millis: u64, rfc3339: &str, apache: &str| {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let time = UNIX_EPOCH + std::time::Duration::from_millis(millis);
            clock.write_rfc3339(time, &mut first);
            clock.write_apache(time, &mut second);
            assert_eq!((first.as_slice(), second.as_slice()), (rfc3339.as_bytes(), apache.as_bytes()));
        };
        check(0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000");
        check(1_709_164_799_042, "2024-02-28T23:59:59.042Z", "28/Feb/2024:23:59:59 +0000");
        check(1_735_689_599_999, "2024-12-31T23:59:59.999Z", "31/Dec/2024:23:59:59 +0000");
    }
}
