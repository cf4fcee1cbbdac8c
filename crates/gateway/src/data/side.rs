//! Work that goes on beside the work that is waited for: a request's body goes out while its response is awaited.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::body::PumpError;

/// A pump, polled until it has ended.
pub(crate) struct Side<'f, F> {
    work: Pin<&'f mut F>,
    result: Option<Result<(), PumpError>>,
}

impl<'f, F: Future<Output = Result<(), PumpError>>> Side<'f, F> {
    /// Nothing done yet.
    pub(crate) fn new(work: Pin<&'f mut F>) -> Self {
        Self { work, result: None }
    }

    /// Does what can be done now; true if that was its end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.result.is_some() {
            return false;
        }
        if let Poll::Ready(result) = self.work.as_mut().poll(cx) {
            self.result = Some(result);
        }
        self.result.is_some()
    }

    /// Whether it has ended, well or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.result.is_some()
    }

    /// Whether it has ended well.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.result, Some(Ok(())))
    }

    /// Takes the error for which the client is the cause, if there is one.
    pub(crate) fn take_client_error(&mut self) -> Option<PumpError> {
        match self.result {
            Some(Err(PumpError::Client(..) | PumpError::Gone)) => {
                self.result.replace(Err(PumpError::Upstream)).and_then(Result::err)
            }
            _ => None,
        }
    }

    /// Goes on beside `main`, until that has ended. It stays where it is: futures that hold it by value hold it twice.
    pub(crate) fn beside<M: Future>(&mut self, mut main: Pin<&mut M>) -> impl Future<Output = M::Output> {
        poll_fn(move |cx| {
            self.poll(cx);
            main.as_mut().poll(cx)
        })
    }
}
