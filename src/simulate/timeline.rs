//! What happened when: requests that arrived, were let through, were refused, failed and were completed, in slots of a
//! tenth of a second since the start or the last reset.

use serde_json::{Value, json};
use tokio::time::Instant;

/// Length of a slot in milliseconds.
const SLOT_MS: u64 = 100;

/// How many slots are kept: an hour. What comes later is counted in the last one.
const MAX_SLOTS: usize = 36_000;

/// What can happen to a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// Its head has come.
    Arrived,
    /// The limits let it through.
    Accepted,
    /// It was answered with 429.
    Refused,
    /// It ended in any other way than by a whole answer.
    Failed,
    /// The whole answer has gone out.
    Completed,
}

impl Moment {
    const ALL: [(Moment, &'static str); 5] = [
        (Moment::Arrived, "arrived"),
        (Moment::Accepted, "accepted"),
        (Moment::Refused, "refused"),
        (Moment::Failed, "failed"),
        (Moment::Completed, "completed"),
    ];
}

/// Counts by slot.
#[derive(Debug)]
pub(super) struct Timeline {
    began: Instant,
    slots: Vec<[u32; Moment::ALL.len()]>,
}

impl Timeline {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            slots: Vec::new(),
        }
    }

    /// Counts something that happens now.
    pub(super) fn note(&mut self, moment: Moment) {
        let slot = self.began.elapsed().as_millis() / u128::from(SLOT_MS);
        let slot = usize::try_from(slot)
            .unwrap_or(MAX_SLOTS)
            .min(MAX_SLOTS - 1);
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, [0; Moment::ALL.len()]);
        }
        self.slots[slot][moment as usize] += 1;
    }

    /// One list of counts for each kind of moment.
    pub(super) fn to_json(&self) -> Value {
        let mut told = json!({
            "slot_ms": SLOT_MS,
            "now_ms": self.began.elapsed().as_millis() as u64,
        });
        for (moment, name) in Moment::ALL {
            told[name] = self
                .slots
                .iter()
                .map(|slot| slot[moment as usize])
                .collect();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn moments_are_counted_in_their_tenth_of_a_second() {
        let mut timeline = Timeline::new();
        timeline.note(Moment::Arrived);
        timeline.note(Moment::Refused);
        tokio::time::advance(Duration::from_millis(250)).await;
        timeline.note(Moment::Arrived);
        let told = timeline.to_json();
        assert_eq!(told["arrived"], json!([1, 0, 1]));
        assert_eq!(told["refused"], json!([1, 0, 0]));
        assert_eq!(told["now_ms"], 250);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_run_stays_bounded() {
        let mut timeline = Timeline::new();
        tokio::time::advance(Duration::from_secs(100_000)).await;
        timeline.note(Moment::Arrived);
        assert_eq!(timeline.slots.len(), MAX_SLOTS);
    }
}
