//! Endpoints that a file of their own lists, written by whoever knows which there are: a deployment, a controller.
//!
//! The list is put into the service's table before that is read, so it is held to the same rules, and a mistake is shown
//! in the file where it stands. The file counts like the rest of the configuration: a change is noticed and applied as
//! a difference, and as long as it is wrong, nothing changes.
//!
//! A file whose name ends in `.json` is an array of endpoints, or an object with the array under `endpoints`; in JSON a
//! mistake is shown by its key alone. Any other file is TOML with the key `endpoints`.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::de::DeTable;

use crate::diagnostic::{Diagnostic, Sink};
use crate::expand::Expander;
use crate::include::{BYTES_MAX, read_bounded};
use crate::node::{Entry, Node, Reader, Value};
use crate::source::{FileId, Place, Sources};
use crate::syntax;
use crate::value::shortened;

/// The key that names the file, and the one that it stands for.
const KEY: &str = "endpoints_file";
const LIST: &str = "endpoints";

/// Reads the files that services name, adds what they list to the services' own endpoints, and gives their paths.
pub(crate) fn add(
    root: &mut [Entry],
    sources: &mut Sources,
    expander: &mut Expander<'_>,
    sink: &mut Sink,
) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let Some(services) = root.iter_mut().find(|entry| entry.key == "service") else { return paths };
    let Value::Table(services) = &mut services.node.value else { return paths };
    for service in services {
        let Value::Table(settings) = &mut service.node.value else { continue };
        let Some(asked) = settings.iter().find(|entry| entry.key == KEY) else { continue };
        let (Some(text), place) = (asked.node.text(), asked.node.place) else { continue };
        let base = sources.path(place.file).parent().map(Path::to_owned);
        let path = base.map_or_else(|| PathBuf::from(text), |base| base.join(text));
        paths.push(path.clone());
        let key = format!("service.{}.{KEY}", shortened(&service.key));
        let mut file = ListFile { path: &path, asked: place, key, sources, expander, sink };
        // What is missing was reported, and is not to be missed again.
        let list = file.read().unwrap_or(Node { value: Value::Broken, place });
        join(settings, list, place);
    }
    paths
}

/// Adds a list to the one that stands in the table, if one does.
fn join(settings: &mut Vec<Entry>, list: Node, place: Place) {
    match settings.iter_mut().find(|entry| entry.key == LIST).map(|entry| &mut entry.node.value) {
        None => settings.push(Entry { key: LIST.to_owned(), key_place: place, node: list }),
        Some(Value::Array(own)) => match list.value {
            Value::Array(more) => own.extend(more),
            // A list that is wrong is all the same a list.
            _ => own.push(list),
        },
        // What is no list is for whoever reads the table to report.
        Some(_) => {}
    }
}

struct ListFile<'a, 'e> {
    path: &'a Path,
    asked: Place,
    key: String,
    sources: &'a mut Sources,
    expander: &'a mut Expander<'e>,
    sink: &'a mut Sink,
}

impl ListFile<'_, '_> {
    /// The list; `None` when there is none, which has been reported.
    fn read(&mut self) -> Option<Node> {
        let shown = self.path.display();
        let bytes = match read_bounded(self.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot read {shown}: {error}");
                let fix = "paths are relative to the file that names them; write it before Tenfold starts".to_owned();
                self.sink.push(Diagnostic::error(self.asked, &self.key, message).fix(fix));
                return None;
            }
        };
        if bytes.len() > BYTES_MAX {
            let message = format!("{shown} is larger than {} MiB", BYTES_MAX >> 20);
            self.sink.push(Diagnostic::error(self.asked, &self.key, message));
            return None;
        }
        let Ok(text) = String::from_utf8(bytes) else {
            self.sink.push(Diagnostic::error(self.asked, &self.key, format!("{shown} is not UTF-8 text")));
            return None;
        };
        let file = self.sources.add(self.path.to_owned(), text);
        let is_json = self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if is_json { self.json(file) } else { self.toml(file) }
    }

    fn json(&mut self, file: FileId) -> Option<Node> {
        let place = Place::start_of(file);
        let list = match serde_json::from_str::<Json>(self.sources.text(file)) {
            Ok(list @ Json::Array(_)) => list,
            Ok(Json::Object(mut object)) if object.len() == 1 && object.get(LIST).is_some_and(Json::is_array) => {
                object.remove(LIST).unwrap_or_default()
            }
            Ok(_) => return self.no_list(place),
            Err(error) => {
                let message = format!("{} is not JSON: {error}", self.path.display());
                self.sink.push(Diagnostic::error(place, &self.key, message));
                return None;
            }
        };
        if has_null(&list) {
            let message = format!("{} has a null, which is no value here", self.path.display());
            self.sink.push(Diagnostic::error(place, &self.key, message).fix("leave the key out".to_owned()));
            return None;
        }
        Some(Node::of_default(&list, place))
    }

    fn toml(&mut self, file: FileId) -> Option<Node> {
        let (table, errors) = DeTable::parse_recoverable(self.sources.text(file));
        if syntax::report(self.sources, file, &errors, self.sink) == syntax::Tree::Unusable {
            return None;
        }
        let mut reader = Reader { file, sources: self.sources, expander: self.expander, sink: self.sink };
        let mut entries = reader.table(table.get_ref(), 0);
        match entries.pop() {
            Some(entry) if entry.key == LIST && entries.is_empty() && matches!(entry.node.value, Value::Array(_)) => {
                Some(entry.node)
            }
            _ => self.no_list(Place::start_of(file)),
        }
    }

    fn no_list(&mut self, place: Place) -> Option<Node> {
        let message = format!("{} is not a list of endpoints alone", self.path.display());
        let fix = "write endpoints = [\"HOST:PORT\"], or in JSON [\"HOST:PORT\"]".to_owned();
        self.sink.push(Diagnostic::error(place, &self.key, message).fix(fix));
        None
    }
}

fn has_null(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.iter().any(has_null),
        Json::Object(map) => map.values().any(has_null),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}
