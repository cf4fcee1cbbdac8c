//! The layer of what was changed at run time, over what the file says.
//!
//! An override is one setting of one endpoint: its weight, whether it is drained, that it was added or is removed.
//!
//! - It holds until it is taken away, until what it names has left the file, or until the process ends. A reload keeps the rest.
//! - A setting is overridden only while it differs from what is below it: to set what the file says takes the override
//!   away, so that what is listed is what differs.
//! - Below a weight or a drain is the file, or the addition of the endpoint. When the file comes to have an endpoint
//!   that was added, the addition goes and the rest lies over the file from then on.
//! - An address that a host name stands for may be overridden by itself. That override waits while the name does not
//!   stand for the address, so that a name server's hiccup does not bring a drained instance back; a reload that finds it
//!   waiting drops it.
//!
//! The layer is pure: time and the file are given to it, and the control plane alone changes it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use discovery::{Member, Set, Source};
use vocab::Name;

use crate::change::{Change, ChangeError, Edit, Target};
use crate::params::{EndpointParams, Host, ServiceParams};

/// Most overrides at once. What needs more belongs into the file.
pub(super) const OVERRIDES_MAX: usize = 1_000;

/// All overrides, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overrides(Vec<Override>);

/// One override.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Override {
    /// The service.
    pub(crate) service: Name,
    /// The endpoint.
    pub(crate) target: Target,
    /// What is set.
    pub(crate) setting: Setting,
    /// Since when.
    pub(crate) since: SystemTime,
}

/// What is set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    /// The endpoint, which the file does not have.
    Add(EndpointParams),
    /// It is hidden.
    Remove,
    /// Its weight.
    Weight(u16),
    /// Whether it is drained.
    Drain(bool),
}

/// An override, and what is below it: `None` below an addition, or while nothing is there.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) over: Override,
    pub(crate) below: Option<EndpointParams>,
}

/// What the layer needs to know of a service.
#[derive(Clone, Copy)]
pub(super) struct Below<'a> {
    /// Its name.
    pub(super) service: &'a Name,
    /// Its endpoints in the file.
    pub(super) endpoints: &'a [EndpointParams],
    /// What names stand for, as far as that is known.
    pub(super) resolved: &'a HashMap<Source, Set>,
}

/// The overrides of one service, ready to be applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    added: Vec<EndpointParams>,
    edits: HashMap<Target, Edits>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Edits {
    removed: bool,
    weight: Option<u16>,
    drain: Option<bool>,
}

impl Setting {
    /// How it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Remove => "remove",
            Self::Weight(_) => "weight",
            Self::Drain(_) => "drain",
        }
    }

    fn is_same_as(&self, below: &EndpointParams) -> bool {
        match self {
            // Records have weights of their own.
            Self::Weight(weight) => below.weight == *weight && !matches!(below.host, Host::Srv(_)),
            Self::Drain(drain) => below.drain == *drain,
            Self::Add(_) | Self::Remove => false,
        }
    }
}

impl<'a> Below<'a> {
    /// The endpoint of these that a target names, by its name or by one of its addresses.
    fn find<'e>(
        &self,
        endpoints: &mut dyn Iterator<Item = &'e EndpointParams>,
        target: &Target,
    ) -> Option<&'e EndpointParams> {
        let mut by_address = None;
        for endpoint in endpoints {
            if endpoint.port == target.port && endpoint.host == target.host {
                return Some(endpoint);
            }
            let (Some(source), Host::Address(ip)) = (endpoint.host.source(), &target.host) else { continue };
            let is_it = |member: &Member| member.address == *ip && member.port.unwrap_or(endpoint.port) == target.port;
            if self.resolved.get(&source).is_some_and(|set| set.iter().any(is_it)) {
                by_address = by_address.or(Some(endpoint));
            }
        }
        by_address
    }

    fn has_written(&self, target: &Target) -> bool {
        self.endpoints.iter().any(|endpoint| Target::of(endpoint) == *target)
    }
}

impl FromIterator<Override> for Overrides {
    fn from_iter<I: IntoIterator<Item = Override>>(overrides: I) -> Self {
        Self(overrides.into_iter().take(OVERRIDES_MAX).collect())
    }
}

