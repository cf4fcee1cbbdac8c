//! How endpoints are named to others: in the field `Host`, and by their certificates.

use std::net::IpAddr;

use net::tls::{ClientTls, ServerName};

use crate::params::{EndpointParams, Host};

/// An endpoint as `Host` names it.
pub(super) fn host_header(endpoint: &EndpointParams) -> String {
    let host = match &endpoint.host {
        Host::Name(name) | Host::Srv(name) => name.clone(),
        Host::Address(IpAddr::V4(v4)) => v4.to_string(),
        Host::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
    };
    if endpoint.port == 80 { host } else { format!("{host}:{}", endpoint.port) }
}

/// The name that an endpoint's certificate must be for.
pub(super) fn server_name(tls: &ClientTls, host: &Host) -> ServerName<'static> {
    let of_host = || match host {
        Host::Address(address) => Some(ServerName::from(*address)),
        Host::Name(name) | Host::Srv(name) => ServerName::try_from(name.clone()).ok(),
    };
    // A host name that no certificate could be for has none that fits.
    let nobody = || ServerName::from(IpAddr::from([0, 0, 0, 0]));
    tls.params().server_name.clone().or_else(of_host).unwrap_or_else(nobody)
}
