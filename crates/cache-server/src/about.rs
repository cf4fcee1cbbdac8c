//! Commands about the connection, the server and the whole cache: what clients ask before and beside their own.

use resp::{Parts, Version};
use vocab::Secret;

use crate::command::Kind;
use crate::session::{Done, Fault, NOT_AN_INTEGER, SYNTAX, Turn, is, number, quoted, wrong_number};

/// The version of Redis whose answers these are: some clients go by it.
const REDIS_VERSION: &str = "7.0.0";

/// Commands that one command asks about, each of which is answered by ten times its own bytes.
const DESCRIBED_MAX: usize = 1024;

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

impl Turn<'_> {
    pub(crate) fn ping(&mut self, parts: Parts<'_>) -> Done {
        match (parts.part(0), parts.len()) {
            (None, _) => self.out.answers.simple("PONG"),
            (Some(text), 1) => self.out.answers.bulk(text),
            _ => return Err(wrong_number(Kind::Ping)),
        }
        Ok(())
    }

    pub(crate) fn echo(&mut self, parts: Parts<'_>) -> Done {
        self.out.answers.bulk(parts.part(0).unwrap_or_default());
        Ok(())
    }

    pub(crate) fn quit(&mut self) -> Done {
        self.session.ends = true;
        self.ok();
        Ok(())
    }

    pub(crate) fn auth(&mut self, parts: Parts<'_>) -> Done {
        let (user, given) = match (parts.part(0), parts.part(1), parts.len()) {
            (Some(given), None, _) => (&b"default"[..], given),
            (Some(user), Some(given), 2) => (user, given),
            _ => return Err(SYNTAX.into()),
        };
        if self.settings.params.password.is_none() && parts.len() == 1 {
            let text = "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                        configuration is correct?";
            return Err(text.into());
        }
        self.identify(user, given)?;
        self.ok();
        Ok(())
    }

    /// Lets in who says the password; without one, whoever calls itself by the only name there is.
    fn identify(&mut self, user: &[u8], given: &[u8]) -> Done {
        let password: Option<&Secret> = self.settings.params.password.as_ref();
        let is_right = user == b"default" && password.is_none_or(|password| password.is(given));
        if !is_right {
            return Err(WRONG_PASSWORD.into());
        }
        self.session.is_known = true;
        Ok(())
    }

    pub(crate) fn hello(&mut self, parts: Parts<'_>) -> Done {
        let version = match parts.part(0) {
            None => self.version(),
            Some(_) => match number(parts.part(0)) {
                Ok(2) => Version::Two,
                Ok(3) => Version::Three,
                Ok(_) => return Err("NOPROTO unsupported protocol version".into()),
                Err(_) => return Err("ERR Protocol version is not an integer or out of range".into()),
            },
        };
        let (mut name, mut at) = (None, 1);
        while let Some(word) = parts.part(at) {
            if is(word, "auth") && parts.len() > at + 2 {
                self.identify(parts.part(at + 1).unwrap_or_default(), parts.part(at + 2).unwrap_or_default())?;
                at += 3;
            } else if is(word, "setname") && parts.len() > at + 1 {
                name = Some(checked_name(parts.part(at + 1).unwrap_or_default())?);
                at += 2;
            } else {
                return Err(format!("ERR Syntax error in HELLO option '{}'", quoted(word)).into());
            }
        }
        if !self.session.is_known_to(self.settings) {
            let text = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                        <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                        the same time";
            return Err(text.into());
        }
        if let Some(name) = name {
            self.session.name = name;
        }
        let id = self.session.id as i64;
        let to = &mut self.out.answers;
        to.set_version(version);
        to.map(7);
        for (key, value) in [("server", "tenfold"), ("version", REDIS_VERSION)] {
            to.bulk(key.as_bytes());
            to.bulk(value.as_bytes());
        }
        to.bulk(b"proto");
        to.integer(if version == Version::Three { 3 } else { 2 });
        to.bulk(b"id");
        to.integer(id);
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            to.bulk(key.as_bytes());
            to.bulk(value.as_bytes());
        }
        to.bulk(b"modules");
        to.array(0);
        Ok(())
    }

    pub(crate) fn client(&mut self, parts: Parts<'_>) -> Done {
        let word = parts.part(0).unwrap_or_default();
        match (word.to_ascii_lowercase().as_slice(), parts.len()) {
            (b"id", 1) => self.integer(self.session.id as i64),
            (b"getname", 1) => match &self.session.name {
                Some(name) => self.out.answers.bulk(name),
                None => self.out.answers.null(),
            },
            (b"setname", 2) => {
                self.session.name = checked_name(parts.part(1).unwrap_or_default())?;
                self.ok();
            }
            // Which library it is that asks: nobody here wants to know.
            (b"setinfo", 3) | (b"no-evict" | b"no-touch", 2) => self.ok(),
            (b"info", 1) => {
                let name = self.session.name.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                let text = format!("id={} name={name} db=0\n", self.session.id);
                self.out.answers.text(&text);
            }
            _ => return Err(unknown_part("CLIENT", word)),
        }
        Ok(())
    }

    pub(crate) fn select(&mut self, parts: Parts<'_>) -> Done {
        match number(parts.part(0)) {
            Ok(0) => self.ok(),
            Ok(_) => return Err("ERR DB index is out of range".into()),
            Err(_) => return Err(NOT_AN_INTEGER.into()),
        }
        Ok(())
    }

    pub(crate) fn command(&mut self, parts: Parts<'_>) -> Done {
        let known = || Kind::ALL.iter().filter(|kind| **kind != Kind::Other);
        let Some(word) = parts.part(0) else {
            self.out.answers.array(known().count());
            known().for_each(|kind| self.describe(*kind));
            return Ok(());
        };
        match word.to_ascii_lowercase().as_slice() {
            b"count" if parts.len() == 1 => self.integer(known().count() as i64),
            // Those who ask have texts of their own.
            b"docs" => self.out.answers.map(0),
            b"list" if parts.len() == 1 => {
                self.out.answers.array(known().count());
                known().for_each(|kind| self.out.answers.bulk(kind.spec().name.as_bytes()));
            }
            b"info" if parts.len() == 1 => {
                self.out.answers.array(known().count());
                known().for_each(|kind| self.describe(*kind));
            }
            b"info" => {
                if parts.len() > 1 + DESCRIBED_MAX {
                    return Err(format!("ERR at most {DESCRIBED_MAX} commands are described at once").into());
                }
                self.out.answers.array(parts.len() - 1);
                for name in parts.from(1).iter() {
                    match Kind::of(name) {
                        Kind::Other => self.out.answers.null_array(),
                        kind => self.describe(kind),
                    }
                }
            }
            _ => return Err(unknown_part("COMMAND", word)),
        }
        Ok(())
    }

    fn describe(&mut self, kind: Kind) {
        let spec = kind.spec();
        let to = &mut self.out.answers;
        to.array(6);
        to.bulk(spec.name.as_bytes());
        to.integer(spec.arity);
        to.array(2);
        to.simple(if spec.writes { "write" } else { "readonly" });
        to.simple("fast");
        spec.keys.iter().for_each(|key| to.integer(*key));
    }

    /// As much of a configuration as clients and benches ask for before they begin.
    pub(crate) fn config(&mut self, parts: Parts<'_>) -> Done {
        let word = parts.part(0).unwrap_or_default();
        if !is(word, "get") {
            return Err(unknown_part("CONFIG", word));
        }
        if parts.len() < 2 {
            return Err(wrong_number(Kind::Config));
        }
        let params = &self.settings.params;
        let known = [
            ("maxmemory", params.memory_bytes.to_string()),
            ("maxclients", params.connections_max.to_string()),
            ("proto-max-bulk-len", params.value_bytes_max.to_string()),
            ("timeout", params.idle_timeout.map_or(0, |timeout| timeout.as_secs()).to_string()),
            ("databases", "1".to_owned()),
            ("appendonly", "no".to_owned()),
            ("save", String::new()),
        ];
        let asked = |name: &str| parts.from(1).iter().any(|pattern| is_like(name.as_bytes(), pattern));
        let found: Vec<_> = known.iter().filter(|(name, _)| asked(name)).collect();
        self.out.answers.map(found.len());
        for (name, value) in found {
            self.out.answers.bulk(name.as_bytes());
            self.out.answers.bulk(value.as_bytes());
        }
        Ok(())
    }

    pub(crate) fn info(&mut self) -> Done {
        let (cache, settings) = (self.cache, self.settings);
        let (entries, bytes) = settings.engine.size();
        let (hits, misses) = cache.metrics.lookups();
        let text = format!(
            "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\ntenfold_version:{}\r\ntenfold_cache:{}\r\n\
             process_id:{}\r\n\r\n# Clients\r\nconnected_clients:{}\r\nmaxclients:{}\r\n\r\n# Memory\r\nused_memory:{bytes}\r\n\
             maxmemory:{}\r\n\r\n# Persistence\r\nloading:0\r\n\r\n# Stats\r\nkeyspace_hits:{hits}\r\nkeyspace_misses:{misses}\r\n\
             evicted_keys:{}\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n\
             # Keyspace\r\ndb0:keys={entries},expires=0,avg_ttl=0\r\n",
            env!("CARGO_PKG_VERSION"),
            cache.name,
            std::process::id(),
            cache.open(),
            settings.params.connections_max,
            settings.params.memory_bytes,
            cache.metrics.evicted(),
        );
        self.out.answers.text(&text);
        Ok(())
    }

    pub(crate) fn dbsize(&mut self) -> Done {
        let (entries, _) = self.engine().size();
        self.integer(entries as i64);
        Ok(())
    }

    pub(crate) fn flush(&mut self, parts: Parts<'_>) -> Done {
        let is_known = parts.part(0).is_none_or(|word| is(word, "async") || is(word, "sync"));
        if !is_known || parts.len() > 1 {
            return Err(SYNTAX.into());
        }
        self.cache.clear();
        self.ok();
        Ok(())
    }
}

