//! Label values from a bounded set.
//!
//! Whatever a client or an upstream sends must not become a new time series: a label takes its values from the enums
//! and tables here, and everything else is `other`.

/// A request's method as a metric label: those of RFC 9110 and RFC 5789, and one value for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    /// Every value, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Connect,
        Self::Options,
        Self::Trace,
        Self::Patch,
        Self::Other,
    ];

    /// Reads a method. Methods are case-sensitive, so `get` is `Other`.
    #[inline]
    pub fn from_bytes(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// The label's text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "other",
        }
    }
}

/// Statuses in IANA's registry of HTTP status codes (418 is reserved there and in wide use), and 499: the client went away,
/// as nginx taught everyone to read it.
const KNOWN: [u16; 65] = [
    100, 101, 102, 103, 104, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307,
    308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423,
    424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];

/// Slots that a table indexed by [`status_slot`] needs: one for each registered status, and the last one for all others.
pub(crate) const STATUS_SLOTS: usize = KNOWN.len() + 1;

const FIRST: u16 = KNOWN[0];
const LAST: u16 = KNOWN[KNOWN.len() - 1];

static SLOTS: [u8; (LAST - FIRST + 1) as usize] = {
    let mut slots = [KNOWN.len() as u8; (LAST - FIRST + 1) as usize];
    let mut at = 0;
    while at < KNOWN.len() {
        slots[(KNOWN[at] - FIRST) as usize] = at as u8;
        at += 1;
    }
    slots
};

/// The slot of a status; always below [`STATUS_SLOTS`].
#[inline]
pub(crate) fn status_slot(status: u16) -> usize {
    SLOTS.get(usize::from(status.wrapping_sub(FIRST))).map_or(KNOWN.len(), |&slot| usize::from(slot))
}

/// The status that a slot stands for; `None` for the slot of all others.
pub(crate) fn slot_status(slot: usize) -> Option<u16> {
    KNOWN.get(slot).copied()
}

/// Classes of statuses, as labels, in the order of [`class_slot`].
pub(crate) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// The slot of a status in [`CLASSES`].
#[inline]
pub(crate) fn class_slot(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100) - 1,
        _ => CLASSES.len() - 1,
    }
}

/// An enum whose values are a label's values.
macro_rules! label_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl $name {
            /// Every value, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The label's text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }
    };
}

label_enum! {
    /// Why a client connection was closed without being served.
    RefusedReason {
        /// The listener holds as many connections as it may.
        ConnectionsMax => "connections_max",
        /// The process or the machine has no file descriptor or memory left.
        ResourceLimit => "resource_limit",
        /// There was no TLS handshake, or it failed.
        TlsFailed => "tls_failed",
        /// A client of HTTP/2 sent floods of resets, of frames that bring nothing, or of parts of heads. Its connection was
        /// cut.
        Http2Abuse => "http2_abuse",
        /// The TLS handshake took too long.
        TlsTimeout => "tls_timeout",
        /// The client has as many connections as it may.
        ClientConnectionsMax => "client_connections_max",
        /// What a proxy says of its client by the PROXY protocol was missing, malformed or too long.
        ProxyInvalid => "proxy_invalid",
        /// It did not come in time.
        ProxyTimeout => "proxy_timeout",
        /// There was no TLS handshake to route by, or it was malformed.
        HelloInvalid => "hello_invalid",
        /// It did not come in time.
        HelloTimeout => "hello_timeout",
        /// No route is for the host and the protocols that the TLS handshake names.
        NoRoute => "no_route",
    }
}

label_enum! {
    /// How a try at an endpoint failed before its response head was complete.
    FailureKind {
        /// No connection could be made.
        Connect => "connect",
        /// The endpoint did not accept a connection in time.
        ConnectTimeout => "connect_timeout",
        /// The endpoint closed or reset the connection.
        Closed => "closed",
        /// The endpoint did not answer in time.
        Timeout => "timeout",
        /// The response head was not HTTP or exceeded a limit.
        Invalid => "invalid",
    }
}

