//! Layers of tower: a policy around a service.
//!
//! A service is asked for readiness before each call, and what it reserves for that call belongs to the very value that was
//! asked. So the value that is ready goes with the call, and a clone, which has reserved nothing, stays for the next one.
//! A call that is refused drops the value, and with it what it reserved. Further tries take clones, and ask each of them.
//! Nothing of the policy's own is reserved before the call.

mod answer;
mod keyed;
mod repeat;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::http::{ByStatus, Respond};
use super::policy::Policy;
use super::{Breaker, Bulkhead, ByResult, Judge, Limiter, Retry, Shedder, Timeout};

pub use answer::{Answer, AsError, RespondWith};
pub use keyed::{KeyedGuard, KeyedLayer};
pub use repeat::{Cloned, Once, Repeat};

/// A policy, or one piece, as a layer. It is shared by all services that it is put around.
///
/// - `J` judges results: [`judged_by`](Self::judged_by).
/// - `R` makes the copy of a request that another try needs: [`repeated_by`](Self::repeated_by), [`once`](Self::once).
/// - `A` makes what callers get for a call without a result: [`respond`](Self::respond),
///   [`respond_with`](Self::respond_with).
#[derive(Clone, Debug)]
pub struct GuardLayer<J = ByResult, R = Cloned, A = AsError> {
    policy: Policy,
    rules: Rules<J, R, A>,
}

/// A service with a policy around it.
#[derive(Clone, Debug)]
pub struct Guard<S, J = ByResult, R = Cloned, A = AsError> {
    inner: S,
    policy: Policy,
    rules: Arc<Rules<J, R, A>>,
}

#[derive(Clone)]
struct Rules<J, R, A> {
    judge: J,
    repeat: R,
    answer: A,
}

/// The future of a service with a policy.
pub type GuardFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Policy {
    /// A layer that makes calls by this policy. A service's `Err` is a failure; requests are cloned for retries; and the
    /// error is an [`Error`](super::Error).
    ///
    /// ```
    /// use tenfold::resilience::{Policy, RetryParams};
    /// use tower::{Service, ServiceBuilder, ServiceExt};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let policy = Policy::builder("stock").retry(RetryParams::default()).build();
    /// let stock = tower::service_fn(|article: u32| async move { Ok::<_, std::io::Error>(article * 2) });
    /// let mut stock = ServiceBuilder::new().layer(policy.layer()).service(stock);
    /// assert_eq!(stock.ready().await?.call(21).await?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn layer(&self) -> GuardLayer {
        GuardLayer { policy: self.clone(), rules: Rules { judge: ByResult, repeat: Cloned, answer: AsError } }
    }

    /// A layer for servers of HTTP such as axum: results are judged by status, requests are handled once, and a call without
    /// a result is answered as [`Respond`] says, so that the service's own error type stays.
    pub fn http_layer(&self) -> GuardLayer<ByStatus, Once, Respond> {
        self.layer().judged_by(ByStatus).once().respond()
    }
}

macro_rules! layers {
    ($($piece:ident with $repeat:ident),*) => {$(
        impl $piece {
            /// This alone as a layer. See [`GuardLayer`] for what can be set.
            pub fn layer(&self) -> GuardLayer<ByResult, $repeat> {
                let rules = Rules { judge: ByResult, repeat: $repeat, answer: AsError };
                GuardLayer { policy: Policy::from(self), rules }
            }

            /// This alone as a layer for servers of HTTP. See [`Policy::http_layer`].
            pub fn http_layer(&self) -> GuardLayer<ByStatus, Once, Respond> {
                Policy::from(self).http_layer()
            }
        }
    )*};
}

layers!(Breaker with Once, Bulkhead with Once, Limiter with Once, Shedder with Once, Timeout with Once);

impl Retry {
    /// This alone as a layer. See [`GuardLayer`] for what can be set.
    pub fn layer(&self) -> GuardLayer {
        Policy::from(self).layer()
    }
}

impl<J, R, A> GuardLayer<J, R, A> {
    /// Another judge of results: a closure whose argument has a type, or [`ByStatus`].
    ///
    /// ```
    /// # use tenfold::resilience::{Policy, Verdict};
    /// # let policy = Policy::builder("stock").build();
    /// let judge = |result: &Result<String, std::io::Error>| match result {
    ///     Ok(text) if text == "busy" => Verdict::TRANSIENT,
    ///     Ok(_) => Verdict::Fine,
    ///     Err(_) => Verdict::Failed,
    /// };
    /// let layer = policy.layer().judged_by(judge);
    /// ```
    pub fn judged_by<K>(self, judge: K) -> GuardLayer<K, R, A> {
        let Rules { repeat, answer, .. } = self.rules;
        GuardLayer { policy: self.policy, rules: Rules { judge, repeat, answer } }
    }

