//! A circuit breaker: keeps a line from sending to a provider that is down, and finds out when it is back.
//!
//! Closed, everything passes; after [`FAILURES`] failures in a row it opens. Open, nothing passes until the next probe is
//! due: about a second later at first, then 1.5, 2.3, 3.4 … up to 60 s. Half-open, one request passes as the probe. A probe that
//! fails opens it again; after [`SUCCESSES`] that succeed it is closed.
//!
//! Only failures of the provider count: a 429 is none, and says nothing. Whoever passed before the last change of state
//! says nothing either, so that many requests under way count as one when the provider goes down, and those that it kept
//! hanging do not open the breaker again when it is back.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::retry::Sign;
use super::retry::pause::share;

/// Failures in a row that open it.
pub const FAILURES: u32 = 5;
/// Probes in a row that close it.
pub const SUCCESSES: u32 = 2;

/// Wait for the first probe, before chance is added.
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// Longest wait for a probe.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long a probe keeps its place without an answer. A long answer that is asked for in one piece can take longer; its
/// success counts whenever it comes.
pub const PROBE_TIME: Duration = Duration::from_secs(30);

/// The breaker of one line. Times are milliseconds since 1970. A clock that is set back makes no wait longer than it can
/// be.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    /// Counts the changes of state: who passed in another era says nothing about this one.
    era: u64,
    /// When the state last changed.
    since_ms: u64,
    /// Numbers the probes.
    probes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        /// Probes that failed since it was closed.
        failed: u32,
        next_probe_ms: u64,
    },
    HalfOpen {
        failed: u32,
        successes: u32,
        probe: Option<Probe>,
    },
}

/// The probe that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Probe {
    number: u64,
    /// From then on another one may take its place.
    until_ms: u64,
}

/// Leave for one request to be sent. It must come back, once, by [`Breaker::answered`] or [`Breaker::unanswered`]: a probe
/// keeps others out until then.
#[derive(Debug)]
#[must_use]
pub struct Pass {
    era: u64,
    /// The probe's number; `None` for a request like any other.
    probe: Option<u64>,
}

impl Pass {
    /// Whether it is a probe.
    pub const fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

/// How a breaker stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerStanding {
    /// Everything passes.
    Closed {
        /// Failures in a row.
        failures: u32,
    },
    /// Nothing passes.
    Open {
        /// When the next probe is due.
        next_probe_ms: u64,
        /// Since when.
        since_ms: u64,
    },
    /// Probes pass one by one.
    HalfOpen {
        /// Probes in a row that succeeded.
        successes: u32,
        /// Whether one is under way.
        probing: bool,
        /// Since when.
        since_ms: u64,
    },
}

