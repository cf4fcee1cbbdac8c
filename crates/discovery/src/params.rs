use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverParams {
    /// Name servers, the first ones first; when empty, those of `/etc/resolv.conf`, with its search domains.
    pub servers: Vec<SocketAddr>,
    /// Time for one answer of one server.
    pub timeout: Duration,
    /// How often each server is asked before a question has failed.
    pub attempts: NonZeroU32,
    /// Whether names are completed by the search domains of `/etc/resolv.conf`.
    pub search: bool,
    /// Which addresses are asked for.
    pub family: Family,
    /// An answer is good for at least this long, whatever it says.
    pub ttl_min: Duration,
    /// An answer is good for at most this long, whatever it says.
    pub ttl_max: Duration,
    /// Most addresses of one name that are used.
    pub addresses_max: NonZeroU32,
    /// What an answer without addresses does.
    pub when_empty: WhenEmpty,
    /// How long the last answer stays while no other comes; `None` without end.
    pub stale_max: Option<Duration>,
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Both of IPv4 and of IPv6.
    #[default]
    All,
    /// Those of IPv4.
    Ipv4,
    /// Those of IPv6.
    Ipv6,
}

/// What an answer does that says that there are no addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenEmpty {
    /// The last addresses stay.
    #[default]
    Keep,
    /// The last addresses go.
    Remove,
}

impl Default for ResolverParams {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).expect("the number is not zero");
        // A name server nearby answers within milliseconds; what takes a second was lost.
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(1),
            attempts: number(3),
            search: true,
            family: Family::All,
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(3600),
            addresses_max: number(1000),
            when_empty: WhenEmpty::Keep,
            stale_max: None,
        }
    }
}
