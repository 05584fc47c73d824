//! What a lane learns from: what an answer says about its caller's limits.

pub use crate::llm::rate_limits::{Quota, RateNews};
