//! What a connection is to the commands, and which of them runs.

use std::borrow::Cow;

use resp::{Parts, Unacceptable, Version};

use crate::command::Kind;
use crate::engine::Engine;
use crate::metrics::Cells;
use crate::named::{NamedCache, Settings};
use crate::outbox::Outbox;

/// Bytes of a client's own words that an error repeats.
const QUOTED_BYTES_MAX: usize = 64;

/// What a connection has said of itself.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) name: Option<Box<[u8]>>,
    /// Whether the password was said, if there is one.
    pub(crate) is_known: bool,
    /// Whether it ends with the answer.
    pub(crate) ends: bool,
    /// How many keys of a command are answered already that goes on when its client has taken what it has so far.
    pub(crate) answered: usize,
}

impl Session {
    /// Whether it may ask for anything.
    pub(crate) fn is_known_to(&self, settings: &Settings) -> bool {
        self.is_known || settings.params.password.is_none()
    }
}

/// A command's surroundings.
pub(crate) struct Turn<'t> {
    pub(crate) cache: &'t NamedCache,
    pub(crate) settings: &'t Settings,
    pub(crate) cells: &'t Cells,
    pub(crate) session: &'t mut Session,
    pub(crate) out: &'t mut Outbox,
    /// The time, in the engine's milliseconds.
    pub(crate) now: u64,
}

/// The error that answers a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(Cow<'static, str>);

pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(crate) const SYNTAX: &str = "ERR syntax error";

