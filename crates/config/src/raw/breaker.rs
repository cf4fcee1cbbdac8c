//! The tables of what keeps requests from a service.

use crate::entry::NameValue;
use crate::field::{FieldText, ResponseField};
use crate::grammar::{choice, table};
use crate::http::RetryCause;
use crate::map::Map;
use crate::quantity::{Int, Share, Time};
use crate::value::{AnyText, List, Off, Or};

table! {
    /// Keeps requests from a service, or from an endpoint, that has failed too often: for a time, after which probes
    /// find out how it is.
    "`breaker` of `[service.NAME]`"
    struct RawBreaker {
        /// What has a breaker: the `service` as a whole, or each `endpoint`. With `endpoint` it takes the place of
        /// `passive_health` and `outlier`.
        scope: ScopeWord = "service";
        /// What counts as a failure: `error` (no connection, or broken before the response), `timeout`,
        /// `invalid_header`, or a status such as `http_503`.
        on: List<RetryCause> = ["error", "timeout", "invalid_header", "http_500", "http_502", "http_503", "http_504"];
        /// Failures in a row that open it.
        failures: Or<Off, Int<1, 100_000>> = 5;
        /// Share of the window's calls whose failure opens it. By default no rule.
        failure_rate: Share = optional;
        /// Calls that take at least this long, until the end of the response's head, are slow. By default none is.
        slow_after: Time<1, 3_600_000> = optional;
        /// Share of the window's calls whose slowness opens it, with `slow_after`. By default 50%.
        slow_rate: Share = optional;
        /// Time over which calls are counted for the two rates.
        window: Time<1_000, 600_000> = "10s";
        /// Calls within the window without which the rates say nothing.
        calls_min: Int<1, 1_000_000> = 20;
        /// How long it stays open at first. It doubles with every further opening; up to a fifth of it is taken off at
        /// random.
        open_for: Time<100, 86_400_000> = "30s";
        /// The longest that it stays open. After as much time closed, it begins with `open_for` again. By default ten
        /// times `open_for`.
        open_max: Time<100, 864_000_000> = optional;
        /// Most probes at once.
        probes: Int<1, 1000> = 1;
        /// Probes that must succeed before it closes. By default as many as `probes`.
        successes: Int<1, 1000> = optional;
    }
}

choice! {
    /// What has a breaker.
    enum ScopeWord {
        Service = "service" also "cluster", "upstream", "backend";
        Endpoint = "endpoint" also "instance", "host", "server", "node";
    }
}

table! {
    /// Bounds on what is under way at a service, all workers together. What is beyond is refused at once: nothing waits.
    "`limits` of `[service.NAME]`"
    struct RawLimits {
        /// Most requests. By default without bound.
        requests_max: Int<1, 10_000_000> = optional;
        /// Most requests that are being sent again, beside what `retry.budget` allows. By default without bound.
        retries_max: Int<1, 10_000_000> = optional;
    }
}

table! {
    /// What is served instead when a service is not asked: its breaker is open, `requests_max` is reached, or no endpoint
    /// is available. Either another service, or an answer.
    "`fallback` of `[service.NAME]`"
    struct RawFallback {
        /// The service to ask instead.
        service: NameValue = optional;
        /// The status to answer with. By default 503.
        status: Int<200, 599> = optional;
        /// The body. By default it is empty.
        body: AnyText = optional;
        /// `Content-Type`, if there is a body. By default `text/plain; charset=utf-8`.
        content_type: FieldText = optional;
        /// Further fields, by name.
        headers: Map<ResponseField, FieldText> = optional;
    }
}
