use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("crates/xtask is two folders below the root").to_owned()
}

/// The cargo that runs this, or the one on the path.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A file of the repository with its placeholders filled in.
pub(crate) fn template(file: &str, values: &[(&str, String)]) -> Result<String> {
    let path = root().join(file);
    let mut text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for (placeholder, value) in values {
        text = text.replace(placeholder, value);
    }
    Ok(text)
}
