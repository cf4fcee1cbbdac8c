//! What a connection is to the commands, and which of them runs.

use std::borrow::Cow;

use resp::{Parts, Unacceptable, Version};

use crate::command::Kind;
use crate::engine::Engine;
use crate::metrics::Cells;
use crate::named::{NamedCache, Settings};
use crate::number::integer;
use crate::outbox::Outbox;

/// Parts, and bytes of each, of a command from someone who has not said the password: those of Redis.
const STRANGERS_PARTS_MAX: usize = 10;
const STRANGERS_PART_BYTES_MAX: usize = 16 * 1024;

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
    part.and_then(integer).ok_or(NOT_AN_INTEGER.into())
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

    /// Runs a command, and answers it.
    pub(crate) fn run(&mut self, parts: Parts<'_>) {
        let name = parts.part(0).unwrap_or_default();
        let kind = Kind::of(name);
        self.cells.commands[kind as usize].increment();
        let done = self.check(kind, parts).and_then(|()| self.dispatch(kind, parts.from(1)));
        if let Err(fault) = done {
            self.fail(&fault);
        }
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
        if self.session.is_known || self.settings.params.password.is_none() {
            return Ok(());
        }
        let is_large =
            parts.len() > STRANGERS_PARTS_MAX || parts.iter().any(|part| part.len() > STRANGERS_PART_BYTES_MAX);
        match kind {
            Kind::Auth | Kind::Hello | Kind::Quit if !is_large => Ok(()),
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
