//! Tests of tollgate's library from outside: one module per feature.

mod wire_samples;
