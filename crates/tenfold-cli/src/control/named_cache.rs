//! `tenfold cache list`, `get` and `del`: named caches of a running process.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::ConnectArgs;
use super::client::{Client, encoded};
use super::status::{list as items, number, text};
use super::table::Table;

/// What `tenfold cache list` may be told.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Those of a service that shows its caches, in place of the named ones: where it does, as http://HOST:PORT/PATH
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "admin"])]
    at: Option<String>,

    /// A file or pipe with the token that the service asks for, up to 64 KiB
    #[arg(long, value_name = "FILE", requires = "at")]
    token_file: Option<PathBuf>,

    /// Print a JSON array
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// What `tenfold cache get` is told.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The cache's name
    cache: String,

    /// The key
    key: String,

    /// Print a JSON object, with the time that is left of its life
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// What `tenfold cache del` is told.
#[derive(Debug, Args)]
pub(crate) struct DelArgs {
    /// The cache's name
    cache: String,

    #[command(flatten)]
    what: What,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The key
    key: Option<String>,

    /// Whatever carries a tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// Everything
    #[arg(long)]
    everything: bool,
}

/// Shows the caches.
///
/// # Errors
/// When nothing answers as the admin listener does.
pub(crate) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    if let Some(at) = &args.at {
        return super::service_cache::list(at, args.token_file.as_ref(), args.json);
    }
    let caches = Client::new(&args.connect)?.get("/api/caches")?;
    if args.json {
        super::print(&format!("{caches:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let heads = ["CACHE", "LISTEN", "HTTP", "#ENTRIES", "#BYTES", "#OF", "#HITS", "#MISSES", "#EVICTED"];
    let mut table = Table::new(&heads);
    for cache in items(&caches) {
        let counts = ["entries", "memory_bytes", "memory_bytes_max", "hits", "misses", "evicted"];
        let mut row = vec![text(cache, "name").into(), text(cache, "listen").into(), text(cache, "http").into()];
        row.extend(counts.map(|count| number(cache, count).into()));
        table.row(row);
    }
    super::print(&table.render(super::wants_color()))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the value of a key.
///
/// # Errors
/// When nothing answers as the admin listener does, or there is no such key.
pub(crate) fn get(args: &GetArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/api/caches/{}/keys/{}", encoded(&args.cache), encoded(&args.key));
    let found = Client::new(&args.connect)?.get(&path)?;
    match &found["value"] {
        _ if args.json => super::print(&format!("{found:#}\n"))?,
        Value::String(value) if std::io::stdout().is_terminal() => super::print(&format!("{}\n", harmless(value)))?,
        Value::String(value) => super::print(&format!("{value}\n"))?,
        _ => anyhow::bail!("{}: {} bytes that are no short text", args.key, number(&found, "bytes")),
    }
    Ok(ExitCode::SUCCESS)
}

/// A value as a terminal may see it: what would move its cursor, change its colors or answer for its user is escaped.
fn harmless(value: &str) -> String {
    let shown = |one: char| if one.is_control() && one != '\n' { one.escape_default().to_string() } else { one.into() };
    value.chars().map(shown).collect()
}

/// Removes a key, whatever carries a tag, or everything.
///
/// # Errors
/// When nothing answers as the admin listener does, or there is no such cache.
pub(crate) fn del(args: &DelArgs) -> anyhow::Result<ExitCode> {
    let What { key, tag, everything } = &args.what;
    let order = match (key, tag) {
        (Some(key), _) => json!({ "key": key }),
        (None, Some(tag)) => json!({ "tag": tag }),
        (None, None) => json!({ "everything": everything }),
    };
    let path = format!("/api/caches/{}/purge", encoded(&args.cache));
    let told = Client::new(&args.connect)?.send("POST", &path, Some(&order))?;
    super::print(if told["removed"] == false { "it was not there\n" } else { "removed\n" })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            super::harmless("a\u{1b}[2J\u{9b}b\r\u{7}\n\u{e9} \u{4e2d}"),
            "a\\u{1b}[2J\\u{9b}b\\r\\u{7}\n\u{e9} \u{4e2d}"
        );
    }
}
