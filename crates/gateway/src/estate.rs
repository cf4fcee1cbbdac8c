//! What a gateway leaves to the one that takes over from it: its sockets, and what it has learned and what was changed
//! at run time.
//!
//! The two may be of different versions. So what is known is written as JSON in terms of its own, in which fields that
//! are missing have defaults and others are passed over; whatever cannot be read is forgotten, and the file goes.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use breaker::circuit::Force;
use discovery::{Member, Set, Source};
use net::inherit::Inherited;
use serde::{Deserialize, Serialize};
use vocab::Name;

use crate::change::Target;
use crate::control::breakers::Forced;
use crate::control::overrides::{Override, Overrides, Setting};
use crate::params::{EndpointParams, Host};

/// What a gateway gives away.
#[derive(Debug, Default)]
pub struct Estate {
    /// Handles of its sockets, by the address that each was opened for.
    pub sockets: Vec<(SocketAddr, OwnedFd)>,
    /// What it knows, for [`Inheritance::knowledge`].
    pub knowledge: String,
}

/// What a gateway begins with.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Sockets to use before any is opened.
    pub sockets: Inherited,
    /// What the one before knew; empty if there was none.
    pub knowledge: String,
}

/// What outlives a gateway.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// What was changed at run time.
    pub(crate) overrides: Overrides,
    /// What names stood for last, for when no name server answers.
    pub(crate) sets: HashMap<Source, Set>,
    /// Breakers that somebody holds open or closed.
    pub(crate) forced: Vec<Forced>,
    /// Endpoints whose checks fail, by the names of their services: without that, the next process would send requests to
    /// them until its own checks have found out.
    pub(crate) unhealthy: Vec<(Name, SocketAddr)>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    overrides: Vec<OverrideRecord>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    services: BTreeMap<String, Vec<MemberRecord>>,
    breakers: Vec<BreakerRecord>,
    unhealthy: Vec<(String, SocketAddr)>,
}

/// The breakers of a service that are held.
#[derive(Serialize, Deserialize)]
struct BreakerRecord {
    service: String,
    held: String,
    since_millis: u64,
}

/// What a record of a name says.
#[derive(Serialize, Deserialize)]
struct MemberRecord {
    address: IpAddr,
    port: u16,
    host: String,
    priority: u8,
    weight: u16,
}

#[derive(Serialize, Deserialize)]
struct OverrideRecord {
    service: String,
    host: String,
    port: u16,
    setting: SettingRecord,
    since_millis: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SettingRecord {
    Add(EndpointRecord),
    Remove,
    Weight(u16),
    Drain(bool),
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct EndpointRecord {
    weight: u16,
    priority: u8,
    zone: Option<String>,
    backup: bool,
    drain: bool,
}

impl Default for EndpointRecord {
    fn default() -> Self {
        Self { weight: 1, priority: 0, zone: None, backup: false, drain: false }
    }
}

impl Knowledge {
    /// As it is handed over.
    pub(crate) fn write(&self) -> String {
        let overrides = self.overrides.iter().map(OverrideRecord::of).collect();
        let breakers = self.forced.iter().map(BreakerRecord::of).collect();
        let unhealthy =
            self.unhealthy.iter().map(|(service, address)| (service.as_str().to_owned(), *address)).collect();
        let mut record = Record { overrides, breakers, unhealthy, ..Record::default() };
        for (source, set) in &self.sets {
            match source {
                Source::Host(name) => {
                    record.addresses.insert(name.clone(), set.iter().map(|member| member.address).collect());
                }
                Source::Srv(name) => {
                    record.services.insert(name.clone(), set.iter().filter_map(MemberRecord::of).collect());
                }
            }
        }
        serde_json::to_string(&record).unwrap_or_default()
    }

    /// As it was handed over.
    ///
    /// # Errors
    /// What is not understood.
    pub(crate) fn read(text: &str) -> Result<Self, serde_json::Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let record: Record = serde_json::from_str(text)?;
        let overrides = record.overrides.into_iter().filter_map(OverrideRecord::read).collect();
        let member = |address| Member { priority: 0, address, port: None, host: None, weight: None };
        let hosts = record.addresses.into_iter();
        let hosts = hosts.map(|(name, ips)| (Source::Host(name), ips.into_iter().map(member).collect()));
        let services = record.services.into_iter();
        let services =
            services.map(|(name, members)| (Source::Srv(name), members.into_iter().map(MemberRecord::read).collect()));
        let forced = record.breakers.into_iter().filter_map(BreakerRecord::read).collect();
        let unhealthy = record.unhealthy.into_iter();
        let unhealthy = unhealthy.filter_map(|(service, address)| Some((service.parse().ok()?, address))).collect();
        Ok(Self { overrides, sets: hosts.chain(services).collect(), forced, unhealthy })
    }
}

impl BreakerRecord {
    fn of(forced: &Forced) -> Self {
        let service = forced.service.as_str().to_owned();
        Self { service, held: forced.force.as_str().to_owned(), since_millis: millis_of(forced.since) }
    }

    fn read(self) -> Option<Forced> {
        let force = Force::ALL.into_iter().find(|force| force.as_str() == self.held)?;
        Some(Forced { service: self.service.parse().ok()?, force, since: moment_of(self.since_millis) })
    }
}

impl MemberRecord {
    fn of(member: &Member) -> Option<Self> {
        let Member { priority, address, port, ref host, weight } = *member;
        Some(Self { address, port: port?, host: host.clone()?, priority, weight: weight? })
    }