impl From<&'static str> for Fault {
    fn from(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Fault {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// A number among the parts.
pub(crate) fn number(part: Option<&[u8]>) -> Result<i64, Fault> {
    part.and_then(resp::number).ok_or(NOT_AN_INTEGER.into())
}

/// A client's own words, as an error may repeat them.
pub(crate) fn quoted(words: &[u8]) -> String {
    String::from_utf8_lossy(&words[..words.len().min(QUOTED_BYTES_MAX)]).into_owned()
}

/// Whether a word is this one, in any case.
pub(crate) fn is(word: &[u8], text: &str) -> bool {
    word.eq_ignore_ascii_case(text.as_bytes())
}

pub(crate) type Done = Result<(), Fault>;

impl Turn<'_> {
    pub(crate) fn engine(&self) -> &Engine {
        &self.settings.engine
    }

    /// Runs a command, and answers it: whether to the end. If not, it is to be run again when there is room for more answers.
    pub(crate) fn run(&mut self, parts: Parts<'_>) -> bool {
        if self.session.answered > 0 {
            self.values(parts.from(1));
            return self.session.answered == 0;
        }
        let name = parts.part(0).unwrap_or_default();
        let kind = Kind::of(name);
        self.cells.commands[kind as usize].increment();
        let done = self.check(kind, parts).and_then(|()| self.dispatch(kind, parts.from(1)));
        if let Err(fault) = done {
            self.fail(&fault);
        }
        self.session.answered == 0
    }

    /// Answers a command that is not acceptable.
    pub(crate) fn refuse(&mut self, why: Unacceptable) {
        let bounds = &self.settings.bounds;
        let fault = match why {
            Unacceptable::Part { found } => {
                let max = bounds.part_bytes_max;
                format!("ERR a string of {found} bytes is longer than value_bytes_max, which is {max}")
            }
            Unacceptable::Parts { found } => {
                format!("ERR a command of {found} parts has more than the {} that are taken", bounds.parts_max)
            }
            Unacceptable::Command => {
                format!("ERR the command has more than the {} bytes that are taken", bounds.command_bytes_max)
            }
            Unacceptable::Quotes => "ERR quotes in a line are not supported".to_owned(),
        };
        self.cells.commands[Kind::Other as usize].increment();
        self.fail(&fault.into());
    }

    fn fail(&mut self, fault: &Fault) {
        self.cells.errors.increment();
        self.out.answers.error(fault.text());
    }

    fn check(&mut self, kind: Kind, parts: Parts<'_>) -> Done {
        if kind == Kind::Other {
            return Err(self.unknown(parts));
        }
        if !kind.takes(parts.len()) {
            return Err(wrong_number(kind));
        }
        match kind {
            Kind::Auth | Kind::Hello | Kind::Quit => Ok(()),
            _ if self.session.is_known_to(self.settings) => Ok(()),
            _ => Err("NOAUTH Authentication required.".into()),
        }
    }

    fn unknown(&mut self, parts: Parts<'_>) -> Fault {
        let name = parts.part(0).unwrap_or_default();
        // What a page in someone's browser can make it send here begins like this; the rest of it may be commands.
        if is(name, "post") || is(name, "host:") {
            self.session.ends = true;
            return "ERR this is no HTTP".into();
        }
        let why = match name.to_ascii_lowercase().as_slice() {
            b"multi" | b"exec" | b"watch" | b"unwatch" | b"discard" => {
                "there are no transactions; clients have pipelines without them, as redis-py has pipeline(transaction=False)"
            }
            b"subscribe" | b"psubscribe" | b"publish" => "there are no channels",
            _ => "this is a cache of strings",
        };
        format!("ERR unknown command '{}': {why}", quoted(name)).into()
    }

    fn dispatch(&mut self, kind: Kind, arguments: Parts<'_>) -> Done {
        match kind {
            Kind::Get => self.get(arguments),
            Kind::Set => self.set(arguments),
            Kind::Mget => self.mget(arguments),
            Kind::Mset => self.mset(arguments),
            Kind::Setnx => self.setnx(arguments),
            Kind::Setex => self.setex(arguments, 1000, "setex"),
            Kind::Psetex => self.setex(arguments, 1, "psetex"),
            Kind::Getset => self.getset(arguments),
            Kind::Getdel => self.getdel(arguments),
            Kind::Getex => self.getex(arguments),
            Kind::Del | Kind::Unlink => self.del(arguments),
            Kind::Exists => self.exists(arguments),
            Kind::Strlen => self.strlen(arguments),
            Kind::Type => self.kind_of(arguments),
            Kind::Incr => self.add(arguments, Some(1)),
            Kind::Decr => self.add(arguments, Some(-1)),
            Kind::Incrby => self.add(arguments, Some(number(arguments.part(1))?)),
            Kind::Decrby => self.add(arguments, number(arguments.part(1))?.checked_neg()),
            Kind::Expire => self.expire(arguments, (1000, true), "expire"),
            Kind::Pexpire => self.expire(arguments, (1, true), "pexpire"),
            Kind::Expireat => self.expire(arguments, (1000, false), "expireat"),
            Kind::Pexpireat => self.expire(arguments, (1, false), "pexpireat"),
            Kind::Persist => self.persist(arguments),
            Kind::Ttl => self.ttl(arguments, 1000),
            Kind::Pttl => self.ttl(arguments, 1),
            Kind::Tag => self.tag(arguments),
            Kind::Invalidate => self.invalidate(arguments),
            Kind::Token => self.token(),
            Kind::Ping => self.ping(arguments),
            Kind::Echo => self.echo(arguments),
            Kind::Auth => self.auth(arguments),
            Kind::Hello => self.hello(arguments),
            Kind::Client => self.client(arguments),
            Kind::Select => self.select(arguments),
            Kind::Command => self.command(arguments),
            Kind::Config => self.config(arguments),
            Kind::Info => self.info(),
            Kind::Dbsize => self.dbsize(),
            Kind::Flushdb | Kind::Flushall => self.flush(arguments),
            Kind::Quit => self.quit(),
            Kind::Other => Ok(()),
        }
    }

    pub(crate) fn ok(&mut self) {
        self.out.answers.simple("OK");
    }

    pub(crate) fn integer(&mut self, value: i64) {
        self.out.answers.integer(value);
    }

    /// The version of the protocol that is spoken.
    pub(crate) fn version(&self) -> Version {
        self.out.answers.version()
    }
}

/// The error for a command with too few or too many parts.
pub(crate) fn wrong_number(kind: Kind) -> Fault {
    format!("ERR wrong number of arguments for '{}' command", kind.spec().name).into()
}

#[cfg(test)]
pub(crate) mod tests {
    use resp::{Decoder, Step};
    use std::sync::Arc;

    use super::*;
    use crate::params::CacheParams;

    /// Commands without a connection.
    pub(crate) struct Desk(Arc<NamedCache>);

    impl Desk {
        pub(crate) fn new() -> Self {
            let params = CacheParams {
                name: "main".parse().expect("a name"),
                listen: None,
                http: None,
                memory_bytes: 64 << 20,
                ttl: None,
                value_bytes_max: 1 << 20,
                connections_max: 1,
                password: None,
                idle_timeout: None,
                stall_timeout: std::time::Duration::from_secs(1),
            };
            Self(Arc::new(NamedCache::new(params, 1)))
        }

        /// Asks in words, and has the answer as it is sent.
        pub(crate) fn ask(&self, words: &str) -> String {
            let mut outbox = Outbox::default();
            let mut all = Vec::new();
            self.ask_for(
                words,
                |outbox| {
                    while outbox.len() > 0 {
                        let taken = outbox.write(|pieces| {
                            pieces.iter().for_each(|piece| all.extend_from_slice(piece));
                            pieces.iter().map(|piece| piece.len()).sum()
                        });
                        outbox.advance(taken);
                    }
                },
                &mut outbox,
            );
            String::from_utf8(all).expect("an answer in words")
        }

        fn ask_for(&self, words: &str, mut take: impl FnMut(&mut Outbox), out: &mut Outbox) {
            let (settings, mut session, mut decoder) = (self.0.settings(), Session::default(), Decoder::default());
            let line = format!("{words}\r\n");
            assert!(matches!(decoder.step(line.as_bytes(), &settings.bounds), Ok(Step::Command { .. })));
            loop {
                let (now, cells) = (settings.engine.now(), self.0.metrics.core(0));
                let mut turn = Turn { cache: &self.0, settings: &settings, cells, session: &mut session, out, now };
                let is_done = turn.run(decoder.parts(line.as_bytes()));
                take(out);
                if is_done {
                    return;
                }
            }
        }
    }

    #[test]
    fn an_answer_of_many_values_waits_for_its_client() {
        let (desk, keys) = (Desk::new(), " short long".repeat(3000));
        desk.ask(&format!("SET short {}", "s".repeat(10_000)));
        desk.ask(&format!("SET long {}", "l".repeat(50_000)));
        let (mut most, mut sent) = (0, 0);
        let take = |outbox: &mut Outbox| {
            most = most.max(outbox.len());
            sent += outbox.len();
            outbox.advance(outbox.len());
        };
        desk.ask_for(&format!("MGET{keys}"), take, &mut Outbox::default());
        assert_eq!(sent, "*6000\r\n".len() + 3000 * ("$10000\r\n\r\n$50000\r\n\r\n".len() + 60_000));
        assert!(most < 310_000, "{most} bytes wait");
        assert_eq!(desk.ask("MGET a b c"), "*3\r\n$-1\r\n$-1\r\n$-1\r\n");
    }
}
