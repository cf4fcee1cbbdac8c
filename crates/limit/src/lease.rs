//! One rate that several instances share, through a store that none of them asks for every request.
//!
//! The problem: to ask the store for each request costs a round trip each and ends with the store; to divide the rate
//! by the number of instances is wrong whenever their traffic differs. The rule: an instance **leases** tokens. The
//! store debits a lease when it grants it, by one atomic step on its own clock ([`store`]), and the instance spends it
//! without asking ([`Holder`]). What is granted was paid for, so whatever instances do, lose or forget, together they
//! never spend more than the rate times the time and the burst.
//!
//! - A lease holds at most what the rate gives in 50 ms, divided by the number of instances that want more than they
//!   get, and never less than one request costs. It is asked for while half of the last one is left, so that a hot key
//!   waits for nothing.
//! - A lease that is not spent ends after its lifetime. So within any window the sum is at most the burst and what the
//!   rate gives in the window and one lifetime; from the start of a limit, the lifetime does not come into it.
//! - What is not spent can be returned, less what the rate has given since it was granted: the store may have filled
//!   up meanwhile, and would count those tokens twice.
//! - **An empty store** says how long to wait; an instance then pauses for 25 ms, or a quarter of the burst's time if
//!   that is shorter, so that it does not ask for single tokens and nothing runs over.
//! - **A lost store.** The last lease is spent; then everything passes, nothing passes, or a local limit decides, as
//!   configured. The store is asked again once a second, and heals with the first answer.
//!
//! How much of the rate reaches anyone depends on the burst: it has to hold what comes during a pause and a round trip
//! of all instances, 100 ms of rate with a store nearby.

mod holder;
pub mod store;

pub use holder::{Ask, Holder, HolderParams, Lost, Taken};
