//! A lane in simulated time, in front of a provider with real buckets.

mod chance;
mod goodput;
mod properties;
mod provider;
mod release;
mod traffic;