/// Whether a name is as a pattern says, in any case: `*` is anything and `?` one character.
fn is_like(name: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    // Where the last star was, and from where on it is to take one more.
    let mut star = None;
    while at < name.len() {
        match pattern.get(next) {
            Some(b'*') => {
                next += 1;
                star = Some((next, at));
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(&name[at]) => {
                (at, next) = (at + 1, next + 1);
            }
            _ => {
                let Some((behind, from)) = star else { return false };
                star = Some((behind, from + 1));
                (at, next) = (from + 1, behind);
            }
        }
    }
    pattern[next..].iter().all(|rest| *rest == b'*')
}

/// A connection's name, or none if it is empty.
fn checked_name(name: &[u8]) -> Result<Option<Box<[u8]>>, Fault> {
    /// Longer ones tell nobody anything, and are kept for as long as the connection is.
    const BYTES_MAX: usize = 256;
    if name.len() > BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
        return Err("ERR Client names cannot contain spaces, newlines or special characters.".into());
    }
    Ok((!name.is_empty()).then(|| name.into()))
}

fn unknown_part(command: &str, word: &[u8]) -> Fault {
    format!("ERR unknown subcommand '{}' of {command}, or wrong number of arguments", quoted(word)).into()
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn names_are_as_patterns_say() {
        let check = |pattern: &str, expected: bool| {
            assert_eq!(is_like(b"maxmemory", pattern.as_bytes()), expected, "{pattern}");
        };
        for pattern in
            ["maxmemory", "MAXMEMORY", "*", "max*", "*memory", "m*m*y", "max?emory", "**", "maxmemory*", "*m*"]
        {
            check(pattern, true);
        }
        for pattern in ["", "?", "maxmemor", "maxmemory?", "maxmemory-policy", "x*", "*x", "m*x*y?", "*r"] {
            check(pattern, false);
        }
        assert!(is_like(b"", b"") && is_like(b"", b"*") && !is_like(b"", b"?"));
    }
}