impl BreakerStanding {
    /// The name used in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakerStanding::Closed { .. } => "closed",
            BreakerStanding::Open { .. } => "open",
            BreakerStanding::HalfOpen { .. } => "half_open",
        }
    }
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(now_ms: u64) -> Self {
        Self {
            state: State::Closed { failures: 0 },
            era: 0,
            since_ms: now_ms,
            probes: 0,
        }
    }

    /// Asks leave to send one request.
    ///
    /// # Errors
    /// The moment from which to ask again when there is no leave. It may come earlier: after each probe that ends.
    pub fn ask(&mut self, now_ms: u64) -> Result<Pass, u64> {
        match &mut self.state {
            State::Closed { .. } => Ok(Pass {
                era: self.era,
                probe: None,
            }),
            State::Open { next_probe_ms, .. } if is_ahead(*next_probe_ms, now_ms, LONGEST_WAIT) => {
                Err(*next_probe_ms)
            }
            State::Open { failed, .. } => {
                let failed = *failed;
                self.turn(
                    State::HalfOpen {
                        failed,
                        successes: 0,
                        probe: None,
                    },
                    now_ms,
                );
                Ok(self.send_probe(now_ms))
            }
            State::HalfOpen {
                probe: Some(probe), ..
            } if is_ahead(probe.until_ms, now_ms, PROBE_TIME) => Err(probe.until_ms),
            State::HalfOpen { .. } => Ok(self.send_probe(now_ms)),
        }
    }

    /// When leave can next be had, without taking it: a moment in the past when it is to be had now.
    pub fn next_ms(&self) -> u64 {
        match self.state {
            State::Closed { .. } => 0,
            State::Open { next_probe_ms, .. } => next_probe_ms,
            State::HalfOpen { probe, .. } => probe.map_or(0, |probe| probe.until_ms),
        }
    }

    /// Takes in how a request ended, as soon as that is known: with the head of a good answer, not with its end. `chance`
    /// is a random number from 0 up to 1.
    pub fn answered(&mut self, pass: Pass, sign: Sign, now_ms: u64, chance: f64) {
        if pass.era != self.era {
            return;
        }
        match sign {
            Sign::Well => self.succeeded(&pass, now_ms),
            Sign::Overloaded | Sign::Failing => self.failed(now_ms, chance),
            Sign::RateLimited | Sign::Untold => self.unanswered(pass),
        }
    }

    /// Takes a pass back that tells nothing: its request was not sent, or its client left. A probe's place is free again.
    pub fn unanswered(&mut self, pass: Pass) {
        if pass.era == self.era
            && let State::HalfOpen { probe, .. } = &mut self.state
        {
            // Not that of the one that has taken its place.
            *probe = probe.filter(|probe| Some(probe.number) != pass.probe);
        }
    }

    /// How it stands.
    pub fn standing(&self) -> BreakerStanding {
        let since_ms = self.since_ms;
        match self.state {
            State::Closed { failures } => BreakerStanding::Closed { failures },
            State::Open { next_probe_ms, .. } => BreakerStanding::Open {
                next_probe_ms,
                since_ms,
            },
            State::HalfOpen {
                successes, probe, ..
            } => BreakerStanding::HalfOpen {
                successes,
                probing: probe.is_some(),
                since_ms,
            },
        }
    }

    fn send_probe(&mut self, now_ms: u64) -> Pass {
        self.probes += 1;
        if let State::HalfOpen { probe, .. } = &mut self.state {
            *probe = Some(Probe {
                number: self.probes,
                until_ms: now_ms.saturating_add(millis(PROBE_TIME)),
            });
        }
        Pass {
            era: self.era,
            probe: Some(self.probes),
        }
    }

    fn succeeded(&mut self, pass: &Pass, now_ms: u64) {
        match &mut self.state {
            State::Closed { failures } => *failures = 0,
            // Nobody passes in this state, so nobody comes back in it.
            State::Open { .. } => {}
            State::HalfOpen {
                successes, probe, ..
            } => {
                *successes += 1;
                if *successes >= SUCCESSES {
                    self.turn(State::Closed { failures: 0 }, now_ms);
                } else {
                    *probe = probe.filter(|probe| Some(probe.number) != pass.probe);
                }
            }
        }
    }

    fn failed(&mut self, now_ms: u64, chance: f64) {
        let failed = match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures < FAILURES {
                    return;
                }
                0
            }
            State::Open { .. } => return,
            State::HalfOpen { failed, .. } => failed.saturating_add(1),
        };
        let next_probe_ms = now_ms.saturating_add(millis(probe_wait(failed, chance)));
        self.turn(
            State::Open {
                failed,
                next_probe_ms,
            },
            now_ms,
        );
    }

    fn turn(&mut self, state: State, now_ms: u64) {
        self.state = state;
        self.era += 1;
        self.since_ms = now_ms;
    }
}

/// The wait for the next probe: 1, 1.5, 2.3, 3.4 … 60 s, a fifth less or more by chance, so that the breakers of one
/// provider do not all ask at once. It grows by half and does not double, so that after an outage of half a minute a
/// probe is at most ten seconds late.
fn probe_wait(failed: u32, chance: f64) -> Duration {
    let factor = 0.8 + 0.4 * share(chance);
    let grown = 1.5_f64.powi(i32::try_from(failed.min(32)).unwrap_or(32));
    let wait = FIRST_PROBE.mul_f64(grown).min(LONGEST_WAIT);
    wait.mul_f64(factor).min(LONGEST_WAIT)
}

/// Whether a moment that was set at most `longest` ahead is still to come.
fn is_ahead(moment_ms: u64, now_ms: u64, longest: Duration) -> bool {
    moment_ms > now_ms && moment_ms - now_ms <= millis(longest)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
