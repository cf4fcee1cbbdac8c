//! Files that a route serves.

use std::path::PathBuf;

pub use coding::Coding;

/// Serves the files of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesParams {
    /// The directory.
    pub root: PathBuf,
    /// The file that stands for a directory.
    pub index: FilePath,
    /// Codings in which files may stand beside themselves; of those that a client likes as much, the first.
    pub precompressed: Vec<Coding>,
    /// What is served in place of a file that is not there.
    pub fallback: Option<FilePath>,
    /// Whether names that begin with a dot are served.
    pub hidden: bool,
}

/// A path of a file below a directory, which stays below it: names and slashes, no name of which is empty, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(String);

impl FilePath {
    /// Checks a path, without a slash before or behind it. `None` when it is none.
    pub fn new(text: &str) -> Option<Self> {
        let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['\0', '\\']);
        text.split('/').all(is_name).then(|| Self(text.to_owned()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        let check = |text: &str, good: bool| assert_eq!(FilePath::new(text).is_some(), good, "{text:?}");
        check("index.html", true);
        check("app/index.html", true);
        check("a b/\u{fc}.txt", true);
        check("..a/.b", true);
        for text in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a\0", "a\\b"] {
            check(text, false);
        }
    }
}
