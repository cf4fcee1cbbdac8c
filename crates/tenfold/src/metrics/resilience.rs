//! What the pieces of `resilience` show.

use super::Source;
use super::family::{self, Family, Number, Sample};
use crate::resilience::{Breaker, Bulkhead, KeyedLimiter, Limiter, Retry, Shedder, State};

macro_rules! sources {
    ($($piece:ident $label:literal |$found:ident| [$(($family:ident, $number:expr)),+ $(,)?];)+) => {$(
        impl From<&$piece> for Source {
            fn from(piece: &$piece) -> Self {
                let piece = piece.clone();
                Self(Box::new(move |samples| {
                    let $found = piece.snapshot();
                    let rows: Vec<(&'static Family, Number)> = vec![$((&family::$family, $number)),+];
                    let labels = vec![($label, piece.name().to_owned())];
                    samples.extend(rows.into_iter().map(|(family, number)| Sample { family, labels: labels.clone(), number }));
                }))
            }
        }
    )+};
}

sources! {
    Breaker "breaker" |found| [
        (BREAKER_OPEN, Number::Level(f64::from(u8::from(!matches!(found.state, State::Closed))))),
        (BREAKER_OPENED, Number::Count(found.opened_total)),
        (BREAKER_REFUSED, Number::Count(found.refused_total)),
    ];
    Bulkhead "bulkhead" |found| [
        (BULKHEAD_IN_FLIGHT, Number::Level(found.in_flight as f64)),
        (BULKHEAD_WAITING, Number::Level(found.waiting as f64)),
        (BULKHEAD_REFUSED, Number::Count(found.refused_total)),
    ];
    Limiter "limiter" |found| [(LIMITER_REFUSED, Number::Count(found.refused_total))];
    KeyedLimiter "limiter" |found| [(LIMITER_REFUSED, Number::Count(found.refused_total))];
    Shedder "shedder" |found| [
        (SHEDDER_LIMIT, Number::Level(f64::from(found.limit))),
        (SHEDDER_IN_FLIGHT, Number::Level(f64::from(found.in_flight))),
        (SHEDDER_REFUSED, Number::Count(found.refused_total)),
    ];
    Retry "retry" |found| [(RETRIES, Number::Count(found.retries_total))];
}
