//! The tables of what a route does besides sending requests on.

use crate::field::{FieldText, Origin, RequestField, RequestName, ResponseField, ResponseName, Users};
use crate::grammar::{choice, table};
use crate::http::{FieldName, HostField, NewPrefix, Target};
use crate::map::Map;
use crate::matching::{MethodName, PathExpression, RedirectStatus};
use crate::quantity::{Int, Share, Size, Time};
use crate::served::MediaType;
use crate::value::{AnyText, List, OneOrMany, Or, Star, Switch, Text};

table! {
    /// What a service is asked for instead of what the client asked for. The query stays.
    "`rewrite` of `[[route]]`"
    struct RawRewrite {
        /// What stands in the place of the route's own prefix: with `path = "/api/*"`, the prefix `/` makes `/users` of
        /// `/api/users`.
        prefix: NewPrefix = optional;
        /// The whole path, with `$1` or `$name` for what the groups of `regex`, or of the route's `path_regex`, matched;
        /// `$$` is a dollar sign.
        path: Text = optional;
        /// An expression that the whole path must match for `path` to take its place. Other paths stay.
        regex: PathExpression = optional;
        /// `Host` to send.
        host: HostField = optional;
    }
}

table! {
    /// A service that is asked before a request passes: by a GET without a body, with `X-Forwarded-Method` and
    /// `X-Forwarded-Uri`. If it answers with 2xx, the request passes; any other answer is the client's.
    "`forward_auth` of `[[route]]`"
    struct RawForwardAuth {
        /// The service's name.
        service: crate::entry::NameValue = required;
        /// The path that it is asked for, with or without a query.
        path: Target = "/";
        /// Names of the request's fields that it gets, beside those that the gateway writes. By default all, but for those of
        /// the body.
        request_headers: List<FieldName> = optional;
        /// Fields of its answer that the request gets. What a client sends by these names is always left out.
        response_headers: List<RequestName> = [];
        /// Fields of its answer that the response gets as well when the request passes, such as `Set-Cookie`.
        client_headers: List<ResponseName> = [];
        /// Time for all of its answer, tries included.
        timeout: Time<1, 3_600_000> = "5s";
        /// Largest body of an answer. A larger one is none.
        body_bytes_max: Size<0, 1_048_576> = "64KiB";
    }
}

table! {
    /// Where a share of a route's requests is copied to, when they have their answers.
    "`mirror` of `[[route]]`"
    struct RawMirror {
        /// The service's name.
        service: crate::entry::NameValue = required;
        /// The share.
        share: Share = "100%";
        /// Largest body that is copied. Requests with larger ones are not, and are counted.
        body_bytes_max: Size<0, 1_048_576> = "64KiB";
    }
}

table! {
    /// Sends clients elsewhere. What is not said stays as it is in the request.
    "`redirect` of `[[route]]`"
    struct RawRedirect {
        /// 307 and 308 keep the method. Browsers remember 301 and 308, even when they were a mistake.
        status: RedirectStatus = 302;
        /// `https` or `http`. The request's port goes then.
        scheme: SchemeWord = optional;
        /// The host, with a port if needed.
        host: HostField = optional;
        /// As in `rewrite`.
        prefix: NewPrefix = optional;
        /// As in `rewrite`.
        path: Text = optional;
        /// As in `rewrite`.
        regex: PathExpression = optional;
        /// Whether the query goes along.
        keep_query: Switch = true;
    }
}

table! {
    /// Serves the files of a directory to GET and HEAD.
    "`files` of `[[route]]`"
    struct RawFiles {
        /// The directory, relative to this file. A request gets the file below it that its path names, after `rewrite`.
        root: Text = required;
        /// The file that stands for a directory, a name.
        index: Text = "index.html";
        /// Codings in which files stand beside themselves, as `app.js.br`, `app.js.zst` and `app.js.gz` beside `app.js`. A
        /// client gets the one that it likes best, and of several that it likes as much the first of these.
        precompressed: List<CodingWord> = [];
        /// The path of a file, from `root` on, that is served in place of those that are not there, with status 200: for
        /// pages that find their own way. By default they are answered with 404.
        fallback: Text = optional;
        /// Whether files and directories whose names begin with a dot are served. `/.well-known` always is.
        hidden: Switch = false;
    }
}

