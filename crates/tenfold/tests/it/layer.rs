//! Layers: readiness belongs to the value that was asked for it, and goes back when it is not used.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tenfold::resilience::{
    Breaker, BreakerParams, Bulkhead, BulkheadParams, Error, Force, KeyedLimiter, Limiter, Policy, Quota, Rate,
    Refusal, Retry, RetryParams, Timeout, Verdict,
};
use tenfold::testing::ManualClock;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::poll;

/// A service with so many places, of which readiness reserves one for the call that follows. A clone has reserved nothing.
struct Places {
    shared: Arc<Shared>,
    is_reserved: bool,
}

struct Shared {
    free: AtomicU32,
    requests: Mutex<Vec<String>>,
    /// Answers to give, and errors; the last one again and again.
    answers: Vec<Result<&'static str, &'static str>>,
}

impl Places {
    fn new(places: u32, answers: &[Result<&'static str, &'static str>]) -> Self {
        let shared = Shared { free: AtomicU32::new(places), requests: Mutex::default(), answers: answers.to_vec() };
        Self { shared: Arc::new(shared), is_reserved: false }
    }
}

impl Clone for Places {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), is_reserved: false }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if self.is_reserved {
            self.shared.free.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Service<String> for Places {
    type Response = &'static str;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Result<&'static str, &'static str>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.is_reserved {
            return Poll::Ready(Ok(()));
        }
        let reserve = |free: u32| free.checked_sub(1);
        if self.shared.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, reserve).is_err() {
            return Poll::Pending;
        }
        self.is_reserved = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: String) -> Self::Future {
        assert!(self.is_reserved, "it was called without having been ready");
        self.is_reserved = false;
        let mut requests = self.shared.requests.lock().unwrap();
        let answer = *self.shared.answers.get(requests.len()).or(self.shared.answers.last()).unwrap();
        requests.push(request);
        // The place is held while the call is under way.
        let place = Self { shared: Arc::clone(&self.shared), is_reserved: true };
        Box::pin(async move {
            let _place = place;
            if answer == Ok("never") {
                std::future::pending::<()>().await;
            }
            answer
        })
    }
}

fn free(places: &Places) -> u32 {
    places.shared.free.load(Ordering::SeqCst)
}

fn requests(places: &Places) -> Vec<String> {
    places.shared.requests.lock().unwrap().clone()
}

async fn ask<S: Service<String>>(service: &mut S, request: &str) -> Result<S::Response, S::Error> {
    service.ready().await?.call(request.to_owned()).await
}

#[test]
fn a_refused_call_gives_readiness_back() {
    let clock = ManualClock::new();
    let breaker = Breaker::with_clock("stock", BreakerParams::default(), &clock);
    let places = Places::new(1, &[Ok("fine")]);
    let mut service = ServiceBuilder::new().layer(breaker.layer()).service(places.clone());
    breaker.force(Some(Force::Open));
    for _ in 0..3 {
        assert!(matches!(clock.run(ask(&mut service, "one")), Err(Error::Open { .. })));
        assert_eq!(free(&places), 1);
    }
    breaker.force(None);
    assert_eq!(clock.run(ask(&mut service, "two")), Ok("fine"));
    assert_eq!((free(&places), requests(&places)), (1, vec!["two".to_owned()]));
}

#[test]
fn a_dropped_call_gives_everything_back() {
    let clock = ManualClock::new();
    let params = BulkheadParams { concurrency_max: 1, queue_max: 1, ..BulkheadParams::default() };
    let bulkhead = Bulkhead::with_clock("stock", params, &clock);
    let places = Places::new(3, &[Ok("never")]);
    let mut service = ServiceBuilder::new().layer(bulkhead.layer()).service(places.clone());
    let mut begin = || clock.run(service.ready()).unwrap().call("one".to_owned());
    let (mut under_way, mut waits) = (begin(), begin());
    assert!(poll(under_way.as_mut()).is_pending() && poll(waits.as_mut()).is_pending());
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting, free(&places)), (1, 1, 1));
    drop((under_way, waits));
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.waiting, free(&places)), (0, 0, 3));
}

#[test]
fn readiness_that_never_leads_to_a_call_is_given_back() {
    let clock = ManualClock::new();
    let policy = Policy::builder_with_clock("stock", &clock).retry(RetryParams::default()).build();
    let places = Places::new(1, &[Ok("fine")]);
    let mut service = ServiceBuilder::new().layer(policy.layer()).service(places.clone());
    clock.run(service.ready()).unwrap();
    assert_eq!(free(&places), 0);
    let mut clone = service.clone();
    assert!(poll(Box::pin(clone.ready()).as_mut()).is_pending(), "a clone has reserved nothing");
    drop(service);
    assert_eq!(clock.run(ask(&mut clone, "one")), Ok("fine"));
}

#[test]
fn each_further_try_is_a_copy_on_a_service_that_was_ready() {
    let clock = ManualClock::new();
    let retry = Retry::with_clock("stock", RetryParams::default(), &clock);
    let places = Places::new(1, &[Err("busy"), Err("busy"), Ok("fine")]);
    let mut service = ServiceBuilder::new().layer(retry.layer()).service(places.clone());
    assert_eq!(clock.run(ask(&mut service, "one")), Ok("fine"));
    assert_eq!(requests(&places), ["one", "one", "one"]);
    assert_eq!(free(&places), 1);
}

