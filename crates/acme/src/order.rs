//! One order: from the request for a certificate to the certificate.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use net::tls::Slot;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::params::Challenge;
use crate::selfsigned;
use crate::storage::StorageError;
use crate::tokens::{Given, Tokens};

/// How long the authority may take to look at a challenge, and then to issue.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(120));

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The storage does not work.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The stored account cannot be read.
    #[error("the stored account is damaged: {0}")]
    AccountDamaged(serde_json::Error),
    /// The authority could not be asked, or refused.
    #[error("{0}")]
    Authority(#[from] Error),
    /// It has not found that the host is held here.
    #[error("the authority could not verify the host: {0}")]
    Unverified(String),
    /// It does not offer the challenge.
    #[error("the authority does not offer the challenge {0}")]
    NoChallenge(&'static str),
    /// What it has issued cannot be used.
    #[error("what the authority has issued cannot be used: {0}")]
    Unusable(String),
    /// Something here does not work.
    #[error("{0}")]
    Local(String),
    /// The order took too long.
    #[error("the order took longer than {0:?}")]
    TimedOut(Duration),
}

/// A certificate as it was issued, with its key, both in PEM.
pub(crate) struct Issued {
    pub(crate) key: String,
    pub(crate) chain: String,
}

/// What an order is for.
pub(crate) struct Request<'r> {
    pub(crate) host: &'r str,
    pub(crate) challenge: Challenge,
    pub(crate) slot: &'r Arc<Slot>,
    pub(crate) tokens: &'r Tokens,
    /// The certificate that is replaced, if the authority follows that.
    pub(crate) replaces: Option<CertificateIdentifier<'static>>,
}

/// An answer that waits for the authority, until it is dropped.
enum Staged {
    Token { _given: Given },
    Handshake(Arc<Slot>),
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Self::Handshake(slot) = self {
            // Only a certificate could be refused.
            let _ended = slot.set_challenge(None);
        }
    }
}

/// Orders a certificate.
pub(crate) async fn run(account: &Account, request: &Request<'_>) -> Result<Issued, Failure> {
    let mut order = begin(account, request).await?;
    let mut staged = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(Failure::Unverified(format!("the authorization is {status:?}").to_lowercase())),
        }
        let (kind, name) = match request.challenge {
            Challenge::Http01 => (ChallengeType::Http01, "http-01"),
            Challenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        };
        let mut challenge = authorization.challenge(kind).ok_or(Failure::NoChallenge(name))?;
        staged.push(stage(request, &challenge)?);
        challenge.set_ready().await?;
    }
    if !matches!(order.state().status, OrderStatus::Ready) && order.poll_ready(&POLL).await? != OrderStatus::Ready {
        return Err(Failure::Unverified(reason(&mut order).await));
    }
    drop(staged);
    let (key, request) = signing_request(request.host).map_err(|error| Failure::Local(error.to_string()))?;
    order.finalize_csr(&request).await?;
    let chain = match order.state().status {
        OrderStatus::Valid => order.certificate().await?,
        _ => Some(order.poll_certificate(&POLL).await?),
    };
    let chain = chain.ok_or_else(|| Failure::Unusable("there is no certificate".to_owned()))?;
    Ok(Issued { key, chain })
}

async fn begin(account: &Account, request: &Request<'_>) -> Result<Order, Failure> {
    let identifiers = [Identifier::Dns(request.host.to_owned())];
    if let Some(replaced) = request.replaces.clone() {
        match account.new_order(&NewOrder::new(&identifiers).replaces(replaced)).await {
            Ok(order) => return Ok(order),
            // RFC 9773 section 5: a certificate that was replaced already, or one that the authority does not know, is no
            // reason to be without another.
            Err(Error::Api(problem)) if problem.status.is_none_or(|status| status < 429) => {
                tracing::debug!(host = request.host, %problem, "the order does not name what it replaces");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(account.new_order(&NewOrder::new(&identifiers)).await?)
}

/// Has the answer ready before the authority asks.
fn stage(request: &Request<'_>, challenge: &ChallengeHandle<'_>) -> Result<Staged, Failure> {
    let answer = challenge.key_authorization();
    match request.challenge {
        Challenge::Http01 => {
            Ok(Staged::Token { _given: request.tokens.give(challenge.token.clone(), answer.as_str()) })
        }
        Challenge::TlsAlpn01 => {
            let digest = answer.digest();
            let digest = digest.as_ref().try_into().map_err(|_| Failure::Local("a digest is not whole".to_owned()))?;
            let certificate = selfsigned::answer(request.host, digest).map_err(Failure::Local)?;
            request.slot.set_challenge(Some(&certificate)).map_err(Failure::Local)?;
            Ok(Staged::Handshake(Arc::clone(request.slot)))
        }
    }
}

/// What the authority says about a challenge that was not met.
async fn reason(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return problem.to_string();
        }
    }
    "it gives no reason".to_owned()
}

/// A fresh key in PEM, and the request to sign it in DER. A key is never used for a second certificate.
fn signing_request(host: &str) -> Result<(String, Vec<u8>), rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}
