//! Keeps the certificate of one host.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use instant_acme::{CertificateIdentifier, Error};
use net::Lock;
use net::tls::pem::PemObject;
use net::tls::{Certificate, CertificateDer, PrivateKeyDer, Slot};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::http::{Http, Seen};
use crate::order::{self, Failure, Issued, Request};
use crate::params::IssuerParams;
use crate::storage::Storage;
use crate::tokens::Tokens;
use crate::{account, schedule, selfsigned};

/// Orders under way at once, of all hosts.
const ORDERS_MAX: usize = 4;

/// Time for an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);

/// Pause between two looks at the clock, which may be set, and at the storage, where another process may have put a
/// certificate.
const LOOK: Duration = Duration::from_secs(600);

/// Pause between two tries for a lock that another process has while it orders.
const LOCK_LOOK: Duration = Duration::from_secs(2);

/// How often an authority is asked when to renew, by RFC 9773 section 4.3.2: what it says, within these, and the
/// middle one where it says nothing.
const ADVICE_MIN: Duration = Duration::from_secs(60);
const ADVICE_USUAL: Duration = Duration::from_secs(6 * 3600);
const ADVICE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the keepers of a process share.
#[derive(Clone, Debug)]
pub struct Context {
    tokens: Tokens,
    orders: Arc<Semaphore>,
}

/// What becomes of the certificate of a host.
#[derive(Debug)]
pub struct Kept {
    listener: String,
    host: String,
    slot: Arc<Slot>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    error: Mutex<Option<String>>,
}

/// Orders so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Those that brought a certificate.
    pub succeeded: u64,
    /// Those that did not.
    pub failed: u64,
}

/// Keeps a certificate until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    kept: Arc<Kept>,
    issuer: IssuerParams,
    task: JoinHandle<()>,
}

impl Context {
    /// For a process whose answers to challenges by HTTP are these.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens, orders: Arc::new(Semaphore::new(ORDERS_MAX)) }
    }
}

impl Kept {
    /// A host of a listener, with a placeholder.
    ///
    /// # Errors
    /// When no certificate can be made for the host, as text for people.
    pub fn new(listener: &str, host: &str) -> Result<Self, String> {
        Ok(Self {
            listener: listener.to_owned(),
            host: host.to_owned(),
            slot: Arc::new(Slot::new(selfsigned::placeholder(host)?)),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            error: Mutex::default(),
        })
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What presents the certificate.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// When the certificate expires; `None` while there is only a placeholder.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.slot.issued().map(|certificate| certificate.not_after())
    }

