//! The smallest cache that there can be, driven by the core as a gateway would: what tests speak to.

use std::collections::HashMap;

use httpcache::{
    Answer, Combination, Field, Form, Found, Freshened, HeadEffect, Kinds, Lines, Lookup, Method, Policy, Request,
    Serve, Storable, Stored, Target, UnixTime, Validators, WhyNot, answer, answer_failure, belongs_in_304, combine,
    freshen, invalidated, is_conditional, is_failure, lookup, refresh_by_head, store,
};

/// Some moment, in seconds.
pub(crate) const NOON: u64 = 1_700_000_000;

/// A head's fields, and for whom they hold.
pub(crate) type Owned = Vec<(String, String)>;

pub(crate) fn owned(fields: &[(&str, &str)]) -> Owned {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn borrowed(fields: &Owned) -> impl Iterator<Item = Field<'_>> + Clone {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

/// A date some seconds from noon.
pub(crate) fn date(offset_secs: i64) -> String {
    let mut out = Vec::new();
    UnixTime::from_secs(NOON.saturating_add_signed(offset_secs)).write_http_date(&mut out);
    String::from_utf8(out).unwrap()
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) fields: Owned,
}

pub(crate) fn get(fields: &[(&str, &str)]) -> Ask {
    ask("GET", "/a", fields)
}

pub(crate) fn ask(method: &'static str, path: &str, fields: &[(&str, &str)]) -> Ask {
    Ask { method, path: path.to_owned(), fields: owned(fields) }
}

/// What the origin does.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer(u16, Owned, String),
    Nothing,
}

pub(crate) fn reply(status: u16, fields: &[(&str, &str)], body: &str) -> Reply {
    Reply::Answer(status, owned(fields), body.to_owned())
}

/// What a client gets, and what the origin has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) fields: Owned,
    pub(crate) body: String,
    pub(crate) seen: Option<Owned>,
    /// Whether what is stored is to be fetched again behind the client's back.
    pub(crate) refreshes: bool,
    pub(crate) why_not: Option<WhyNot>,
}

impl Got {
    pub(crate) fn is_hit(&self) -> bool {
        self.seen.is_none()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }

    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        self.seen.as_ref().and_then(|seen| value(seen, name))
    }
}

fn value<'a>(fields: &'a Owned, name: &str) -> Option<&'a str> {
    fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whose conditions the request to the origin has: a 304 answers whoever put them.
#[derive(Clone, Copy, Debug)]
enum Question {
    Ours,
    Clients,
}

#[derive(Clone, Debug)]
struct Entry {
    stored: Stored,
    fields: Vec<u8>,
    body: String,
}

/// The cache. It collapses nothing, and its store is a map.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    pub(crate) policy: Policy,
    entries: HashMap<Vec<u8>, Entry>,
    kinds: HashMap<Vec<u8>, Kinds>,
    now_millis: u64,
}

impl Edge {
    pub(crate) fn new() -> Self {
        Self { now_millis: NOON * 1000, ..Self::default() }
    }

    pub(crate) fn with(policy: Policy) -> Self {
        Self { policy, ..Self::new() }
    }

    pub(crate) fn after_secs(&mut self, secs: u64) -> &mut Self {
        self.now_millis += secs * 1000;
        self
    }

    fn now(&self) -> UnixTime {
        UnixTime::from_millis(self.now_millis)
    }

