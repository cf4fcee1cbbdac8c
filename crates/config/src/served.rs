//! `files` of a route to the parameters of what it serves.

use gateway::params::{Coding, FilePath, FilesParams};

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::raw::{CodingWord, RawFiles};
use crate::tls::Files;
use crate::value::Text;

/// The files of a route; `None` when something is wrong, which is reported.
pub(crate) fn params(key: &str, raw: &RawFiles, files: &Files<'_>, sink: &mut Sink) -> Option<FilesParams> {
    let index = index(&format!("{key}.files.index"), &raw.index, sink);
    let fallback = raw.fallback.as_ref().map(|field| fallback(&format!("{key}.files.fallback"), field, sink));
    let mut precompressed: Vec<Coding> = Vec::new();
    for Field { value, place, .. } in &raw.precompressed.value.0 {
        let coding = match value {
            CodingWord::Zstd => Coding::Zstd,
            CodingWord::Brotli => Coding::Brotli,
            CodingWord::Gzip => Coding::Gzip,
        };
        if precompressed.contains(&coding) {
            let message = format!("{coding} is there twice");
            let diagnostic = Diagnostic::error(*place, format!("{key}.files.precompressed"), message);
            sink.push(diagnostic.fix("remove one of them".to_owned()));
            continue;
        }
        precompressed.push(coding);
    }
    Some(FilesParams {
        root: files.folder(raw.root.as_ref()?),
        index: index?,
        precompressed,
        fallback: match fallback {
            Some(path) => Some(path?),
            None => None,
        },
        hidden: raw.hidden.value.0,
    })
}

fn index(key: &str, field: &Field<Text>, sink: &mut Sink) -> Option<FilePath> {
    let path = FilePath::new(&field.value.0).filter(|path| !path.as_str().contains('/'));
    if path.is_none() {
        let message = format!("{:?} is not the name of a file", field.value.0);
        let diagnostic = Diagnostic::error(field.place, key, message).allowed("a name without slashes");
        sink.push(diagnostic.fix("write index = \"index.html\"".to_owned()));
    }
    path
}

fn fallback(key: &str, field: &Field<Text>, sink: &mut Sink) -> Option<FilePath> {
    let text = &field.value.0;
    let path = text.strip_prefix('/').and_then(FilePath::new);
    if path.is_none() {
        let message = format!("{text:?} is not the path of a file below `root`");
        let diagnostic =
            Diagnostic::error(field.place, key, message).allowed("a path that starts with / and names a file");
        let bare = text.trim_matches('/');
        let fix = FilePath::new(bare).map(|path| format!("write fallback = \"/{}\"", path.as_str()));
        sink.push(diagnostic.fix(fix));
    }
    path
}
