//! tollgate: a local rate-limiting proxy for LLM APIs.
//!
//! Every request is parsed, identified, classified, admitted, routed, sent, streamed back, metered and recorded.
//!
//! ```text
//! main → cli, commands, config, server     server → proxy, admin     admin → proxy (reading), metrics, store
//! proxy → upstream, store, metrics, refusal, config, clock, policy, llm, units
//! config → policy, llm, units     upstream → config, llm, units
//! store → clock, policy, llm, units     refusal, metrics → policy, llm, units     policy, llm → units
//! ```
//!
//! `policy` and `llm` are plain functions: no async, no clock, no random numbers, no logging. Time and chance come in
//! as arguments; what to log or count comes out in the result.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod failure;
pub mod keys;
pub mod llm;
pub mod logging;
pub mod metrics;
pub mod policy;
pub mod proxy;
pub mod refusal;
pub mod server;
pub mod simulate;
pub mod store;
pub mod units;
pub mod upstream;
