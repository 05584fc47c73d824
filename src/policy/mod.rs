//! THE DECISIONS: plain values in, plain values out.
//!
//! Who is asking, how urgent it is and what kind of work it is are decided here; no clock, no chance, no I/O. What the
//! client states outright (`x-tollgate-…`) is taken or refused by one rule; what is only inferred never fails.

pub mod explicit;
pub mod priority;
pub mod session;
pub mod task;
