//! Applying a changed configuration to what runs.

use std::path::Path;
use std::time::Duration;

use config::Loaded;
use gateway::Gateway;
use telemetry::trace::Tracer;
use telemetry::{AccessLog, LogHandle};

use super::state::State;
use super::watch::FileWatch;

/// Applies changes.
pub(super) struct Reloader<'r> {
    pub(super) file: &'r Path,
    pub(super) gateway: Gateway,
    pub(super) state: &'r State,
    pub(super) log: &'r LogHandle,
    pub(super) access: &'r AccessLog,
    pub(super) tracer: &'r Tracer,
    /// What everything runs as.
    pub(super) running: Loaded,
    pub(super) watch: FileWatch,
}

impl Reloader<'_> {
    /// Waits until a file of the configuration has changed.
    pub(super) async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// How long a stop waits for requests under way.
    pub(super) fn drain_timeout(&self) -> Duration {
        self.running.gateway.drain_timeout()
    }

    /// What runs.
    pub(super) fn into_gateway(self) -> Gateway {
        self.gateway
    }

    /// Reads the files again and applies what changed. Whatever is wrong leaves everything as it was.
    pub(super) async fn reload(&mut self, reason: &str) {
        self.watch.note();
        match self.try_reload().await {
            Ok(()) => {
                self.state.reload_succeeded(self.running.effective.clone());
                tracing::info!(reason, "configuration applied");
            }
            Err(error) => {
                tracing::error!(reason, "configuration refused, the old one stays: {error}");
                self.state.reload_failed(&error);
            }
        }
    }

    /// Opens the access log's file again, which someone has moved away.
    pub(super) fn reopen_logs(&self) {
        match self.access.reopen() {
            Ok(()) => tracing::info!("the access log was opened again"),
            Err(error) => tracing::error!("the access log goes on as before: {error}"),
        }
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        let loaded = super::load(self.file).map_err(|found| found.render(false))?;
        super::warn_of(&loaded);
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
        if loaded.buckets != self.running.buckets {
            tracing::warn!("metrics.buckets changes at the next start");
        }
        if loaded.admin != self.running.admin {
            tracing::warn!("the admin listener changes at the next start");
        }
        self.watch.follow(&loaded.files, &loaded.named);
        self.running = loaded;
        Ok(())
    }
}
