//! Purges from outside: by URL, prefix, host or tag, or of everything.

use std::time::SystemTime;

use httpcache::{KeyParts, Target};
use store::{How, Mark, Purge, Purged};

use super::Current;
use super::route::host_mark;
use crate::router::normal_path;

/// What is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeBy {
    /// One URL, with whatever variants of it there are. Without a scheme it is that of both.
    Url(String),
    /// Whatever lies under a host and the beginning of a path.
    Prefix(String),
    /// Whatever lies under a host, whatever its port.
    Host(String),
    /// Whatever carries a tag.
    Tag(String),
    /// Everything.
    Everything,
}

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeRequest {
    /// What is purged.
    pub by: PurgeBy,
    /// Whether it becomes stale, and may be used where nothing better can be had, instead of being gone.
    pub soft: bool,
}

/// Why nothing was purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// What should be a URL is none.
    #[error("{text:?} is no URL such as \"https://shop.example.com/cart\"")]
    NoUrl {
        /// The text.
        text: String,
    },
    /// What is purged has too long a name.
    #[error("{text}")]
    TooLong {
        /// What the store says.
        text: String,
    },
    /// The text is empty.
    #[error("the {what} is empty")]
    Empty {
        /// `host` or `tag`.
        what: &'static str,
    },
}

/// A URL's parts.
struct Url<'t> {
    schemes: &'static [bool],
    host: &'t str,
    path: String,
}

fn read_url(text: &str) -> Result<Url<'_>, PurgeError> {
    let wrong = || PurgeError::NoUrl { text: text.to_owned() };
    let (schemes, rest): (&[bool], _) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (&[true], rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (&[false], rest),
        Some(_) => return Err(wrong()),
        None => (&[true, false], text),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '@') || path.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = path.split('#').next().unwrap_or_default();
    let normal = normal_path(path.as_bytes()).ok_or_else(wrong)?;
    let query = path.find('?').map_or("", |at| &path[at..]);
    Ok(Url { schemes, host, path: String::from_utf8_lossy(&normal).into_owned() + query })
}

/// What a purge means for the keys that routes make. It holds when this returns.
pub(crate) fn purge<'k>(
    current: &Current,
    request: &PurgeRequest,
    keys: impl Iterator<Item = &'k KeyParts> + Clone,
) -> Result<Vec<Purged>, PurgeError> {
    let filled = |what, text: &str| if text.is_empty() { Err(PurgeError::Empty { what }) } else { Ok(()) };
    let how = if request.soft { How::Soft } else { How::Hard };
    let mut all = Vec::new();
    match &request.by {
        PurgeBy::Url(text) => {
            let url = read_url(text)?;
            for (key, &https) in keys.flat_map(|key| url.schemes.iter().map(move |https| (key, https))) {
                let mut beginning = Vec::new();
                let (host, path_and_query) = (url.host.as_bytes(), url.path.as_bytes());
                key.write_beginning(&mut beginning, Target { https, host, path_and_query });
                all.push(Purge::mark(Mark::key(&beginning), how));
            }
        }
        PurgeBy::Prefix(text) => {
            let url = read_url(text)?;
            for (key, &https) in keys.flat_map(|key| url.schemes.iter().map(move |https| (key, https))) {
                // A key begins with its host, and then its path, as `KeyParts` has it.
                let mut beginning = Vec::new();
                // Which port a host may go without depends on the scheme.
                let empty = Target { https, host: url.host.as_bytes(), path_and_query: b"" };
                let without_scheme = KeyParts { scheme: false, ..key.clone() };
                without_scheme.write_beginning(&mut beginning, empty);
                beginning.truncate(beginning.len() - 2);
                if key.path {
                    beginning.extend_from_slice(url.path.as_bytes());
                }
                let prefix = Purge::prefix(&beginning, how);
                if !all.contains(&prefix) {
                    all.push(prefix);
                }
            }
        }
        PurgeBy::Host(host) => {
            filled("host", host)?;
            all.push(Purge::mark(host_mark(host.as_bytes()), how));
            // What is stored for all hosts is stored for this one.
            if keys.into_iter().any(|key| !key.host) {
                all.push(Purge::prefix(b"\0", how));
            }
        }
        PurgeBy::Tag(tag) => {
            filled("tag", tag)?;
            all.push(Purge::mark(Mark::tag(tag.as_bytes()), how));
        }
        PurgeBy::Everything => all.push(Purge::all(how)),
    }
    // Whole seconds, upwards: nobody's window is shorter for it.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = u32::try_from(now.as_secs() + 1).unwrap_or(u32::MAX);
    let purge =
        |purge: Purge| current.purge(&purge.at(at)).map_err(|error| PurgeError::TooLong { text: error.to_string() });
    all.into_iter().map(purge).collect()
}
