//! `tenfold status`: what a running process serves, and how it is.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::table::{Cell, Table, Tone};
use super::{ConnectArgs, ago};

const EXAMPLES: &str = "\
Examples:
  tenfold status                                 Of the process that runs by ./tenfold.toml
  tenfold status --config /etc/tenfold.toml      Of another one
  tenfold status --admin http://10.0.0.5:9900    Of one on another machine; TENFOLD_ADMIN_TOKEN has its token
  tenfold status --json | jq .status.ready       For programs

Exit codes:
  0  it answered, whether it is ready or not
  1  it did not; the reason is on standard error";

/// What `tenfold status` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Print one JSON object: status, listeners, services
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints the status.
///
/// # Errors
/// When nothing answers as the admin listener does.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect)?;
    let status = client.get("/api/status")?;
    let (listeners, services) = (client.get("/api/listeners")?, client.get("/api/services")?);
    let text = if args.json {
        format!("{:#}\n", json!({ "status": status, "listeners": listeners, "services": services }))
    } else {
        let color = super::wants_color();
        let services = services_table(list(&services)).render(color);
        format!("{}\n{}\n{services}", head(&status), listeners_table(&listeners).render(color))
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The items of a JSON array.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A JSON text, or nothing.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// A JSON number, or zero.
pub(super) fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}

fn head(status: &Value) -> String {
    let running = if text(status, "state") == "stopping" { "stopping, started" } else { "running, started" };
    let ready = if status["ready"] == true { "ready" } else { "not ready" };
    let (version, pid, since) = (text(status, "version"), number(status, "pid"), ago(number(status, "started")));
    let mut head = format!("tenfold {version}, process {pid}, {running} {since} ago, {ready}\n");
    for one in list(&status["failing"]) {
        head += &format!("  {}: {}\n", text(one, "component"), text(one, "reason"));
    }
    let last = &status["last_reload"];
    match text(last, "result") {
        "success" => head += &format!("configuration reloaded {} ago\n", ago(number(last, "time"))),
        "failure" => {
            let when = ago(number(last, "time"));
            head += &format!("configuration refused {when} ago, the one before stays:\n");
            text(last, "error").lines().for_each(|line| head += &format!("  {line}\n"));
        }
        _ => {}
    }
    if let last @ Value::Object(_) = &status["last_upgrade"] {
        head += &format!("upgrade failed {} ago:\n", ago(number(last, "time")));
        text(last, "error").lines().for_each(|line| head += &format!("  {line}\n"));
    }
    if let before @ Value::Object(_) = &status["predecessor"] {
        let (pid, version, left) = (number(before, "pid"), text(before, "version"), number(before, "connections"));
        head += &format!("process {pid} ({version}), which served before, finishes {left} connections\n");
    }
    match number(status, "overrides") {
        0 => {}
        1 => head += "1 setting was changed at run time\n",
        many => head += &format!("{many} settings were changed at run time\n"),
    }
    head
}

fn listeners_table(listeners: &Value) -> Table {
    let mut table = Table::new(&["LISTENER", "ADDRESSES", "#CONNECTIONS", "#ACCEPTED"]);
    for listener in list(listeners) {
        let addresses: Vec<&str> = list(&listener["addresses"]).iter().filter_map(Value::as_str).collect();
        table.row(vec![
            text(listener, "name").into(),
            addresses.join(", ").into(),
            number(listener, "connections").into(),
            number(listener, "accepted").into(),
        ]);
    }
    table
}

