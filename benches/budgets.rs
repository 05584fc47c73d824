//! What the budget engine costs: to admit, refuse and settle a request among 100,000 live sessions, and in memory.
//!
//! `cargo bench --bench budgets [-- SESSIONS]`. A request has five scopes (everything, session, key, team, provider) with
//! fifteen budgets in thirteen windows. Requests go in batches of 1000 to sessions at random; of all batches the median
//! is printed, in which other programs hardly show, and the processor time of all of them together. Memory is the growth
//! of the process's resident anonymous pages.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tollgate::policy::budget::{Amounts, Budget, Limit, ScopeKind, Scopes, Window};
use tollgate::policy::budgets::{Ask, Budgets, Rules};
use tollgate::policy::calendar::Calendar;
use tollgate::policy::throttle::Thresholds;
use tollgate::units::{Cost, Priority};

const START: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;
const BATCH: usize = 1000;
const ROUNDS: usize = 200;

fn budgets() -> Vec<Budget> {
    use ScopeKind::{Global, Key, Provider, Session, Team};
    use Window::{Day, Hour, Minute, Month};
    let tokens = |scope, window, count| (scope, window, Limit::Tokens(count));
    let usd = |scope, window, count: i128| {
        let limit = Cost::from_attos(count * 1_000_000_000_000_000_000);
        (scope, window, Limit::Usd(limit))
    };
    [
        tokens(Session, Hour, 100_000),
        tokens(Session, Day, 1_000_000),
        usd(Session, Hour, 5),
        usd(Session, Day, 50),
        tokens(Global, Hour, 1_000_000_000_000),
        tokens(Global, Day, 1_000_000_000_000),
        usd(Global, Month, 1_000_000_000),
        tokens(Key, Hour, 1_000_000_000_000),
        usd(Key, Day, 1_000_000_000),
        tokens(Team, Hour, 1_000_000_000_000),
        usd(Team, Day, 1_000_000_000),
        usd(Team, Month, 1_000_000_000),
        (Provider, Minute, Limit::Requests(1_000_000_000)),
        tokens(Provider, Hour, 1_000_000_000_000),
        usd(Provider, Day, 1_000_000_000),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (scope, window, limit))| Budget {
        name: format!("budget-{number}"),
        scope,
        only: None,
        window,
        limit,
        hard: false,
        counts_cache_reads: false,
    })
    .collect()
}

fn scopes(session: &str) -> Scopes<'_> {
    Scopes {
        session,
        key: Some("fp:91ac04e2"),
        team: Some("research"),
        provider: "anthropic",
        model: Some("claude-sonnet-4-5"),
    }
}

fn used() -> Amounts {
    Amounts {
        requests: 1,
        fresh_tokens: 1,
        cached_tokens: 11_000,
        cost: Cost::from_attos(9_876_543_210_000),
    }
}

fn main() {
    let sessions = std::env::args().filter_map(|word| word.parse().ok()).next();
    let sessions: usize = sessions.unwrap_or(100_000);
    // As long as the names that coding agents give, and made before memory is measured.
    let names: Vec<String> = (0..sessions)
        .map(|number| format!("6ec0b9ad-4bf7-4c35-9b2f-{number:012}"))
        .collect();
    let mut engine = Budgets::new(Rules {
        budgets: budgets(),
        thresholds: Thresholds::default(),
        calendar: Calendar::new(TimeZone::UTC),
        max_scopes: sessions + 10,
    });
    let before = anonymous_bytes();
    // Four busy minutes and two busy slots of the day for each session.
    for minute in [0, 7, 20, 33] {
        for name in &names {
            let at = START + minute * MINUTE;
            engine.recall(&scopes(name), &used(), at, at);
        }
    }
    let live = engine.live();
    if let Some((before, after)) = before.zip(anonymous_bytes()) {
        println!(
            "resident per session   {:6} bytes",
            after.saturating_sub(before) / live
        );
    }
    println!(
        "counted per session    {:6} bytes",
        engine.memory_bytes() / live
    );
    println!("live scopes            {live:6}");

    let mut chance = 0x9E37_79B9_7F4A_7C15_u64;
    let mut now = START + 34 * MINUTE;
    let ask = Ask {
        expected: used(),
        worst: used(),
    };
    // Larger than what a session may use in an hour.
    let mut too_large = ask;
    too_large.expected.fresh_tokens = 99_999;
    let (mut passes, mut settles, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    let processor = processor_time();
    for _ in 0..ROUNDS {
        now += 500;
        let chosen = some(&names, &mut chance);
        let mut held = Vec::with_capacity(BATCH);
        let started = Instant::now();
        for name in &chosen {
            if let Ok(admitted) = engine.admit(&scopes(name), &ask, Priority::Normal, now) {
                held.push(admitted.held);
            }
        }
        passes.push(started.elapsed());
        assert_eq!(held.len(), BATCH, "all of them fit");
        let started = Instant::now();
        for held in held {
            engine.settle(held, &used(), now);
        }
        settles.push(started.elapsed());
    }
    let processor = processor.zip(processor_time());
    for _ in 0..ROUNDS {
        now += 500;
        let chosen = some(&names, &mut chance);
        let started = Instant::now();
        for name in &chosen {
            let denied = engine.admit(&scopes(name), &too_large, Priority::Normal, now);
            assert!(black_box(denied).is_err(), "none of them fits");
        }
        refusals.push(started.elapsed());
    }
    println!("admit, passes          {:6} ns", each(passes));
    println!("admit, refused         {:6} ns", each(refusals));
    println!("settle                 {:6} ns", each(settles));
    if let Some((before, after)) = processor {
        let pairs = (ROUNDS * BATCH) as u128;
        println!(
            "admit + settle         {:6} ns of processor time, the average of all",
            after.saturating_sub(before).as_nanos() / pairs
        );
    }
}

/// A batch of names, by chance (xorshift).
fn some<'a>(names: &'a [String], chance: &mut u64) -> Vec<&'a str> {
    let mut one = || {
        *chance ^= *chance << 13;
        *chance ^= *chance >> 7;
        *chance ^= *chance << 17;
        names[(*chance % names.len() as u64) as usize].as_str()
    };
    (0..BATCH).map(|_| one()).collect()
}

/// The median batch, for one request, in nanoseconds.
fn each(mut batches: Vec<Duration>) -> u128 {
    batches.sort_unstable();
    batches[batches.len() / 2].as_nanos() / BATCH as u128
}

fn anonymous_bytes() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Time that this thread has spent on a processor.
fn processor_time() -> Option<Duration> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