impl Overrides {
    /// All, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Override> {
        self.0.iter()
    }

    /// The services that have any.
    pub(super) fn services(&self) -> Vec<Name> {
        let mut services: Vec<Name> = self.0.iter().map(|over| over.service.clone()).collect();
        services.sort_unstable();
        services.dedup();
        services
    }

    fn of<'o>(&'o self, service: &'o Name) -> impl Iterator<Item = &'o Override> {
        self.0.iter().filter(move |over| over.service == *service)
    }

    fn added<'o>(&'o self, service: &'o Name) -> impl Iterator<Item = &'o EndpointParams> {
        self.of(service).filter_map(|over| match &over.setting {
            Setting::Add(endpoint) => Some(endpoint),
            _ => None,
        })
    }

    /// What is below weights and drains of a target: the file's endpoint, or the one that was added.
    pub(super) fn below<'o>(&'o self, below: Below<'o>, target: &Target) -> Option<&'o EndpointParams> {
        below.find(&mut below.endpoints.iter().chain(self.added(below.service)), target)
    }

    fn has(&self, service: &Name, target: &Target, is_it: impl Fn(&Setting) -> bool) -> bool {
        self.of(service).any(|over| over.target == *target && is_it(&over.setting))
    }

    /// Makes a change of one service, and tells how many overrides it set or took away.
    pub(super) fn change(&mut self, change: &Change, below: Below<'_>, now: SystemTime) -> Result<usize, ChangeError> {
        let service = below.service.clone();
        match change {
            Change::Add { endpoint, .. } => self.add(service, endpoint, below, now),
            Change::Edit { target, weight, drain, .. } => {
                let Some(endpoint) = self.below(below, target) else {
                    return Err(ChangeError::NoEndpoint { service, target: target.clone() });
                };
                if self.hides(&service, target) {
                    return Err(ChangeError::Removed { service, target: target.clone() });
                }
                let endpoint = endpoint.clone();
                let edits = [
                    ("weight", settled(*weight).map(|weight| weight.map(Setting::Weight))),
                    ("drain", settled(*drain).map(|drain| drain.map(Setting::Drain))),
                ];
                let mut changed = 0;
                for (name, edit) in edits {
                    let Some(wanted) = edit else { continue };
                    let wanted = wanted.filter(|setting| !setting.is_same_as(&endpoint));
                    changed += self.put(&service, target, name, wanted, now)?;
                }
                Ok(changed)
            }
            Change::Remove { target, .. } => {
                if self.below(below, target).is_none() {
                    return Err(ChangeError::NoEndpoint { service, target: target.clone() });
                }
                if self.hides(&service, target) {
                    return Err(ChangeError::Removed { service, target: target.clone() });
                }
                let was_added = self.has(&service, target, |setting| matches!(setting, Setting::Add(_)));
                let taken = self.take(&service, target);
                if was_added {
                    return Ok(taken);
                }
                self.put(&service, target, "remove", Some(Setting::Remove), now)?;
                Ok(taken + 1)
            }
            Change::Reset { target, .. } => match self.take(&service, target) {
                0 if self.below(below, target).is_none() => {
                    Err(ChangeError::NoEndpoint { service, target: target.clone() })
                }
                0 => Err(ChangeError::NotOverridden { service, target: target.clone() }),
                taken => Ok(taken),
            },
            Change::ResetAll => Ok(self.reset_all()),
            // Breakers are held beside this layer.
            Change::Breaker { .. } => Ok(0),
        }
    }

    /// Takes all away, and tells how many there were.
    pub(super) fn reset_all(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }

    /// Whether a target is hidden.
    pub(super) fn hides(&self, service: &Name, target: &Target) -> bool {
        self.has(service, target, |setting| *setting == Setting::Remove)
    }

    fn add(
        &mut self,
        service: Name,
        endpoint: &EndpointParams,
        below: Below<'_>,
        now: SystemTime,
    ) -> Result<usize, ChangeError> {
        let target = Target::of(endpoint);
        if self.hides(&service, &target) {
            return Err(ChangeError::Removed { service, target });
        }
        if self.below(below, &target).is_some() {
            return Err(ChangeError::Present { service, target });
        }
        // What waits for this address to come back would silently change the new endpoint.
        let taken = self.take(&service, &target);
        self.put(&service, &target, "add", Some(Setting::Add(endpoint.clone())), now)?;
        Ok(taken + 1)
    }

    /// Sets one setting, or takes it away.
    fn put(
        &mut self,
        service: &Name,
        target: &Target,
        name: &str,
        setting: Option<Setting>,
        now: SystemTime,
    ) -> Result<usize, ChangeError> {
        let same = |over: &Override| over.service == *service && over.target == *target && over.setting.name() == name;
        let at = self.0.iter().position(same);
        match (at, setting) {
            (Some(at), Some(setting)) if self.0[at].setting == setting => return Ok(0),
            (Some(at), setting) => {
                self.0.remove(at);
                // What was set anew comes last, like all that is new.
                self.0.extend(setting.map(|setting| self::over(service, target, setting, now)));
            }
            (None, None) => return Ok(0),
            (None, Some(_)) if self.0.len() >= OVERRIDES_MAX => {
                return Err(ChangeError::TooMany { max: OVERRIDES_MAX });
            }
            (None, Some(setting)) => self.0.push(self::over(service, target, setting, now)),
        }
        Ok(1)
    }

    /// Takes away what there is of a target.
    fn take(&mut self, service: &Name, target: &Target) -> usize {
        let before = self.0.len();
        self.0.retain(|over| over.service != *service || over.target != *target);
        before - self.0.len()
    }

    /// Keeps what still names something in another file, and gives back the rest with the reason.
    pub(super) fn adopt<'a>(&mut self, below: impl Fn(&Name) -> Option<Below<'a>>) -> Vec<(Override, &'static str)> {
        // Additions first: what lies over them stays only with them.
        let (added, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|over| matches!(over.setting, Setting::Add(_)));
        let mut dropped = Vec::new();
        for over in added.into_iter().chain(others) {
            let reason = match below(&over.service) {
                None => Some("its service has left the file"),
                Some(below) if matches!(over.setting, Setting::Add(_)) => {
                    below.has_written(&over.target).then_some("the file has the endpoint now")
                }
                Some(below) => match self.below(below, &over.target) {
                    None => Some("its endpoint has left the file"),
                    Some(endpoint) => over.setting.is_same_as(endpoint).then_some("the file says the same now"),
                },
            };
            match reason {
                Some(reason) => dropped.push((over, reason)),
                None => self.0.push(over),
            }
        }
        self.0.sort_by_key(|over| over.since);
        dropped
    }

    /// What a service has to apply.
    pub(super) fn overlay(&self, service: &Name) -> Overlay {
        let mut overlay = Overlay { added: self.added(service).cloned().collect(), edits: HashMap::new() };
        for over in self.of(service) {
            let edits = overlay.edits.entry(over.target.clone()).or_default();
            match over.setting {
                Setting::Add(_) => {}
                Setting::Remove => edits.removed = true,
                Setting::Weight(weight) => edits.weight = Some(weight),
                Setting::Drain(drain) => edits.drain = Some(drain),
            }
        }
        overlay
    }

    /// All overrides with what is below each, for whoever looks.
    pub(super) fn shown<'a>(&self, below: impl Fn(&Name) -> Option<Below<'a>>) -> Vec<Shown> {
        let shown = |over: &Override| {
            let below = below(&over.service).filter(|_| !matches!(over.setting, Setting::Add(_)));
            let below = below.and_then(|below| self.below(below, &over.target).cloned());
            Shown { over: over.clone(), below }
        };
        self.0.iter().map(shown).collect()
    }
}

