//! What a request may change, read from its path and body.

use serde::{Deserialize, Deserializer};

/// Largest weight, as in the file.
const WEIGHT_MAX: i64 = 1000;

/// Largest priority, as in the file.
const PRIORITY_MAX: i64 = 15;

/// A change that was asked for. Names and addresses are as they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Another endpoint.
    Add {
        /// The service's name.
        service: String,
        /// The endpoint.
        endpoint: NewEndpoint,
    },
    /// Other settings of an endpoint.
    Edit {
        /// The service's name.
        service: String,
        /// The endpoint's address.
        address: String,
        /// What is set.
        edit: EndpointEdit,
    },
    /// An endpoint less.
    Remove {
        /// The service's name.
        service: String,
        /// The endpoint's address.
        address: String,
    },
    /// An endpoint goes by the file again.
    Reset {
        /// The service's name.
        service: String,
        /// The endpoint's address.
        address: String,
    },
    /// A service's breakers are held, or decide by themselves again.
    Breaker {
        /// The service's name.
        service: String,
        /// What they are held as.
        force: Option<Force>,
    },
    /// Everything goes by the file again.
    ResetAll,
    /// The file is read again and applied.
    Reload,
    /// Another process takes over.
    Upgrade(UpgradeOrder),
    /// What is stored is gone, or stale.
    Purge(PurgeOrder),
    /// What a named cache has is gone.
    PurgeNamed {
        /// The cache's name.
        cache: String,
        /// What.
        target: NamedPurgeTarget,
    },
    /// A database does something else.
    Database {
        /// The database's name.
        database: String,
        /// What it does.
        change: DatabaseChange,
    },
}

/// What a database is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseChange {
    /// To lend no connections.
    Pause,
    /// To lend them again.
    Resume,
    /// To make all connections anew.
    Reconnect,
    /// To take no new clients.
    Disable,
    /// To take them again.
    Enable,
    /// To close clients' connections.
    Kill(KillOrder),
}

/// Whose connections to a database are closed: all, or those that one of the keys names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillOrder {
    /// The number of one client.
    #[serde(default)]
    pub client: Option<u64>,
    /// The address of a server, whose connections are closed.
    #[serde(default)]
    pub server: Option<String>,
    /// Whether no new clients are taken from then on.
    #[serde(default)]
    pub refuse: bool,
}

/// What is purged from a named cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedPurgeTarget {
    /// One key.
    Key(String),
    /// What carries a tag.
    Tag(String),
    /// Everything.
    Everything,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNamedPurge {
    key: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    everything: bool,
}

impl<'de> Deserialize<'de> for NamedPurgeTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawNamedPurge { key, tag, everything } = RawNamedPurge::deserialize(deserializer)?;
        match (key, tag, everything) {
            (Some(key), None, false) => Ok(Self::Key(key)),
            (None, Some(tag), false) => Ok(Self::Tag(tag)),
            (None, None, true) => Ok(Self::Everything),
            _ => Err(serde::de::Error::custom("one of key, tag and everything is needed")),
        }
    }
}

/// What is purged from the edge cache: one of the keys, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeOrder {
    /// What is purged.
    pub target: PurgeTarget,
    /// Whether it is stale instead of gone.
    pub soft: bool,
}

/// What is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeTarget {
    /// One URL.
    Url(String),
    /// What lies under the beginning of a URL.
    Prefix(String),
    /// What lies under a host.
    Host(String),
    /// What carries a tag.
    Tag(String),
    /// Everything.
    Everything,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPurge {
    url: Option<String>,
    prefix: Option<String>,
    host: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    everything: bool,
    #[serde(default)]
    soft: bool,
}

impl<'de> Deserialize<'de> for PurgeOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawPurge { url, prefix, host, tag, everything, soft } = RawPurge::deserialize(deserializer)?;
        let named = [
            url.map(PurgeTarget::Url),
            prefix.map(PurgeTarget::Prefix),
            host.map(PurgeTarget::Host),
            tag.map(PurgeTarget::Tag),
            everything.then_some(PurgeTarget::Everything),
        ];
        let mut named = named.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(target), None) => Ok(Self { target, soft }),
            _ => Err(serde::de::Error::custom("one of url, prefix, host, tag and everything is needed")),
        }
    }
}

/// What an upgrade may be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeOrder {
    /// The program to start, instead of the one that runs, as it lies in its place now.
    #[serde(default)]
    pub binary: Option<String>,
}

/// An endpoint to add.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEndpoint {
    /// `HOST:PORT`.
    pub address: String,
    /// Its share of the traffic.
    #[serde(default)]
    pub weight: Weight,
    /// Lower ones come first.
    #[serde(default)]
    pub priority: Priority,
    /// The zone that it is in; `None`, or empty, if that is not known.
    #[serde(default)]
    pub zone: Option<String>,
    /// Whether it is used only while no other is available.
    #[serde(default)]
    pub backup: bool,
    /// Whether it gets no new requests yet.
    #[serde(default)]
    pub drain: bool,
}

/// Settings of an endpoint: `None` leaves one as it is, `Some(None)` lets it go by the file again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointEdit {
    /// Its share of the traffic.
    #[serde(default, deserialize_with = "given")]
    pub weight: Option<Option<Weight>>,
    /// Whether it gets no new requests.
    #[serde(default, deserialize_with = "given")]
    pub drain: Option<Option<bool>>,
}