#[test]
fn what_must_not_be_sent_twice_is_not() {
    let clock = ManualClock::new();
    let retry = Retry::with_clock("stock", RetryParams::default(), &clock);
    let copy = |request: &String| request.starts_with("get").then(|| request.clone());
    let places = Places::new(1, &[Err("busy")]);
    let layer = retry.layer().repeated_by(copy);
    let mut service = ServiceBuilder::new().layer(layer).service(places.clone());
    for (request, tries) in [("get", 3), ("post", 1)] {
        let before = requests(&places).len();
        assert_eq!(clock.run(ask(&mut service, request)), Err(Error::Inner("busy")));
        assert_eq!(requests(&places).len() - before, tries, "{request}");
    }
    let mut service = ServiceBuilder::new().layer(retry.layer().once()).service(places.clone());
    let before = requests(&places).len();
    assert!(clock.run(ask(&mut service, "get")).is_err());
    assert_eq!(requests(&places).len() - before, 1);
}

#[test]
fn a_judge_decides_what_a_failure_is() {
    let clock = ManualClock::new();
    let policy = Policy::builder_with_clock("stock", &clock).retry(RetryParams::default()).build();
    let judge = |result: &Result<&'static str, &'static str>| match result {
        Ok("empty") => Verdict::TRANSIENT,
        Ok(_) => Verdict::Fine,
        Err(_) => Verdict::Failed,
    };
    let layer = policy.layer().judged_by(judge);
    for (answers, expected, tries) in [
        (vec![Ok("empty"), Ok("full")], Ok("full"), 2),
        (vec![Ok("empty")], Ok("empty"), 3),
        (vec![Err("no such article")], Err(Error::Inner("no such article")), 1),
    ] {
        let places = Places::new(1, &answers);
        let mut service = ServiceBuilder::new().layer(layer.clone()).service(places.clone());
        assert_eq!(clock.run(ask(&mut service, "one")), expected);
        assert_eq!(requests(&places).len(), tries);
    }
}

#[test]
fn layers_of_single_pieces_can_be_stacked() {
    let clock = ManualClock::new();
    let limiter = Limiter::with_clock("stock", Quota::gcra(Rate::per_sec(1), 1).unwrap(), &clock);
    let timeout = Timeout::with_clock("stock", Duration::from_millis(10), &clock);
    let places = Places::new(1, &[Ok("never")]);
    let mut service = ServiceBuilder::new()
        .map_err(Error::flatten)
        .layer(limiter.layer())
        .layer(timeout.layer())
        .service(places.clone());
    let result: Result<_, Error<&str>> = clock.run(ask(&mut service, "one"));
    assert!(matches!(result, Err(Error::TimedOut { .. })));
    assert!(matches!(clock.run(ask(&mut service, "two")), Err(Error::Limited { .. })));
    assert_eq!((free(&places), requests(&places).len()), (1, 1));
}

#[test]
fn refusals_can_be_answered_and_errors_stay() {
    let clock = ManualClock::new();
    let breaker = Breaker::with_clock("stock", BreakerParams::default(), &clock);
    let layer = breaker.layer().respond_with(|refusal: Refusal| match refusal {
        Error::Open { .. } => "open",
        _ => "another",
    });
    let mut service = ServiceBuilder::new().layer(layer).service(Places::new(1, &[Err("down")]));
    for _ in 0..5 {
        assert_eq!(clock.run(ask(&mut service, "one")), Err("down"));
    }
    assert_eq!(clock.run(ask(&mut service, "one")), Ok("open"));
}

#[test]
fn requests_are_limited_by_their_keys() {
    let clock = ManualClock::new();
    let quota = Quota::gcra(Rate::per_sec(1), 1).unwrap();
    let limiter = KeyedLimiter::with_clock("tenant", quota, 100, &clock).unwrap();
    let key = |request: &String| request.split_once(' ').map(|(tenant, _)| tenant.to_owned());
    let places = Places::new(1, &[Ok("fine")]);
    let mut service = ServiceBuilder::new().layer(limiter.layer_by(key)).service(places.clone());
    for (request, passes) in
        [("ann 1", true), ("ann 2", false), ("bob 1", true), ("nobody", true), ("nobody", true), ("bob 2", false)]
    {
        let result = clock.run(ask(&mut service, request));
        assert_eq!(result.is_ok(), passes, "{request}: {result:?}");
        assert_eq!(free(&places), 1, "what was reserved for a refused call is given back");
        if !passes {
            // It is still ready, so what is asked next takes the place that was reserved.
            assert_eq!(clock.run(ask(&mut service, "nobody")), Ok("fine"));
        }
    }
}

#[test]
fn guards_can_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let policy = Policy::builder("stock").retry(RetryParams::default()).build();
    let service = tower::service_fn(|number: u32| async move { Ok::<_, Infallible>(number) });
    shared(&policy);
    shared(&policy.layer());
    shared(&ServiceBuilder::new().layer(policy.layer()).service(service));
}
