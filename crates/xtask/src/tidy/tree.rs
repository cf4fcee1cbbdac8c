use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::source::Source;
use crate::repository;

/// A repository as the checks see it: its crates, Rust sources and Markdown documents, read once.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    packages: Vec<Package>,
    sources: Vec<Source>,
    documents: Vec<(PathBuf, String)>,
}

/// A crate of the workspace.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest_path: PathBuf,
    pub(super) dependencies: Vec<Dependency>,
}

/// A line of `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `None` for a normal one.
    pub(super) kind: Option<String>,
    /// The folder of one within the workspace.
    pub(super) path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Tree {
    /// This repository.
    ///
    /// # Errors
    /// When cargo fails or a file cannot be read or parsed.
    pub fn of_repository() -> Result<Self> {
        let root = repository::root();
        let mut command = Command::new(repository::cargo());
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(&root);
        let output = command.output().context("cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        Self::new(root, metadata.packages)
    }

    pub(super) fn new(root: PathBuf, packages: Vec<Package>) -> Result<Self> {
        let mut tree = Self { root, packages, sources: Vec::new(), documents: Vec::new() };
        let mut folders = vec![tree.root.clone()];
        while let Some(folder) = folders.pop() {
            let mut entries: Vec<_> = std::fs::read_dir(&folder)
                .with_context(|| folder.display().to_string())?
                .collect::<std::io::Result<_>>()?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                // Links are not followed: what they lead to is checked where it stands.
                // What tools put there is not this repository's.
                let is_foreign = name.starts_with('.') || name == "target" || name == "node_modules";
                if entry.file_type()?.is_dir() && !is_foreign {
                    folders.push(path);
                } else if entry.file_type()?.is_file() {
                    tree.read(&path)?;
                }
            }
        }
        Ok(tree)
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let relative = path.strip_prefix(&self.root)?.to_owned();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => self.sources.push(Source::parse(relative, &read(path)?)?),
            Some("md") => self.documents.push((relative, read(path)?)),
            _ => {}
        }
        Ok(())
    }

    /// The folder that everything is in.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Every Rust file.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter()
    }

    /// The Rust files in a crate's `src` folder.
    pub(super) fn sources_of(&self, package: &Package) -> impl Iterator<Item = &Source> {
        let folder = package.manifest_path.with_file_name("src");
        self.sources.iter().filter(move |source| self.root.join(&source.path).starts_with(&folder))
    }

    /// Every Markdown file: its path from the root, and its text.
    pub(super) fn documents(&self) -> &[(PathBuf, String)] {
        &self.documents
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Small invented trees, for the checks' tests.
#[cfg(test)]
pub(super) mod invented {
    use testkit::TempDir;

    use super::{Dependency, Package, Tree};

    /// A tree of these files, and a package for each `Cargo.toml` in `crates/NAME`. The folder goes with the guard.
    pub(crate) fn tree(files: &[(&str, &str)]) -> (Tree, TempDir) {
        let dir = TempDir::new().unwrap();
        let mut packages = Vec::new();
        for (path, text) in files {
            let written = dir.write(path, text).unwrap();
            if let Some(name) = path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml")) {
                packages.push(Package { name: name.into(), manifest_path: written, dependencies: Vec::new() });
            }
        }
        (Tree::new(dir.path().to_owned(), packages).unwrap(), dir)
    }

    /// A tree without files, of crates that depend on each other: (crate, kind, dependency).
    pub(crate) fn crates(arrows: &[(&str, Option<&str>, &str)]) -> Tree {
        let mut packages: Vec<Package> = Vec::new();
        for &(name, kind, on) in arrows {
            let dependency = Dependency { name: on.into(), kind: kind.map(Into::into), path: Some(on.into()) };
            match packages.iter_mut().find(|package| package.name == name) {
                Some(package) => package.dependencies.push(dependency),
                None => {
                    let (manifest_path, dependencies) = (format!("{name}/Cargo.toml").into(), vec![dependency]);
                    packages.push(Package { name: name.into(), manifest_path, dependencies });
                }
            }
        }
        Tree { root: "/".into(), packages, sources: Vec::new(), documents: Vec::new() }
    }
}