    /// Orders so far.
    pub fn orders(&self) -> Orders {
        Orders { succeeded: self.succeeded.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }

    /// Why the last order failed, unless a certificate has come since.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

impl Keeper {
    /// Begins to keep a certificate, on the runtime that this is called from. What is stored is presented when this
    /// returns.
    pub fn start(kept: Arc<Kept>, issuer: &IssuerParams, context: &Context) -> Self {
        let mut task = Task {
            kept: Arc::clone(&kept),
            storage: Storage::new(&issuer.storage, &issuer.directory),
            issuer: issuer.clone(),
            context: context.clone(),
            random: fastrand::u64(..),
            advice: Advice::default(),
            is_foreign: kept.slot.issued().is_some(),
        };
        // Nothing is served before this, so it may wait for the disk.
        task.adopt(task.storage.certificate(&kept.host));
        if kept.slot.issued().is_none() {
            tracing::warn!(
                listener = kept.listener,
                host = kept.host,
                "there is no certificate yet, and a placeholder is presented; one is ordered"
            );
        }
        let task = tokio::spawn(async move { task.run().await });
        Self { kept, issuer: issuer.clone(), task }
    }

    /// What becomes of the certificate.
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// Who issues it.
    pub fn issuer(&self) -> &IssuerParams {
        &self.issuer
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    kept: Arc<Kept>,
    issuer: IssuerParams,
    storage: Storage,
    context: Context,
    /// Where in its window the certificate is renewed.
    random: u64,
    advice: Advice,
    /// Whether what is presented is from before, perhaps from another authority, so that anything else is better.
    is_foreign: bool,
}

/// When the authority wants the certificate to be renewed.
#[derive(Debug, Default)]
struct Advice {
    window: Option<Range<SystemTime>>,
    /// When to ask again; `None` for now.
    ask_at: Option<SystemTime>,
    /// Whether the authority gives none.
    is_unknown: bool,
}

impl Task {
    async fn run(&mut self) {
        let mut failures: u32 = 0;
        loop {
            self.until_due().await;
            let http = Http::new(&self.issuer.tls);
            let pause = match self.renew(&http).await {
                Ok(()) => {
                    failures = 0;
                    // Whatever was issued, the next order is not at once.
                    schedule::pause(self.issuer.backoff, 1, true, None, fastrand::u64(..))
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    self.note_failure(&failure, failures, http.seen())
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn note_failure(&self, failure: &Failure, failures: u32, seen: Seen) -> Duration {
        let kept = &self.kept;
        let asked = seen.asked.and_then(|at| at.duration_since(SystemTime::now()).ok());
        let pause = schedule::pause(self.issuer.backoff, failures, seen.reached, asked, fastrand::u64(..));
        kept.failed.fetch_add(1, Ordering::Relaxed);
        kept.set_error(Some(failure.to_string()));
        let presented = if kept.slot.issued().is_some() { "the old certificate" } else { "a placeholder" };
        tracing::warn!(
            listener = kept.listener, host = kept.host, error = %failure, failures, again_in = ?pause, presented,
            "no certificate was issued"
        );
        pause
    }

    /// Waits until a certificate is to be ordered.
    async fn until_due(&mut self) {
        loop {
            let found = {
                let (storage, host) = (self.storage.clone(), self.kept.host.clone());
                tokio::task::spawn_blocking(move || storage.certificate(&host)).await
            };
            if let Ok(found) = found {
                self.adopt(found);
            }
            self.ask_advice().await;
            let Some(left) = self.due_in() else { return };
            let advice = self.advice.ask_at.and_then(|at| at.duration_since(SystemTime::now()).ok());
            // One more second, as clocks differ by their rounding.
            let pause = left.min(LOOK).min(advice.map_or(LOOK, |advice| advice + Duration::from_secs(1)));
            tokio::time::sleep(pause).await;
        }
    }

    /// How long the certificate needs no renewal; `None` when it does now.
    fn due_in(&self) -> Option<Duration> {
        let certificate = self.kept.slot.issued().filter(|_| !self.is_foreign)?;
        let valid = certificate.not_before()..certificate.not_after();
        let at = schedule::renewal(&valid, self.advice.window.as_ref(), self.random);
        at.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero())
    }

    /// Presents what is stored, if it is better than what is presented.
    fn adopt(&mut self, stored: Result<Option<Certificate>, net::tls::CertificateError>) {
        let kept = &self.kept;
        let known = kept.not_after();
        match stored {
            Ok(Some(stored)) if self.is_foreign || known.is_none_or(|known| known < stored.not_after()) => {
                tracing::info!(listener = kept.listener, host = kept.host, "the stored certificate is presented");
                self.present(stored);
            }
            Ok(_) => {}
            // Nobody is served worse by it than by none.
            Err(error) if known.is_none() => {
                tracing::warn!(listener = kept.listener, host = kept.host, %error, "the stored certificate is not used");
            }
            Err(error) => tracing::debug!(host = kept.host, %error, "the stored certificate is not used"),
        }
    }

    fn present(&mut self, certificate: Certificate) {
        self.kept.slot.issue(certificate);
        self.is_foreign = false;
        self.kept.set_error(None);
        self.random = fastrand::u64(..);
        self.advice = Advice::default();
    }

    /// Asks the authority when to renew what is presented, if it is time to ask.
    async fn ask_advice(&mut self) {
        let Some(certificate) = self.kept.slot.issued() else { return };
        let now = SystemTime::now();
        if self.advice.is_unknown || self.advice.ask_at.is_some_and(|at| at > now) || self.due_in().is_none() {
            return;
        }
        self.advice.ask_at = Some(now + ADVICE_USUAL);
        let Ok(id) = CertificateIdentifier::try_from(certificate.leaf()).map(CertificateIdentifier::into_owned) else {
            self.advice.is_unknown = true;
            return;
        };
        let http = Http::new(&self.issuer.tls);
        let asked = async {
            let Some(account) = account::stored(&self.storage, &http).await? else { return Ok(None) };
            Ok::<_, Failure>(Some(account.renewal_info(&id).await?))
        };
        match asked.await {
            Ok(Some((info, again))) => {
                let window = SystemTime::from(info.suggested_window.start)..info.suggested_window.end.into();
                self.advice.window = (window.start <= window.end).then_some(window);
                self.advice.ask_at = Some(now + again.clamp(ADVICE_MIN, ADVICE_MAX));
            }
            Ok(None) | Err(Failure::Authority(Error::Unsupported(_))) => self.advice.is_unknown = true,
            // It is asked again, and the certificate is renewed in time without.
            Err(error) => tracing::debug!(host = self.kept.host, %error, "the authority does not say when to renew"),
        }
    }

    /// Orders a certificate, unless somebody else has.
    async fn renew(&mut self, http: &Http) -> Result<(), Failure> {
        let lock = loop {
            if let Some(lock) = self.storage.lock_host(&self.kept.host)? {
                break lock;
            }
            // Another process, or another listener, orders for the same host.
            tokio::time::sleep(LOCK_LOOK).await;
        };
        self.adopt(self.storage.certificate(&self.kept.host));
        if self.due_in().is_some() {
            return Ok(());
        }
        let orders = Arc::clone(&self.context.orders);
        let _place = orders.acquire().await.map_err(|error| Failure::Local(error.to_string()))?;
        let order = tokio::time::timeout(ORDER_TIMEOUT, self.order(http));
        let issued = order.await.unwrap_or(Err(Failure::TimedOut(ORDER_TIMEOUT)))?;
        let certificate = self.check(&issued)?;
        self.store(issued, lock).await?;
        let kept = &self.kept;
        kept.succeeded.fetch_add(1, Ordering::Relaxed);
        let days = certificate.not_after().duration_since(SystemTime::now()).unwrap_or_default().as_secs() / 86_400;
        tracing::info!(listener = kept.listener, host = kept.host, days, "a certificate was issued");
        self.present(certificate);
        Ok(())
    }

    async fn order(&self, http: &Http) -> Result<Issued, Failure> {
        let kept = &self.kept;
        tracing::info!(
            listener = kept.listener,
            host = kept.host,
            directory = self.issuer.directory,
            "a certificate is ordered"
        );
        let account = account::open(&self.issuer, &self.storage, http).await?;
        // An authority that advises knows what it has issued.
        let known = kept.slot.issued().filter(|_| self.advice.window.is_some());
        let replaces = known.and_then(|known| {
            CertificateIdentifier::try_from(known.leaf()).ok().map(CertificateIdentifier::into_owned)
        });
        let (slot, tokens) = (&kept.slot, &self.context.tokens);
        let request = Request { host: &kept.host, challenge: self.issuer.challenge, slot, tokens, replaces };
        let result = order::run(&account, &request).await;
        if let Err(Failure::Authority(Error::Api(problem))) = &result
            && problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist"))
        {
            account::retire(&self.storage)?;
        }
        result
    }

    /// The certificate, if it is one for this host that can be presented.
    fn check(&self, issued: &Issued) -> Result<Certificate, Failure> {
        let unusable = |error: String| Failure::Unusable(error);
        let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| unusable(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        let certificate = Certificate::new(chain, key, SystemTime::now());
        let certificate = certificate.map_err(|problem| unusable(problem.to_string()))?;
        if !certificate.names().contains(&self.kept.host) {
            return Err(unusable(format!("it is for {}", certificate.names().join(", "))));
        }
        Ok(certificate)
    }

    async fn store(&self, issued: Issued, lock: Lock) -> Result<(), Failure> {
        let (storage, host) = (self.storage.clone(), self.kept.host.clone());
        let stored = move || storage.store_certificate(&host, &issued.key, &issued.chain, &lock);
        let stored = tokio::task::spawn_blocking(stored).await;
        Ok(stored.map_err(|error| Failure::Local(error.to_string()))??)
    }
}
