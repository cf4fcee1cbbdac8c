//! What things are called in Redis. All of a cache share a hash tag, so that one script may touch several of them in a cluster too.

/// The names of one cache.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    cache: String,
    prefix: String,
}

impl Names {
    pub(crate) fn new(cache: &str) -> Self {
        Self { cache: cache.to_owned(), prefix: format!("{{tenfold:{cache}}}:") }
    }

    /// The cache's own name.
    pub(crate) fn cache(&self) -> &str {
        &self.cache
    }

    fn name(&self, kind: &str, rest: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), kind.as_bytes(), rest].concat()
    }

    /// A string: version and record.
    pub(crate) fn value(&self, key: &[u8]) -> Vec<u8> {
        self.name("v:", key)
    }

    /// A string: the token of who loads, and a mark if others wait.
    pub(crate) fn lease(&self, key: &[u8]) -> Vec<u8> {
        self.name("l:", key)
    }

    /// A hash: tokens of who writes, with the time at which they count as dead.
    pub(crate) fn writers(&self, key: &[u8]) -> Vec<u8> {
        self.name("w:", key)
    }

    /// A number: the version of the last invalidation.
    pub(crate) fn tag(&self, tag: &str) -> Vec<u8> {
        self.name("t:", tag.as_bytes())
    }

    /// A number: the order of all that happens to a cache.
    pub(crate) fn clock(&self) -> Vec<u8> {
        self.name("clock", b"")
    }

    /// A number: the version at which all entries were invalidated.
    pub(crate) fn epoch(&self) -> Vec<u8> {
        self.name("epoch", b"")
    }

    /// Where changes are told.
    pub(crate) fn channel(&self) -> Vec<u8> {
        self.name("changes", b"")
    }
}
