//! Files of a directory as what a route serves.
//!
//! [`path`] reads where a request's path leads, [`open`] gets there without ever leaving the root, [`representation`],
//! [`precondition`] and [`range`] decide what of the file is sent and what is said of it, and [`answer`] puts that
//! together. All that can wait for a disk is in [`Files::look_up`] and in reading; `data::files` calls it, on a thread
//! where the kernel cannot answer at once, and sends.
//!
//! The server is our own, for the libraries there are (`tower-http`, `hyper-staticfile`, `http-serve`) give bodies of
//! hyper that a multi-threaded runtime reads in the background and copies through memory: nothing in them could use
//! `sendfile`, ask the kernel whether a read would block, or keep links below the root. What they stand on is used: types
//! by `mime_guess`, dates by `httpdate`, and the kernel's own resolution by `rustix`.

mod answer;
mod open;
mod path;
mod precondition;
mod range;
mod representation;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use coding::{Accepted, Coding};
use rustix::fs::Stat;

pub(crate) use answer::{Serving, answer, missing, wrong_method};
pub(crate) use open::Missed;
pub(crate) use path::{Below, below};

use open::{Means, Opened};

use crate::params::{FilePath, FilesParams};
use crate::router::Asked;

/// The files of a route.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    index: FilePath,
    precompressed: Box<[Coding]>,
    fallback: Option<FilePath>,
    /// Whether names that begin with a dot are served.
    pub(crate) hidden: bool,
    means: Means,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    path: Below,
    /// Codings that the client takes, the best first.
    codings: Vec<Coding>,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A file.
    File(FoundFile),
    /// A directory whose path lacks its last slash.
    Directory,
}

/// A file, and how it is to be understood.
#[derive(Debug)]
pub(crate) struct FoundFile {
    file: Arc<File>,
    stat: Stat,
    coding: Option<Coding>,
    /// Its type, and whether that is text in UTF-8.
    kind: (&'static str, bool),
}

impl Files {
    /// Files with these settings.
    pub(crate) fn new(params: &FilesParams) -> Self {
        if !params.root.is_dir() {
            // It may come yet, so it is no error.
            tracing::warn!(root = %params.root.display(), "the directory of a route for files is not there");
        }
        Self {
            root: params.root.clone(),
            index: params.index.clone(),
            precompressed: params.precompressed.as_slice().into(),
            fallback: params.fallback.clone(),
            hidden: params.hidden,
            means: Means::of_kernel(),
        }
    }

    /// What a request looks for by this path.
    pub(crate) fn sought(&self, path: Below, asked: &Asked<'_>) -> Sought {
        let codings = if self.precompressed.is_empty() {
            Vec::new()
        } else {
            let fields = asked.request.fields.named(asked.head, b"accept-encoding");
            Accepted::read(fields).ranked(&self.precompressed).collect()
        };
        Sought { path, codings }
    }

    /// Whether what is sent depends on the codings that the client takes.
    pub(crate) fn varies(&self) -> bool {
        !self.precompressed.is_empty()
    }

    /// Looks for it. `cached` tells to give up with [`Missed::Later`] where the disk would have to be read.
    pub(crate) fn look_up(&self, sought: &Sought, cached: bool) -> Result<Found, Missed> {
        let root = open::root(&self.root, self.means, cached)?;
        let open = |relative: &[u8]| open::file(&root, relative, self.means, cached);
        let mut relative = sought.path.relative.clone();
        if sought.path.is_directory {
            if !relative.is_empty() {
                relative.push(b'/');
            }
            relative.extend_from_slice(self.index.as_str().as_bytes());
        }
        let opened = match (open(&relative), &self.fallback) {
            (Err(Missed::Directory), _) if !sought.path.is_directory => return Ok(Found::Directory),
            (Err(Missed::Missing | Missed::Directory), Some(fallback)) => {
                relative.clear();
                relative.extend_from_slice(fallback.as_str().as_bytes());
                open(&relative)
            }
            (opened, _) => opened,
        };
        let opened = opened.map_err(|missed| if missed == Missed::Directory { Missed::Missing } else { missed })?;
        let kind = representation::kind(&relative);
        for &coding in &sought.codings {
            let plain = relative.len();
            relative.extend_from_slice(coding.suffix().as_bytes());
            match open(&relative) {
                Ok(variant) if is_current(&variant, &opened) => {
                    let Opened { file, stat } = variant;
                    return Ok(Found::File(FoundFile { file: Arc::new(file), stat, coding: Some(coding), kind }));
                }
                Err(Missed::Later) => return Err(Missed::Later),
                // A variant that cannot be had is done without.
                Ok(_) | Err(_) => relative.truncate(plain),
            }
        }
        let Opened { file, stat } = opened;
        Ok(Found::File(FoundFile { file: Arc::new(file), stat, coding: None, kind }))
    }
}

/// Whether a variant is not older than its file, which it would not tell the truth about.
fn is_current(variant: &Opened, of: &Opened) -> bool {
    representation::modified(&variant.stat) >= representation::modified(&of.stat)
}

/// Reads what is in memory from a place in a file on: how many bytes, 0 at its end.
pub(crate) fn read_now(file: &File, into: &mut [u8], at: u64) -> rustix::io::Result<usize> {
    use std::io::IoSliceMut;

    use rustix::io::ReadWriteFlags;
    rustix::io::preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT)
}

/// Reads at most so many bytes from a place on, and waits for the disk. Fewer come at the end of the file only.
pub(crate) fn read(file: &File, at: u64, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; bytes_max];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
