//! Units as people write them in configuration: durations, byte sizes, shares.
//!
//! A number without its unit is the most common mistake in configuration files (is `timeout = 5` seconds or
//! milliseconds?), so every quantity carries its unit and a bare number is refused with the text that was probably
//! meant. One spelling per unit keeps files alike; the usual other spellings are recognised only to name the right one.
//!
//! Edge cases: `1m30s` is one duration with its parts in falling order; `1.5s` is fine, `1.0000000001s` is finer than a
//! nanosecond and is refused; sizes are whole bytes, `KiB` is 1024 bytes and `kB` 1000 (IEC 80000-13).

use std::fmt;
use std::time::Duration;

/// Why a text is not a quantity, and how to write what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    problem: Problem,
    suggestion: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Empty,
    NoNumber,
    NoUnit,
    UnknownUnit(String),
    Space,
    Order,
    TooFine,
    TooLarge,
    Sign,
    NoPeriod,
    Fraction,
}

impl UnitError {
    /// The text that was probably meant, if there is a good guess.
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref()
    }

    fn new(problem: Problem) -> Self {
        Self { problem, suggestion: None }
    }

    fn suggest(problem: Problem, text: String) -> Self {
        Self { problem, suggestion: Some(text) }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Empty => f.write_str("the value is empty"),
            Problem::NoNumber => f.write_str("a number is missing before the unit"),
            Problem::NoUnit => f.write_str("the unit is missing"),
            Problem::UnknownUnit(unit) => write!(f, "there is no unit {unit:?}"),
            Problem::Space => f.write_str("number and unit are written without a space"),
            Problem::Order => f.write_str("the parts go from the largest unit to the smallest, each at most once"),
            Problem::TooFine => f.write_str("the number is finer than the smallest unit"),
            Problem::TooLarge => f.write_str("the number is too large"),
            Problem::Sign => f.write_str("the value must not carry a sign"),
            Problem::NoPeriod => f.write_str("the time is missing, as in \"100/s\""),
            Problem::Fraction => f.write_str("the amount is no whole number"),
        }
    }
}

impl std::error::Error for UnitError {}

/// Units of time in nanoseconds, largest first.
const TIME: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Other spellings of units of time, lower case.
const TIME_ALIASES: [(&str, &[&str]); 6] = [
    ("d", &["day", "days"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("m", &["min", "mins", "minute", "minutes"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("ms", &["msec", "msecs", "millis", "milliseconds", "millisecond"]),
    ("us", &["\u{b5}s", "\u{3bc}s", "usec", "micros", "microseconds"]),
];

/// Units of size in bytes.
const SIZE: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    // Two spellings are in wide use for the thousand; the first of equals is the one that is written back.
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Other spellings of units of size, lower case. A lone letter means the binary unit, as it does to nginx and HAProxy.
const SIZE_ALIASES: [(&str, &[&str]); 6] = [
    ("TiB", &["t", "ti", "tib", "tb"]),
    ("GiB", &["g", "gi", "gib", "gb"]),
    ("MiB", &["m", "mi", "mib", "mb"]),
    ("KiB", &["k", "ki", "kib"]),
    ("kB", &["kb"]),
    ("B", &["b", "byte", "bytes"]),
];

/// Reads a duration such as `5s`, `1m30s`, `250ms` or `1.5h`. Units: `d`, `h`, `m`, `s`, `ms`, `us`, `ns`.
///
/// # Errors
/// [`UnitError`] when the text is anything else, or longer than 584 years.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(vocab::units::parse_duration("1m30s"), Ok(Duration::from_secs(90)));
/// assert_eq!(vocab::units::parse_duration("5").unwrap_err().suggestion(), Some("5s"));
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = checked_start(text)?;
    let mut total: u64 = 0;
    let mut smallest_so_far = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if unit.is_empty() {
            let guess = if number == text { format!("{text}s") } else { String::new() };
            return Err(UnitError { problem: Problem::NoUnit, suggestion: Some(guess).filter(|g| !g.is_empty()) });
        }
        let Some(&(_, nanos)) = TIME.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit(text, number, unit, next, &TIME_ALIASES));
        };
        if nanos >= smallest_so_far {
            return Err(UnitError::new(Problem::Order));
        }
        smallest_so_far = nanos;
        total = total.checked_add(scaled(number, nanos)?).ok_or(UnitError::new(Problem::TooLarge))?;
        rest = next;
    }
    Ok(Duration::from_nanos(total))
}

