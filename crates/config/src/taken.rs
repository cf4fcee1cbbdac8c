//! Who listens where, so that no two do in the same place.

use std::net::SocketAddr;

use crate::address::ListenAt;
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::raw::{KindWord, RawConfig};
use crate::source::Place;

/// The places that are taken so far.
#[derive(Debug, Default)]
pub(crate) struct Taken(Vec<(ListenAt, String, Option<Place>)>);

impl Taken {
    /// Those of listeners and of the admin listener. Listeners of requests and connections are compared among themselves elsewhere.
    pub(crate) fn by_listeners(raw: &RawConfig, sink: &mut Sink) -> Self {
        let mut taken = Self::default();
        let tables = || raw.listener.value.tables.iter();
        let fields =
            |listener: &crate::raw::RawListener| listener.listen.clone().into_iter().flat_map(|field| field.value.0);
        // Datagrams have ports of their own.
        let others = [KindWord::Postgres, KindWord::Udp];
        for (name, listener) in tables().filter(|(_, listener)| !others.contains(&listener.kind.value)) {
            let of = |field: Field<ListenAt>| (field.value, format!("listener {}", name.value), Some(field.place));
            taken.0.extend(fields(listener).map(of));
        }
        for (name, listener) in tables().filter(|(_, listener)| listener.kind.value == KindWord::Postgres) {
            for field in fields(listener) {
                let key = format!("listener.{}.listen", name.value);
                taken.claim(&field, (&key, format!("listener {}", name.value)), sink);
            }
        }
        let admin = &raw.admin.value;
        if admin.enabled.value.0 {
            let place = admin.listen.set.then_some(admin.listen.place);
            taken.0.push((ListenAt::Tcp(admin.listen.value.0), "the admin listener".to_owned(), place));
        }
        taken
    }

    /// Takes a place for `who`, whose key in the file is `key`. That it is taken already is reported.
    pub(crate) fn claim(&mut self, field: &Field<ListenAt>, (key, who): (&str, String), sink: &mut Sink) {
        let at = &field.value;
        let has_number = at.tcp().is_none_or(|address: SocketAddr| address.port() != 0);
        if let Some((_, other, place)) = self.0.iter().find(|(other, ..)| other == at && has_number) {
            let (shown, fix) = match at {
                ListenAt::Tcp(address) => (address.to_string(), "give one of them another port"),
                ListenAt::Unix(path) => (path.display().to_string(), "give one of them another file"),
            };
            let diagnostic = Diagnostic::error(field.place, key, format!("{shown} is taken by {other}"))
                .related(*place, "the other one")
                .fix(fix.to_owned());
            sink.push(diagnostic);
        }
        self.0.push((at.clone(), who, Some(field.place)));
    }
}
