//! THE DECISIONS: plain values in, plain values out.
//!
//! Who is asking, how urgent it is, what kind of work it is and what is booked are decided here; no clock, no chance, no
//! I/O. What the client states outright (`x-tollgate-…`) is taken or refused by one rule; what is only inferred never
//! fails.

pub mod booking;
pub mod breaker;
pub mod budget;
pub mod budgets;
pub mod calendar;
pub mod client;
pub mod explicit;
pub mod lane;
pub mod learned;
pub mod limits;
pub mod origin;
pub mod priority;
pub mod queue;
pub mod rates;
pub mod retry;
pub mod routing;
pub mod rules;
pub mod session;
pub mod task;
pub mod throttle;
pub mod window;