/// Reads a size such as `64KiB`, `1MB` or `1.5GiB` as bytes. Units: `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB`, `TiB`.
///
/// # Errors
/// [`UnitError`] when the text is anything else, is not a whole number of bytes, or exceeds 64 bits.
///
/// ```
/// assert_eq!(vocab::units::parse_size("64KiB"), Ok(65_536));
/// assert_eq!(vocab::units::parse_size("10m").unwrap_err().suggestion(), Some("10MiB"));
/// ```
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(checked_start(text)?)?;
    if unit.is_empty() {
        return Err(UnitError::suggest(Problem::NoUnit, format!("{number}B")));
    }
    match SIZE.iter().find(|(name, _)| *name == unit) {
        Some(&(_, bytes)) => scaled(number, bytes),
        None => Err(unknown_unit(text, number, unit, "", &SIZE_ALIASES)),
    }
}

/// Reads a share such as `20%` or `0.5%` as a number from 0 to 1 (above 1 for more than 100 percent).
///
/// # Errors
/// [`UnitError`] when the text is anything else.
///
/// ```
/// assert_eq!(vocab::units::parse_share("20%"), Ok(0.2));
/// assert_eq!(vocab::units::parse_share("0.2").unwrap_err().suggestion(), Some("20%"));
/// ```
pub fn parse_share(text: &str) -> Result<f64, UnitError> {
    let (number, unit) = split_number(checked_start(text)?)?;
    // Nine digits after the point are far beyond any use, and make the number exact in what follows.
    let billionths = scaled(number, 1_000_000_000)?;
    match unit {
        "%" => Ok(billionths as f64 / 1e11),
        "" if billionths <= 1_000_000_000 && number.contains('.') => {
            Err(UnitError::suggest(Problem::NoUnit, format_share(billionths as f64 / 1e9)))
        }
        "" => Err(UnitError::suggest(Problem::NoUnit, format!("{number}%"))),
        _ => Err(unknown_unit(text, number, unit, "", &[("%", &["percent", "pct"])])),
    }
}

/// Reads a rate such as `100/s`, `5/m` or `1000/10s`: how many, and in which time.
///
/// # Errors
/// [`UnitError`] when the text is anything else, or more than 32 bits can count.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(vocab::units::parse_rate("100/s"), Ok((100, Duration::from_secs(1))));
/// assert_eq!(vocab::units::parse_rate("100").unwrap_err().suggestion(), Some("100/s"));
/// ```
pub fn parse_rate(text: &str) -> Result<(u32, Duration), UnitError> {
    let (number, rest) = split_number(checked_start(text)?)?;
    let meant = |unit: &str| Some(format!("{number}/{unit}"));
    let Some(per) = rest.strip_prefix('/') else {
        let unit = rest.trim_start_matches("r/").trim_start_matches("per");
        let known = TIME.iter().find(|(name, _)| *name == unit).map(|(name, _)| *name);
        let suggestion = if rest.is_empty() { meant("s") } else { known.and_then(meant) };
        return Err(UnitError { problem: Problem::NoPeriod, suggestion });
    };
    let amount = number.parse().map_err(|_| {
        let problem = if number.contains('.') { Problem::Fraction } else { Problem::TooLarge };
        UnitError::new(problem)
    })?;
    let period = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
    match parse_duration(&period) {
        Ok(period) => Ok((amount, period)),
        Err(error) => {
            let suggestion = error.suggestion.and_then(|period| meant(period.strip_prefix('1').unwrap_or(&period)));
            Err(UnitError { problem: error.problem, suggestion })
        }
    }
}

/// Writes a rate so that [`parse_rate`] reads it back: `100/s`, `1000/10s`.
pub fn format_rate(amount: u32, per: Duration) -> String {
    let period = format_duration(per);
    let unit = period.strip_prefix('1').filter(|unit| !unit.contains(|c: char| c.is_ascii_digit()));
    format!("{amount}/{}", unit.unwrap_or(&period))
}

/// Writes a duration so that [`parse_duration`] reads it back: `1m30s`, `250ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, nanos) in TIME {
        if rest >= nanos {
            text.push_str(&format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    text
}

/// Writes a size in its largest unit without a fraction: `64KiB`, `1MB`, `1500B`.
pub fn format_size(bytes: u64) -> String {
    let unit = SIZE.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes}B"), |(unit, size)| format!("{}{unit}", bytes / size))
}

