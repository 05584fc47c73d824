//! All integration tests in one binary: one file per feature.

mod catalogue;
mod pricing;
//! Tests of tollgate's library from outside: one module per feature.

mod wire_samples;
