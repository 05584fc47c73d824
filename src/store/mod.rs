//! DOWN: the ledger and the only user of the database.

pub mod record;
