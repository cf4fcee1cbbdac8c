//! What a client wants to be done next, before there is a backend for it: may a replica do it?

use std::sync::Arc;

use pgroute::classify::{Access, Hint, Kind, Plan, Route};
use pgroute::wire::frontend::{self, Bind, Parse, Target, tag};

use super::{POSITION, Session};
use crate::params::{Mode, RoutePolicy};

/// The setting by which a session decides itself where its statements go.
const ROUTE: &str = "tenfold.route";

/// Bytes of a message before what it says.
const HEAD_BYTES: usize = 5;

/// What a group of messages wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The primary.
    Primary,
    /// It reads: a replica may do it, and it may be done again if nothing of its answer was sent.
    Read,
    /// A replica, because somebody said so: whatever that says is the answer.
    Replica,
    /// The position that the session must see.
    Position,
}

/// A group of messages that waits.
pub(super) struct Group {
    pub(super) want: Want,
    /// Its bytes, if all of it is there.
    pub(super) len: Option<usize>,
}

impl Group {
    fn of(want: Want) -> Self {
        Self { want, len: None }
    }
}

impl Session {
    /// What the messages want that wait. Those up to the next `Sync` go where their strictest member goes; if that has not come, the primary has all.
    pub(super) fn peek(&mut self) -> Group {
        let policy = self.route_policy();
        if policy == RoutePolicy::Primary || self.mode == Mode::Session && policy == RoutePolicy::Auto {
            return Group::of(Want::Primary);
        }
        let Some(input) = self.client.input.take() else { return Group::of(Want::Primary) };
        let mut group = self.peek_in(&input.filled()[self.client.pass..]);
        self.client.input = Some(input);
        if policy == RoutePolicy::Replica && group.want != Want::Position {
            group.want = Want::Replica;
        }
        group
    }

    fn peek_in(&mut self, unread: &[u8]) -> Group {
        let (mut at, mut want) = (0, None);
        let mut parsed: Vec<(&[u8], Arc<Plan>)> = Vec::new();
        while let Some(message) = message(&unread[at..]) {
            let plan = match message[0] {
                tag::QUERY if at == 0 => frontend::query(message).ok().map(|text| self.plan(text)),
                tag::PARSE => Parse::read(message).ok().map(|parse| {
                    let plan = self.plan(parse.text);
                    parsed.push((parse.name, Arc::clone(&plan)));
                    plan
                }),
                tag::BIND => Bind::read(message).ok().and_then(|bind| self.plan_of(&parsed, bind.statement)),
                tag::DESCRIBE => match frontend::target(message) {
                    Ok(Target::Statement(name)) => self.plan_of(&parsed, name),
                    // Its `Bind` has been looked at.
                    _ if at > 0 => parsed.last().map(|(_, plan)| Arc::clone(plan)),
                    _ => None,
                },
                tag::EXECUTE | tag::CLOSE | tag::FLUSH if at > 0 => {
                    at += message.len();
                    continue;
                }
                tag::SYNC => {
                    let len = Some(at + message.len());
                    return Group { want: want.unwrap_or(Want::Primary), len };
                }
                _ => None,
            };
            let one = plan.map_or(Want::Primary, |plan| self.want(&plan));
            want = Some(match want {
                None => one,
                Some(before) if before == one => one,
                Some(_) => Want::Primary,
            });
            at += message.len();
            if message[0] == tag::QUERY {
                return Group { want: one, len: Some(at) };
            }
        }
        Group::of(Want::Primary)
    }

    /// The plan of a statement by the client's name for it.
    fn plan_of(&self, parsed: &[(&[u8], Arc<Plan>)], name: &[u8]) -> Option<Arc<Plan>> {
        if let Some((_, plan)) = parsed.iter().rev().find(|(known, _)| *known == name) {
            return Some(Arc::clone(plan));
        }
        if name.is_empty() {
            self.unnamed.plan().map(Arc::clone)
        } else {
            self.names.find(name).map(|named| Arc::clone(&named.plan))
        }
    }

    /// Where a text may go.
    fn want(&self, plan: &Plan) -> Want {
        match plan.single().map(|statement| &statement.kind) {
            Some(Kind::Show(name)) if name == POSITION => return Want::Position,
            _ if plan.hint == Some(Hint::Primary) => return Want::Primary,
            _ if plan.hint == Some(Hint::Replica) => return Want::Replica,
            _ if self.is_serializable() => return Want::Primary,
            Some(Kind::Begin(Access { read_only, serializable })) => {
                let only_reads = read_only.unwrap_or_else(|| self.is_on("default_transaction_read_only"));
                let may = only_reads && *serializable != Some(true);
                return if may { Want::Read } else { Want::Primary };
            }
            _ => {}
        }
        if plan.route == Route::Replica { Want::Read } else { Want::Primary }
    }

    fn route_policy(&self) -> RoutePolicy {
        match self.setting(ROUTE).as_deref() {
            Some("primary") => RoutePolicy::Primary,
            Some("replica") => RoutePolicy::Replica,
            Some("auto") => RoutePolicy::Auto,
            _ => self.route,
        }
    }

    /// No replica runs a serializable transaction.
    fn is_serializable(&self) -> bool {
        self.setting("default_transaction_isolation").is_some_and(|value| value == "serializable")
    }

    fn is_on(&self, name: &str) -> bool {
        self.setting(name).is_some_and(|value| matches!(value.as_str(), "on" | "true" | "yes" | "1"))
    }

    /// A setting of the session, in lower case and without quotes.
    fn setting(&self, name: &str) -> Option<String> {
        Some(self.settings.value(name)?.text().to_ascii_lowercase())
    }
}

/// The first message, if it is there whole.
pub(super) fn message(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.get(1..HEAD_BYTES)?;
    let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
    bytes.get(..len.checked_add(1)?).filter(|message| message.len() >= HEAD_BYTES)
}

/// The names of the statements that a group of messages prepares.
pub(super) fn prepared(group: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let message = message(&group[at..])?;
            at += message.len();
            if message[0] == tag::PARSE {
                return Parse::read(message).ok().map(|parse| parse.name);
            }
        }
    })
}
