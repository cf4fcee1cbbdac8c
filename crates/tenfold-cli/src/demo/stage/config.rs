//! The demo's configuration file.

use std::fmt::Write;
use std::net::SocketAddr;

use super::INSTANCES;

/// Who listens where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) web: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) instances: [SocketAddr; INSTANCES.len()],
}

impl Layout {
    pub(super) fn new([web, admin, instances @ ..]: [SocketAddr; 2 + INSTANCES.len()]) -> Self {
        Self { web, admin, instances }
    }

    /// The file's text, with a weight for each instance, and with the route `reports` if wanted.
    pub(super) fn toml(&self, weights: &[u32; INSTANCES.len()], new_route: bool) -> String {
        let Self { web, admin, instances } = self;
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
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_right_and_differ_as_told() {
        let layout = Layout::new([1, 2, 3, 4, 5].map(|port| SocketAddr::from(([127, 0, 0, 1], 9000 + port))));
        let load = |text: &str| config::load_str(text, &|_| None).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        let (first, second) = (load(&layout.toml(&[1, 1, 1], false)), load(&layout.toml(&[1, 1, 3], true)));
        let weights = |loaded: &config::Loaded| -> Vec<u16> {
            loaded.gateway.services()[0].endpoints.iter().map(|endpoint| endpoint.weight).collect()
        };
        assert_eq!((weights(&first), weights(&second)), (vec![1, 1, 1], vec![1, 1, 3]));
        assert_eq!((first.gateway.routes().len(), second.gateway.routes().len()), (1, 2));
        assert_eq!(second.admin.expect("it is on").listen(), layout.admin);
        assert_eq!(second.gateway.listeners()[0].addresses, [layout.web]);
    }
}
