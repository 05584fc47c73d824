//! Tests of tollgate from outside: one module per feature.

mod cli_env;
mod config;