/// Services with their endpoints, a row each.
pub(super) fn services_table(services: &[Value]) -> Table {
    let mut table = Table::new(&["SERVICE", "ENDPOINT", "#WEIGHT", "STATE", "#IN FLIGHT", "#REQUESTS", "AT RUN TIME"]);
    for service in services {
        let name = text(service, "name");
        if !service["breaker"].is_null() {
            table.row(breaker_row(name, &service["breaker"]));
        }
        if let shedding @ Value::Object(_) = &service["shedding"] {
            table.row(shedding_row(name, shedding));
        }
        for endpoint in list(&service["endpoints"]) {
            table.row(endpoint_row(name, endpoint));
        }
        for removed in list(&service["removed"]) {
            let since = format!("removed {} ago", ago(number(removed, "since")));
            let state = Cell::toned("removed", Tone::Warning);
            let none = || Cell::from("");
            table.row(vec![name.into(), text(removed, "name").into(), none(), state, none(), none(), since.into()]);
        }
        for unresolved in list(&service["unresolved"]).iter().filter_map(Value::as_str) {
            let mut names = list(&service["names"]).iter();
            let is_it = |name: &&Value| {
                let rest = unresolved.strip_prefix(text(name, "name"));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            };
            let trouble = names.find(is_it).map_or("", |name| text(name, "trouble"));
            let told = if trouble.is_empty() { String::new() } else { format!(": {trouble}") };
            let state = Cell::toned(format!("no address known{told}"), Tone::Bad);
            let none = || Cell::from("");
            table.row(vec![name.into(), unresolved.into(), none(), state, none(), none(), none()]);
        }
    }
    table
}

fn breaker_row(service: &str, breaker: &Value) -> Vec<Cell> {
    let state = match breaker["state"].as_str() {
        // Endpoints have their own.
        None => Cell::from("by endpoint"),
        Some("closed" | "forced_closed") => Cell::toned("closed", Tone::Good),
        Some("half_open") => Cell::toned("half-open", Tone::Warning),
        Some("open") => Cell::toned(format!("open for {}s more", number(breaker, "retry_after_secs")), Tone::Bad),
        Some(_) => Cell::toned("open", Tone::Bad),
    };
    let held = breaker["forced"].as_str().map(|force| format!("held {force}")).unwrap_or_default();
    let none = || Cell::from("");
    vec![service.into(), "(breaker)".into(), none(), state, none(), none(), held.into()]
}

fn shedding_row(service: &str, shedding: &Value) -> Vec<Cell> {
    let refused = shedding["refused"].as_object().into_iter().flatten();
    let refused =
        refused.filter(|(_, count)| count.as_u64() != Some(0)).map(|(class, count)| format!("{count} {class}"));
    let refused: Vec<String> = refused.collect();
    let (limit, in_flight) = (number(shedding, "limit"), number(shedding, "in_flight"));
    let mut state = format!("limit {limit}");
    match number(shedding, "waiting") {
        0 => {}
        waiting => state += &format!(", {waiting} waiting"),
    }
    if !refused.is_empty() {
        state += &format!(", refused {}", refused.join(", "));
    }
    let none = || Cell::from("");
    vec![service.into(), "(shedding)".into(), none(), state.into(), in_flight.into(), none(), none()]
}

fn endpoint_row(service: &str, endpoint: &Value) -> Vec<Cell> {
    let (address, name) = (text(endpoint, "address"), text(endpoint, "name"));
    let shown = if name.is_empty() || name == address { address.to_owned() } else { format!("{address} ({name})") };
    let weight = number(endpoint, "weight");
    let effective = endpoint["effective_weight"].as_f64().unwrap_or(weight as f64);
    let weight = if (effective - weight as f64).abs() > 0.05 {
        format!("{effective:.1} of {weight}")
    } else {
        weight.to_string()
    };
    let overrides: Vec<String> = list(&endpoint["overrides"]).iter().map(override_text).collect();
    vec![
        service.into(),
        shown.into(),
        weight.into(),
        state(endpoint),
        number(endpoint, "in_flight").into(),
        number(endpoint, "requests").into(),
        overrides.join(", ").into(),
    ]
}

fn state(endpoint: &Value) -> Cell {
    let health = text(endpoint, "health");
    let mut shown = health.to_owned();
    if let Some(cause) = endpoint["cause"].as_str() {
        shown += &format!(" ({cause})");
    }
    let mut tone = if health == "healthy" { Tone::Good } else { Tone::Bad };
    if endpoint["drain"] == true {
        shown = if health == "healthy" { "draining".to_owned() } else { format!("draining, {shown}") };
        tone = Tone::Warning;
    }
    if let Some(breaker) = endpoint["breaker"].as_str().filter(|state| !state.ends_with("closed")) {
        shown += &format!(", breaker {}", breaker.replace('_', " "));
        tone = Tone::Bad;
    }
    if endpoint["backup"] == true {
        shown += ", backup";
    }
    Cell::toned(shown, tone)
}

