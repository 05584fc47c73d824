//! The one binary of integration tests; one file for each feature.

mod ledger;
mod ledger_kill;