    fn read(self) -> Member {
        let Self { address, port, host, priority, weight } = self;
        Member { priority, address, port: Some(port), host: Some(host), weight: Some(weight) }
    }
}

impl OverrideRecord {
    fn of(over: &Override) -> Self {
        let setting = match &over.setting {
            Setting::Add(endpoint) => SettingRecord::Add(EndpointRecord::of(endpoint)),
            Setting::Remove => SettingRecord::Remove,
            Setting::Weight(weight) => SettingRecord::Weight(*weight),
            Setting::Drain(drain) => SettingRecord::Drain(*drain),
        };
        Self {
            service: over.service.as_str().to_owned(),
            host: host_text(&over.target.host),
            port: over.target.port,
            setting,
            since_millis: millis_of(over.since),
        }
    }

    fn read(self) -> Option<Override> {
        let target = Target { host: host_of(self.host, self.port), port: self.port };
        let setting = match self.setting {
            SettingRecord::Add(endpoint) => Setting::Add(endpoint.read(&target)),
            SettingRecord::Remove => Setting::Remove,
            SettingRecord::Weight(weight) => Setting::Weight(weight),
            SettingRecord::Drain(drain) => Setting::Drain(drain),
        };
        let since = moment_of(self.since_millis);
        Some(Override { service: self.service.parse().ok()?, target, setting, since })
    }
}

impl EndpointRecord {
    fn of(endpoint: &EndpointParams) -> Self {
        let EndpointParams { host: _, port: _, weight, priority, ref zone, backup, drain } = *endpoint;
        Self { weight, priority, zone: zone.as_ref().map(|zone| zone.as_str().to_owned()), backup, drain }
    }

    fn read(self, target: &Target) -> EndpointParams {
        EndpointParams {
            host: target.host.clone(),
            port: target.port,
            weight: self.weight,
            priority: self.priority,
            zone: self.zone.and_then(|zone| zone.parse().ok()),
            backup: self.backup,
            drain: self.drain,
        }
    }
}

fn millis_of(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn moment_of(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or_else(SystemTime::now)
}

fn host_text(host: &Host) -> String {
    match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) | Host::Srv(name) => name.clone(),
    }
}

fn host_of(text: String, port: u16) -> Host {
    match text.parse() {
        Ok(address) => Host::Address(address),
        // Only records say a port that the configuration does not.
        Err(_) if port == 0 => Host::Srv(text),
        Err(_) => Host::Name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let since = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let of =
            |host: Host, setting| Override { service: name("api"), target: Target { host, port: 80 }, setting, since };
        let six = Host::Address("2001:db8::1".parse().expect("an address"));
        let named = Host::Name("a.example.com".to_owned());
        let added = EndpointParams {
            weight: 7,
            priority: 2,
            zone: Some(name("b")),
            backup: true,
            drain: true,
            ..EndpointParams::new(named.clone(), 80)
        };
        let srv = Override {
            service: name("api"),
            target: Target { host: Host::Srv("_http._tcp.example.com".to_owned()), port: 0 },
            setting: Setting::Drain(true),
            since,
        };
        let overrides = [
            srv,
            of(named.clone(), Setting::Add(added)),
            of(named, Setting::Weight(0)),
            of(six.clone(), Setting::Drain(false)),
            of(six, Setting::Remove),
        ];
        let address = IpAddr::from([10, 0, 0, 1]);
        let plain = Member { priority: 0, address, port: None, host: None, weight: None };
        let told =
            Member { priority: 1, address, port: Some(81), host: Some("b.example.com".to_owned()), weight: Some(3) };
        let sets: [(Source, Set); 2] = [
            (Source::Host("a.example.com".to_owned()), [plain].into()),
            (Source::Srv("_http._tcp.example.com".to_owned()), [told].into()),
        ];
        let known = Knowledge {
            overrides: overrides.iter().cloned().collect(),
            sets: sets.iter().cloned().collect(),
            forced: Force::ALL.map(|force| Forced { service: name("api"), force, since }).into(),
            unhealthy: vec![(name("api"), SocketAddr::new(address, 80))],
        };
        let read = Knowledge::read(&known.write()).expect("it is ours");
        assert!(read.overrides.iter().eq(&overrides), "{read:?}");
        assert_eq!((read.sets, read.forced, read.unhealthy), (known.sets, known.forced, known.unhealthy));
    }

    #[test]
    fn other_versions_are_understood_as_far_as_that_goes() {
        let read = |text: &str| Knowledge::read(text).map(|known| known.overrides.iter().count());
        assert_eq!(read("").expect("nothing"), 0);
        assert_eq!(read("{\"new\": 1}").expect("an object"), 0);
        let add = "{\"overrides\": [{\"service\": \"api\", \"host\": \"10.0.0.1\", \"port\": 80, \"since_millis\": 1, \
                   \"setting\": {\"add\": {\"colour\": \"red\"}}}]}";
        assert_eq!(read(add).expect("an override"), 1);
        assert_eq!(read(&add.replace("api", "")).expect("one without a name"), 0);
        assert!(read("1").is_err() && read("{").is_err());
        let held = "{\"breakers\": [{\"service\": \"api\", \"held\": \"ajar\", \"since_millis\": 1}]}";
        assert_eq!(Knowledge::read(held).expect("a word of another version").forced, []);
    }
}
