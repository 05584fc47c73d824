//! How a lane stands now, for metrics, reports and the dashboard.

use super::gauge::{Kind, Source};
use super::rules::PauseReason;

/// How a lane stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneStanding {
    /// Requests in flight.
    pub in_flight: u32,
    /// Most requests in flight at a time now; `None` for no limit.
    pub concurrency: Option<u32>,
    /// Who waits, in the order of [`Priority::ALL`](crate::units::Priority::ALL).
    pub waiting: [usize; 4],
    /// The limits of rates, those that there are.
    pub buckets: Vec<BucketStanding>,
    /// Requests in the last 24 hours, and the limit, where there is one.
    pub day: Option<(u64, u64)>,
    /// Why the lane rests, and until when (Unix milliseconds).
    pub pauses: Vec<(PauseReason, u64)>,
    /// Whether it goes on slowly after a pause.
    pub recovering: bool,
}

/// How one limit of a rate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketStanding {
    /// What is limited.
    pub kind: Kind,
    /// The limit that holds now, per window.
    pub limit: u64,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// Where the limit comes from.
    pub source: Source,
    /// What the provider is believed to have left, reservations taken off; `None` where its limit is only a guess.
    pub left: Option<i64>,
}
