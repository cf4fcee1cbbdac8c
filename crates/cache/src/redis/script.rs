//! The scripts: what has to happen in Redis as one step.

/// A script, by its place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Hello,
    Acquire,
    Extend,
    Release,
    Fill,
    Put,
    Begin,
    Prolong,
    Finish,
    Invalidate,
    Tag,
    Everything,
    Hold,
    Leave,
}

macro_rules! source {
    ($file:literal) => {
        concat!(include_str!("scripts/prelude.lua"), include_str!(concat!("scripts/", $file)))
    };
}

/// The sources, in the order of [`Script`].
pub(crate) const SOURCES: [&str; 14] = [
    source!("hello.lua"),
    source!("acquire.lua"),
    source!("extend.lua"),
    source!("release.lua"),
    source!("fill.lua"),
    source!("put.lua"),
    source!("begin.lua"),
    source!("prolong.lua"),
    source!("finish.lua"),
    source!("invalidate.lua"),
    source!("tag.lua"),
    source!("everything.lua"),
    source!("hold.lua"),
    source!("leave.lua"),
];

impl Script {
    pub(crate) fn source(self) -> &'static str {
        SOURCES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_its_own() {
        assert!(Script::Hello.source().contains("KEYS clock epoch holders run"));
        assert!(Script::Put.source().contains("KEYS value lease writers clock old holders run tagged tag..."));
        assert!(Script::Leave.source().contains("'g' .. ARGV[2]"));
        assert!(Script::Everything.source().contains("tell(ARGV[1], 'e', now, '')"));
    }
}
