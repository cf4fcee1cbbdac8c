//! The demo's configuration file.

use std::fmt::Write;
use std::net::SocketAddr;

use super::{CANARY_PERCENT, FRESH_SECS, INSTANCES};

/// Files beside the configuration.
pub(super) const CERTIFICATE: &str = "demo.pem";
pub(super) const KEY: &str = "demo.key";

/// Who listens where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) web: SocketAddr,
    pub(super) secure: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) instances: [SocketAddr; INSTANCES.len()],
}

impl Layout {
    pub(super) fn new([web, secure, admin, instances @ ..]: [SocketAddr; 3 + INSTANCES.len()]) -> Self {
        Self { web, secure, admin, instances }
    }

    /// The file's text, with a weight for each instance, and with the route `reports` if wanted. The certificate is in
    /// the file's own folder.
    pub(super) fn toml(&self, weights: &[u32; INSTANCES.len()], new_route: bool) -> String {
        let Self { web, secure, admin, instances } = self;
        let mut endpoints = String::new();
        for (address, weight) in instances.iter().zip(weights) {
            writeln!(endpoints, "  {{ address = \"{address}\", weight = {weight} }},")
                .expect("a String takes every write");
        }
        let reports = if new_route {
            "[[route]]\nname = \"reports\"\nlistener = \"web\"\npath = \"/reports/*\"\nservice = \"api\"\n\n"
        } else {
            ""
        };
        format!(
            r#"# Made by `tenfold demo`. Change it while it runs: saving the file is enough.

[admin]
listen = "{admin}"

[listener.web]
listen = "{web}"

[listener.secure]
listen = "{secure}"
tls = {{ certificate = "{CERTIFICATE}", key = "{KEY}" }}

[[route]]
name = "all"
listener = "web"
path = "/*"
service = "api"

{reports}[service.api]
balance = "round_robin"
endpoints = [
{endpoints}]
health = {{ path = "/health", interval = "500ms" }}
retry = {{ on = ["error", "timeout"], budget = "20%" }}

{}"#,
            self.tour()
        )
    }

    /// What is shown after the traffic.
    fn tour(&self) -> String {
        let [first, second, next] = self.instances;
        let stable = 100 - CANARY_PERCENT;
        format!(
            r#"[[route]]
name = "secure"
listener = "secure"
service = "api"

[[route]]
name = "canary"
listener = "web"
path = "/canary/*"
split = [{{ service = "stable", weight = {stable} }}, {{ service = "next", weight = {CANARY_PERCENT} }}]

[[route]]
name = "mirrored"
listener = "web"
path = "/mirrored/*"
service = "stable"
mirror = {{ service = "next", share = "100%" }}

[[route]]
name = "cached"
listener = "web"
path = "/cached/*"
service = "pages"
cache = {{ default_ttl = "{FRESH_SECS}s", stale_if_error = "1m" }}

[[route]]
name = "plain"
listener = "web"
path = "/plain/*"
service = "pages"

[service.stable]
endpoints = ["{first}", "{second}"]

[service.next]
endpoints = ["{next}"]

[service.pages]
endpoints = ["{next}"]
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_right_and_differ_as_told() {
        let layout = Layout::new([1, 2, 3, 4, 5, 6].map(|port| SocketAddr::from(([127, 0, 0, 1], 9000 + port))));
        let dir = testkit::TempDir::new().expect("a folder");
        let made = crate::demo::certificate::ThrowAway::new().expect("a certificate");
        dir.write(CERTIFICATE, &made.certificate).expect("a file");
        dir.write(KEY, &made.key).expect("a file");
        let load = |text: &str| {
            let file = dir.write("tenfold.toml", text).expect("a file");
            config::load(&file, &|_| None).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
        };
        let (first, second) = (load(&layout.toml(&[1, 1, 1], false)), load(&layout.toml(&[1, 1, 3], true)));
        let weights = |loaded: &config::Loaded| -> Vec<u16> {
            let service = loaded.gateway.services().iter().find(|service| service.name.as_str() == "api");
            service.expect("it is there").endpoints.iter().map(|endpoint| endpoint.weight).collect()
        };
        assert_eq!((weights(&first), weights(&second)), (vec![1, 1, 1], vec![1, 1, 3]));
        assert_eq!((first.gateway.routes().len(), second.gateway.routes().len()), (6, 7));
        assert_eq!(second.admin.expect("it is on").listen(), layout.admin);
        let mut addresses: Vec<_> =
            second.gateway.listeners().iter().flat_map(|listener| listener.addresses.clone()).collect();
        addresses.sort_unstable();
        assert_eq!(addresses, [layout.web, layout.secure]);
    }
}
