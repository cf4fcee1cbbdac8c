//! Quantities with their units and ranges.
//!
//! A range stands in the type, so the message, the schema and the documentation cannot differ from what is checked.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;
use telemetry::LatencyBuckets;
use vocab::units::{self, UnitError};

use crate::diagnostic::Sink;
use crate::grammar::{Key, Value, wrong_kind};
use crate::node::{Node, Value as NodeValue};
use crate::value::invalid;

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int<const MIN: u32, const MAX: u32>(pub(crate) u32);

/// A duration from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time<const MIN: u64, const MAX: u64>(pub(crate) Duration);

/// A size from `MIN` to `MAX` bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size<const MIN: u64, const MAX: u64>(pub(crate) u64);

/// A number with or without a fraction, from `MIN` to `MAX` hundredths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decimal<const MIN: u32, const MAX: u32>(pub(crate) f64);

/// A bound of a latency's buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound(pub(crate) Duration);

/// A share from 0 to 100 percent, as a number from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(pub(crate) f64);

impl<const MIN: u32, const MAX: u32> Value for Int<MIN, MAX> {
    fn expected() -> String {
        format!("an integer from {MIN} to {MAX}")
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let number = match &node.value {
            NodeValue::Integer(_, number) => *number,
            // A variable can only give text, so a number may come from one.
            NodeValue::Text { text, expanded: true } if text.parse::<i64>().is_ok() => text.parse().ok(),
            NodeValue::Text { text, .. } => {
                let number = text.parse::<i64>().ok();
                let fix = number.map(|number| format!("write {number} without quotes"));
                wrong_kind(node, key, &Self::expected(), fix, sink);
                return None;
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                return None;
            }
        };
        let in_range = number.and_then(|number| u32::try_from(number).ok()).filter(|n| (MIN..=MAX).contains(n));
        if in_range.is_none() {
            sink.push(invalid(node, key, "is out of range").allowed(Self::expected()));
        }
        in_range.map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }

    fn effective(&self) -> Json {
        self.0.into()
    }
}

impl<const MIN: u64, const MAX: u64> Value for Time<MIN, MAX> {
    fn expected() -> String {
        let show = |millis| units::format_duration(Duration::from_millis(millis));
        format!("a duration from \"{}\" to \"{}\"", show(MIN), show(MAX))
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let range = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        quantity(node, key, &Self::expected(), units::parse_duration, range, sink).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        units::format_duration(self.0).into()
    }
}

impl<const MIN: u64, const MAX: u64> Value for Size<MIN, MAX> {
    fn expected() -> String {
        format!("a size from \"{}\" to \"{}\"", units::format_size(MIN), units::format_size(MAX))
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        quantity(node, key, &Self::expected(), units::parse_size, MIN..=MAX, sink).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        units::format_size(self.0).into()
    }
}

impl<const MIN: u32, const MAX: u32> Decimal<MIN, MAX> {
    fn bounds() -> (f64, f64) {
        (f64::from(MIN) / 100.0, f64::from(MAX) / 100.0)
    }
}

impl<const MIN: u32, const MAX: u32> Value for Decimal<MIN, MAX> {
    fn expected() -> String {
        let (min, max) = Self::bounds();
        format!("a number from {min} to {max}")
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let number = match &node.value {
            NodeValue::Integer(_, Some(number)) => Some(*number as f64),
            NodeValue::Integer(text, None) | NodeValue::Float(text) => text.parse::<f64>().ok(),
            // A variable can only give text, so a number may come from one.
            NodeValue::Text { text, expanded: true } if text.parse::<f64>().is_ok() => text.parse().ok(),
            NodeValue::Text { text, .. } => {
                let number = text.parse::<f64>().ok();
                let fix = number.map(|number| format!("write {number} without quotes"));
                wrong_kind(node, key, &Self::expected(), fix, sink);
                return None;
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                return None;
            }
        };
        let (min, max) = Self::bounds();
        let in_range = number.filter(|number| (min..=max).contains(number));
        if in_range.is_none() {
            sink.push(invalid(node, key, "is out of range").allowed(Self::expected()));
        }
        in_range.map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        let (min, max) = Self::bounds();
        json_schema!({ "type": "number", "minimum": min, "maximum": max })
    }

    fn effective(&self) -> Json {
        self.0.into()
    }
}

impl Value for Bound {
    fn expected() -> String {
        "1, 1.5, 2, 2.5, 3, 4, 5 or 7.5 by powers of ten, from \"0.5ms\" to \"50s\", or \"60s\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let range = Duration::ZERO..=Duration::MAX;
        let bound = quantity(node, key, &Self::expected(), units::parse_duration, range, sink)?;
        match LatencyBuckets::new([bound]) {
            Ok(_) => Some(Self(bound)),
            Err(error) => {
                let nearest = units::format_duration(error.nearest);
                let found = invalid(node, key, "is no bound that is counted").allowed(Self::expected());
                sink.push(found.fix(format!("write \"{nearest}\", the nearest")));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        units::format_duration(self.0).into()
    }
}

impl Value for Share {
    fn expected() -> String {
        "a share from \"0%\" to \"100%\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        quantity(node, key, &Self::expected(), units::parse_share, 0.0..=1.0, sink).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        units::format_share(self.0).into()
    }
}

/// Reads a quantity by its own parser and checks its range.
fn quantity<T: PartialOrd>(
    node: &Node,
    key: &Key<'_>,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, UnitError>,
    range: std::ops::RangeInclusive<T>,
    sink: &mut Sink,
) -> Option<T> {
    let (NodeValue::Text { text, .. } | NodeValue::Integer(text, _) | NodeValue::Float(text)) = &node.value else {
        wrong_kind(node, key, expected, None, sink);
        return None;
    };
    let quoted = matches!(node.value, NodeValue::Text { .. });
    match parse(text) {
        Ok(value) if range.contains(&value) => return Some(value),
        Ok(_) => sink.push(invalid(node, key, "is out of range").allowed(expected)),
        Err(error) => {
            let problem = if quoted { format!("cannot be read: {error}") } else { "has no unit".to_owned() };
            let fix = error.suggestion().map(|text| format!("write \"{text}\""));
            sink.push(invalid(node, key, &problem).allowed(expected).fix(fix));
        }
    }
    None
}
