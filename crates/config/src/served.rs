//! `files` and `compress` of a route to the parameters of what it serves.

use gateway::params::{Coding, CompressParams, Effort, FilePath, FilesParams, MediaRange};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value};
use crate::node::Node;
use crate::raw::{CodingWord, LevelWord, RawCompress, RawFiles};
use crate::tls::Files;
use crate::value::{List, Text, invalid, text};

/// The files of a route; `None` when something is wrong, which is reported.
pub(crate) fn params(key: &str, raw: &RawFiles, files: &Files<'_>, sink: &mut Sink) -> Option<FilesParams> {
    let index = index(&format!("{key}.files.index"), &raw.index, sink);
    let fallback = raw.fallback.as_ref().map(|field| fallback(&format!("{key}.files.fallback"), field, sink));
    let precompressed = codings(&format!("{key}.files.precompressed"), &raw.precompressed.value, sink);
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

/// What a route compresses; `None` when something is wrong, which is reported.
pub(crate) fn compress(key: &str, raw: &RawCompress, sink: &mut Sink) -> Option<CompressParams> {
    let key = format!("{key}.compress");
    let codings = codings(&format!("{key}.codings"), &raw.codings.value, sink);
    let mut wanted = |name: &str, place, (read, written): (usize, usize), fix: &str| {
        if written == 0 {
            let diagnostic = Diagnostic::error(place, format!("{key}.{name}"), "nothing would be compressed");
            sink.push(diagnostic.fix(fix.to_owned()));
        }
        read > 0
    };
    let (codings_read, types_read) = (raw.codings.value.0.len(), raw.types.value.0.len());
    let fix = "write codings = [\"zstd\", \"br\", \"gzip\"]";
    let some = wanted("codings", raw.codings.place, (codings_read, raw.codings.value.1), fix);
    let some = wanted("types", raw.types.place, (types_read, raw.types.value.1), "write types = [\"text/*\"]") && some;
    some.then(|| CompressParams {
        codings,
        types: raw.types.value.0.iter().map(|field| field.value.0.clone()).collect(),
        bytes_min: raw.body_bytes_min.value.0,
        effort: match raw.level.value {
            LevelWord::Fast => Effort::Low,
            LevelWord::Balanced => Effort::Medium,
            LevelWord::Small => Effort::High,
        },
    })
}

/// Codings in their order, each once.
fn codings(key: &str, list: &List<CodingWord>, sink: &mut Sink) -> Vec<Coding> {
    let mut codings: Vec<Coding> = Vec::new();
    for Field { value, place, .. } in &list.0 {
        let coding = match value {
            CodingWord::Zstd => Coding::Zstd,
            CodingWord::Brotli => Coding::Brotli,
            CodingWord::Gzip => Coding::Gzip,
        };
        if codings.contains(&coding) {
            let diagnostic = Diagnostic::error(*place, key, format!("{coding} is there twice"));
            sink.push(diagnostic.fix("remove one of them".to_owned()));
            continue;
        }
        codings.push(coding);
    }
    codings
}

/// A media type, or several by a star.
#[derive(Clone, Debug)]
pub(crate) struct MediaType(pub(crate) MediaRange);

impl Value for MediaType {
    fn expected() -> String {
        "a media type such as text/html or text/*".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let written = text(node, key, &Self::expected(), None, sink)?;
        let range = MediaRange::new(written);
        if range.is_none() {
            let bare = written.split(';').next().and_then(MediaRange::new);
            let fix = bare.map(|range| format!("write \"{}\"", range.as_str()));
            sink.push(invalid(node, key, "is not a media type").allowed(Self::expected()).fix(fix));
        }
        range.map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.as_str().into()
    }
}
