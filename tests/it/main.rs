//! Tests of the library and the binary from outside: one module per feature, one test binary.

mod catalogue;
mod cli_env;
mod config;
mod hide_usage;
mod ledger;
mod ledger_kill;
mod meter;
mod pricing;
mod request;
mod request_properties;
mod simulate;
mod wire_samples;