fn override_text(over: &Value) -> String {
    let since = ago(number(over, "since"));
    let of_file = match &over["file"] {
        Value::Null => String::new(),
        file => format!(" (file: {file})"),
    };
    match text(over, "setting") {
        "add" => format!("added {since} ago"),
        "drain" if over["value"] == true => format!("drained {since} ago"),
        "drain" => format!("undrained {since} ago"),
        setting => format!("{setting} {}{of_file} {since} ago", over["value"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_differs_from_the_file() {
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        let endpoint = json!({
            "address": "10.0.0.1:80", "name": "api.example.com:80", "weight": 4, "effective_weight": 1.0,
            "health": "ejected", "cause": "5 failures", "drain": true, "backup": false, "in_flight": 2, "requests": 9,
            "overrides": [{ "setting": "weight", "value": 4, "file": 1, "since": now - 61 }],
        });
        let service = json!({
            "name": "api", "endpoints": [endpoint], "removed": [{ "name": "10.0.0.2:80", "since": now - 3600 }],
        });
        let shown =
            services_table(&[service, json!({ "name": "shop", "unresolved": ["shop.example.com:80"] })]).render(false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].contains("10.0.0.1:80 (api.example.com:80)"), "{shown}");
        assert!(lines[1].contains("1.0 of 4") && lines[1].contains("draining, ejected (5 failures)"), "{shown}");
        assert!(lines[1].contains("weight 4 (file: 1) 1m "), "{shown}");
        assert!(lines[2].contains("removed 1h 0m ago"), "{shown}");
        assert!(lines[3].contains("no address known"), "{shown}");
    }

    #[test]
    fn people_see_what_breakers_do() {
        let breaker = |state: Value, forced: Value| json!({ "state": state, "retry_after_secs": 12, "forced": forced });
        let check = |breaker: Value, endpoint: Value, part: &str| {
            let endpoint = json!({ "address": "10.0.0.1:80", "weight": 1, "health": "healthy", "breaker": endpoint });
            let service = json!({ "name": "api", "breaker": breaker, "endpoints": [endpoint] });
            let shown = services_table(&[service]).render(false);
            assert!(shown.contains(part), "{part}: {shown}");
        };
        check(breaker("closed".into(), Value::Null), Value::Null, "closed");
        check(breaker("open".into(), Value::Null), Value::Null, "open for 12s more");
        check(breaker("forced_open".into(), "open".into()), Value::Null, "held open");
        check(breaker(Value::Null, Value::Null), "half_open".into(), "healthy, breaker half open");
        check(breaker(Value::Null, Value::Null), "open".into(), "by endpoint");
    }

    #[test]
    fn people_see_what_is_shed() {
        let check = |waiting: u64, low: u64, part: &str| {
            let refused = json!({ "low": low, "normal": 0, "critical": 0 });
            let shedding = json!({ "limit": 24, "in_flight": 20, "waiting": waiting, "refused": refused });
            let shown = services_table(&[json!({ "name": "api", "shedding": shedding })]).render(false);
            assert!(shown.lines().any(|line| line.contains(part)), "{part}: {shown}");
        };
        check(0, 0, "limit 24 ");
        check(3, 0, "limit 24, 3 waiting ");
        check(3, 7, "limit 24, 3 waiting, refused 7 low ");
        assert!(!services_table(&[json!({ "name": "api", "shedding": null })]).render(false).contains("shedding"));
    }

    #[test]
    fn the_head_says_why_it_is_not_ready() {
        let status = json!({
            "version": "1.2.3", "pid": 7, "started": 0, "state": "running", "ready": false, "overrides": 2,
            "failing": [{ "component": "service api", "reason": "none of its endpoints is available" }],
            "last_reload": { "result": "failure", "time": 0, "error": "error: x\n --> y" },
        });
        let shown = head(&status);
        for part in
            ["tenfold 1.2.3, process 7, running, started", "not ready", "  service api: none of", "  error: x\n"]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(shown.contains("2 settings were changed at run time"), "{shown}");
    }
}
