//! Servers of a database.

use net::tls::{ClientTls, ClientTlsParams, MinVersion, Trust};
use pgproxy::{BackendTls, ReplicaParams, ServerParams};

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::raw::RawDatabase;
use crate::source::Place;
use crate::tls::{self, Files};

use super::ServerUrl;
use super::url::SslMode;

/// The protocol's name in TLS.
pub(super) const ALPN: &[u8] = b"postgresql";

/// The primary and its replicas; `None` when something is wrong with the primary, which has been reported.
pub(super) fn params(
    key: &str,
    raw: &RawDatabase,
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<(ServerParams, Vec<ReplicaParams>)> {
    let own = match &raw.tls {
        None => None,
        Some(field) => Some(tls::client(key, (&field.value, ALPN), files, sink)?),
    };
    let primary_url = raw.primary.as_ref()?;
    let settings = raw.settings.value.0.iter().map(|(name, field)| (name.clone(), field.value.0.clone())).collect();
    let table = Table { key, own: own.map(|own| (own, raw.tls.as_ref().map(|tls| tls.place))), settings };
    let primary = table.server("primary", primary_url, None, sink);
    let mut seen = vec![(primary_url.value.address.clone(), primary_url.place)];
    let mut replicas = Vec::new();
    for (index, field) in raw.replicas.value.0.iter().enumerate() {
        let Some(url) = &field.value.0.url else { continue };
        let name = format!("replicas[{index}]");
        if let Some((_, place)) = seen.iter().find(|(address, _)| *address == url.value.address) {
            let is_primary = *place == primary_url.place;
            let message = if is_primary { "the replica is the primary" } else { "the replica is listed twice" };
            let label = if is_primary { "the primary" } else { "first here" };
            let diagnostic = Diagnostic::error(url.place, format!("{key}.{name}"), message).related(*place, label);
            sink.push(diagnostic.fix("name another server, or remove it".to_owned()));
            continue;
        }
        seen.push((url.value.address.clone(), url.place));
        let Some(server) = table.server(&name, url, Some(&primary_url.value), sink) else { continue };
        let zone = field.value.0.zone.as_ref().and_then(|zone| zone.value.0.as_ref());
        let zone = zone.map(|zone| zone.as_str().to_owned());
        replicas.push(ReplicaParams { server, weight: field.value.0.weight.value.0, zone });
    }
    Some((primary?, replicas))
}

/// What holds for all servers of a database.
struct Table<'r> {
    key: &'r str,
    /// TLS, and where the file says so.
    own: Option<(ClientTls, Option<Place>)>,
    settings: Vec<(String, String)>,
}

impl Table<'_> {
    /// A server. What its URL leaves out is as the primary's says.
    fn server(
        &self,
        name: &str,
        field: &Field<ServerUrl>,
        primary: Option<&ServerUrl>,
        sink: &mut Sink,
    ) -> Option<ServerParams> {
        let url = &field.value;
        let of_primary = primary.filter(|_| url.user.is_none());
        let login = of_primary.unwrap_or(url);
        let sslmode = url.sslmode.or(primary.and_then(|primary| primary.sslmode));
        let tls = self.tls(&format!("{}.{name}", self.key), (sslmode, field.place), sink)?;
        let mut settings = self.settings.clone();
        let more = primary.into_iter().flat_map(|primary| &primary.settings).chain(&url.settings);
        for (name, value) in more {
            settings.retain(|(known, _)| known != name);
            settings.push((name.clone(), value.clone()));
        }
        Some(ServerParams {
            address: url.address.clone(),
            dbname: url.dbname.clone().or(primary.and_then(|primary| primary.dbname.clone())),
            user: login.user.clone(),
            password: login.password.clone(),
            tls,
            settings,
        })
    }

    fn tls(&self, key: &str, (sslmode, place): (Option<SslMode>, Place), sink: &mut Sink) -> Option<BackendTls> {
        if let Some((own, table)) = &self.own {
            if matches!(sslmode, Some(SslMode::Disable | SslMode::Prefer)) {
                let message = "the URL's sslmode does without TLS, which the database asks for";
                let diagnostic = Diagnostic::error(place, key, message).related(*table, "the database's TLS");
                sink.push(diagnostic.fix("remove one of the two".to_owned()));
                return None;
            }
            return Some(BackendTls::Require(own.clone()));
        }
        let trust = match sslmode {
            None | Some(SslMode::Disable) => return Some(BackendTls::Off),
            Some(SslMode::Prefer | SslMode::Require) => Trust::Anyone,
            Some(SslMode::VerifyFull) => Trust::System,
        };
        let (server_name, certificate, min_version) = (None, None, MinVersion::Tls12);
        let made = ClientTls::new(ClientTlsParams { trust, server_name, certificate, min_version, protocol: ALPN });
        let made = made.map_err(|error| sink.push(Diagnostic::error(place, key, error))).ok()?;
        Some(if sslmode == Some(SslMode::Prefer) { BackendTls::Prefer(made) } else { BackendTls::Require(made) })
    }
}
