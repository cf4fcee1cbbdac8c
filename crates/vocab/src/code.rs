use std::fmt;

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be served as it was sent.
    Client,
    /// The service behind the gateway failed.
    Upstream,
    /// The gateway itself refused, by a limit or because nothing is configured for the request.
    Gateway,
}

/// Why the gateway answered instead of an upstream. The text is stable: it stands in error bodies, the access log and
/// metric labels, and clients may match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// The request breaks HTTP's grammar or is ambiguous about where it ends.
    BadRequest,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The client took nothing of its answer for too long; the answer broke off.
    WriteTimeout,
    /// The body is larger than the listener allows.
    BodyTooLarge,
    /// The request's head is larger, or has more fields, than the listener allows.
    HeadTooLarge,
    /// The request target is longer than the listener allows.
    TargetTooLong,
    /// The method or transfer coding is not implemented.
    NotImplemented,
    /// The `Expect` field asks for something other than `100-continue`.
    ExpectationFailed,
    /// The route asks for a name and password.
    Unauthorized,
    /// A limit of the route does not let the request pass now.
    RateLimited,
    /// No route matches the request.
    NoRoute,
    /// The route serves files, and has none of this path.
    NoFile,
    /// The route serves files, which are read only.
    MethodNotAllowed,
    /// The file could not be read, or not to its end.
    FileUnavailable,
    /// The service has no endpoint that may take the request.
    NoEndpoint,
    /// The gateway holds as many connections or requests as it may.
    Overloaded,
    /// The service has more to do than it can, and requests of this class are refused meanwhile.
    Shed,
    /// A circuit breaker keeps requests from the service.
    BreakerOpen,
    /// No connection to an upstream could be made.
    UpstreamConnect,
    /// An upstream did not accept a connection in time.
    UpstreamConnectTimeout,
    /// An upstream closed or reset the connection before its response head was complete.
    UpstreamClosed,
    /// An upstream did not answer in time.
    UpstreamTimeout,
    /// An upstream's response breaks HTTP's grammar or exceeds a limit.
    UpstreamInvalid,
    /// The service that is asked whether requests may pass has not answered.
    AuthUnavailable,
    /// The gateway is stopping.
    Draining,
    /// Nothing has passed in either direction for too long.
    IdleTimeout,
}

impl ErrorCode {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 27] = [
        Self::BadRequest,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::WriteTimeout,
        Self::BodyTooLarge,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::NotImplemented,
        Self::ExpectationFailed,
        Self::Unauthorized,
        Self::RateLimited,
        Self::NoRoute,
        Self::NoFile,
        Self::MethodNotAllowed,
        Self::FileUnavailable,
        Self::NoEndpoint,
        Self::Overloaded,
        Self::Shed,
        Self::BreakerOpen,
        Self::UpstreamConnect,
        Self::UpstreamConnectTimeout,
        Self::UpstreamClosed,
        Self::UpstreamTimeout,
        Self::UpstreamInvalid,
        Self::AuthUnavailable,
        Self::Draining,
        Self::IdleTimeout,
    ];

    /// The code as it appears outside, in `snake_case`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::NotImplemented => "not_implemented",
            Self::ExpectationFailed => "expectation_failed",
            Self::Unauthorized => "unauthorized",
            Self::RateLimited => "rate_limited",
            Self::NoRoute => "no_route",
            Self::NoFile => "no_file",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::FileUnavailable => "file_unavailable",
            Self::NoEndpoint => "no_endpoint",
            Self::Overloaded => "overloaded",
            Self::Shed => "shed",
            Self::BreakerOpen => "breaker_open",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamConnectTimeout => "upstream_connect_timeout",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::AuthUnavailable => "auth_unavailable",
            Self::Draining => "draining",
            Self::IdleTimeout => "idle_timeout",
        }
    }

    /// The HTTP status that answers a request which failed this way.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::HeadTimeout | Self::BodyTimeout | Self::WriteTimeout | Self::IdleTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::NotImplemented => 501,
            Self::ExpectationFailed => 417,
            Self::Unauthorized => 401,
            Self::RateLimited => 429,
            Self::NoRoute | Self::NoFile => 404,
            Self::MethodNotAllowed => 405,
            Self::UpstreamConnect | Self::UpstreamClosed | Self::UpstreamInvalid => 502,
            Self::NoEndpoint | Self::Overloaded | Self::Shed | Self::BreakerOpen => 503,
            Self::AuthUnavailable | Self::Draining | Self::FileUnavailable => 503,
            Self::UpstreamConnectTimeout | Self::UpstreamTimeout => 504,
        }
    }

    /// Who has to act.
    pub const fn fault(self) -> Fault {
        match (self, self.status()) {
            (Self::AuthUnavailable, _) | (_, 502 | 504) => Fault::Upstream,
            (_, 404 | 503) => Fault::Gateway,
            _ => Fault::Client,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_text() {
        let mut texts: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn faults_follow_the_status() {
        let check = |code: ErrorCode, fault: Fault| assert_eq!(code.fault(), fault, "{code}");
        check(ErrorCode::BadRequest, Fault::Client);
        check(ErrorCode::UpstreamTimeout, Fault::Upstream);
        check(ErrorCode::AuthUnavailable, Fault::Upstream);
        check(ErrorCode::NoRoute, Fault::Gateway);
        check(ErrorCode::Overloaded, Fault::Gateway);
    }
}
