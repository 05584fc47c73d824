//! THE FORMATS: bytes to meaning. What a request asks for, what an answer used, what that costs.
//!
//! Plain functions and small state machines over `&[u8]`: no runtime, no clock, no logging. Time comes in as an
//! argument. A failure to understand never stops the bytes that are passing by.

pub mod abilities;
pub mod adapt;
mod anthropic;
pub mod catalogue;
pub mod decode;
pub mod endpoint;
pub mod error_event;
pub mod estimate;
mod fields;
pub mod fitness;
mod gemini;
pub mod hide_coded;
pub mod hide_usage;
pub mod meter;
mod ollama;
mod openai;
mod openai_usage;
pub mod opening;
pub mod pricing;
mod prune;
pub mod rate_limits;
mod reader;
pub mod reading;
pub mod request;
mod responses;
pub mod splice;
mod sse;
pub mod usage;
pub mod wire;