/// Writes a share in percent: `20%`, `0.5%`.
pub fn format_share(share: f64) -> String {
    // Rounded to the nine digits that are read, so that 0.07 is `7%` and not `7.000000000000001%`.
    let percent = (share * 1e11).round() / 1e9;
    format!("{percent}%")
}

fn checked_start(text: &str) -> Result<&str, UnitError> {
    match text.chars().next() {
        None => Err(UnitError::new(Problem::Empty)),
        Some('-' | '+') => Err(UnitError::new(Problem::Sign)),
        Some(_) if text.contains(char::is_whitespace) => {
            let joined: String = text.split_whitespace().collect();
            // Only a text that would be right without its spaces is worth proposing.
            let good = parse_duration(&joined).is_ok() || parse_size(&joined).is_ok() || parse_share(&joined).is_ok();
            let meant = || parse_duration(&joined).err().and_then(|error| error.suggestion);
            Err(UnitError { problem: Problem::Space, suggestion: if good { Some(joined) } else { meant() } })
        }
        Some(_) => Ok(text),
    }
}

fn split_number(text: &str) -> Result<(&str, &str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let digits_around_point = number.split('.').all(|part| !part.is_empty()) && number.matches('.').count() <= 1;
    if digits_around_point { Ok((number, rest)) } else { Err(UnitError::new(Problem::NoNumber)) }
}

/// `number`, digits with at most one point, times `unit`, exactly.
fn scaled(number: &str, unit: u64) -> Result<u64, UnitError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let too_large = |_| UnitError::new(Problem::TooLarge);
    let whole: u64 = whole.parse().map_err(too_large)?;
    let mut total = whole.checked_mul(unit).ok_or(UnitError::new(Problem::TooLarge))?;
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let too_fine = UnitError::new(Problem::TooFine);
        let digits: u128 = fraction.parse().map_err(|_| too_fine.clone())?;
        let scale = u32::try_from(fraction.len()).ok().and_then(|n| 10_u128.checked_pow(n)).ok_or(too_fine.clone())?;
        let product = digits.checked_mul(u128::from(unit)).ok_or(too_fine.clone())?;
        if !product.is_multiple_of(scale) {
            return Err(too_fine);
        }
        // The fraction is below one, so the quotient is below `unit` and fits.
        total = total.checked_add((product / scale) as u64).ok_or(UnitError::new(Problem::TooLarge))?;
    }
    Ok(total)
}

