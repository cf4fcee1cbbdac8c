//! A rate limit for each key, as a layer.

use std::fmt;
use std::future::ready;
use std::hash::Hash;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::super::http::Respond;
use super::super::{Error, KeyedLimiter, Refusal};
use super::{Answer, AsError, GuardFuture, RespondWith};

/// A [`KeyedLimiter`] as a layer, with what tells a request's key.
#[derive(Clone)]
pub struct KeyedLayer<F, A = AsError> {
    limiter: KeyedLimiter,
    key: F,
    answer: A,
}

/// A service with a rate limit for each key around it.
#[derive(Clone)]
pub struct KeyedGuard<S, F, A = AsError> {
    inner: S,
    limiter: KeyedLimiter,
    key: F,
    answer: A,
}

impl KeyedLimiter {
    /// A layer that limits requests by a key of theirs. Those without one pass.
    ///
    /// ```
    /// use axum::extract::Request;
    /// use axum::http::HeaderValue;
    /// use tenfold::resilience::{KeyedLimiter, Quota, Rate};
    ///
    /// let tenants = KeyedLimiter::new("tenant", Quota::gcra(Rate::per_sec(50), 100)?, 10_000)?;
    /// let tenant = |request: &Request| -> Option<HeaderValue> { request.headers().get("x-tenant").cloned() };
    /// let app = axum::Router::<()>::new().layer(tenants.layer_by(tenant).respond());
    /// # Ok::<(), tenfold::resilience::QuotaError>(())
    /// ```
    pub fn layer_by<F>(&self, key: F) -> KeyedLayer<F> {
        KeyedLayer { limiter: self.clone(), key, answer: AsError }
    }
}

impl<F, A> KeyedLayer<F, A> {
    /// Responses of HTTP instead of errors, as [`Respond`] says.
    pub fn respond(self) -> KeyedLayer<F, Respond> {
        KeyedLayer { limiter: self.limiter, key: self.key, answer: Respond }
    }

    /// Responses of the caller's own instead of errors. The service's own error type stays.
    pub fn respond_with<G>(self, respond: G) -> KeyedLayer<F, RespondWith<G>> {
        KeyedLayer { limiter: self.limiter, key: self.key, answer: RespondWith(respond) }
    }
}

impl<S, F: Clone, A: Clone> Layer<S> for KeyedLayer<F, A> {
    type Service = KeyedGuard<S, F, A>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedGuard { inner, limiter: self.limiter.clone(), key: self.key.clone(), answer: self.answer.clone() }
    }
}

impl<S, Req, K, F, A> Service<Req> for KeyedGuard<S, F, A>
where
    S: Service<Req> + Clone,
    S::Response: Send + 'static,
    S::Future: Send + 'static,
    K: Hash,
    F: Fn(&Req) -> Option<K>,
    A: Answer<S::Response, S::Error> + Clone + Send + 'static,
    A::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = A::Error;
    type Future = GuardFuture<S::Response, A::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let failed = |error| self.answer.answer(Error::Inner(error)).map(drop);
        self.inner.poll_ready(context).map(|ready| ready.or_else(failed))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let allowed = (self.key)(&request).map_or(Ok(()), |key| self.limiter.acquire(&key));
        // What was reserved for this call goes with it, also when it is refused.
        let clone = self.inner.clone();
        let mut ready_one = std::mem::replace(&mut self.inner, clone);
        if let Err(refusal) = allowed {
            return Box::pin(ready(self.answer.answer(Refusal::into_any(refusal))));
        }
        let answer = self.answer.clone();
        let response = ready_one.call(request);
        Box::pin(async move { response.await.or_else(|error| answer.answer(Error::Inner(error))) })
    }
}

impl<F, A> fmt::Debug for KeyedLayer<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLayer").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, F, A> fmt::Debug for KeyedGuard<S, F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedGuard").field("inner", &self.inner).field("limiter", &self.limiter).finish_non_exhaustive()
    }
}
