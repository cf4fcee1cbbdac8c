//! The crate as a service uses it.

mod behind;