    /// One exchange.
    pub(crate) fn exchange(&mut self, client: &Ask, origin: &Reply) -> Got {
        let target = Target { https: true, host: b"example.com", path_and_query: client.path.as_bytes() };
        let request = Request::read(client.method.as_bytes(), target, borrowed(&client.fields));
        if self.policy.bypasses(target, borrowed(&client.fields)) {
            return self.pass(client, origin);
        }
        let mut key = Vec::new();
        self.policy.key.write(&mut key, target, borrowed(&client.fields));
        let (found, at) = self.find(&key, client);
        let found = found.as_ref();
        let state = match (found, self.kinds.contains_key(&key)) {
            (Some(entry), _) => Found::Response(&entry.stored, &entry.fields),
            (None, true) => Found::OtherVariants,
            (None, false) => Found::Nothing,
        };
        let decided = lookup(&self.policy, &request, state, self.now());
        match (decided, found) {
            (Lookup::Serve(serve), Some(entry)) => served(&serve, entry, &request),
            (Lookup::ServeStale(serve, _), Some(entry)) => Got { refreshes: true, ..served(&serve, entry, &request) },
            (Lookup::Revalidate(_, validators), Some(entry)) => {
                let seen = conditional(client, validators);
                self.ask(client, &request, (key, at), Some(entry), (Question::Ours, seen, origin))
            }
            (Lookup::Complete(missing, validators), Some(entry)) => {
                let mut seen = without_conditions(client);
                seen.push(("Range".to_owned(), format!("bytes={}-", missing.first)));
                seen.push(("If-Range".to_owned(), text(validators.etag.unwrap())));
                self.ask(client, &request, (key, at), Some(entry), (Question::Clients, seen, origin))
            }
            (Lookup::OnlyIfCached, _) => Got { status: 504, ..Got::default() },
            (_, entry) => {
                let seen = client.fields.clone();
                self.ask(client, &request, (key, at), entry, (Question::Clients, seen, origin))
            }
        }
    }

    /// Looks behind the key for each way of varying, and takes the latest.
    fn find(&self, key: &[u8], client: &Ask) -> (Option<Entry>, Vec<u8>) {
        let kinds = self.kinds.get(key).cloned().unwrap_or_default();
        let places: Vec<_> = kinds.iter().map(|vary| place(key, vary, client, &self.policy)).collect();
        let found: Vec<_> = places.iter().filter_map(|at| Some((self.entries.get(at)?, at))).collect();
        match Stored::latest(found.iter().map(|(entry, _)| &entry.stored)) {
            Some(best) => (Some(found[best].0.clone()), found[best].1.clone()),
            None => (None, Vec::new()),
        }
    }

    fn pass(&self, client: &Ask, origin: &Reply) -> Got {
        let Reply::Answer(status, fields, body) = origin else { return Got { status: 502, ..Got::default() } };
        let (fields, body) = (fields.clone(), body.clone());
        Got { status: *status, fields, body, seen: Some(client.fields.clone()), ..Got::default() }
    }

    fn ask(
        &mut self,
        client: &Ask,
        request: &Request<'_>,
        (key, at): (Vec<u8>, Vec<u8>),
        found: Option<&Entry>,
        (question, seen, origin): (Question, Owned, &Reply),
    ) -> Got {
        let failure = |edge: &Self| {
            let entry = found?;
            let serve = answer_failure(&edge.policy, request, (&entry.stored, &entry.fields), edge.now())?;
            Some(Got { seen: Some(seen.clone()), ..served(&serve, entry, request) })
        };
        let Reply::Answer(status, fields, body) = origin else {
            return failure(self).unwrap_or(Got { status: 502, seen: Some(seen.clone()), ..Got::default() });
        };
        if is_failure(*status)
            && let Some(got) = failure(self)
        {
            return got;
        }
        let answer = Answer { status: *status, fields: borrowed(fields), requested: self.now(), received: self.now() };
        if let (304, Some(entry), Question::Ours) = (*status, found, question) {
            return Got { seen: Some(seen), ..self.freshened(request, (&key, &at), entry, &answer) };
        }
        self.forget(request, *status, fields);
        let got = self.kept(client, request, (&key, &at), found, (&answer, body));
        Got { seen: Some(seen), ..got }
    }

    fn freshened<'a, I: httpcache::Fields<'a>>(
        &mut self,
        request: &Request<'_>,
        (key, at): (&[u8], &[u8]),
        entry: &Entry,
        by: &Answer<I>,
    ) -> Got {
        let Freshened { stored, fields, vary, keep } =
            freshen(&self.policy, request, (&entry.stored, &entry.fields), by);
        let entry = Entry { stored, fields, body: entry.body.clone() };
        let serve = answer(request, &entry.stored, &entry.fields, self.now()).unwrap();
        let got = Got { why_not: keep.err(), ..served(&serve, &entry, request) };
        if keep.is_ok() {
            self.kinds.entry(key.to_vec()).or_default().add(&vary);
            self.entries.insert(at.to_vec(), entry);
        } else {
            self.entries.remove(at);
        }
        got
    }

