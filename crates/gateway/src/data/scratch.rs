//! Working memory of exchanges.

use http1::{Request, Response};
use net::{Deadline, Deadlines};

use crate::identity::RequestId;

/// Largest vector that is kept between exchanges.
const KEPT_BYTES_MAX: usize = 128 * 1024;

/// Working memory of an exchange, reused by the next.
pub(crate) struct Scratch {
    pub(crate) request: Request,
    pub(crate) response: Response,
    /// What goes to the endpoint.
    pub(crate) to_upstream: Vec<u8>,
    /// What goes to the client.
    pub(crate) to_client: Vec<u8>,
    /// Path and query that the endpoint is asked for, if they are not the request's.
    pub(crate) target: Vec<u8>,
    /// Lines of fields that the route adds to the response.
    pub(crate) added: Vec<u8>,
    /// Lines of fields that the request gets by leave of another service; of meaning only where one is asked.
    pub(crate) granted: Vec<u8>,
    /// The key in the cache; of meaning only where the route has one.
    pub(crate) key: Vec<u8>,
    /// Endpoints tried.
    pub(crate) tried: Vec<u16>,
    pub(crate) id: RequestId,
    /// When the endpoint, or the client that takes its response, is out of time.
    pub(crate) deadline: Deadline,
}

impl Scratch {
    /// Fresh memory.
    pub(crate) fn new(deadlines: &Deadlines) -> Self {
        Self {
            request: Request::default(),
            response: Response::default(),
            to_upstream: Vec::new(),
            to_client: Vec::new(),
            target: Vec::new(),
            added: Vec::new(),
            granted: Vec::new(),
            key: Vec::new(),
            tried: Vec::new(),
            id: RequestId::default(),
            deadline: deadlines.register(),
        }
    }

    /// Whether an unusual exchange has made it too large to be kept.
    pub(crate) fn is_large(&self) -> bool {
        let kept = [&self.to_upstream, &self.to_client, &self.target, &self.added, &self.granted, &self.key];
        kept.iter().map(|bytes| bytes.capacity()).sum::<usize>() > KEPT_BYTES_MAX
    }
}