fn unknown_unit(text: &str, number: &str, unit: &str, next: &str, aliases: &[(&str, &[&str])]) -> UnitError {
    let lower = unit.to_lowercase();
    let right = aliases.iter().find(|(name, others)| name.to_lowercase() == lower || others.contains(&lower.as_str()));
    let before = &text[..text.len() - number.len() - unit.len() - next.len()];
    let suggestion = right.map(|(name, _)| format!("{before}{number}{name}{next}"));
    UnitError { problem: Problem::UnknownUnit(unit.to_owned()), suggestion }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome<T>(result: Result<T, UnitError>) -> Result<T, (String, Option<String>)> {
        result.map_err(|error| (error.to_string(), error.suggestion))
    }

    #[test]
    fn durations() {
        let good = |text: &str, millis: u64| {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text:?}");
        };
        good("5s", 5_000);
        good("0s", 0);
        good("1m30s", 90_000);
        good("1d2h3m4s5ms", 93_784_005);
        good("1.5h", 5_400_000);
        good("0.25s", 250);
        assert_eq!(parse_duration("7us3ns"), Ok(Duration::from_nanos(7_003)));
        let bad = |text: &str, problem: &str, suggestion: Option<&str>| {
            let expected = Err((problem.to_owned(), suggestion.map(str::to_owned)));
            assert_eq!(outcome(parse_duration(text)), expected, "{text:?}");
        };
        bad("", "the value is empty", None);
        bad("5", "the unit is missing", Some("5s"));
        bad("1m30", "the unit is missing", None);
        bad("s", "a number is missing before the unit", None);
        bad("1.s", "a number is missing before the unit", None);
        bad("1.2.3s", "a number is missing before the unit", None);
        bad("5sec", "there is no unit \"sec\"", Some("5s"));
        bad("1h5mins", "there is no unit \"mins\"", Some("1h5m"));
        bad("5S", "there is no unit \"S\"", Some("5s"));
        bad("5\u{b5}s", "there is no unit \"\u{b5}s\"", Some("5us"));
        bad("5fortnights", "there is no unit \"fortnights\"", None);
        bad("5 s", "number and unit are written without a space", Some("5s"));
        bad("1 min", "number and unit are written without a space", Some("1m"));
        bad("5 x", "number and unit are written without a space", None);
        bad("30s1m", "the parts go from the largest unit to the smallest, each at most once", None);
        bad("1s1s", "the parts go from the largest unit to the smallest, each at most once", None);
        bad("0.1ns", "the number is finer than the smallest unit", None);
        bad("99999999999999999999s", "the number is too large", None);
        bad("300000d", "the number is too large", None);
        bad("-5s", "the value must not carry a sign", None);
    }

    #[test]
    fn rates() {
        let good = |text: &str, amount: u32, millis: u64| {
            assert_eq!(parse_rate(text), Ok((amount, Duration::from_millis(millis))), "{text:?}");
            assert_eq!(format_rate(amount, Duration::from_millis(millis)), text);
        };
        good("100/s", 100, 1_000);
        good("5/m", 5, 60_000);
        good("1000/10s", 1_000, 10_000);
        good("1/250ms", 1, 250);
        good("3/1m30s", 3, 90_000);
        let bad = |text: &str, problem: &str, suggestion: Option<&str>| {
            let expected = Err((problem.to_owned(), suggestion.map(str::to_owned)));
            assert_eq!(outcome(parse_rate(text)), expected, "{text:?}");
        };
        let no_time = "the time is missing, as in \"100/s\"";
        bad("100", no_time, Some("100/s"));
        bad("100r/s", no_time, Some("100/s"));
        bad("100s", no_time, Some("100/s"));
        bad("5/min", "there is no unit \"min\"", Some("5/m"));
        bad("5/", "the unit is missing", Some("5/s"));
        bad("0.5/s", "the amount is no whole number", None);
        bad("5000000000/s", "the number is too large", None);
        bad("/s", "a number is missing before the unit", None);
        bad("", "the value is empty", None);
    }

    #[test]
    fn sizes() {
        let good = |text: &str, bytes: u64| assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        good("64KiB", 65_536);
        good("1MB", 1_000_000);
        good("1.5KiB", 1_536);
        good("0B", 0);
        good("2kB", 2_000);
        good("2KB", 2_000);
        let bad = |text: &str, problem: &str, suggestion: Option<&str>| {
            let expected = Err((problem.to_owned(), suggestion.map(str::to_owned)));
            assert_eq!(outcome(parse_size(text)), expected, "{text:?}");
        };
        bad("1024", "the unit is missing", Some("1024B"));
        bad("10m", "there is no unit \"m\"", Some("10MiB"));
        bad("8k", "there is no unit \"k\"", Some("8KiB"));
        bad("64kb", "there is no unit \"kb\"", Some("64kB"));
        bad("64kib", "there is no unit \"kib\"", Some("64KiB"));
        bad("0.5B", "the number is finer than the smallest unit", None);
        bad("20000000TiB", "the number is too large", None);
        bad("KiB", "a number is missing before the unit", None);
    }

    #[test]
    fn shares() {
        let good = |text: &str, share: f64| assert_eq!(parse_share(text), Ok(share), "{text:?}");
        good("20%", 0.2);
        good("0%", 0.0);
        good("100%", 1.0);
        good("0.5%", 0.005);
        good("1000%", 10.0);
        let bad = |text: &str, problem: &str, suggestion: Option<&str>| {
            let expected = Err((problem.to_owned(), suggestion.map(str::to_owned)));
            assert_eq!(outcome(parse_share(text)), expected, "{text:?}");
        };
        bad("20", "the unit is missing", Some("20%"));
        bad("0.2", "the unit is missing", Some("20%"));
        bad("20 %", "number and unit are written without a space", Some("20%"));
        bad("20percent", "there is no unit \"percent\"", Some("20%"));
        bad("%", "a number is missing before the unit", None);
    }

    #[test]
    fn what_is_written_reads_back() {
        for nanos in [0, 1, 999, 1_000, 90_000_000_000, 86_400_000_000_001, u64::MAX] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1_000, 1_024, 1_500, 65_536, 1_000_000, 1 << 30, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        for percent in 0..=1_000 {
            let text = format!("{}%", f64::from(percent) / 10.0);
            assert_eq!(format_share(parse_share(&text).unwrap()), text);
        }
        assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(format_size(65_536), "64KiB");
    }
}
