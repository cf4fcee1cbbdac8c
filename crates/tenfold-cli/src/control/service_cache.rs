//! `tenfold cache invalidate` and `tenfold cache list --at`: caches that a service has by the library, where it shows them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::status::{list as items, number, text};
use super::table::{Cell, Table, Tone};
use super::target;

/// Longest pause of an answer. An invalidation may wait for the leases of instances that stand still, of a minute at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// What `tenfold cache invalidate` is told.
#[derive(Debug, Args)]
pub(crate) struct InvalidateArgs {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    what: What,

    /// Where the service shows its caches, as http://HOST:PORT/PATH
    #[arg(long, value_name = "URL")]
    at: String,

    /// A file or pipe with the token that the service asks for, up to 64 KiB
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The cache's name
    cache: Option<String>,

    /// Every cache of the service
    #[arg(long)]
    every_cache: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The value of a key
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,

    /// Whatever carries a tag
    #[arg(long, value_name = "TAG", allow_hyphen_values = true)]
    tag: Option<String>,

    /// Everything
    #[arg(long)]
    all: bool,
}

/// Has values gone from the caches of a service, in all of its instances where they share a Redis.
///
/// # Errors
/// When the service does not answer, has no such cache, or refuses the key.
pub(crate) fn invalidate(args: &InvalidateArgs) -> anyhow::Result<ExitCode> {
    let InvalidateArgs { which, what: What { key, tag, all }, at, token_file, json } = args;
    let (what, value) = match (key, tag) {
        (Some(key), _) => ("key", Value::from(key.as_str())),
        (None, Some(tag)) => ("tag", Value::from(tag.as_str())),
        (None, None) => ("everything", Value::from(*all)),
    };
    let order = match &which.cache {
        Some(cache) => json!({ "cache": cache, what: value }),
        None => json!({ "every_cache": which.every_cache, what: value }),
    };
    let (target, path) = target::service(at, token_file.as_deref())?;
    let told = Client::of(target).with_answer_timeout(ANSWER_TIMEOUT).send("POST", &path, Some(&order))?;
    // What no Redis tells others of is done as far as it can be.
    let is_done = |cache: &Value| matches!(text(cache, "reach"), "everywhere" | "process");
    if *json {
        super::print(&format!("{told:#}\n"))?;
    } else {
        let line = |cache: &Value| {
            let how = match text(cache, "reach") {
                "everywhere" => "invalidated",
                "process" => {
                    "invalidated in the process that was asked alone: the cache has no Redis, by which others would hear of it"
                }
                _ => {
                    "invalidated in the process that was asked: Redis is away and is told when it is back; others serve on what they have"
                }
            };
            format!("{}: {how}\n", text(cache, "name"))
        };
        super::print(&items(&told["caches"]).iter().map(line).collect::<String>())?;
    }
    Ok(if items(&told["caches"]).iter().all(is_done) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the caches of a service.
///
/// # Errors
/// When the service does not answer.
pub(crate) fn list(at: &str, token_file: Option<&PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let (target, path) = target::service(at, token_file.map(PathBuf::as_path))?;
    let caches = Client::of(target).get(&path)?;
    if json {
        super::print(&format!("{caches:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let heads = ["CACHE", "COHERENCE", "#ENTRIES", "#BYTES", "#OF", "#HITS", "#MISSES", "#HIT RATIO", "REDIS"];
    let mut table = Table::new(&heads);
    for cache in items(&caches) {
        let coherence = match text(cache, "coherence") {
            "" => "by time alone".to_owned(),
            mode => format!("{mode} {} ms", number(cache, "coherence_millis")),
        };
        // Where the bound is one of entries, there are no bytes.
        let bytes = |name: &str| cache[name].as_u64().map_or_else(String::new, |bytes| bytes.to_string());
        let hits: u64 = ["memory_hits", "redis_hits", "journal_hits"].iter().map(|tier| number(cache, tier)).sum();
        let ratio = cache["hit_ratio"].as_f64().map_or_else(String::new, |ratio| format!("{:.1} %", ratio * 100.0));
        let redis = match cache["redis_is_up"].as_bool() {
            None => Cell::from("none"),
            Some(true) => Cell::toned("up", Tone::Good),
            Some(false) => Cell::toned("away", Tone::Bad),
        };
        table.row(vec![
            text(cache, "name").into(),
            coherence.into(),
            number(cache, "entries").into(),
            bytes("bytes").into(),
            bytes("bytes_max").into(),
            hits.into(),
            number(cache, "misses").into(),
            ratio.into(),
            redis,
        ]);
    }
    super::print(&table.render(super::wants_color()))?;
    Ok(ExitCode::SUCCESS)
}
