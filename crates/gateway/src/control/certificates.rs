//! Certificates that are ordered and renewed: which hosts have a keeper, across configurations.

use std::collections::HashMap;
use std::sync::Arc;

use acme::{AcmeParams, Context, Keeper, Kept, Tokens};
use net::tls::ServerTls;
use vocab::Name;

/// The keepers, by listener and host.
pub(super) struct Certificates {
    context: Context,
    keepers: HashMap<(Name, String), Keeper>,
}

impl Certificates {
    /// Nothing kept yet. `tokens` are what the cores answer challenges from.
    pub(super) fn new(tokens: Tokens) -> Self {
        Self { context: Context::new(tokens), keepers: HashMap::new() }
    }

    /// Begins a configuration: what it does not take over ends with what is returned.
    pub(super) fn begin(&mut self) -> HashMap<(Name, String), Keeper> {
        std::mem::take(&mut self.keepers)
    }

    /// Keeps the certificates of a listener, and has `tls` present them. A host that stays is kept as before; one that
    /// gets another authority goes on with its old certificate until there is a new one.
    pub(super) fn keep(
        &mut self,
        listener: &Name,
        acme: &AcmeParams,
        tls: &ServerTls,
        before: &mut HashMap<(Name, String), Keeper>,
    ) -> Vec<Arc<Kept>> {
        let mut all = Vec::with_capacity(acme.hosts.len());
        for host in &acme.hosts {
            let key = (listener.clone(), host.clone());
            let keeper = match before.remove(&key) {
                Some(keeper) if *keeper.issuer() == acme.issuer => keeper,
                Some(keeper) => Keeper::start(Arc::clone(keeper.kept()), &acme.issuer, &self.context),
                None => match Kept::new(listener.as_str(), host) {
                    Ok(kept) => Keeper::start(Arc::new(kept), &acme.issuer, &self.context),
                    Err(error) => {
                        tracing::error!(%listener, host, error, "no certificate can be kept");
                        continue;
                    }
                },
            };
            all.push(Arc::clone(keeper.kept()));
            self.keepers.insert(key, keeper);
        }
        tls.manage(all.iter().map(|kept| (kept.host().to_owned(), Arc::clone(kept.slot()))).collect());
        all
    }
}
