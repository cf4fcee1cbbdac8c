//! Changes at run time: the layer of overrides is changed first, then the one service by what came of it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use breaker::circuit::Force;
use vocab::Name;

use super::overrides::{Below, Override, Overrides};
use super::service::Service;
use super::{Control, breakers};
use crate::change::{Change, ChangeError, Edit, Target};
use crate::estate::{Estate, Knowledge};
use crate::params::ServiceParams;

impl Control {
    /// Makes a change. What it concerns is configured anew, as by a reload, and published before this returns.
    pub(super) async fn change(&mut self, change: Change) -> Result<usize, ChangeError> {
        let mut next = self.overrides.clone();
        let (touched, changed) = match &change {
            Change::ResetAll => {
                let touched = next.services();
                let changed = next.reset_all() + self.forced.len();
                self.forced = Arc::default();
                self.services.iter_mut().for_each(|service| service.force(None));
                (touched, changed)
            }
            Change::Breaker { service, force } => return self.force_breaker(service, *force),
            Change::Add { service, .. }
            | Change::Edit { service, .. }
            | Change::Remove { service, .. }
            | Change::Reset { service, .. } => {
                let below = self.below_named(service).ok_or_else(|| self.no_service(service))?;
                let changed = next.change(&change, below, SystemTime::now())?;
                (vec![below.service.clone()], changed)
            }
        };
        if let Some(error) = self.would_leave_nobody(&change, &next) {
            return Err(error);
        }
        self.overrides = next;
        for name in touched {
            self.configure_anew(&name).await;
        }
        self.shown = self.overrides.shown(|name| self.below(name)).into();
        self.publish();
        tracing::info!(change = %Told(&change), changed, "changed at run time");
        Ok(changed)
    }

    /// Holds a service's breakers, or lets them go.
    fn force_breaker(&mut self, name: &str, force: Option<Force>) -> Result<usize, ChangeError> {
        let service = self.services.iter_mut().find(|service| service.name().as_str() == name);
        let Some(service) = service else { return Err(self.no_service(name)) };
        let name = service.name().clone();
        if !self.file.iter().any(|file| file.name == name && file.breaker.is_some()) {
            return Err(ChangeError::NoBreaker { service: name });
        }
        let (forced, changed) = breakers::wish(&self.forced, &name, force, SystemTime::now());
        service.force(force);
        self.forced = forced.into();
        self.publish();
        let force = force.map_or("free", Force::as_str);
        tracing::info!(service = %name, breaker = force, changed, "changed at run time");
        Ok(changed)
    }

    /// Takes over what the file says now, and gives what the services are to be with what was changed at run time.
    pub(super) fn adopt_file(&mut self, services: &[ServiceParams]) -> Vec<ServiceParams> {
        self.file = services.to_vec();
        self.forced = breakers::adopt(&self.forced, services).into();
        let mut overrides = std::mem::take(&mut self.overrides);
        for (Override { service, target, setting, .. }, reason) in overrides.adopt(|name| self.below(name)) {
            tracing::warn!(%service, endpoint = %target, setting = setting.name(), reason, "an override is dropped");
        }
        self.overrides = overrides;
        self.shown = self.overrides.shown(|name| self.below(name)).into();
        services.iter().map(|file| self.overrides.overlay(&file.name).extend(file)).collect()
    }

    /// What the next process needs.
    pub(super) fn hand_over(&self) -> io::Result<Estate> {
        let of_service = |service: &Service| {
            let name = service.name().clone();
            service.unhealthy().map(move |address| (name.clone(), address)).collect::<Vec<_>>()
        };
        let knowledge = Knowledge {
            overrides: self.overrides.clone(),
            sets: self.names.sets().clone(),
            forced: self.forced.to_vec(),
            unhealthy: self.services.iter().flat_map(of_service).collect(),
        };
        Ok(Estate { sockets: self.sockets.handles()?, knowledge: knowledge.write() })
    }

    async fn configure_anew(&mut self, name: &Name) {
        let Some(file) = self.file.iter().find(|file| file.name == *name) else { return };
        let overlay = self.overrides.overlay(name);
        let params = overlay.extend(file);
        // Only names that are new are resolved, so this waits only for an endpoint that is added by its name.
        self.resolve(std::slice::from_ref(&params)).await;
        let (cores, events) = (self.shared.cores, self.event_sender.clone());
        if let Some(service) = self.services.iter_mut().find(|service| service.name() == name) {
            service.set_overlay(overlay);
            service.configure(params, self.names.sets(), cores, &events);
        }
        self.forget_names();
    }

    fn below(&self, name: &Name) -> Option<Below<'_>> {
        self.below_named(name.as_str())
    }

    fn below_named(&self, name: &str) -> Option<Below<'_>> {
        let file = self.file.iter().find(|file| file.name.as_str() == name)?;
        let service = self.services.iter().find(|service| *service.name() == file.name);
        let inherited = Below { service: &file.name, endpoints: &file.endpoints, resolved: self.names.sets() };
        Some(service.map_or(inherited, |service| service.below(file)))
    }

    fn no_service(&self, name: &str) -> ChangeError {
        let known: Vec<&str> = self.file.iter().map(|file| file.name.as_str()).collect();
        ChangeError::NoService { service: name.to_owned(), known: known.join(", ") }
    }

    /// Refuses to take the last endpoint away, which is rarely meant.
    fn would_leave_nobody(&self, change: &Change, next: &Overrides) -> Option<ChangeError> {
        let (Change::Remove { service, target } | Change::Reset { service, target }) = change else { return None };
        let service = self.services.iter().find(|known| known.name().as_str() == service)?;
        // Before it is configured anew, the service still has what would go.
        let stays = |below| !next.hides(service.name(), target) && next.below(below, target).is_some();
        let goes = !self.below(service.name()).is_some_and(stays);
        let is_last = goes && !service.has_other_than(target);
        is_last.then(|| ChangeError::Last { service: service.name().clone(), target: target.clone() })
    }
}

/// A change as the log tells it.
struct Told<'c>(&'c Change);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Change::Add { service, endpoint } => write!(f, "service {service}: {}: added", Target::of(endpoint)),
            Change::Edit { service, target, weight, drain } => {
                write!(f, "service {service}: {target}:")?;
                match weight {
                    Edit::Keep => {}
                    Edit::Set(weight) => write!(f, " weight {weight}")?,
                    Edit::Reset => f.write_str(" weight as in the file")?,
                }
                match drain {
                    Edit::Keep => Ok(()),
                    Edit::Set(true) => f.write_str(" drained"),
                    Edit::Set(false) => f.write_str(" not drained"),
                    Edit::Reset => f.write_str(" drained as in the file"),
                }
            }
            Change::Remove { service, target } => write!(f, "service {service}: {target}: removed"),
            Change::Reset { service, target } => write!(f, "service {service}: {target}: as in the file"),
            Change::Breaker { service, .. } => write!(f, "service {service}: its breaker"),
            Change::ResetAll => f.write_str("everything as in the file"),
        }
    }
}
