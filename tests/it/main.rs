//! Tests of the library from outside: one module per feature, one test binary.

mod catalogue;
mod pricing;
mod wire_samples;