label_enum! {
    /// Why a request was sent again.
    RetryReason {
        /// A connection could not be made, or broke before the response head.
        Error => "error",
        /// Connecting or the response head took too long.
        Timeout => "timeout",
        /// The response head was not HTTP.
        InvalidHeader => "invalid_header",
        /// The response had a status that the service retries.
        Status => "status",
    }
}

label_enum! {
    /// Why a breaker opened.
    TripCause {
        /// Failures in a row.
        Failures => "failures",
        /// Too large a share of calls failed.
        FailureRate => "failure_rate",
        /// Too large a share of calls was slow.
        SlowRate => "slow_rate",
        /// A probe failed or was slow.
        Probe => "probe",
    }
}

label_enum! {
    /// A bound on what is under way at a service.
    Limit {
        /// Requests.
        Requests => "requests_max",
        /// Requests that are being sent again.
        Retries => "retries_max",
    }
}

label_enum! {
    /// How important a request is to a service that sheds load.
    ShedClass {
        /// Refused first.
        Low => "low",
        /// What is not said to be anything else.
        Normal => "normal",
        /// Refused last.
        Critical => "critical",
    }
}

label_enum! {
    /// What became of a request at a service that sheds load.
    ShedResult {
        /// There was a place at once.
        Admitted => "admitted",
        /// There was a place after a wait.
        Waited => "waited",
        /// It was refused, at once or by others who are more important.
        Refused => "refused",
        /// It was refused when it had waited for too long.
        Late => "late",
        /// Its client went while it waited.
        Gone => "gone",
    }
}

label_enum! {
    /// Where a breaker stands.
    BreakerState {
        /// Every call passes.
        Closed => "closed",
        /// None does.
        Open => "open",
        /// Probes do.
        HalfOpen => "half_open",
        /// None does, by somebody's wish.
        ForcedOpen => "forced_open",
        /// Every call passes, by somebody's wish.
        ForcedClosed => "forced_closed",
    }
}

label_enum! {
    /// A change of an endpoint's health.
    HealthChange {
        /// Active checks found it healthy.
        CheckUp => "check_up",
        /// Active checks found it unhealthy.
        CheckDown => "check_down",
        /// Failures of real requests took it out.
        Ejected => "ejected",
        /// It came back after an ejection.
        Readmitted => "readmitted",
    }
}

label_enum! {
    /// Whose connections a row of `active_connections` counts.
    ConnectionType {
        /// Connections of clients to a listener; the label `service` is the listener's name.
        Client => "client",
        /// Connections to a service's endpoints that carry a request.
        UpstreamActive => "upstream_active",
        /// Connections to a service's endpoints that wait for the next request.
        UpstreamIdle => "upstream_idle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_read_as_they_are_written() {
        for (at, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, at);
            assert_eq!(Method::from_bytes(method.as_str().as_bytes()), method);
        }
        for other in ["get", "BREW", "", "GETT", "\u{0}"] {
            assert_eq!(Method::from_bytes(other.as_bytes()), Method::Other, "{other:?}");
        }
    }

    #[test]
    fn every_status_has_a_slot_and_only_registered_ones_their_own() {
        for status in 0..=u16::MAX {
            let expected = KNOWN.contains(&status).then_some(status);
            assert_eq!(slot_status(status_slot(status)), expected, "{status}");
        }
    }

    #[test]
    fn classes_are_the_first_digit() {
        let check = |status: u16, class: &str| assert_eq!(CLASSES[class_slot(status)], class, "{status}");
        check(100, "1xx");
        check(299, "2xx");
        check(404, "4xx");
        check(599, "5xx");
        check(0, "other");
        check(99, "other");
        check(600, "other");
        check(u16::MAX, "other");
    }

    #[test]
    fn error_codes_index_a_table_of_their_own() {
        assert!(vocab::ErrorCode::ALL.iter().enumerate().all(|(at, &code)| code as usize == at));
    }
}
