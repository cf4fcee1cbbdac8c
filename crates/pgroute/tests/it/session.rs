mod ledger;
mod settings;
