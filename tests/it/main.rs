//! Integration tests: one file per feature, one binary.

mod request;
mod request_properties;
