//! The way to a store, against a real Redis.

mod store;
