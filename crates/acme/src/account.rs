//! The account with an authority: opened once, then taken from the storage.

use std::time::Duration;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};

use crate::http::Http;
use crate::order::Failure;
use crate::params::IssuerParams;
use crate::storage::Storage;

/// Pause between two looks whether another process has opened the account.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The account, as it is stored; `None` when there is none yet.
pub(crate) async fn stored(storage: &Storage, http: &Http) -> Result<Option<Account>, Failure> {
    let Some(bytes) = storage.account()? else { return Ok(None) };
    let credentials: AccountCredentials = serde_json::from_slice(&bytes).map_err(Failure::AccountDamaged)?;
    let builder = Account::builder_with_http(Box::new(http.clone()));
    Ok(Some(builder.from_credentials(credentials).await?))
}

/// The account; one is opened if there is none yet.
pub(crate) async fn open(issuer: &IssuerParams, storage: &Storage, http: &Http) -> Result<Account, Failure> {
    let lock = loop {
        if let Some(account) = stored(storage, http).await? {
            return Ok(account);
        }
        match storage.lock_account()? {
            Some(lock) => break lock,
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    };
    // Who had the lock before may have opened it.
    if let Some(account) = stored(storage, http).await? {
        return Ok(account);
    }
    let contact = issuer.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let binding =
        issuer.binding.as_ref().map(|binding| ExternalAccountKey::new(binding.key_id.clone(), &binding.hmac_key));
    let builder = Account::builder_with_http(Box::new(http.clone()));
    let (account, credentials) = builder.create(&new, issuer.directory.clone(), binding.as_ref()).await?;
    let credentials = serde_json::to_vec_pretty(&credentials).map_err(Failure::AccountDamaged)?;
    storage.store_account(&credentials, &lock)?;
    tracing::info!(directory = issuer.directory, account = account.id(), "an account was opened");
    Ok(account)
}

/// Puts the account aside that the authority says it does not know, so that the next try opens another.
pub(crate) fn retire(storage: &Storage) -> Result<(), Failure> {
    if let Some(lock) = storage.lock_account()? {
        storage.retire_account(&lock)?;
    }
    Ok(())
}
