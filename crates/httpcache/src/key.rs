//! Keys: what makes two requests the same to the cache. RFC 9111 section 2.
//!
//! A key is a line of texts, with a zero octet behind each, which stands in none of them:
//!
//! ```text
//! shop.example.com 0 /cart?id=7 0 s 0 accept-version 1 2 0 session 0 0
//! host             path and query https field, there, value cookie, not there
//! ```
//!
//! The host and the path come first and stand there as they are, so that whatever lies under a host or a path has keys
//! with one beginning. The method is no part: `HEAD` is answered by what `GET` stored. Variants that `Vary` makes are told
//! apart behind the key, by [`Vary::write_variant`](crate::Vary::write_variant).
//!
//! Paths are not made alike here; what the router takes for equal should come in one form. The host is compared without
//! regard to case and without the scheme's own port. Names of parameters are compared as origins read them, `%69d` being `id`;
//! those that count stand in the key as they came.

use crate::field::Fields;
use crate::name::alike;
use crate::policy::{cookies, is_named, name_of};
use crate::uri::Target;

/// What keys are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyParts {
    /// Whether hosts have objects of their own. Routes that serve one service by several names may do without.
    pub host: bool,
    /// Whether HTTP and HTTPS have objects of their own.
    pub scheme: bool,
    /// Whether paths have objects of their own.
    pub path: bool,
    /// Parameters of the query that count.
    pub query: QueryParts,
    /// Whether parameters may come in any order. Those of one name keep theirs.
    pub sorts_query: bool,
    /// Names of fields that count.
    pub fields: Vec<String>,
    /// Names of cookies that count.
    pub cookies: Vec<String>,
}

impl Default for KeyParts {
    fn default() -> Self {
        Self {
            host: true,
            scheme: true,
            path: true,
            query: QueryParts::All,
            sorts_query: false,
            fields: Vec::new(),
            cookies: Vec::new(),
        }
    }
}

/// Parameters of the query that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryParts {
    /// The whole query.
    All,
    /// Those of these names alone; none if there are none.
    Only(Vec<String>),
    /// Those of other names.
    Except(Vec<String>),
}

/// Ends each part.
const END: u8 = 0;

/// Parameters that are sorted without touching the heap.
const PARAMETERS_ON_STACK: usize = 32;

impl KeyParts {
    /// Appends the key of a request. With a buffer that is kept, nothing is allocated.
    pub fn write<'a>(&self, out: &mut Vec<u8>, target: Target<'a>, fields: impl Fields<'a>) {
        self.write_beginning(out, target);
        for name in &self.fields {
            write_named(out, name, fields.clone().filter(|(found, _)| alike(found, name.as_bytes())));
        }
        for name in &self.cookies {
            write_named(out, name, cookies(fields.clone()).filter(|(found, _)| *found == name.as_bytes()));
        }
    }

    /// Appends the beginning that all keys of a target have, whatever fields and cookies count. What is invalid by its
    /// address is what begins like this.
    pub fn write_beginning(&self, out: &mut Vec<u8>, target: Target<'_>) {
        if self.host {
            let start = out.len();
            out.extend_from_slice(target.host_in_normal_form());
            out[start..].make_ascii_lowercase();
        }
        out.push(END);
        let (path, query) = target.split();
        if self.path {
            out.extend_from_slice(path);
        }
        if let Some(query) = query {
            self.write_query(out, query);
        }
        out.push(END);
        if self.scheme {
            out.push(if target.https { b's' } else { b'p' });
        }
        out.push(END);
    }

    /// Whether a parameter counts. Some origins take `;` for another `&`: what has one may hold any other parameter.
    fn counts(&self, parameter: &[u8]) -> bool {
        let is_among = |names: &[String]| names.iter().any(|name| is_named(parameter, name));
        match &self.query {
            QueryParts::Only(names) if names.is_empty() => false,
            _ if parameter.contains(&b';') => true,
            QueryParts::All => true,
            QueryParts::Only(names) => is_among(names),
            QueryParts::Except(names) => !is_among(names),
        }
    }

    fn write_query(&self, out: &mut Vec<u8>, query: &[u8]) {
        if self.query == QueryParts::All && !self.sorts_query {
            out.push(b'?');
            out.extend_from_slice(query);
            return;
        }
        let parameters = query.split(|&byte| byte == b'&').filter(|parameter| self.counts(parameter));
        if !self.sorts_query {
            return write_parameters(out, parameters);
        }
        let mut stack = [(0, &b""[..]); PARAMETERS_ON_STACK];
        let mut heap = Vec::new();
        let mut count = 0;
        for parameter in parameters {
            let named = (name_of(parameter).len(), parameter);
            match stack.get_mut(count) {
                Some(slot) => *slot = named,
                None if heap.is_empty() => heap = [&stack[..], &[named]].concat(),
                None => heap.push(named),
            }
            count += 1;
        }
        let sorted = if heap.is_empty() { &mut stack[..count] } else { &mut heap[..] };
        // Stable, so that parameters of one name keep their order, which may mean something.
        sorted.sort_by(|one, other| one.1[..one.0].cmp(&other.1[..other.0]));
        write_parameters(out, sorted.iter().map(|(_, parameter)| *parameter));
    }
}

fn write_parameters<'a>(out: &mut Vec<u8>, parameters: impl Iterator<Item = &'a [u8]>) {
    for (at, parameter) in parameters.enumerate() {
        out.push(if at == 0 { b'?' } else { b'&' });
        out.extend_from_slice(parameter);
    }
}

fn write_named<'a>(out: &mut Vec<u8>, name: &str, found: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    out.extend_from_slice(name.as_bytes());
    for (_, value) in found {
        // Marks that it is there, which a value that is empty would not.
        out.push(1);
        out.extend_from_slice(value);
    }
    out.push(END);
}
