//! The limits that one credential has for one class of models, and what was let through them: check every limit, then
//! take from all; settle when the answer has ended. Pure: time comes in.

use std::time::Duration;

use serde_json::{Value, json};

use super::bucket::Bucket;
use super::need::{Exceeded, Need, Reason};
use super::{ClassLimits, Headers};
use crate::simulate::standing::{Standing, Window};

/// What has gone through a pool.
#[derive(Debug, Clone, Default)]
struct Counts {
    accepted: u64,
    refused: [u64; Reason::ALL.len()],
    peak_in_flight: u64,
    /// Sum over all requests of the time that they were in flight, up to the last change.
    busy: Duration,
    input: u64,
    /// Output tokens as they were charged in the end.
    output: u64,
}

/// The buckets of one credential and class.
#[derive(Debug)]
pub(super) struct Pool {
    limits: ClassLimits,
    buckets: Vec<(Reason, Bucket)>,
    in_flight: u64,
    changed: Duration,
    counts: Counts,
}

impl Pool {
    /// Full buckets. `minute` is the length of a minute: seconds and days go with it.
    pub(super) fn new(limits: ClassLimits, minute: Duration, now: Duration) -> Self {
        let second = (minute / 60).max(Duration::from_nanos(1));
        let day = minute.saturating_mul(24 * 60);
        let scaled = |told: Option<Duration>, default: Duration| {
            told.map_or(default, |told| minute.mul_f64(told.as_secs_f64() / 60.0))
        };
        let requests = scaled(limits.request_burst, second);
        let tokens = scaled(limits.token_burst, minute);
        let buckets = [
            (
                Reason::RequestsPerSecond,
                limits.requests_per_second,
                second,
                second,
            ),
            (
                Reason::Requests,
                limits.requests_per_minute,
                minute,
                requests,
            ),
            (Reason::RequestsPerDay, limits.requests_per_day, day, day),
            (Reason::Tokens, limits.tokens_per_minute, minute, tokens),
            (
                Reason::InputTokens,
                limits.input_tokens_per_minute,
                minute,
                tokens,
            ),
            (
                Reason::OutputTokens,
                limits.output_tokens_per_minute,
                minute,
                tokens,
            ),
        ]
        .into_iter()
        .filter_map(|(reason, limit, window, burst)| {
            Some((reason, Bucket::new(limit?.get(), window, burst, now)))
        })
        .collect();
        Self {
            limits,
            buckets,
            in_flight: 0,
            changed: now,
            counts: Counts::default(),
        }
    }

    /// Lets a request through if every limit does, and takes from all.
    ///
    /// # Errors
    /// The limit that takes longest. Then nothing is taken, unless refused requests are charged too.
    pub(super) fn admit(&mut self, need: Need, now: Duration) -> Result<(), Exceeded> {
        let mut refused: Option<Exceeded> = None;
        for (reason, bucket) in &mut self.buckets {
            let wait = bucket.wait(need.cells(*reason), now);
            if wait == Some(Duration::ZERO) {
                continue;
            }
            // What never fits is the longest wait.
            let longer = refused.is_none_or(|earlier| {
                earlier
                    .wait
                    .is_some_and(|earlier| wait.is_none_or(|wait| wait > earlier))
            });
            if longer {
                refused = Some(Exceeded {
                    reason: *reason,
                    limit: bucket.window(now).limit,
                    wait,
                });
            }
        }
        if let (None, Some(most)) = (refused, self.limits.concurrency)
            && self.in_flight >= most.get()
        {
            refused = Some(Exceeded {
                reason: Reason::Concurrency,
                limit: most.get(),
                wait: None,
            });
        }
        if let Some(exceeded) = refused {
            self.counts.refused[exceeded.reason as usize] += 1;
            if self.limits.charge_refused == Some(true) {
                for (reason, bucket) in &mut self.buckets {
                    bucket.charge_refused(need.cells(*reason), now);
                }
            }
            return Err(exceeded);
        }
        for (reason, bucket) in &mut self.buckets {
            bucket.take(need.cells(*reason), now);
        }
        self.pass(now);
        self.in_flight += 1;
        self.counts.accepted += 1;
        self.counts.peak_in_flight = self.counts.peak_in_flight.max(self.in_flight);
        self.counts.input += need.input;
        Ok(())
    }

