//! SKELETON of the interface; the implementation splits into files per concept.

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn; by smooth weighted round robin when weights differ.
    RoundRobin,
    /// The endpoint with the fewest requests in flight per weight.
    LeastConnections,
    /// At random, by weight.
    Random,
    /// The less loaded of two random endpoints.
    PowerOfTwo,
    /// The cheaper of two random endpoints by peak-sensitive moving average of latency times requests in flight.
    PeakEwma,
    /// Ketama-style consistent hashing.
    Ring,
    /// Maglev consistent hashing.
    Maglev,
}

/// What a candidate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Takes requests.
    Available,
    /// Takes no new request but those that stick to it.
    Draining,
    /// Takes none.
    Unavailable,
}

/// An endpoint as the picker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Stable identity: a hash of the endpoint's address, the same on every core and after every restart.
    pub id: u64,
    /// Effective weight, slow start applied, in 1/256 of a configured unit of weight. 0 gets no share.
    pub weight: u32,
    /// Used only while no other is available.
    pub backup: bool,
    /// Whether it takes requests now.
    pub availability: Availability,
}

/// The live numbers that load-aware algorithms read, by the candidate's position in the plan.
pub trait Loads {
    /// Requests in flight.
    fn in_flight(&self, index: usize) -> u32;
    /// Peak-sensitive moving average of latency in microseconds, decayed to now; 0 when unknown.
    fn latency_micros(&self, index: usize) -> f32;
}

/// The immutable tables for one set of candidates, built once in the control plane and shared by all cores.
#[derive(Debug)]
pub struct Plan {}

impl Plan {
    /// Builds the tables.
    pub fn new(_algorithm: Algorithm, _candidates: Vec<Candidate>) -> Self {
        Self {}
    }
}

/// A core's own state for picking from one service's plans: cursors, random numbers, known loads. It outlives plans.
#[derive(Debug)]
pub struct Picker {}

/// What a pick depends on besides the plan.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Hash of the key, for `Ring` and `Maglev`.
    pub key: u64,
    /// Positions of the candidates tried already for this request.
    pub tried: &'a [u16],
}

impl Picker {
    /// A picker whose random choices follow from `seed`.
    pub fn new(_seed: u64) -> Self {
        Self {}
    }

    /// Picks a candidate's position. `None` when the plan has no candidate that may take the request.
    /// A tried candidate is picked again only when every available one was tried.
    pub fn pick(&mut self, _plan: &Plan, _request: Request<'_>, _loads: &impl Loads) -> Option<u16> {
        None
    }

    /// Tells that the load of a candidate has changed on this core since it was picked, typically at a request's end.
    pub fn touch(&mut self, _plan: &Plan, _index: u16, _loads: &impl Loads) {}
}
