//! What a lane has learned, as it is put away to survive a restart.
//!
//! Fields have numbers for ever; what a newer version adds is left out by an older one.

use minicbor::{Decode, Encode};

/// What a lane has learned. Not a secret, and nothing about any request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Learned {
    /// When it was put away, in Unix milliseconds.
    #[n(0)]
    pub at_ms: u64,
    /// Most requests in flight.
    #[n(1)]
    pub concurrency: Option<u32>,
    /// A number in flight that was refused.
    #[n(2)]
    pub concurrency_ceiling: Option<u32>,
    /// The rates, in the order of [`Kind::ALL`](super::Kind::ALL).
    #[n(3)]
    pub rates: Vec<LearnedRate>,
    /// The provider does not reserve the output cap.
    #[n(4)]
    pub reserves_nothing: bool,
    /// Sixtieths of a day since the epoch, and the requests that started in each.
    #[n(5)]
    pub day: Vec<(u64, u64)>,
}

/// What was learned about one rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LearnedRate {
    /// The limit per window that the provider stated.
    #[n(0)]
    pub told: Option<u64>,
    /// The rate per window that was found, in thousandths.
    #[n(1)]
    pub value_milli: Option<u64>,
    /// A rate that was refused, in thousandths.
    #[n(2)]
    pub ceiling_milli: Option<u64>,
    /// What the provider had left.
    #[n(3)]
    pub left: Option<i64>,
    /// The window in milliseconds that all this is for: a lane with another one starts anew.
    #[n(4)]
    pub window_ms: u64,
}
