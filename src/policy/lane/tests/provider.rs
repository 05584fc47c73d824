//! A provider with real token buckets, written apart from the lane's own: floating point, its own rules.

use std::time::Duration;

use crate::policy::lane::{Need, Quota, RateNews, Used};

/// What a provider counts in floating point may be off by so little.
const EPSILON: f64 = 1e-6;

#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) per_minute: f64,
    holds: f64,
    level: f64,
    at_ms: u64,
}

impl Bucket {
    /// Holds what comes in so many seconds, and is full.
    pub(super) fn new(per_minute: u64, holds_seconds: u64) -> Self {
        Self::holding(per_minute, per_minute as f64 * holds_seconds as f64 / 60.0)
    }

    /// Holds so much, at least one, and is full.
    pub(super) fn holding(per_minute: u64, holds: f64) -> Self {
        let (per_minute, holds) = (per_minute as f64, holds.max(1.0));
        Self {
            per_minute,
            holds,
            level: holds,
            at_ms: 0,
        }
    }

    fn refill(&mut self, now_ms: u64) {
        let passed = (now_ms - self.at_ms) as f64;
        self.at_ms = now_ms;
        self.level = (self.level + passed * self.per_minute / 60_000.0).min(self.holds);
    }

    fn has(&self, amount: f64) -> bool {
        self.level + EPSILON >= amount
    }

    fn change(&mut self, amount: f64) {
        self.level = (self.level + amount).min(self.holds);
    }

    fn quota(&self, rounded_to: u64) -> Quota {
        let left = self.level.max(0.0) as u64;
        let missing = (self.holds - self.level).max(0.0);
        Quota {
            limit: Some(self.per_minute as u64),
            remaining: Some((left + rounded_to / 2) / rounded_to * rounded_to),
            resets_in: Some(Duration::from_millis(
                (missing / self.per_minute * 60_000.0) as u64,
            )),
            window: None,
        }
    }
}

/// How it charges tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charging {
    CapCorrected,
    CapKept,
    AtTheEnd,
}

#[derive(Debug, Clone)]
pub(super) struct Provider {
    pub(super) requests: Option<Bucket>,
    pub(super) input: Option<Bucket>,
    pub(super) output: Option<Bucket>,
    pub(super) tokens: Option<Bucket>,
    pub(super) concurrency: Option<u32>,
    pub(super) charging: Charging,
    /// Whether answers tell the limits.
    pub(super) tells: bool,
    pub(super) charges_refused: bool,
    pub(super) in_flight: u32,
    pub(super) most_in_flight: u32,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            requests: None,
            input: None,
            output: None,
            tokens: None,
            concurrency: None,
            charging: Charging::CapCorrected,
            tells: false,
            charges_refused: false,
            in_flight: 0,
            most_in_flight: 0,
        }
    }
}

/// What it reserved for a request that it admitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    input: u64,
    output: u64,
}

impl Provider {
    /// A request arrives: what it reserves, or a refusal.
    pub(super) fn admit(&mut self, need: &Need, input: u64, now_ms: u64) -> Option<Reserved> {
        let cap = need.output_cap.unwrap_or(need.expected_output);
        let output = match self.charging {
            Charging::AtTheEnd => 0,
            Charging::CapCorrected | Charging::CapKept => cap,
        };
        let wanted = self.wanted(input, output);
        let buckets = [
            &mut self.requests,
            &mut self.input,
            &mut self.output,
            &mut self.tokens,
        ];
        let mut fits = self.concurrency.is_none_or(|most| self.in_flight < most);
        let mut buckets: Vec<_> = buckets.into_iter().zip(wanted).collect();
        for (bucket, amount) in &mut buckets {
            if let Some(bucket) = bucket {
                bucket.refill(now_ms);
                fits &= bucket.has(*amount);
            }
        }
        if fits {
            for (bucket, amount) in buckets {
                if let Some(bucket) = bucket {
                    bucket.change(-amount);
                }
            }
            self.in_flight += 1;
            self.most_in_flight = self.most_in_flight.max(self.in_flight);
            return Some(Reserved { input, output });
        }
        if self.charges_refused
            && let Some(requests) = &mut self.requests
        {
            requests.change(-1.0);
        }
        None
    }

    fn wanted(&self, input: u64, output: u64) -> [f64; 4] {
        [1.0, input as f64, output as f64, (input + output) as f64]
    }

    /// An answer ends.
    pub(super) fn end(&mut self, reserved: Reserved, used: &Used, now_ms: u64) {
        self.in_flight -= 1;
        if self.charging == Charging::CapKept {
            return;
        }
        let input = reserved.input as f64 - used.input_tokens as f64;
        let output = reserved.output as f64 - used.output_tokens as f64;
        for (bucket, change) in [
            (&mut self.input, input),
            (&mut self.output, output),
            (&mut self.tokens, input + output),
        ] {
            if let Some(bucket) = bucket {
                bucket.refill(now_ms);
                bucket.change(change);
            }
        }
    }

    /// Its headers now.
    pub(super) fn news(&mut self, now_ms: u64) -> RateNews {
        if !self.tells {
            return RateNews::default();
        }
        let quota = |bucket: &mut Option<Bucket>, rounded_to| {
            let bucket = bucket.as_mut()?;
            bucket.refill(now_ms);
            Some(bucket.quota(rounded_to))
        };
        RateNews {
            requests: quota(&mut self.requests, 1),
            input_tokens: quota(&mut self.input, 1_000),
            output_tokens: quota(&mut self.output, 1_000),
            tokens: quota(&mut self.tokens, 1),
            ..RateNews::default()
        }
    }
}
