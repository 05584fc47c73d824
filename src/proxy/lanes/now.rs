//! How the lanes stand, for people, programs and metrics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::gate::Gate;
use super::LaneKey;
use crate::metrics::LaneFigures;
use crate::policy::breaker::BreakerStanding;
use crate::policy::lane::LaneStanding;
use crate::policy::limits;
use crate::units::Priority;

impl Gate {
    /// Keeps what has been learned of the providers' limits for the next process. A failure costs it no more than learning
    /// anew.
    pub fn keep_learned(&self) {
        if let Err(error) = self.lanes.keep(&self.settings.ledger.dir) {
            tracing::warn!(%error, "what was learned of the providers' limits cannot be kept");
        }
    }

    /// How every lane to a provider stands.
    pub fn lanes_now(&self) -> Vec<LaneNow> {
        self.lanes.standings()
    }

    /// Sets the gauges of the lanes.
    pub fn observe_lanes(&self) {
        let lanes = self.lanes.standings();
        let known = |lane: &LaneNow| {
            let provider = self
                .settings
                .providers
                .iter()
                .find(|provider| provider.name == lane.provider);
            let catalogue = provider.map_or(lane.provider.as_str(), |known| &known.catalogue);
            // Names that clients make up are no labels.
            lane.class.starts_with("limits[")
                || limits::is_pool(&lane.class)
                || self.catalogue.resolve(catalogue, &lane.class).is_some()
        };
        let figures = lanes.iter().map(|lane| LaneFigures {
            provider: &lane.provider,
            class: if known(lane) { &lane.class } else { "other" },
            in_flight: lane.in_flight,
            concurrency: lane.concurrency,
            waiting: &lane.waiting,
            pauses: lane.pauses.keys().map(String::as_str).collect(),
            breaker_open: lane.breaker != "closed",
        });
        self.metrics.observe_lanes(figures);
    }
}

/// How one lane stands now, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneNow {
    /// The provider's name.
    pub provider: String,
    /// The models that share these limits.
    pub class: String,
    /// The credential's fingerprint; null where none is shown.
    pub credential: Option<String>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Most requests in flight at a time now; null for no limit.
    pub concurrency: Option<u32>,
    /// Who waits, by priority.
    pub waiting: BTreeMap<String, usize>,
    /// The rates that are limited.
    pub rates: Vec<RateNow>,
    /// The breaker: closed, open or half_open.
    pub breaker: String,
    /// Why the lane rests, and for how many milliseconds more; 0 where that is not known.
    pub pauses: BTreeMap<String, u64>,
    /// Whether it goes on slowly after a pause.
    pub recovering: bool,
}

/// One limited rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateNow {
    /// What is limited.
    pub of: String,
    /// The limit that holds now, per window.
    pub limit: u64,
    /// The window in milliseconds.
    pub window_ms: u64,
    /// Where the limit comes from.
    pub source: String,
    /// What the provider is believed to have left.
    pub left: Option<i64>,
}

impl LaneNow {
    pub(super) fn of(
        key: &LaneKey,
        standing: &LaneStanding,
        breaker: &BreakerStanding,
        now_ms: u64,
    ) -> Self {
        let credential = (!key.credential.is_empty()).then(|| key.credential.clone());
        let waiting = Priority::ALL.into_iter().zip(standing.waiting);
        let pauses = standing.pauses.iter();
        Self {
            provider: key.provider.clone(),
            class: key.class.clone(),
            credential,
            in_flight: standing.in_flight,
            concurrency: standing.concurrency,
            waiting: waiting
                .map(|(priority, count)| (priority.as_str().to_owned(), count))
                .collect(),
            rates: standing
                .buckets
                .iter()
                .map(|bucket| RateNow {
                    of: bucket.kind.as_str().to_owned(),
                    limit: bucket.limit,
                    window_ms: bucket.window_ms,
                    source: bucket.source.as_str().to_owned(),
                    left: bucket.left,
                })
                .collect(),
            breaker: breaker.as_str().to_owned(),
            pauses: pauses
                .map(|(why, until)| {
                    let known = Some(*until).filter(|until| *until < u64::MAX);
                    let left_ms = known.map_or(0, |until| until.saturating_sub(now_ms));
                    (why.as_str().to_owned(), left_ms)
                })
                .collect(),
            recovering: standing.recovering,
        }
    }
}
