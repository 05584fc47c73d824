//! Tests of the library and the binary from outside: one module per feature, one test binary.

mod bad_input;
mod binary;
mod catalogue;
mod cli_env;
mod config;
mod disconnect;
mod hide_usage;
mod identify_path;
mod kill;
mod ledger;
mod ledger_kill;
mod limits_in_time;
mod meter;
mod metering_path;
mod passthrough;
mod pricing;
mod process;
mod request;
mod request_properties;
mod rig;
mod simulate;
mod streaming;
mod tls;
mod upgrade;
mod wire;
mod wire_samples;
