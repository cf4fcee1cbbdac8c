//! The library as its users see it.

mod breaker;
mod bulkhead;
mod bulkhead_model;
mod clock;
mod error;
mod examples;
mod http;
mod layer;
mod layer_axum;
mod limiter;
mod metrics;
mod policy;
mod retry;
mod shedder;
mod timeout;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Polls a future once.
fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
