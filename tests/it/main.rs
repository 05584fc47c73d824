//! Tests of the parts together, over real sockets. One file per feature.

mod simulate;
