//! What things are called in Redis. All of a cache share a hash tag, so that one script may touch several of them in a cluster too.

/// What all names of caches begin with.
pub(crate) const OWN_PREFIX: &str = "{tenfold:";

/// The names of one cache.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    cache: String,
    prefix: String,
}

impl Names {
    pub(crate) fn new(cache: &str) -> Self {
        Self { cache: cache.to_owned(), prefix: format!("{OWN_PREFIX}{cache}}}:") }
    }

    /// The cache's own name.
    pub(crate) fn cache(&self) -> &str {
        &self.cache
    }

    fn name(&self, kind: &str, rest: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), kind.as_bytes(), rest].concat()
    }

    /// What scripts need that change a key.
    pub(crate) fn change(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let of_key = [self.value(key), self.lease(key), self.writers(key), self.clock(), self.old(key)];
        of_key.into_iter().chain([self.holders(), self.run()]).collect()
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

    /// A string: the value from before the write that is under way.
    pub(crate) fn old(&self, key: &[u8]) -> Vec<u8> {
        self.name("o:", key)
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

    /// A number: the version of the last invalidation of any tag.
    pub(crate) fn tagged(&self) -> Vec<u8> {
        self.name("tagged", b"")
    }

    /// A sorted set: who may serve from memory, by when that ends.
    pub(crate) fn holders(&self) -> Vec<u8> {
        self.name("holders", b"")
    }

    /// A string: which run of Redis all this is of.
    pub(crate) fn run(&self) -> Vec<u8> {
        self.name("run", b"")
    }

    /// Where a holder is told that another one has heard of its changes.
    pub(crate) fn acks(&self, id: &[u8]) -> Vec<u8> {
        self.name("a:", id)
    }

    /// Where changes are told.
    pub(crate) fn channel(&self) -> Vec<u8> {
        self.name("changes", b"")
    }
}
