//! Tests of tollgate's library from outside: one module per feature.

mod hide_usage;
mod meter;
mod wire_samples;
