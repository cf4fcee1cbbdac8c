mod ledger;
mod listens;
mod settings;
