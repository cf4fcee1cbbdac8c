//! What the machine says of names: its name servers and search domains, and the names that it knows by itself.
//!
//! The files are read anew for each lookup, as the system's resolver does, for they change while programs run. Of
//! `/etc/nsswitch.conf` nothing is taken: names come from `/etc/hosts` and from name servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use resolv_conf::ScopedIp;

use crate::params::{Family, ResolverParams};
use crate::wire::host_text;

/// Port of name servers.
const PORT: u16 = 53;

/// Name servers and search domains that are used at most; the system's resolver takes three and six.
const SERVERS_MAX: usize = 8;
const DOMAINS_MAX: usize = 8;

/// Longest name, as text.
const NAME_BYTES_MAX: usize = 253;

/// Longest file that is read: a megabyte of hosts.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Whom to ask, and for which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) servers: Vec<SocketAddr>,
    domains: Vec<String>,
    /// A name with fewer dots is completed before it is taken as it is.
    dots_min: usize,
}

impl System {
    /// What the settings and the machine say now.
    pub(crate) async fn load(params: &ResolverParams) -> Self {
        if !params.servers.is_empty() {
            return Self { servers: params.servers.clone(), domains: Vec::new(), dots_min: 1 };
        }
        let text = read("/etc/resolv.conf").await.unwrap_or_default();
        let mut system = Self::parse(&text);
        if !params.search {
            system.domains.clear();
        }
        system
    }

    fn parse(text: &str) -> Self {
        // Lines that are wrong are passed over, as everyone does.
        let (config, _) = resolv_conf::Config::parse_with_errors(text.as_bytes());
        let mut servers: Vec<SocketAddr> = config.nameservers.iter().map(address).take(SERVERS_MAX).collect();
        if servers.is_empty() {
            servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        let domains = config.get_last_search_or_domain().filter_map(|domain| host_text(domain)).take(DOMAINS_MAX);
        Self { servers, domains: domains.collect(), dots_min: config.ndots as usize }
    }

    /// The names that a name may stand for, the likeliest first.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        let completed = self.domains.iter().map(|domain| format!("{name}.{domain}"));
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let own = std::iter::once(name.to_owned());
        let all: Vec<String> =
            if dots >= self.dots_min { own.chain(completed).collect() } else { completed.chain(own).collect() };
        all.into_iter().filter(|name| name.len() <= NAME_BYTES_MAX).collect()
    }
}

/// The addresses by which the machine knows a host name without asking anyone.
pub(crate) async fn hosts(name: &str, family: Family) -> Vec<IpAddr> {
    let mut found = hosts_in(&read("/etc/hosts").await.unwrap_or_default(), name);
    if found.is_empty() && (name == "localhost" || name.ends_with(".localhost")) {
        // RFC 6761, section 6.3: nobody else is to be asked for it.
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found.retain(|address| match family {
        Family::All => true,
        Family::Ipv4 => address.is_ipv4(),
        Family::Ipv6 => address.is_ipv6(),
    });
    found
}

fn hosts_in(text: &str, name: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(of_line).collect()
}

fn address(server: &ScopedIp) -> SocketAddr {
    match server {
        ScopedIp::V4(v4) => (*v4, PORT).into(),
        ScopedIp::V6(v6, scope) => {
            let index = scope.as_deref().map_or(0, |scope| scope.parse().unwrap_or_else(|_| index_of(scope)));
            SocketAddrV6::new(*v6, PORT, 0, index).into()
        }
    }
}

/// The number of an interface; 0, which is none, if there is no such.
fn index_of(interface: &str) -> u32 {
    let path = format!("/sys/class/net/{interface}/ifindex");
    let is_name = !interface.contains(['/', '.']);
    let text = is_name.then(|| std::fs::read_to_string(path).ok()).flatten();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A file's text, as far as it is read.
async fn read(path: &str) -> Option<String> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_domains_are_read() {
        let system = System::parse(
            "# comment\nnameserver 10.0.0.2\nnameserver fe80::1%7\nsearch a.example.com b.example.com\noptions ndots:2\n",
        );
        let servers: Vec<String> = system.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[fe80::1%7]:53"]);
        assert_eq!(system.candidates("api"), ["api.a.example.com", "api.b.example.com", "api"]);
        assert_eq!(system.candidates("api.x"), ["api.x.a.example.com", "api.x.b.example.com", "api.x"]);
        assert_eq!(system.candidates("a.b.c"), ["a.b.c", "a.b.c.a.example.com", "a.b.c.b.example.com"]);
    }

    #[test]
    fn without_a_file_this_machine_is_asked() {
        let system = System::parse("nonsense\nnameserver nonsense\n");
        assert_eq!(system.servers, [SocketAddr::from(([127, 0, 0, 1], 53))]);
        assert_eq!(system.candidates("api.example.com"), ["api.example.com"]);
    }

    #[tokio::test]
    async fn servers_of_the_configuration_come_instead_of_the_machine_s() {
        let server = SocketAddr::from(([10, 0, 0, 9], 5353));
        let system = System::load(&ResolverParams { servers: vec![server], ..ResolverParams::default() }).await;
        assert_eq!((system.servers.as_slice(), system.candidates("api")), (&[server][..], vec!["api".to_owned()]));
    }

    #[test]
    fn hosts_are_known_by_all_their_names() {
        let text = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n10.0.0.1\tapi.example.com API # a\n#10.0.0.2 api\nx api\n";
        let found = |name: &str| hosts_in(text, name).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(found("localhost"), "127.0.0.1 ::1");
        assert_eq!(found("api"), "10.0.0.1");
        assert_eq!(found("api.example.com"), "10.0.0.1");
        assert_eq!(found("shop"), "");
    }

    #[tokio::test]
    async fn localhost_is_asked_of_nobody() {
        let found = hosts("deep.localhost", Family::Ipv6).await;
        assert_eq!(found, [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert!(hosts("nobody.example.com", Family::All).await.is_empty());
    }
}
