//! Load shedding and priorities, from their tables to their parameters.

use gateway::params::{Class, GradientParams, PriorityParams, SheddingParams};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::table_of;
use crate::grammar::{Field, Key, Value};
use crate::node::{Node, Value as NodeValue};
use crate::quantity::Int;
use crate::raw::{ClassWord, RawPriority, RawService, RawShedding, SaidWord};

/// The limit at first unless the file says otherwise.
const LIMIT_START: u32 = 20;

/// A priority, from its class alone or from a table.
#[derive(Clone, Debug)]
pub(crate) struct Priority(pub(crate) RawPriority);

impl Value for Priority {
    fn expected() -> String {
        format!("{}, or {{ class = \"normal\", header = \"NAME\" }}", ClassWord::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        if matches!(node.value, NodeValue::Table(_)) {
            return RawPriority::read(node, key, sink).map(Self);
        }
        ClassWord::read(node, key, sink)?;
        RawPriority::read(&table_of("class", node), key, sink).map(Self)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [ClassWord::schema(generator), RawPriority::schema(generator)] })
    }

    fn effective(&self) -> Json {
        self.0.effective()
    }
}

/// Fills in the default that depends on other keys.
pub(crate) fn resolve(raw: &mut RawService) {
    let Some(field) = &mut raw.shedding else { return };
    let (place, shedding) = (field.place, &mut field.value);
    let (least, most) = (shedding.limit_min.value.0, shedding.limit_max.value.0);
    let start = LIMIT_START.max(least).min(most);
    if !shedding.failed.contains(&"limit_start") {
        shedding.limit_start.get_or_insert(Field { value: Int(start), place, set: false });
    }
}

/// How a service sheds load.
pub(crate) fn params(key: &str, service: &RawService, sink: &mut Sink) -> Option<SheddingParams> {
    let raw = &service.shedding.as_ref()?.value;
    let key = format!("{key}.shedding");
    let start = raw.limit_start.as_ref()?;
    let bounds = [("limit_min", &raw.limit_min), ("limit_start", start), ("limit_max", &raw.limit_max)];
    let mut in_order = true;
    for (low, high) in [(0, 2), (0, 1), (1, 2)] {
        let ((low_name, low), (high_name, high)) = (bounds[low], bounds[high]);
        if in_order && low.value.0 > high.value.0 {
            in_order = false;
            // The one that the file sets is to blame; the other may be a default.
            let (name, place) = if low.set { (low_name, low.place) } else { (high_name, high.place) };
            let message = format!("{low_name} ({}) is above {high_name} ({})", low.value.0, high.value.0);
            let fix = format!("raise {high_name}, or lower {low_name}");
            sink.push(Diagnostic::error(place, format!("{key}.{name}"), message).fix(fix));
        }
    }
    shares(&key, raw, sink);
    let defaults = GradientParams::default();
    Some(SheddingParams {
        gradient: GradientParams {
            limit_min: raw.limit_min.value.0,
            limit_max: raw.limit_max.value.0,
            limit_start: start.value.0,
            tolerance: raw.tolerance.value.0,
            shares: [raw.low_share.value.0, raw.normal_share.value.0, 1.0],
            ..defaults
        },
        waiting_max: raw.queue_max.value.0,
        wait: raw.queue_timeout.value.0,
    })
}

/// What is less important must not get more.
fn shares(key: &str, raw: &RawShedding, sink: &mut Sink) {
    let (low, normal) = (&raw.low_share, &raw.normal_share);
    if low.value.0 > normal.value.0 {
        let (name, place) = if low.set { ("low_share", low.place) } else { ("normal_share", normal.place) };
        let percent = |share: f64| format!("{:.0}%", share * 100.0);
        let (low, normal) = (percent(low.value.0), percent(normal.value.0));
        let message =
            format!("low_share ({low}) is above normal_share ({normal}), so normal requests are refused first");
        sink.push(Diagnostic::error(place, format!("{key}.{name}"), message).fix("lower low_share".to_owned()));
    }
}

/// How important the requests of a route are.
pub(crate) fn priority(key: &str, Priority(raw): &Priority, sink: &mut Sink) -> PriorityParams {
    let class = match raw.class.value {
        ClassWord::Low => Class::Low,
        ClassWord::Normal => Class::Normal,
        ClassWord::Critical => Class::Critical,
        ClassWord::Exempt => Class::Exempt,
    };
    let said = raw.header_max.as_ref().map(|field| match field.value {
        SaidWord::Low => (Class::Low, field.place),
        SaidWord::Normal => (Class::Normal, field.place),
        SaidWord::Critical => (Class::Critical, field.place),
    });
    let key = format!("{key}.priority.header_max");
    match said {
        Some((_, place)) if raw.header.is_none() && !raw.failed.contains(&"header") => {
            let diagnostic = Diagnostic::error(place, key, "no field is named that could say the class");
            sink.push(diagnostic.fix("add header = \"NAME\", or remove header_max".to_owned()));
        }
        Some((most, place)) if most < class => {
            let message = "whoever says nothing would have a higher class than whoever says the highest";
            let diagnostic = Diagnostic::error(place, key, message);
            let related = raw.class.set.then_some(raw.class.place);
            sink.push(diagnostic.related(related, "the class").fix("lower class, or raise header_max".to_owned()));
        }
        _ => {}
    }
    let most = said.map_or(class, |(most, _)| most);
    PriorityParams { class, header: raw.header.as_ref().map(|name| (name.value.0.clone(), most)) }
}
