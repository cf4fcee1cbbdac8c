//! The tables of the edge cache.

use crate::cache::StatusKey;
use crate::grammar::{choice, table};
use crate::http::{CookieName, FieldName};
use crate::map::Map;
use crate::quantity::{Size, Time};
use crate::value::{List, Switch, Text};

/// A lifetime: up to a year, beyond which nobody can tell what will be.
type Lifetime = Time<0, 31_536_000_000>;

table! {
    /// What routes with a `cache` store responses in. All of them share it.
    "`[cache]`"
    struct RawCacheStore {
        /// Most memory that responses take. What is used least makes room for what is used more.
        memory: Size<1_048_576, 17_592_186_044_416> = "64MiB";
        /// Where responses are kept as well, so that there is room for more of them, and that they outlast a restart.
        disk: RawCacheDisk = optional;
    }
}

table! {
    /// A folder for what routes with a `cache` store.
    "`disk` of `[cache]`"
    struct RawCacheDisk {
        /// The folder, relative to the file that names it. It is made if it is not there, and belongs to one process at a time.
        path: Text = required;
        /// Most bytes that its files take. What is oldest makes room for what is new.
        size: Size<16_777_216, 281_474_976_710_656> = required;
    }
}

table! {
    /// Answers requests with responses that were stored before, as RFC 9111 has it. `cache = {}` is enough: responses then say
    /// themselves for how long they are fresh.
    "`cache` of `[[route]]`"
    struct RawCache {
        /// For how long responses are fresh that do not say it, and have a status that may be stored without, such as 200
        /// or 404. By default they are if they tell when they were modified, for a tenth of the time since then.
        default_ttl: Lifetime = optional;
        /// For how long responses of a status are fresh that do not say it: `{ "404" = "10s", "500-599" = "1s" }`. With `"0s"`
        /// they are not stored.
        status_ttl: Map<StatusKey, Lifetime> = {};
        /// Nothing is fresh for longer, whatever it says. By default there is no bound.
        ttl_max: Lifetime = optional;
        /// For how long a response that has become stale is still served, while it is fetched again behind the client's back, where
        /// the response does not say.
        stale_while_revalidate: Lifetime = "0s";
        /// For how long a response that has become stale is served when the service fails or does not answer, where the response
        /// does not say.
        stale_if_error: Lifetime = "0s";
        /// Which requests are the same to the cache.
        key: RawCacheKey = {};
        /// Which requests pass by the cache.
        bypass: RawCacheBypass = {};
        /// Fields with which responses are not stored.
        never_store: List<FieldName> = [];
        /// Whether clients' `Cache-Control` counts: anyone can send `no-cache`, and make each request one to the service.
        request_directives: ObeyWord = "obey";
        /// What becomes of responses that set cookies: stored if they say that they are for shared caches (`for_shared`), never
        /// stored, always stored, or stored without the cookies (`stripped`).
        set_cookie: SetCookieWord = "for_shared";
        /// Largest body that is stored.
        object_bytes_max: Size<0, 1_099_511_627_776> = "8MiB";
        /// Longest wait for what another request is fetching. Then a request goes its own way.
        collapse_wait: Time<0, 60_000> = "5s";
        /// Whether clients are told by `Cache-Status` what the cache did: `off`, `on`, or with the `key`.
        cache_status: CacheStatusWord = "on";
    }
}

table! {
    /// What makes two requests the same to the cache, besides their path.
    "`key` of `cache`"
    struct RawCacheKey {
        /// Whether hosts have responses of their own.
        host: Switch = true;
        /// Whether HTTP and HTTPS have responses of their own.
        scheme: Switch = true;
        /// Whether parameters of the query count: `all` or `none`. By default all do.
        query: QueryWord = optional;
        /// Only these parameters count.
        query_only: List<Text> = optional;
        /// All parameters but these count.
        query_except: List<Text> = optional;
        /// Whether parameters may come in any order.
        sort_query: Switch = false;
        /// Fields whose values count.
        headers: List<FieldName> = [];
        /// Cookies whose values count.
        cookies: List<CookieName> = [];
    }
}

table! {
    /// Requests that pass by the cache: they are neither answered from it, nor are their responses stored.
    "`bypass` of `cache`"
    struct RawCacheBypass {
        /// Those with one of these fields.
        headers: List<FieldName> = [];
        /// Those with one of these cookies.
        cookies: List<CookieName> = [];
        /// Those with one of these parameters in their query.
        query: List<Text> = [];
    }
}

choice! {
    /// Whether directives of requests count.
    enum ObeyWord {
        Obey = "obey" also "on", "true", "yes", "respect";
        Ignore = "ignore" also "off", "false", "no";
    }
}

choice! {
    /// What becomes of responses that set cookies.
    enum SetCookieWord {
        ForShared = "for_shared" also "shared", "public";
        Never = "never" also "no", "skip";
        Always = "always" also "store", "yes";
        Stripped = "stripped" also "strip", "remove", "hide";
    }
}

choice! {
    /// Which parameters count.
    enum QueryWord {
        All = "all" also "true", "yes";
        None = "none" also "false", "no", "ignore";
    }
}

choice! {
    /// What clients are told.
    enum CacheStatusWord {
        Off = "off" also "false", "no", "none";
        On = "on" also "true", "yes";
        Key = "key" also "with_key", "debug", "full";
    }
}
