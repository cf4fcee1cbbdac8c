//! The tables of limits.

use crate::field::{FieldText, ResponseField};
use crate::grammar::{choice, table};
use crate::limit::{Part, RateText};
use crate::map::Map;
use crate::quantity::{Int, Time};
use crate::store::StoreUrl;
use crate::value::{AnyText, OneOrMany, Switch};

table! {
    /// How fast requests may come, or how many may be under way. Routes that name it share it.
    "`[limit.NAME]`"
    struct RawLimit {
        /// How many requests in which time.
        rate: RateText = optional;
        /// How many may come at once. By default what the rate gives in a second, at least 1.
        burst: Int<1, 4_294_967_295> = optional;
        /// How the rate is kept: `gcra` gives allowance back continuously, `token_bucket` all of `rate` at once each time,
        /// and `sliding_window` never lets more than `rate` pass in any such time.
        algorithm: AlgorithmWord = "gcra";
        /// Instead of `rate`: how many requests may be under way at once.
        concurrency: Int<1, 1_000_000> = optional;
        /// Whose allowance a request takes: `client_ip`, `route`, `{ header = "NAME" }`, `{ cookie = "NAME" }`, or a list
        /// of them, whose values make the key together. `"everyone"` is one allowance for all.
        key: OneOrMany<Part> = ["client_ip"];
        /// Where all gateways that name it share the rate: a Redis, as in `redis://USER:PASSWORD@10.0.0.5:6379/0`, or by
        /// `rediss://` under TLS. Without it each gateway counts for itself.
        store: StoreUrl = optional;
        /// Time for the store's answer, which a request waits for only when its key has no allowance at hand. By default
        /// `250ms`.
        store_timeout: Time<1, 10_000> = optional;
        /// What happens while the store is lost: each gateway keeps the limit for itself (`local`), everything passes
        /// (`open`), or nothing does (`closed`). By default `local`.
        without_store: WithoutStoreWord = optional;
        /// Keys that are told apart at once; each takes 16 bytes, and with a `store` some 250 more on each core that is asked
        /// for it. Of more, those that are idle make room.
        keys_max: Int<1, 16_777_216> = 100000;
        /// Bits of an IPv4 address that make a client.
        ipv4_prefix: Int<1, 32> = 32;
        /// Bits of an IPv6 address that make a client.
        ipv6_prefix: Int<1, 128> = 64;
        /// `true` only counts what would be refused, and lets it pass.
        shadow: Switch = false;
        /// When clients are told of the limit by `RateLimit` and `RateLimit-Policy`: with each response, when they are
        /// refused, or never.
        tell: TellWord = "refused";
        /// The answer to what is refused, instead of the gateway's own. `Retry-After` is added.
        refusal: RawRefusal = optional;
    }
}

choice! {
    /// How a rate is kept.
    enum AlgorithmWord {
        Gcra = "gcra" also "leaky_bucket";
        TokenBucket = "token_bucket" also "bucket", "fixed_window";
        SlidingWindow = "sliding_window" also "window", "sliding_log";
    }
}

choice! {
    /// What happens while a limit's store is lost.
    enum WithoutStoreWord {
        Local = "local";
        Open = "open" also "allow", "pass", "fail_open";
        Closed = "closed" also "deny", "refuse", "block", "fail_closed";
    }
}

choice! {
    /// When clients are told of a limit.
    enum TellWord {
        Always = "always" also "true", "on";
        Refused = "refused" also "refusals";
        Never = "never" also "false", "off", "none";
    }
}

table! {
    /// What those who are refused are answered.
    "`refusal` of `[limit.NAME]`"
    struct RawRefusal {
        /// The status.
        status: Int<400, 599> = 429;
        /// The body.
        body: AnyText = "";
        /// `Content-Type`, if there is a body.
        content_type: FieldText = "text/plain; charset=utf-8";
        /// Further fields, by name.
        headers: Map<ResponseField, FieldText> = {};
    }
}

table! {
    /// A part of a key.
    "`key` of `[limit.NAME]`"
    struct RawKey {
        /// A header field's name.
        header: crate::http::FieldName = optional;
        /// A cookie's name.
        cookie: crate::http::CookieName = optional;
    }
}