/// What breakers are held as; the key must be there, so that an empty object does not let them go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerEdit {
    /// Open or closed; `None` lets them decide by themselves.
    #[serde(deserialize_with = "Option::deserialize")]
    pub force: Option<Force>,
}

/// What a breaker is held as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// No request passes.
    Open,
    /// Every request does.
    Closed,
}

/// A share of the traffic, from 0 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<i64> for Weight {
    type Error = String;

    fn try_from(weight: i64) -> Result<Self, String> {
        match u16::try_from(weight) {
            Ok(small) if weight <= WEIGHT_MAX => Ok(Self(small)),
            _ => Err(format!("weight: {weight} is not from 0 to {WEIGHT_MAX}")),
        }
    }
}

/// A rank among endpoints, from 0 to 15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Priority(pub u8);

impl TryFrom<i64> for Priority {
    type Error = String;

    fn try_from(priority: i64) -> Result<Self, String> {
        match u8::try_from(priority) {
            Ok(small) if priority <= PRIORITY_MAX => Ok(Self(small)),
            _ => Err(format!("priority: {priority} is not from 0 to {PRIORITY_MAX}")),
        }
    }
}

/// Tells a null from a key that is absent.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Why a command was not carried out. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What kind of reason it is.
    pub reason: Reason,
    /// What was wrong, for whoever asked.
    pub text: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It makes no sense.
    Invalid,
    /// What it names is not there.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// The configuration cannot be used.
    Configuration,
    /// It is not for whoever asks.
    Forbidden,
    /// It was tried and did not succeed.
    Failed,
    /// The process is stopping.
    Stopping,
}

impl Refused {
    /// A refusal.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_strictly() {
        let edit = |text: &str| serde_json::from_str::<EndpointEdit>(text).map_err(|error| error.to_string());
        let weight = |weight| EndpointEdit { weight, ..EndpointEdit::default() };
        assert_eq!(edit("{}"), Ok(EndpointEdit::default()));
        assert_eq!(edit("{\"weight\": 5}"), Ok(weight(Some(Some(Weight(5))))));
        assert_eq!(edit("{\"weight\": null}"), Ok(weight(Some(None))));
        assert_eq!(edit("{\"drain\": false}").map(|edit| edit.drain), Ok(Some(Some(false))));
        for (text, part) in [
            ("{\"weigth\": 5}", "unknown field `weigth`, expected `weight` or `drain`"),
            ("{\"weight\": 1001}", "weight: 1001 is not from 0 to 1000"),
            ("{\"weight\": -1}", "weight: -1 is not from 0 to 1000"),
            ("{\"weight\": 1.5}", "invalid type"),
            ("{\"weight\": \"5\"}", "invalid type"),
            ("{\"drain\": 1}", "invalid type"),
            ("{\"drain\": true, \"drain\": false}", "duplicate field"),
            ("{} {}", "trailing"),
        ] {
            let error = edit(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let add = serde_json::from_str::<NewEndpoint>("{\"address\": \"10.0.0.1:80\"}").expect("an endpoint");
        assert_eq!((add.weight, add.backup, add.drain), (Weight(1), false, false));
        let force = |text: &str| serde_json::from_str::<BreakerEdit>(text).map(|edit| edit.force).ok();
        assert_eq!(force("{\"force\": \"open\"}"), Some(Some(Force::Open)));
        assert_eq!(force("{\"force\": \"closed\"}"), Some(Some(Force::Closed)));
        assert_eq!(force("{\"force\": null}"), Some(None));
        assert_eq!([force("{}"), force("{\"force\": \"shut\"}"), force("{\"x\": 1}")], [None; 3]);
        assert_eq!((add.priority, add.zone), (Priority(0), None));
        let text =
            |priority: &str| format!("{{\"address\": \"10.0.0.1:80\", \"priority\": {priority}, \"zone\": \"a\"}}");
        let add = |priority| serde_json::from_str::<NewEndpoint>(&text(priority)).map_err(|error| error.to_string());
        assert_eq!(add("15").map(|add| (add.priority, add.zone)), Ok((Priority(15), Some("a".to_owned()))));
        for wrong in ["16", "-1"] {
            assert!(add(wrong).unwrap_err().contains(&format!("priority: {wrong} is not from 0 to 15")));
        }
        let purge = |text: &str| serde_json::from_str::<PurgeOrder>(text).ok();
        let tag = PurgeOrder { target: PurgeTarget::Tag("a".to_owned()), soft: true };
        assert_eq!(purge("{\"tag\": \"a\", \"soft\": true}"), Some(tag));
        for wrong in
            ["{}", "{\"soft\": true}", "{\"url\": \"a\", \"tag\": \"b\"}", "{\"everything\": false}", "{\"x\": 1}"]
        {
            assert_eq!(purge(wrong), None, "{wrong}");
        }
        let named = |text: &str| serde_json::from_str::<NamedPurgeTarget>(text).ok();
        assert_eq!(named("{\"key\": \"a\"}"), Some(NamedPurgeTarget::Key("a".to_owned())));
        assert_eq!(named("{\"everything\": true}"), Some(NamedPurgeTarget::Everything));
        for wrong in ["{}", "{\"key\": \"a\", \"tag\": \"b\"}", "{\"everything\": false}", "{\"soft\": true}"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
        assert!(serde_json::from_str::<NewEndpoint>("{\"weight\": 5}").unwrap_err().to_string().contains("address"));
    }
}