    fn kept<'a, I: httpcache::Fields<'a>>(
        &mut self,
        client: &Ask,
        request: &Request<'_>,
        (key, at): (&[u8], &[u8]),
        found: Option<&Entry>,
        (by, body): (&Answer<I>, &str),
    ) -> Got {
        let sent = by.fields.clone().map(|(name, value)| (text(name), text(value))).collect();
        let got = Got { status: by.status, fields: sent, body: body.to_owned(), ..Got::default() };
        if request.method == Method::Head {
            let Some(entry) = found else { return got };
            match refresh_by_head(&self.policy, request, (&entry.stored, &entry.fields), by) {
                HeadEffect::Refreshed(fresh) => {
                    let entry = Entry { stored: fresh.stored, fields: fresh.fields, body: entry.body.clone() };
                    self.entries.insert(at.to_vec(), entry);
                }
                HeadEffect::Expired => {
                    let now = self.now();
                    self.entries.get_mut(at).unwrap().stored.expire(now);
                }
                HeadEffect::Untouched => {}
            }
            return got;
        }
        match store(&self.policy, request, by) {
            Err(why_not) => Got { why_not: Some(why_not), ..got },
            Ok(mut new) => {
                let mut body = body.to_owned();
                new.stored.measured(body.len() as u64);
                let old = found.map(|old| (&old.stored, &*old.fields, &old.body));
                if let Some((stored, fields, old_body)) = old
                    && let Combination::Combined(what) = combine((stored, fields), (&new.stored, &new.fields))
                {
                    body = format!("{old_body}{body}");
                    new = new.with_body(what);
                }
                let Storable { stored, fields, vary } = new;
                let at = place(key, &vary, client, &self.policy);
                self.kinds.entry(key.to_vec()).or_default().add(&vary);
                self.entries.insert(at, Entry { stored, fields, body });
                got
            }
        }
    }

    fn forget(&mut self, request: &Request<'_>, status: u16, fields: &Owned) {
        for path in invalidated(request, status, borrowed(fields)) {
            let mut beginning = Vec::new();
            self.policy.key.write_beginning(&mut beginning, Target { path_and_query: &path, ..request.target });
            self.entries.retain(|key, _| !key.starts_with(&beginning));
        }
    }

    /// Makes everything stale.
    pub(crate) fn expire(&mut self) {
        let now = self.now();
        self.entries.values_mut().for_each(|entry| entry.stored.expire(now));
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn place(key: &[u8], vary: &httpcache::Vary<'_>, client: &Ask, policy: &Policy) -> Vec<u8> {
    let mut place = key.to_vec();
    vary.write_variant(&mut place, borrowed(&client.fields), &policy.vary);
    place
}

fn without_conditions(client: &Ask) -> Owned {
    client.fields.iter().filter(|(name, _)| !is_conditional(name.as_bytes())).cloned().collect()
}

fn conditional(client: &Ask, validators: Validators<'_>) -> Owned {
    let mut lines = Vec::new();
    validators.write(&mut lines);
    let mut seen = without_conditions(client);
    seen.extend(Lines::new(&lines).map(|(name, value)| (text(name), text(value))));
    seen
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn served(serve: &Serve, entry: &Entry, request: &Request<'_>) -> Got {
    let whole = &entry.body;
    let offset = if let httpcache::Body::Part(part) = entry.stored.body() { part.range.first } else { 0 };
    let slice = |range: &httpcache::ByteRange| &whole[(range.first - offset) as usize..=(range.last - offset) as usize];
    let mut fields: Owned = Lines::new(&entry.fields).map(|(name, value)| (text(name), text(value))).collect();
    fields.push(("Age".to_owned(), serve.age_secs.to_string()));
    let (status, mut body) = match &serve.form {
        Form::Stored => (entry.stored.status(), whole.clone()),
        Form::NotModified => {
            fields.retain(|(name, _)| name == "Age" || belongs_in_304(name.as_bytes()));
            (304, String::new())
        }
        Form::Part(part) => {
            let mut value = Vec::new();
            part.write(&mut value);
            fields.push(("Content-Range".to_owned(), text(&value)));
            (206, slice(&part.range).to_owned())
        }
        Form::Parts(ranges, _) => (206, ranges.iter().map(slice).collect::<Vec<_>>().join("|")),
        Form::Unsatisfiable(_) => (416, String::new()),
    };
    if request.method == Method::Head {
        body.clear();
    }
    Got { status, fields, body, ..Got::default() }
}