impl Overlay {
    /// The file's settings with the endpoints that were added.
    pub(super) fn extend(&self, file: &ServiceParams) -> ServiceParams {
        ServiceParams { endpoints: self.extended(&file.endpoints), ..file.clone() }
    }

    fn extended(&self, endpoints: &[EndpointParams]) -> Vec<EndpointParams> {
        endpoints.iter().chain(&self.added).cloned().collect()
    }

    /// An endpoint's settings at one of its addresses, given how it is written; `None` when it is removed.
    pub(super) fn apply<'e>(
        &self,
        written: &Target,
        endpoint: &'e EndpointParams,
        address: SocketAddr,
    ) -> Option<Cow<'e, EndpointParams>> {
        if self.edits.is_empty() {
            return Some(Cow::Borrowed(endpoint));
        }
        let mut applied = Cow::Borrowed(endpoint);
        // What is said of an address is more specific than what is said of its name, so it comes last.
        for target in [written, &Target::from(address)] {
            let Some(edits) = self.edits.get(target) else { continue };
            if edits.removed {
                return None;
            }
            let applied = applied.to_mut();
            applied.weight = edits.weight.unwrap_or(applied.weight);
            applied.drain = edits.drain.unwrap_or(applied.drain);
        }
        Some(applied)
    }
}

fn over(service: &Name, target: &Target, setting: Setting, since: SystemTime) -> Override {
    Override { service: service.clone(), target: target.clone(), setting, since }
}

/// `None` when nothing is to happen, otherwise the value to set, if any.
fn settled<T>(edit: Edit<T>) -> Option<Option<T>> {
    match edit {
        Edit::Keep => None,
        Edit::Set(value) => Some(Some(value)),
        Edit::Reset => Some(None),
    }
}

#[cfg(test)]
mod tests;
