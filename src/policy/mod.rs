//! THE DECISIONS: plain values in, plain values out. No clock, no chance, no logging.

pub mod priority;