table! {
    /// Which responses of a service are compressed for clients that take a coding.
    "`compress` of `[[route]]`"
    struct RawCompress {
        /// Codings. Of those that a client likes as much, the first of these.
        codings: List<CodingWord> = ["zstd", "br", "gzip"];
        /// Types of responses; a `*` in a type stands for anything. Those of gRPC never are.
        types: List<MediaType> = [
            "text/*", "application/json", "application/*+json", "application/x-ndjson", "application/javascript",
            "application/xml", "application/*+xml", "application/wasm", "image/svg+xml", "font/ttf", "font/otf",
        ];
        /// Bodies that are known to be shorter stay as they are.
        body_bytes_min: Size<0, 16_777_216> = "1KiB";
        /// How much work is put into it: `fast` for little, `small` for answers that are sent many times.
        level: LevelWord = "balanced";
    }
}

choice! {
    /// How much work is put into compression.
    enum LevelWord {
        Fast = "fast" also "low", "fastest", "1";
        Balanced = "balanced" also "medium", "default", "normal";
        Small = "small" also "high", "best", "smallest", "max", "9";
    }
}

choice! {
    /// Content codings.
    enum CodingWord {
        Zstd = "zstd" also "zst", "zstandard";
        Brotli = "br" also "brotli";
        Gzip = "gzip" also "gz", "x_gzip", "deflate";
    }
}

choice! {
    /// Schemes of URLs.
    enum SchemeWord {
        Http = "http";
        Https = "https" also "ssl", "tls";
    }
}

table! {
    /// An answer that is always the same.
    "`respond` of `[[route]]`"
    struct RawRespond {
        /// The status.
        status: Int<200, 599> = 200;
        /// The body.
        body: AnyText = "";
        /// `Content-Type`, if there is a body.
        content_type: FieldText = "text/plain; charset=utf-8";
        /// Further fields, by name.
        headers: Map<ResponseField, FieldText> = {};
    }
}

table! {
    /// Changes of requests' fields. Those that belong to the connection, to framing, and to what the gateway says of the
    /// client cannot be changed.
    "`request_headers` of `[[route]]`"
    struct RawRequestFields {
        /// Fields to leave out.
        remove: List<RequestName> = [];
        /// Fields, by name, to have instead of those that came.
        set: Map<RequestField, FieldText> = {};
        /// Fields, by name, to have beside those that came.
        add: Map<RequestField, OneOrMany<FieldText>> = {};
    }
}

table! {
    /// Changes of responses' fields, those of the gateway's own answers among them.
    "`response_headers` of `[[route]]`"
    struct RawResponseFields {
        /// Fields to leave out.
        remove: List<ResponseName> = [];
        /// Fields, by name, to have instead of those that came.
        set: Map<ResponseField, FieldText> = {};
        /// Fields, by name, to have beside those that came.
        add: Map<ResponseField, OneOrMany<FieldText>> = {};
    }
}

table! {
    /// Which pages of other origins may read responses. The gateway answers preflights, and what services say is left out.
    "`cors` of `[[route]]`"
    struct RawCors {
        /// Origins, as `"https://app.example.com"`, `"https://*.example.com"` or `{ regex = "..." }`; `"*"` for all.
        origins: OneOrMany<Origin> = required;
        /// Methods that they may use.
        methods: List<MethodName> = ["GET", "HEAD", "POST"];
        /// Fields that they may send beside the ordinary ones; `"*"` for all that they ask for.
        headers: Or<Star, List<ResponseName>> = [];
        /// Fields of responses that they may read beside the ordinary ones.
        expose: List<ResponseName> = [];
        /// Whether cookies and passwords go along. Not with all origins.
        credentials: Switch = false;
        /// How long browsers may remember what they were told.
        max_age: Time<0, 86_400_000> = "10m";
    }
}

table! {
    /// An origin by an expression.
    "`origins` of `cors`"
    struct RawOrigin {
        /// An expression that the whole origin must match.
        regex: crate::matching::Expression = required;
    }
}

table! {
    /// Who may ask, by name and password.
    "`basic_auth` of `[[route]]`"
    struct RawBasicAuth {
        /// What browsers show.
        realm: crate::field::Realm = "restricted";
        /// Names with hashed passwords, as `NAME:HASH`. Hashes are those of bcrypt (`htpasswd -nbB NAME PASSWORD`) or
        /// SHA-crypt (`openssl passwd -6`).
        users: Users = [];
        /// A file of such lines, relative to this one. It is read anew when it changes.
        users_file: Text = optional;
    }
}
