//! What a client's session is, while its statements run on whatever backend is free.
//!
//! - [`Settings`] are what it has set, with what transactions and savepoints do to that, and what a backend has to be told to be
//!   like it.
//! - [`Pin`] says why a session has to keep its backend.
//! - [`Ledger`] knows which answers are still due, and to whom they belong.

mod ledger;
mod settings;

use crate::classify::{Effects, Kind};

pub use ledger::{Answer, Due, Ledger, OutOfStep, Owner, Question};
pub use settings::{Applied, Settings, Value};

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
}

impl Pin {
    /// The first reason that there is in what a text does. `PREPARE` and `LISTEN` are none here: there are other ways with them.
    pub fn of(effects: Effects) -> Option<Self> {
        let reasons = [
            (effects.temporary, Self::TemporaryTable),
            (effects.advisory_lock, Self::AdvisoryLock),
            (effects.holds_cursor, Self::HeldCursor),
            (effects.irreversible, Self::Irreversible),
            (effects.recalls, Self::Recall),
            (effects.hides_setting, Self::HiddenSetting),
        ];
        reasons.into_iter().find(|(is_reason, _)| *is_reason).map(|(_, pin)| pin)
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
        }
    }

    /// Whether a statement that has succeeded undoes every reason. `DISCARD ALL` alone does: it drops temporary tables, locks, cursors and
    /// what sequences gave. What is irreversible stays.
    pub fn ends_with(self, kind: &Kind) -> bool {
        *kind == Kind::DiscardAll && self != Self::Irreversible
    }
}
