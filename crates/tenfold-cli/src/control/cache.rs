//! `tenfold cache purge` and `tenfold cache top`: looks at the edge cache of a running process, and purges it.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ConnectArgs;
use super::client::Client;
use super::status::{list, number, text};
use super::table::{Cell, Table, Tone};

/// What `tenfold cache purge` may be told.
#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    what: What,

    /// Make it stale instead, to be served where nothing better can be had
    #[arg(long)]
    soft: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// One URL; without a scheme that of HTTP and HTTPS
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Whatever lies under a host and the beginning of a path
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,

    /// Whatever lies under a host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Whatever carries a tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// Everything
    #[arg(long)]
    everything: bool,
}

/// What `tenfold cache top` may be told.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Print a JSON object, with counts by route
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Has what is stored gone, or stale.
///
/// # Errors
/// When nothing answers as the admin listener does, or the purge was refused.
pub(crate) fn purge(args: &PurgeArgs) -> anyhow::Result<ExitCode> {
    let PurgeArgs { what: What { url, prefix, host, tag, everything }, soft, connect } = args;
    let named = [("url", url), ("prefix", prefix), ("host", host), ("tag", tag)];
    let named = named.into_iter().find_map(|(name, text)| Some((name, Value::from(text.as_deref()?))));
    let (name, value) = named.unwrap_or(("everything", (*everything).into()));
    let order = json!({ name: value, "soft": soft });
    Client::new(connect)?.send("POST", "/api/cache/purge", Some(&order))?;
    super::print(if *soft { "stale\n" } else { "purged\n" })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what the tiers hold, and what is asked for most.
///
/// # Errors
/// When nothing answers as the admin listener does.
pub(crate) fn top(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let cache = Client::new(&args.connect)?.get("/api/cache")?;
    if args.json {
        super::print(&format!("{cache:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut tiers = Table::new(&["TIER", "#ENTRIES", "#BYTES", "#OF", "STATE"]);
    let (entries, bytes) = (number(&cache, "entries"), number(&cache, "memory_bytes"));
    let bytes_max = number(&cache, "memory_bytes_max");
    tiers.row(vec!["memory".into(), entries.into(), bytes.into(), bytes_max.into(), "".into()]);
    let disk = &cache["disk"];
    if disk.is_object() {
        let state = match disk["up"].as_bool() {
            Some(true) => Cell::toned("up", Tone::Good),
            _ => Cell::toned("down", Tone::Bad),
        };
        let (bytes, bytes_max) = (number(disk, "bytes"), number(disk, "bytes_max"));
        tiers.row(vec!["disk".into(), number(disk, "entries").into(), bytes.into(), bytes_max.into(), state]);
    }
    let mut table = Table::new(&["KEY", "#HITS", "#BYTES"]);
    for key in list(&cache["top"]) {
        table.row(vec![text(key, "key").into(), number(key, "hits").into(), number(key, "bytes").into()]);
    }
    let color = super::wants_color();
    super::print(&format!("{}\n{}", tiers.render(color), table.render(color)))?;
    Ok(ExitCode::SUCCESS)
}
