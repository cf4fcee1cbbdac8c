//! What the compiler and clippy do not know about this repository: which crate may know which, what cores are free of,
//! how long files and functions may be, that documents link to what exists, that licences are allowed.
//!
//! Each check takes a [`Tree`] and gives findings; an empty list is a pass.

mod arrows;
mod cores;
mod licences;
mod links;
mod manifests;
mod markers;
mod paths;
mod sizes;
mod source;
mod tree;

use std::fmt;

use anyhow::Result;

pub use tree::Tree;

/// Something to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A file, with a line where there is one, or a crate.
    pub place: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Runs every check on the repository.
///
/// # Errors
/// When the repository cannot be read, or a finding was made; all findings are printed first.
pub fn run() -> Result<()> {
    let tree = Tree::of_repository()?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&tree));
    findings.extend(cores::check(&tree)?);
    findings.extend(manifests::check(&tree));
    findings.extend(paths::check(&tree));
    findings.extend(sizes::check(&tree)?);
    findings.extend(markers::check(&tree));
    findings.extend(links::check(&tree));
    findings.extend(licences::check(&tree)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    anyhow::ensure!(findings.is_empty(), "tidy: {} to mend", findings.len());
    let files = tree.sources().count();
    println!("tidy: {} crates, {files} source files, nothing to mend", tree.packages().len());
    Ok(())
}
