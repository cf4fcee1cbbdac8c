mod cache;
mod catalogue;
mod kinds;
mod reads;

use pgroute::classify::{Catalogue, Plan};

/// A database with some functions of its own.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for name in
        ["count", "sum", "lower", "now", "upper", "rank", "generate_series", "json_agg", "unnest", "left", "cube"]
    {
        catalogue.add_function(name, true, b'i');
    }
    for name in [
        "nextval",
        "setval",
        "currval",
        "set_config",
        "pg_advisory_lock",
        "pg_advisory_xact_lock",
        "setseed",
        "pg_notify",
    ] {
        catalogue.add_function(name, true, b'v');
    }
    for name in ["random", "clock_timestamp"] {
        catalogue.add_function(name, true, b'v');
    }
    for name in ["pg_backend_pid", "txid_current", "current_setting"] {
        catalogue.add_function(name, true, b's');
    }
    catalogue.add_function("price_of", false, b's');
    catalogue.add_function("book", false, b'v');
    // One that is harmless for numbers and writes for texts.
    catalogue.add_function("log_it", false, b'i');
    catalogue.add_function("log_it", false, b'v');
    catalogue.add_function("query_to_xml", true, b'v');
    catalogue.add_primary("order_id_seq");
    catalogue.add_opaque("settings_view");
    catalogue.add_triggers("watched");
    catalogue.add_operator("<<|");
    catalogue
}

fn classify(text: &str) -> Plan {
    pgroute::classify::classify(text.as_bytes(), true, &catalogue())
}