    /// Another way to copy a request for the next try: a closure that gives the copy, or `None` for a request that must not
    /// be sent twice; or [`Idempotent`](super::http::Idempotent).
    ///
    /// ```
    /// # use tenfold::resilience::Policy;
    /// # let policy = Policy::builder("stock").build();
    /// let copy = |request: &reqwest::Request| match request.method().is_idempotent() {
    ///     true => request.try_clone(),
    ///     false => None,
    /// };
    /// let layer = policy.layer().repeated_by(copy);
    /// ```
    pub fn repeated_by<K>(self, repeat: K) -> GuardLayer<J, K, A> {
        let Rules { judge, answer, .. } = self.rules;
        GuardLayer { policy: self.policy, rules: Rules { judge, repeat, answer } }
    }

    /// No request is sent twice, and none has to be copied.
    pub fn once(self) -> GuardLayer<J, Once, A> {
        self.repeated_by(Once)
    }

    /// Responses of HTTP instead of errors, as [`Respond`] says.
    pub fn respond(self) -> GuardLayer<J, R, Respond> {
        self.answered_by(Respond)
    }

    /// Responses of the caller's own instead of errors. The service's own error type stays.
    ///
    /// ```
    /// # use tenfold::resilience::{Policy, Refusal};
    /// # let policy = Policy::builder("stock").build();
    /// let layer = policy.layer().respond_with(|refusal: Refusal| format!("not now: {refusal}"));
    /// ```
    pub fn respond_with<F>(self, respond: F) -> GuardLayer<J, R, RespondWith<F>> {
        self.answered_by(RespondWith(respond))
    }

    fn answered_by<B>(self, answer: B) -> GuardLayer<J, R, B> {
        let Rules { judge, repeat, .. } = self.rules;
        GuardLayer { policy: self.policy, rules: Rules { judge, repeat, answer } }
    }
}

impl<S, J: Clone, R: Clone, A: Clone> Layer<S> for GuardLayer<J, R, A> {
    type Service = Guard<S, J, R, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Guard { inner, policy: self.policy.clone(), rules: Arc::new(self.rules.clone()) }
    }
}

impl<S, Req, J, R, A> Service<Req> for Guard<S, J, R, A>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    Req: Send + 'static,
    J: Judge<S::Response, S::Error> + Send + Sync + 'static,
    R: Repeat<Req> + Send + Sync + 'static,
    A: Answer<S::Response, S::Error> + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = A::Error;
    type Future = GuardFuture<S::Response, A::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let failed = |error| match self.rules.answer.answer(super::Error::Inner(error)) {
            // Only a refusal has a response, and this is none: the call will hear of the error again.
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        self.inner.poll_ready(context).map(|ready| ready.or_else(failed))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let (policy, rules) = (self.policy.clone(), Arc::clone(&self.rules));
        Box::pin(async move {
            let mut tries = Tries { ready: Some(ready), spare: None, request: Some(request) };
            let repeat = policy.repeats().then_some(&rules.repeat);
            let result = policy.run(&rules.judge, || tries.begin(repeat)).await;
            result.or_else(|error| rules.answer.answer(error))
        })
    }
}

/// The tries of one request.
struct Tries<S, Req> {
    /// The service that was asked for readiness.
    ready: Option<S>,
    /// One to clone for further tries.
    spare: Option<S>,
    request: Option<Req>,
}

impl<S: Clone, Req> Tries<S, Req> {
    /// Begins a try, and says whether there can be another.
    fn begin<R>(
        &mut self,
        repeat: Option<&R>,
    ) -> (impl Future<Output = Result<S::Response, S::Error>> + use<S, Req, R>, bool)
    where
        S: Service<Req>,
        R: Repeat<Req>,
    {
        let request = self.request.take();
        self.request = request.as_ref().zip(repeat).and_then(|(request, repeat)| repeat.repeat(request));
        let is_repeatable = self.request.is_some();
        let is_ready = self.ready.is_some();
        let service = self.ready.take().or_else(|| self.spare.clone());
        if is_ready && is_repeatable {
            self.spare = service.clone();
        }
        let call = async move {
            let (Some(mut service), Some(request)) = (service, request) else {
                unreachable!("a try begins only after one that said it could be followed")
            };
            if !is_ready {
                std::future::poll_fn(|context| service.poll_ready(context)).await?;
            }
            let response = service.call(request);
            // It holds nothing of this call any more, and may hold what the next one waits for.
            drop(service);
            response.await
        };
        (call, is_repeatable)
    }
}

impl<J, R, A> fmt::Debug for Rules<J, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}
