//! The commands: their names, what they take, and where their keys are.

/// A command as clients are told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// In lower case, as Redis' own lists have it.
    pub(crate) name: &'static str,
    /// Parts, the name included; below zero at least so many.
    pub(crate) arity: i64,
    /// Whether it changes something.
    pub(crate) writes: bool,
    /// The first key, the last one, which may be counted from the end, and the steps between them.
    pub(crate) keys: [i64; 3],
}

macro_rules! commands {
    ($($kind:ident = $name:literal, $arity:literal, $mode:ident, $keys:expr;)*) => {
        /// Which command it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the meaning")]
        pub(crate) enum Kind { $($kind),*, Other }

        impl Kind {
            /// All of them; `Other` is whatever is none of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*, Self::Other];
            /// How many there are.
            pub(crate) const COUNT: usize = Self::ALL.len();

            /// How clients are told of it.
            pub(crate) const fn spec(self) -> Spec {
                match self {
                    $(Self::$kind => Spec {
                        name: $name, arity: $arity, writes: commands!(@ $mode), keys: $keys,
                    },)*
                    Self::Other => Spec { name: "other", arity: -1, writes: false, keys: NO_KEY },
                }
            }

            fn of_lower(name: &[u8]) -> Self {
                $(
                    // A comparison of slices compares their lengths first, and most differ in that.
                    if name == $name.as_bytes() {
                        return Self::$kind;
                    }
                )*
                Self::Other
            }
        }
    };
    (@ read) => { false };
    (@ write) => { true };
}

const NO_KEY: [i64; 3] = [0, 0, 0];
const ONE: [i64; 3] = [1, 1, 1];
const EACH: [i64; 3] = [1, -1, 1];
const EACH_SECOND: [i64; 3] = [1, -1, 2];

// What is asked for most comes first.
commands! {
    Get = "get", 2, read, ONE;
    Set = "set", -3, write, ONE;
    Mget = "mget", -2, read, EACH;
    Del = "del", -2, write, EACH;
    Incr = "incr", 2, write, ONE;
    Expire = "expire", -3, write, ONE;
    Exists = "exists", -2, read, EACH;
    Setex = "setex", 4, write, ONE;
    Ttl = "ttl", 2, read, ONE;
    Mset = "mset", -3, write, EACH_SECOND;
    Setnx = "setnx", 3, write, ONE;
    Psetex = "psetex", 4, write, ONE;
    Getset = "getset", 3, write, ONE;
    Getdel = "getdel", 2, write, ONE;
    Getex = "getex", -2, write, ONE;
    Unlink = "unlink", -2, write, EACH;
    Pexpire = "pexpire", -3, write, ONE;
    Expireat = "expireat", -3, write, ONE;
    Pexpireat = "pexpireat", -3, write, ONE;
    Persist = "persist", 2, write, ONE;
    Pttl = "pttl", 2, read, ONE;
    Decr = "decr", 2, write, ONE;
    Incrby = "incrby", 3, write, ONE;
    Decrby = "decrby", 3, write, ONE;
    Strlen = "strlen", 2, read, ONE;
    Type = "type", 2, read, ONE;
    Tag = "tenfold.tag", -3, write, ONE;
    Invalidate = "tenfold.invalidate", -2, write, NO_KEY;
    Token = "tenfold.token", 1, read, NO_KEY;
    Ping = "ping", -1, read, NO_KEY;
    Echo = "echo", 2, read, NO_KEY;
    Auth = "auth", -2, read, NO_KEY;
    Hello = "hello", -1, read, NO_KEY;
    Client = "client", -2, read, NO_KEY;
    Select = "select", 2, read, NO_KEY;
    Command = "command", -1, read, NO_KEY;
    Config = "config", -2, read, NO_KEY;
    Info = "info", -1, read, NO_KEY;
    Dbsize = "dbsize", 1, read, NO_KEY;
    Flushdb = "flushdb", -1, write, NO_KEY;
    Flushall = "flushall", -1, write, NO_KEY;
    Quit = "quit", -1, read, NO_KEY;
}

/// The longest name of a command.
const NAME_BYTES_MAX: usize = 18;

impl Kind {
    /// The command of this name, whose case does not matter.
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut lower = [0; NAME_BYTES_MAX];
        let Some(lower) = lower.get_mut(..name.len()) else { return Self::Other };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Self::of_lower(lower)
    }

    /// Whether a command of so many parts is one of this kind.
    pub(crate) fn takes(self, parts: usize) -> bool {
        let (arity, parts) = (self.spec().arity, parts as i64);
        if arity < 0 { parts >= -arity } else { parts == arity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, at);
            let name = kind.spec().name;
            assert!(name.len() <= NAME_BYTES_MAX && name == name.to_lowercase());
            assert_eq!(Kind::of(name.as_bytes()), *kind);
            assert_eq!(Kind::of(name.to_uppercase().as_bytes()), *kind);
        }
        for other in ["", "ge", "gett", "hset", "tenfold.invalidate.", "\u{0}"] {
            assert_eq!(Kind::of(other.as_bytes()), Kind::Other);
        }
        assert!(Kind::Get.takes(2) && !Kind::Get.takes(3) && Kind::Del.takes(9) && !Kind::Del.takes(1));
    }
}
