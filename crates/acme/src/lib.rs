//! Certificates from an authority by ACME (RFC 8555): ordered, proven, stored, and renewed in time.
//!
//! A [`Keeper`] keeps the certificate of one host in its [`net::tls::Slot`]. It presents at once what is stored, and
//! a placeholder while there is nothing; it orders, proves by a challenge that the host is held here, stores what was
//! issued, and puts it into the slot. When a certificate is due for renewal, or the authority says so (RFC 9773), it
//! begins anew. What fails is tried again after pauses that grow; what is served goes on meanwhile.
//!
//! Each host has a certificate of its own, so that one whose name does not lead here keeps no other from theirs.
//! Several keepers of one host, in one process or in several, share a folder: one orders under a lock, the others take
//! what it has stored.

mod account;
mod http;
mod keeper;
mod order;
mod params;
mod schedule;
mod selfsigned;
mod storage;
mod tokens;

pub use keeper::{Context, Keeper, Kept, Orders};
pub use params::{AcmeParams, BindingParams, Challenge, IssuerParams};
pub use tokens::Tokens;
