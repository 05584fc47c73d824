//! THE FORMATS: bytes to meaning. What a request asks for, what an answer used, what that costs.
//!
//! Plain functions and small state machines over `&[u8]`: no runtime, no clock, no logging. Time comes in as an
//! argument. A failure to understand never stops the bytes that are passing by.

pub mod endpoint;
pub mod estimate;
pub mod reading;
pub mod request;
pub mod splice;
pub mod usage;
pub mod wire;
