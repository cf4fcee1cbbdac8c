//! What a client's session is, while its statements run on whatever backend is free.
//!
//! - [`Settings`] are what it has set, with what transactions and savepoints do to that, and what a backend has to be told to be
//!   like it.
//! - [`Pin`] says why a session has to keep its backend.
//! - [`Sequences`] says whose numbers a backend would tell when somebody asks for the last one.
//! - [`Listens`] are the channels that it listens to, where another connection listens for it.
//! - [`Ledger`] knows which answers are still due, and to whom they belong.

mod ledger;
mod listens;
mod sequences;
mod settings;

use crate::classify::{Effects, Kind};

pub use ledger::{Answer, Due, Ledger, OutOfStep, Owner, Question};
pub use listens::{Heard, Listens};
pub use sequences::Sequences;
pub use settings::{Applied, Settings, Value, written_text};

/// Why a session keeps its backend beyond its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// It has temporary tables.
    TemporaryTable,
    /// It holds an advisory lock.
    AdvisoryLock,
    /// It has a cursor that outlives its transaction.
    HeldCursor,
    /// It has changed what no reset takes back.
    Irreversible,
    /// It asked for what it did before, which only its own backend knows.
    Recall,
    /// It has set something by a function, and nobody knows to what.
    HiddenSetting,
    /// It has prepared a statement by `PREPARE`.
    Prepare,
    /// It listens to a channel.
    Listen,
    /// It has done what cannot be looked into, or set more than is kept account of.
    Unknown,
}

impl Pin {
    /// All reasons, the gravest first.
    pub const ALL: [Self; 9] = [
        Self::Irreversible,
        Self::Unknown,
        Self::TemporaryTable,
        Self::AdvisoryLock,
        Self::HeldCursor,
        Self::Recall,
        Self::HiddenSetting,
        Self::Prepare,
        Self::Listen,
    ];

    /// The gravest reason that there is in what a text does: one that `DISCARD ALL` does not end goes before one that it ends. `PREPARE` and
    /// `LISTEN` are none here: there are other ways with them.
    pub fn of(effects: Effects) -> Option<Self> {
        Self::ALL.into_iter().find(|pin| pin.is_in(effects))
    }

    fn is_in(self, effects: Effects) -> bool {
        match self {
            Self::TemporaryTable => effects.temporary,
            Self::AdvisoryLock => effects.advisory_lock,
            Self::HeldCursor => effects.holds_cursor,
            Self::Irreversible => effects.irreversible,
            Self::Recall => effects.recalls,
            Self::HiddenSetting => effects.hides_setting,
            Self::Unknown => effects.unknown,
            Self::Prepare | Self::Listen => false,
        }
    }

    /// The graver one of two reasons, of which a session that has both is to keep this one.
    pub fn graver(self, other: Self) -> Self {
        Self::ALL.into_iter().find(|pin| [self, other].contains(pin)).unwrap_or(self)
    }

    /// How metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TemporaryTable => "temporary_table",
            Self::AdvisoryLock => "advisory_lock",
            Self::HeldCursor => "held_cursor",
            Self::Irreversible => "irreversible",
            Self::Recall => "recall",
            Self::HiddenSetting => "hidden_setting",
            Self::Prepare => "prepare",
            Self::Listen => "listen",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a statement that has succeeded undoes every reason. `DISCARD ALL` alone does: it drops temporary tables, locks, cursors,
    /// prepared statements and what sequences gave. What is irreversible stays, and what is unknown may be.
    pub fn ends_with(self, kind: &Kind) -> bool {
        *kind == Kind::DiscardAll && self.can_be_reset()
    }

    /// Whether a reset takes back what it stands for. A backend that was kept for another reason is closed with its session.
    pub fn can_be_reset(self) -> bool {
        !matches!(self, Self::Irreversible | Self::Unknown)
    }
}
