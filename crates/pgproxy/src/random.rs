//! Random bytes that nobody can guess.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// Random bytes, from the library that does TLS.
///
/// # Panics
/// When the system has none, which it does not survive either.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let mut bytes = [0; N];
    PROVIDER.secure_random.fill(&mut bytes).expect("the system has random bytes");
    bytes
}