    /// An answer has ended after so many output tokens.
    pub(super) fn settle(&mut self, need: Need, written: u64, now: Duration) {
        self.pass(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        let (reserved, settled) = (need.reserved(), need.settled(written));
        self.counts.output += settled;
        for (reason, bucket) in &mut self.buckets {
            if matches!(reason, Reason::Tokens | Reason::OutputTokens) {
                bucket.give(reserved.saturating_sub(settled), now);
                bucket.take(settled.saturating_sub(reserved), now);
            }
        }
    }

    /// Adds up the time in flight.
    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.changed);
        let times = u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        self.counts.busy += passed.saturating_mul(times);
        self.changed = self.changed.max(now);
    }

    /// What its headers say.
    pub(super) fn standing(&mut self, now: Duration) -> Standing {
        let lies = self.limits.headers == Some(Headers::Lie);
        let mut told = |wanted: Reason| -> Option<Window> {
            let (_, bucket) = self
                .buckets
                .iter_mut()
                .find(|(reason, _)| *reason == wanted)?;
            let mut window = bucket.window(now);
            if lies {
                window.remaining = window.limit;
                window.reset = Duration::ZERO;
            }
            Some(window)
        };
        Standing {
            requests: told(Reason::Requests).or_else(|| told(Reason::RequestsPerSecond)),
            day: told(Reason::RequestsPerDay),
            tokens: told(Reason::Tokens),
            input: told(Reason::InputTokens),
            output: told(Reason::OutputTokens),
        }
    }

    /// Fills all buckets and forgets the counts. What is in flight stays so.
    pub(super) fn reset(&mut self, now: Duration) {
        for (_, bucket) in &mut self.buckets {
            bucket.refill(now);
        }
        self.changed = now;
        self.counts = Counts {
            peak_in_flight: self.in_flight,
            ..Counts::default()
        };
    }

    /// Counts and levels.
    pub(super) fn tell(&mut self, now: Duration) -> Value {
        self.pass(now);
        let counts = &self.counts;
        let mut refused = serde_json::Map::new();
        for reason in Reason::ALL {
            let count = counts.refused[reason as usize];
            refused.insert(reason.as_str().to_owned(), count.into());
        }
        let mut levels = serde_json::Map::new();
        for (reason, bucket) in &mut self.buckets {
            let window = bucket.window(now);
            levels.insert(
                reason.as_str().to_owned(),
                json!({
                    "limit": window.limit,
                    "remaining": window.remaining,
                    "reset_ms": window.reset.as_millis() as u64,
                }),
            );
        }
        json!({
            "accepted": counts.accepted,
            "refused": refused,
            "in_flight": self.in_flight,
            "peak_in_flight": counts.peak_in_flight,
            "busy_ms": counts.busy.as_secs_f64() * 1e3,
            "charged_input_tokens": counts.input,
            "charged_output_tokens": counts.output,
            "levels": levels,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::simulate::limits::Reserve;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pool(limits: &str) -> Pool {
        Pool::new(toml::from_str(limits).unwrap(), MINUTE, Duration::ZERO)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn need(input: u64, max_output: u64, reserve: Reserve) -> Need {
        Need {
            input,
            max_output: Some(max_output),
            reserve,
        }
    }

    #[test]
    fn output_is_reserved_by_its_maximum_and_corrected_at_the_end() {
        let mut pool = pool("output_tokens_per_minute = 1000");
        let big = need(10, 800, Reserve::Corrected);
        pool.admit(big, at(0)).unwrap();
        let exceeded = pool.admit(big, at(0)).unwrap_err();
        assert_eq!(exceeded.reason, Reason::OutputTokens);
        assert_eq!(exceeded.wait, Some(at(36)));
        pool.settle(big, 50, at(0));
        assert_eq!(pool.standing(at(0)).output.unwrap().remaining, 950);
        pool.admit(big, at(0)).unwrap();
        assert_eq!(pool.tell(at(0))["charged_output_tokens"], 50);
    }

    #[test]
    fn what_openai_charges_at_admission_stays_charged() {
        let mut pool = pool("tokens_per_minute = 1000");
        let big = need(100, 500, Reserve::Kept);
        pool.admit(big, at(0)).unwrap();
        pool.settle(big, 1, at(0));
        assert_eq!(pool.standing(at(0)).tokens.unwrap().remaining, 400);
        // Without a maximum only what was written can be charged.
        let open = Need {
            max_output: None,
            ..big
        };
        pool.admit(open, at(0)).unwrap();
        assert_eq!(pool.standing(at(0)).tokens.unwrap().remaining, 300);
        pool.settle(open, 400, at(0));
        assert_eq!(pool.admit(open, at(0)).unwrap_err().wait, Some(at(12)));
    }

    #[test]
    fn output_that_is_not_reserved_is_charged_when_it_is_written() {
        let mut pool = pool("tokens_per_minute = 1000");
        let lazy = need(100, 5000, Reserve::Nothing);
        pool.admit(lazy, at(0)).unwrap();
        pool.settle(lazy, 60, at(0));
        assert_eq!(pool.standing(at(0)).tokens.unwrap().remaining, 840);
    }

    #[test]
    fn a_refusal_takes_from_no_limit_and_names_the_one_that_takes_longest() {
        let mut pool = pool("requests_per_minute = 60\ninput_tokens_per_minute = 600");
        pool.admit(need(600, 0, Reserve::Corrected), at(0)).unwrap();
        let exceeded = pool
            .admit(need(300, 0, Reserve::Corrected), at(0))
            .unwrap_err();
        assert_eq!(
            (exceeded.reason, exceeded.wait),
            (Reason::InputTokens, Some(at(30)))
        );
        assert_eq!(pool.standing(at(1)).requests.unwrap().remaining, 1);
        let never = pool.admit(need(601, 0, Reserve::Corrected), at(600));
        assert_eq!(never.unwrap_err().wait, None);
    }

    #[test]
    fn refused_requests_that_are_charged_keep_everybody_out() {
        let mut pool = pool("requests_per_minute = 60\ncharge_refused = true");
        let small = Need::default();
        let mut accepted = 0;
        // Two a second against one a second: after the first, nobody ever gets in.
        for half in 0..120 {
            accepted += u64::from(pool.admit(small, Duration::from_millis(500 * half)).is_ok());
        }
        assert_eq!(accepted, 1);
    }

    #[test]
    fn requests_at_the_same_time_are_bounded_and_counted() {
        let mut pool = pool("concurrency = 2");
        let small = Need::default();
        pool.admit(small, at(0)).unwrap();
        pool.admit(small, at(0)).unwrap();
        let exceeded = pool.admit(small, at(1)).unwrap_err();
        assert_eq!(
            (exceeded.reason, exceeded.wait),
            (Reason::Concurrency, None)
        );
        pool.settle(small, 0, at(3));
        pool.admit(small, at(3)).unwrap();
        let told = pool.tell(at(4));
        assert_eq!(told["refused"]["concurrency"], 1);
        assert_eq!(
            (&told["accepted"], &told["peak_in_flight"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(told["busy_ms"], 8000.0);
        pool.reset(at(4));
        assert_eq!(pool.tell(at(4))["in_flight"], 2);
    }

    #[test]
    fn a_short_minute_shortens_seconds_and_days_too() {
        let limits = "requests_per_minute = 5\nrequests_per_day = 7";
        let mut pool = Pool::new(toml::from_str(limits).unwrap(), at(6), Duration::ZERO);
        let small = Need::default();
        pool.admit(small, at(0)).unwrap();
        let wait = pool.admit(small, at(0)).unwrap_err().wait;
        assert_eq!(wait, Some(Duration::from_millis(1200)));
        for second in 1..7 {
            pool.admit(small, at(2 * second)).unwrap();
        }
        let exceeded = pool.admit(small, at(14)).unwrap_err();
        assert_eq!(exceeded.reason, Reason::RequestsPerDay);
        assert!(exceeded.wait.unwrap() < at(6 * 1440 / 7));
    }

    #[test]
    fn a_liar_says_that_all_is_left() {
        let mut pool = pool("requests_per_minute = 60\nheaders = \"lie\"");
        pool.admit(Need::default(), at(0)).unwrap();
        let window = pool.standing(at(0)).requests.unwrap();
        assert_eq!((window.remaining, window.reset), (60, Duration::ZERO));
    }
}
