//! A lane in simulated time, in front of a provider with real buckets.

#![expect(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod chance;
mod goodput;
mod properties;
mod provider;
mod release;
mod traffic;
