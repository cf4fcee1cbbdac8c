use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::{Origin, RawConn, Tenfold, free_port, is_listening};

use super::Origins;

/// Time for a reload to take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A site whose configuration differs from one generation to the next in a route, an endpoint and a listener, each of
/// which can be seen from outside.
pub(super) struct Site {
    admin: u16,
    web: u16,
    /// The second listener is at one of these, or away, in turn.
    side: [u16; 2],
    origins: Vec<SocketAddr>,
    /// The endpoint behind the route that changes is one of these, in turn.
    markers: [Origin; 2],
}

impl Site {
    pub(super) fn new(origins: &Origins) -> Result<Self> {
        let markers = [Origin::start("marker0")?, Origin::start("marker1")?];
        let (admin, web, side) = (free_port(), free_port(), [free_port(), free_port()]);
        Ok(Self { admin, web, side, origins: origins.addresses(), markers })
    }

    /// Port of the second listener in a generation.
    fn side_port(&self, generation: u32) -> Option<u16> {
        self.side.get(generation as usize % 3).copied()
    }

    /// The load's listener, the route `/*` to the service `api`, and what changes.
    pub(super) fn config(&self, generation: u32) -> String {
        let (admin, web) = (self.admin, self.web);
        let marker = self.markers[generation as usize % 2].address();
        let mut text = format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [listener.web]\nlisten = \"127.0.0.1:{web}\"\n\
             [[route]]\nname = \"all\"\nlistener = \"web\"\nservice = \"api\"\n\
             [[route]]\nname = \"changing\"\nlistener = \"web\"\npath = \"/generation-{generation}/*\"\n\
             service = \"marker\"\n\
             [service.marker]\nendpoints = [\"{marker}\"]\n\
             [service.api]\nhealth = {{ path = \"/health\", interval = \"200ms\", rise = 1, fall = 2 }}\n\
             pool = {{ idle_timeout = \"1s\" }}\nendpoints = [\n"
        );
        for (index, address) in self.origins.iter().enumerate() {
            // One of the endpoints has another weight, and now and then one is away altogether.
            if generation % 4 == 3 && index == generation as usize % self.origins.len() {
                continue;
            }
            let weight = if index == generation as usize % self.origins.len() { 3 } else { 1 };
            text += &format!("  {{ address = \"{address}\", weight = {weight} }},\n");
        }
        text += "]\n";
        if let Some(port) = self.side_port(generation) {
            text += &format!(
                "[listener.side]\nlisten = \"127.0.0.1:{port}\"\n\
                 [[route]]\nname = \"side\"\nlistener = \"side\"\nservice = \"marker\"\n"
            );
        }
        text
    }

    /// Whether what is served is this generation, all of it.
    fn serves(&self, generation: u32) -> Result<()> {
        let marker = format!("marker{}", generation % 2);
        let path = format!("/generation-{generation}/x");
        ensure!(instance(self.web, &path)? == marker, "the route or its endpoint is not the new one");
        let port = self.side_port(generation);
        for side in self.side.iter().filter(|side| Some(**side) != port) {
            ensure!(!is_listening(*side), "a listener that was taken away still listens");
        }
        if let Some(port) = port {
            ensure!(instance(port, "/")? == marker, "the second listener does not serve");
        }
        Ok(())
    }
}

/// Reloads so many times, each time waiting until all that changed is seen, and gives what came of each.
pub(super) fn reload_often(tenfold: &mut Tenfold, site: &Site, count: u32, interval: Duration) -> Vec<Result<()>> {
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for generation in 1..=count {
        let due = start + interval * generation;
        outcomes.push(reload(tenfold, site, generation));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    println!("  {count} reloads in {:.1} s", start.elapsed().as_secs_f64());
    outcomes
}

fn reload(tenfold: &mut Tenfold, site: &Site, generation: u32) -> Result<()> {
    let begun = Instant::now();
    tenfold.reload(&site.config(generation))?;
    loop {
        match site.serves(generation) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > TIMEOUT => {
                return Err(error.context(format!("not taken after {TIMEOUT:?}; log:\n{}", tenfold.output())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Which instance answers a GET on a connection of its own.
fn instance(port: u16, path: &str) -> Result<String> {
    let mut conn = RawConn::connect((Ipv4Addr::LOCALHOST, port))?;
    conn.send(format!("GET {path} HTTP/1.1\r\nHost: fault.test\r\nConnection: close\r\n\r\n"))?;
    let response = conn.read_response("GET")?;
    ensure!(response.status == 200, "status {}", response.status);
    Ok(response.fields.get("x-instance").context("no x-instance")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_differs_in_a_route_an_endpoint_and_a_listener() {
        let side = [3, 4];
        let markers = [Origin::start("marker0").unwrap(), Origin::start("marker1").unwrap()];
        let origins = (5..8).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let site = Site { admin: 1, web: 2, side, origins, markers };
        for generation in 0..12 {
            let (old, new) = (site.config(generation), site.config(generation + 1));
            let part = |text: &str, begin: &str| text.split(begin).nth(1).unwrap().lines().next().unwrap().to_owned();
            assert_ne!(part(&old, "/generation-"), part(&new, "/generation-"));
            assert_ne!(part(&old, "[service.marker]\n"), part(&new, "[service.marker]\n"));
            assert_ne!(site.side_port(generation), site.side_port(generation + 1));
            assert_eq!(part(&old, "[listener.web]\n"), part(&new, "[listener.web]\n"), "the load's own listener stays");
        }
        let served = (0..12).map(|generation| site.config(generation).matches("weight").count());
        assert_eq!(served.filter(|&count| count == 2).count(), 3, "an endpoint is away now and then");
    }
}
