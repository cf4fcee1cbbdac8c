//! Which pages of other origins may read responses: the CORS protocol.
//!
//! The gateway speaks for the service: it answers preflights, and what the service says about CORS is left out, because
//! two `Access-Control-Allow-Origin` fields are as good as none. An origin that may not gets no permission, and the
//! browser does the rest. `Vary: Origin` is there whatever the origin was, or even without one: a cache that stored the
//! response without it would give one page's permission to another, or none to anyone.
//!
//! Source: the Fetch standard, section 3.3.

use http1::{Method, write};

use super::answer::Prepared;
use crate::params::{CorsOrigins, CorsParams, OriginMatch};
use crate::pattern::Search;
use crate::router::Asked;

/// Fields of services' responses that are the gateway's to say.
pub(crate) const OWN_FIELDS: &[&str] = &[
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// The settings, ready to answer.
#[derive(Debug)]
pub(crate) struct Cors {
    /// `None` for all origins.
    origins: Option<Box<[Origin]>>,
    /// Whether the fields that are asked for are allowed as they are.
    reflects: bool,
    /// Lines for preflights, beside the origin.
    preflight: Box<[u8]>,
    /// Lines for responses, beside the origin.
    response: Box<[u8]>,
}

#[derive(Debug)]
enum Origin {
    Exact(Box<[u8]>),
    Under(Box<[u8]>, Box<[u8]>),
    Regex(Search),
}

impl Cors {
    /// CORS with these settings.
    pub(crate) fn new(params: &CorsParams, cores: usize) -> Self {
        let origin = |origin: &OriginMatch| match origin {
            OriginMatch::Exact(text) => Origin::Exact(text.as_bytes().into()),
            OriginMatch::Under(scheme, domain) => Origin::Under(scheme.as_bytes().into(), domain.as_bytes().into()),
            OriginMatch::Regex(pattern) => Origin::Regex(Search::new(pattern, cores)),
        };
        let origins = match &params.origins {
            CorsOrigins::Any => None,
            CorsOrigins::Some(origins) => Some(origins.iter().map(origin).collect()),
        };
        let (mut preflight, mut response) = (Vec::new(), Vec::new());
        // With any origin nothing depends on who asks, so nothing of a browser's goes along either.
        if params.credentials && origins.is_some() {
            for lines in [&mut preflight, &mut response] {
                write::field(lines, b"Access-Control-Allow-Credentials", b"true");
            }
        }
        let list = |lines: &mut Vec<u8>, name: &str, items: Vec<&str>| {
            if !items.is_empty() {
                write::field(lines, name.as_bytes(), items.join(", ").as_bytes());
            }
        };
        let names = |names: &[crate::params::FieldName]| names.iter().map(|name| name.as_str().to_owned()).collect();
        let expose: Vec<String> = names(&params.expose);
        list(&mut response, "Access-Control-Expose-Headers", expose.iter().map(String::as_str).collect());
        list(&mut preflight, "Access-Control-Allow-Methods", params.methods.iter().map(String::as_str).collect());
        let headers: Vec<String> = params.headers.as_deref().map(names).unwrap_or_default();
        list(&mut preflight, "Access-Control-Allow-Headers", headers.iter().map(String::as_str).collect());
        let max_age = params.max_age.as_secs().to_string();
        write::field(&mut preflight, b"Access-Control-Max-Age", max_age.as_bytes());
        Self { origins, reflects: params.headers.is_none(), preflight: preflight.into(), response: response.into() }
    }

    /// The answer to a preflight; `None` when the request is none.
    pub(crate) fn preflight(&self, asked: &Asked<'_>) -> Option<Prepared> {
        preflight_method(asked)?;
        let mut fields = Vec::with_capacity(256);
        if self.push_origin(&mut fields, asked) {
            fields.extend_from_slice(&self.preflight);
            let wanted = asked.request.fields.named(asked.head, b"access-control-request-headers").next();
            if let Some(wanted) = wanted.filter(|wanted| self.reflects && is_list_of_names(wanted)) {
                write::field(&mut fields, b"Access-Control-Allow-Headers", wanted);
            }
        }
        fields.extend_from_slice(b"Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n");
        Some(Prepared { complete: true, ..Prepared::new(204, fields) })
    }

    /// Adds the lines of a response.
    pub(crate) fn push_response(&self, lines: &mut Vec<u8>, asked: &Asked<'_>) {
        if self.push_origin(lines, asked) {
            lines.extend_from_slice(&self.response);
        }
    }

    /// Adds what depends on the origin; whether it may.
    fn push_origin(&self, lines: &mut Vec<u8>, asked: &Asked<'_>) -> bool {
        let Some(origins) = &self.origins else {
            lines.extend_from_slice(b"Access-Control-Allow-Origin: *\r\n");
            return true;
        };
        lines.extend_from_slice(b"Vary: Origin\r\n");
        let mut all = asked.request.fields.named(asked.head, b"origin");
        let (Some(origin), None) = (all.next(), all.next()) else { return false };
        let fits = origins.iter().any(|known| known.fits(asked.core, origin));
        if fits {
            write::field(lines, b"Access-Control-Allow-Origin", origin);
        }
        fits
    }
}

impl Origin {
    fn fits(&self, core: usize, origin: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *origin,
            Self::Under(scheme, domain) => {
                let labels = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**domain));
                let letter = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
                labels
                    .is_some_and(|labels| !labels.is_empty() && !labels.starts_with(b".") && labels.iter().all(letter))
            }
            Self::Regex(search) => search.matches(core, origin),
        }
    }
}

/// The method that a preflight asks leave for; `None` when the request is no preflight.
pub(crate) fn preflight_method<'h>(asked: &Asked<'h>) -> Option<&'h [u8]> {
    if asked.request.method != Method::Options {
        return None;
    }
    asked.request.fields.named(asked.head, b"origin").next()?;
    asked.request.fields.named(asked.head, b"access-control-request-method").next()
}

fn is_list_of_names(value: &[u8]) -> bool {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(b);
    !value.is_empty() && value.len() <= 4096 && value.iter().all(letter)
}
