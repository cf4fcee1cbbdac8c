//! Picking an endpoint and judging its health. Pure: time, randomness and load come in, decisions go out.
//!
//! The control plane builds a [`Plan`] from the service's [`Candidate`]s whenever one of them changes, and shares it
//! with every core. Each core keeps one [`Picker`] per service, which picks from whatever plan is current.
//! [`health`] decides which candidates are available, [`slow_start`] how much weight a new one has, [`latency`] keeps
//! the average that [`Algorithm::PeakEwma`] reads, and [`hash`] turns addresses and keys into numbers.
//!
//! ```
//! use balance::{Algorithm, Availability, Candidate, Loads, Picker, Plan, Request, hash};
//!
//! struct Idle;
//! impl Loads for Idle {
//!     fn in_flight(&self, _: usize) -> u32 {
//!         0
//!     }
//!     fn latency_micros(&self, _: usize) -> f32 {
//!         0.0
//!     }
//! }
//!
//! let candidates = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| Candidate {
//!     id: hash::endpoint_id(address),
//!     weight: 256,
//!     priority: 0,
//!     away: false,
//!     backup: false,
//!     availability: Availability::Available,
//! });
//! let plan = Plan::new(Algorithm::RoundRobin, candidates.to_vec())?;
//! let mut picker = Picker::new(0);
//! let request = Request { key: 0, tried: &[] };
//! assert_eq!(picker.pick(&plan, request, &Idle), Some(0));
//! assert_eq!(picker.pick(&plan, request, &Idle), Some(1));
//! # Ok::<(), balance::TooManyCandidates>(())
//! ```

mod bounded;
mod candidate;
pub mod hash;
pub mod health;
pub mod latency;
mod least;
pub mod maglev;
mod picker;
mod plan;
mod ring;
mod rotation;
mod shares;
pub mod slow_start;
mod spill;
mod tier;

pub use candidate::{Availability, CANDIDATES_MAX, Candidate, Rank, TooManyCandidates, WEIGHT_UNIT};
pub use picker::{Loads, Picker, Request};
pub use plan::{Algorithm, Plan};
