//! Applying a changed configuration to what runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use cache_server::Caches;
use config::Loaded;
use gateway::Gateway;
use gateway::params::ListenerKind;
use net::inherit::Inherited;
use pgproxy::Databases;
use telemetry::trace::Tracer;
use telemetry::{AccessLog, LogHandle};

use super::admin_listener::AdminListener;
use super::notify::Notifier;
use super::state::State;
use super::watch::FileWatch;

/// Opens the access log's file again, which someone has moved away.
pub(super) fn reopen(access: &AccessLog) {
    match access.reopen() {
        Ok(()) => tracing::info!("the access log was opened again"),
        Err(error) => tracing::error!("the access log goes on as before: {error}"),
    }
}

/// An address that is to go from the gateway to a cache, or back. Each of them opens what it needs before the other lets go.
fn changed_hands(running: &Loaded, wanted: &Loaded) -> Option<SocketAddr> {
    let of_gateway = |loaded: &Loaded| {
        let connected =
            loaded.gateway.listeners().iter().filter(|listener| !matches!(listener.kind, ListenerKind::Udp(_)));
        connected.flat_map(|listener| listener.addresses.clone()).collect::<Vec<_>>()
    };
    let of_caches = |loaded: &Loaded| {
        let both = loaded.caches.iter().flat_map(|cache| [cache.listen, cache.http]);
        both.flatten().filter(|address| address.port() != 0).collect::<Vec<_>>()
    };
    let both = |one: Vec<SocketAddr>, other: Vec<SocketAddr>| one.into_iter().find(|address| other.contains(address));
    both(of_gateway(running), of_caches(wanted)).or_else(|| both(of_caches(running), of_gateway(wanted)))
}

/// Applies changes.
pub(super) struct Reloader<'r> {
    pub(super) file: &'r Path,
    pub(super) gateway: Gateway,
    pub(super) caches: Caches,
    pub(super) databases: Databases,
    pub(super) state: &'r Arc<State>,
    pub(super) admin: AdminListener,
    pub(super) log: &'r LogHandle,
    pub(super) access: &'r AccessLog,
    pub(super) tracer: &'r Tracer,
    /// What everything runs as.
    pub(super) running: Loaded,
    pub(super) watch: FileWatch,
    pub(super) notifier: Notifier,
}

impl Reloader<'_> {
    /// Waits until a file of the configuration has changed.
    pub(super) async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Reads the files again and applies what changed. Whatever is wrong leaves everything as it was.
    ///
    /// # Errors
    /// What is wrong, which has been logged.
    pub(super) async fn reload(&mut self, reason: &str) -> Result<(), String> {
        self.watch.note();
        self.notifier.reloading("reading the configuration again");
        let result = self.try_reload().await;
        self.notifier.ready();
        match &result {
            Ok(()) => {
                self.state.reload_succeeded(self.running.effective.clone());
                tracing::info!(reason, "configuration applied");
            }
            Err(error) => {
                tracing::error!(reason, "configuration refused, the old one stays: {error}");
                self.state.reload_failed(error);
            }
        }
        result
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        let loaded = super::load(self.file).map_err(|found| found.render(false))?;
        super::warn_of(&loaded);
        if let Some(address) = changed_hands(&self.running, &loaded) {
            let text = "would go from a listener to a cache or back, which a reload cannot do: restart, or give it another port";
            return Err(format!("{address} {text}"));
        }
        let admin = self.admin.prepare(loaded.admin.as_ref(), &mut Inherited::default()).await;
        let admin = admin.map_err(|error| error.to_string())?;
        let caches = self.caches.prepare(&loaded.caches, &mut Inherited::default());
        let caches = caches.map_err(|error| format!("a cache: {error}"))?;
        let databases =
            self.databases.prepare(&loaded.database_listeners, &loaded.databases, &mut Inherited::default());
        let databases = databases.map_err(|error| format!("a database: {error}"))?;
        if loaded.log.access != self.running.log.access {
            self.access.change(&loaded.log.access).map_err(|error| error.to_string())?;
        } else {
            // Whoever rotates logs may send SIGHUP afterwards.
            self.access.reopen().map_err(|error| error.to_string())?;
        }
        if let Err(error) = self.gateway.apply(loaded.gateway.clone()).await {
            let kept = self.access.change(&self.running.log.access);
            return Err(kept.map_or_else(|also| format!("{error}; and {also}"), |()| error.to_string()));
        }
        self.log.set_level(loaded.log.level);
        if let Err(error) = self.tracer.change(loaded.trace.as_ref()) {
            tracing::error!("{error}");
        }
        if loaded.log.format != self.running.log.format {
            tracing::warn!("log.format changes at the next start");
        }
        self.caches.commit(caches).await;
        self.databases.commit(databases).await;
        self.admin.commit(admin, self.state);
        if loaded.buckets != self.running.buckets {
            tracing::warn!("metrics.buckets changes at the next start");
        }
        self.watch.follow(&loaded.files, &loaded.named);
        self.running = loaded;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(kind: &str, listener: u16, cache: u16) -> Loaded {
        let text = format!(
            "[listener.web]\nkind = \"{kind}\"\nlisten = \"127.0.0.1:{listener}\"\nservice = \"api\"\n\
             [service.api]\nendpoints = [\"10.0.0.1:80\"]\n[cache.main]\nlisten = \"127.0.0.1:{cache}\"\n"
        );
        config::load_str(&text, &|_| None).unwrap_or_else(|found| panic!("{found}"))
    }

    #[test]
    fn addresses_that_would_change_hands_are_found() {
        let check = |before: (&str, u16, u16), after: (&str, u16, u16), expected: Option<u16>| {
            let [before, after] = [before, after].map(|(kind, listener, cache)| loaded(kind, listener, cache));
            assert_eq!(changed_hands(&before, &after).map(|address| address.port()), expected);
        };
        check(("tcp", 1001, 1002), ("tcp", 1001, 1002), None);
        check(("tcp", 1001, 1002), ("tcp", 1003, 1004), None);
        check(("tcp", 1001, 1002), ("tcp", 1003, 1001), Some(1001));
        check(("tcp", 1001, 1002), ("tcp", 1002, 1003), Some(1002));
        // Datagrams have ports of their own.
        check(("udp", 1001, 1002), ("udp", 1003, 1001), None);
        check(("udp", 1001, 1001), ("udp", 1001, 1001), None);
    }
}
