//! The figures of one run, as the table shows them. Their definitions stand in [`DEFINITIONS`]; what computes them
//! follows it to the letter.

use crate::client::{End, Priority};
use crate::crowd::Outcome;
use crate::job::Job;
use crate::plan::{Scarce, Scenario};
use crate::provider::{Counts, Timeline};

/// What every figure means.
pub(crate) const DEFINITIONS: &str = "\
- **goodput**: what the provider let through in the measured window, as a share of what its limit allows in that time:
  requests accepted, or tokens charged for them in the end (output when its answer has ended), or time in flight. Not
  capped: what was saved up before the window can make it more than 100 %. Judge it together with refusals and failures.
- **429s per 1,000**: refusals by the provider's limits per 1,000 requests that reached it, over the whole run from its
  first moment. **sent**: requests that reached the provider.
- **done**, **failed**, **hung**: jobs as their clients saw them, over the whole run: the whole answer; an error after all
  of the client's own retries, or a broken stream; an attempt without an end after 60 s. Jobs that were waiting for their
  next attempt when the run ended are in none of them: **left**.
- **Jain**: Jain's index of fairness, (Σx)² ÷ (n·Σx²), over all sessions, of the input and output tokens of their jobs done
  in the measured window. 1 is perfectly even; a greedy session counts as one of the 20.
- **p99 wait, high**: of jobs of high priority that were done: total time at the client, attempts and pauses included, less
  the provider's working time for that job; 99th percentile (nearest rank), in units of the mean working time of the mix.
  **high done**: how many of them were done at all: those that failed at once did not wait long either.
- **outage**: *normal* is the rate accepted in the 8 s before it. *peak*: most requests that reached the provider within
  any second from the outage's end on ÷ normal. *during*: requests that reached it in the outage ÷ (normal × its length).
  *recovered*: rate accepted in the last 15 s of the run ÷ normal. *back after*: from the outage's end to the first second
  with at least 95 % of normal accepted.
- Parties: direct calls with 0, 2 (the default) and 10 retries by the rules of the official SDKs; clients of tollgate are
  SDKs with their default of 2. A worker whose job failed begins the next one after 0.5 s. All parties of a scenario run at
  the same time, each with a provider of its own.";

/// One run's figures.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) goodput: f64,
    pub(crate) refused_per_1000: f64,
    pub(crate) sent: f64,
    pub(crate) done: usize,
    pub(crate) failed: usize,
    pub(crate) hung: usize,
    pub(crate) left: usize,
    pub(crate) jain: Option<f64>,
    pub(crate) high: Option<High>,
    pub(crate) outage: Option<Outage>,
    /// The most frequent failures, with their numbers.
    pub(crate) failures: Vec<(String, usize)>,
}

/// How the jobs of high priority fared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct High {
    pub(crate) asked: usize,
    pub(crate) done: usize,
    /// The 99th percentile of their waits, in working times.
    pub(crate) wait: f64,
}

/// What an outage did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) peak: f64,
    pub(crate) during: f64,
    pub(crate) recovered: f64,
    pub(crate) back_after: Option<f64>,
}

/// What was seen of one run.
pub(crate) struct Seen {
    /// The provider's counts at the window's begin and end.
    pub(crate) window: (Counts, Counts),
    /// Its counts when all was over.
    pub(crate) last: Counts,
    /// What happened when.
    pub(crate) timeline: Timeline,
    /// What became of every job.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Figures {
    /// Of one run of a scenario.
    pub(crate) fn of(scenario: &Scenario, seen: &Seen) -> Self {
        let sent = seen.timeline.arrived(0.0, f64::from(u16::MAX));
        let count = |wanted: fn(&End) -> bool| {
            let outcomes = seen.outcomes.iter();
            outcomes.filter(|outcome| wanted(&outcome.end)).count()
        };
        Self {
            goodput: goodput(scenario.scarce, seen.window.0, seen.window.1),
            refused_per_1000: seen.last.refused / sent.max(1.0) * 1e3,
            sent,
            done: count(|end| *end == End::Done),
            failed: count(|end| matches!(end, End::Failed(_))),
            hung: count(|end| *end == End::Hung),
            left: count(|end| *end == End::Unfinished),
            jain: scenario.equal.then(|| jain(scenario, &seen.outcomes)),
            high: high(&seen.outcomes),
            outage: outage(scenario, &seen.timeline),
            failures: failures(&seen.outcomes),
        }
    }
}

fn goodput(scarce: Scarce, from: Counts, until: Counts) -> f64 {
    let seconds = until.at - from.at;
    match scarce {
        Scarce::Requests(rate) => (until.accepted - from.accepted) / (rate * seconds),
        Scarce::OutputTokens(rate) => (until.output - from.output) / (rate * seconds),
        Scarce::Tokens(rate) => {
            (until.input + until.output - from.input - from.output) / (rate * seconds)
        }
        Scarce::Places(places) => (until.busy - from.busy) / (places * seconds),
    }
}

fn jain(scenario: &Scenario, outcomes: &[Outcome]) -> f64 {
    let mut got = vec![0.0; scenario.sessions.len()];
    for outcome in outcomes {
        if outcome.end == End::Done && scenario.window.contains(&outcome.ended.as_secs_f64()) {
            got[outcome.session] += (outcome.job.input + outcome.job.output) as f64;
        }
    }
    index(&got)
}

/// Jain's index; 0 where nobody got anything.
fn index(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares > 0.0 {
        sum * sum / (shares.len() as f64 * squares)
    } else {
        0.0
    }
}

fn high(outcomes: &[Outcome]) -> Option<High> {
    let high = || {
        let outcomes = outcomes.iter();
        outcomes.filter(|outcome| outcome.priority == Priority::High)
    };
    let mut waits: Vec<f64> = high()
        .filter(|outcome| outcome.end == End::Done)
        .map(|outcome| {
            let wait = outcome.took.saturating_sub(outcome.job.service());
            wait.as_secs_f64()
        })
        .collect();
    waits.sort_by(f64::total_cmp);
    let rank = (waits.len() as f64 * 0.99).ceil() as usize;
    let wait = waits.get(rank.saturating_sub(1)).copied();
    (high().count() > 0).then(|| High {
        asked: high().count(),
        done: waits.len(),
        wait: wait.unwrap_or(f64::INFINITY) / Job::mean_service().as_secs_f64(),
    })
}

fn outage(scenario: &Scenario, timeline: &Timeline) -> Option<Outage> {
    let outage = scenario.outage.clone()?;
    let normal = timeline.accepted_rate(outage.start - 8.0, outage.start);
    if normal <= 0.0 {
        return None;
    }
    let seconds = outage.end - outage.start;
    Some(Outage {
        peak: timeline.peak_arrived(outage.end, scenario.end) / normal,
        during: timeline.arrived(outage.start, outage.end) / (normal * seconds),
        recovered: timeline.accepted_rate(scenario.end - 15.0, scenario.end) / normal,
        back_after: timeline.reached(0.95 * normal, outage.end, scenario.end),
    })
}

fn failures(outcomes: &[Outcome]) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for outcome in outcomes {
        let End::Failed(problem) = &outcome.end else {
            continue;
        };
        match counts.iter_mut().find(|(known, _)| known == problem) {
            Some((_, count)) => *count += 1,
            None => counts.push((problem.clone(), 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
