//! Windows at their exact moments, all rates or none, and the bounds on memory.

use super::*;
use crate::policy::rules::Policy;
use proptest::prelude::*;

/// A moment at the beginning of an hour, in 2027.
const START: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

fn policy(per_minute: Option<u64>, per_hour: Option<u64>) -> Policy {
    Policy {
        requests_per_minute: per_minute,
        requests_per_hour: per_hour,
        ..Policy::default()
    }
}

fn applied(holder: Holder, policy: &Policy) -> Applied<'_> {
    let name = "free";
    Applied {
        holder,
        name,
        policy,
    }
}

fn waits(found: Result<(), TooMany>) -> Option<u64> {
    found
        .err()
        .map(|found| found.passes_in_ms.unwrap_or(u64::MAX))
}

#[test]
fn a_request_leaves_its_window_with_its_sixtieth_and_not_before() {
    for (window, per_minute, per_hour) in [(MINUTE, Some(1), None), (HOUR, None, Some(1))] {
        let rules = policy(per_minute, per_hour);
        let policies = [applied(Holder::Key, &rules)];
        for offset in [0, 1, window / 120, window / 60 - 1] {
            let mut rates = Rates::default();
            assert_eq!(rates.pass(&policies, None, START + offset), Ok(()));
            let free = START + window + window / 60;
            let now = START + window - 1;
            assert_eq!(waits(rates.pass(&policies, None, now)), Some(free - now));
            assert_eq!(waits(rates.pass(&policies, None, free - 1)), Some(1));
            assert_eq!(rates.pass(&policies, None, free), Ok(()));
        }
    }
}

#[test]
fn time_that_goes_back_frees_nothing() {
    let rules = policy(Some(1), None);
    let policies = [applied(Holder::Key, &rules)];
    let mut rates = Rates::default();
    assert_eq!(rates.pass(&policies, None, START), Ok(()));
    let yesterday = START - 24 * HOUR;
    assert_eq!(waits(rates.pass(&policies, None, yesterday)), Some(61_000));
    assert_eq!(
        waits(rates.pass(&policies, None, START + MINUTE)),
        Some(1_000)
    );
}

#[test]
fn all_rates_are_counted_or_none_and_the_latest_tells_the_time() {
    let (tier, team) = (policy(Some(10), None), policy(Some(2), Some(3)));
    let policies = [applied(Holder::Tier, &tier), applied(Holder::Team, &team)];
    let mut rates = Rates::default();
    for _ in 0..2 {
        assert_eq!(rates.pass(&policies, Some("a"), START), Ok(()));
    }
    for _ in 0..50 {
        let found = rates
            .pass(&policies, Some("a"), START)
            .expect_err("the team's two");
        assert_eq!(
            (found.policy, found.window, found.limit),
            (1, Window::Minute, 2)
        );
    }
    // The refused ones took nothing of the tier's ten.
    for _ in 0..8 {
        assert_eq!(rates.pass(&policies[..1], Some("a"), START), Ok(()));
    }
    assert!(rates.pass(&policies[..1], Some("a"), START).is_err());
    // Another key of the tier has ten of its own, but shares the team's three of the hour.
    assert_eq!(rates.pass(&policies, Some("b"), START + 61_000), Ok(()));
    let found = rates
        .pass(&policies, Some("b"), START + 61_000)
        .expect_err("the team's three");
    assert_eq!((found.window, found.limit), (Window::Hour, 3));
    assert_eq!(found.passes_in_ms, Some(HOUR + MINUTE - 61_000));
}

#[test]
fn a_violation_says_which_rule_and_when_it_ends() {
    let rules = policy(Some(1), Some(0));
    let policies = [applied(Holder::Tier, &rules)];
    let mut rates = Rates::default();
    let found = rates
        .pass(&policies, None, START)
        .expect_err("no request in an hour");
    let violation = found.violation(&policies).expect("one of the policies");
    assert_eq!(violation.rule, "tiers.free.requests_per_hour");
    assert!(
        violation.message.ends_with("none passes"),
        "{}",
        violation.message
    );
    let rules = policy(Some(1), None);
    let policies = [applied(Holder::Tier, &rules)];
    assert_eq!(rates.pass(&policies, None, START), Ok(()));
    let found = rates
        .pass(&policies, None, START + 1)
        .expect_err("one in a minute");
    let violation = found.violation(&policies).expect("one of the policies");
    assert_eq!(violation.rule, "tiers.free.requests_per_minute");
    assert!(
        violation.message.ends_with("passes in 61 s"),
        "rounded up: {}",
        violation.message
    );
}

#[test]
fn past_requests_count_where_they_were() {
    let rules = policy(Some(2), Some(3));
    let policies = [applied(Holder::Key, &rules)];
    let mut rates = Rates::default();
    for ago in [30 * MINUTE, 2 * HOUR, 10_000, 70_000] {
        rates.recall(&policies, None, START - ago, START);
    }
    let found = rates
        .pass(&policies, None, START)
        .expect_err("three in the hour");
    assert_eq!(found.window, Window::Hour);
    assert_eq!(found.passes_in_ms, Some(31 * MINUTE));
    // A moment that has not come counts as now.
    let mut rates = Rates::default();
    rates.recall(&policies, None, START + HOUR, START);
    assert_eq!(rates.pass(&policies, None, START), Ok(()));
    assert_eq!(waits(rates.pass(&policies, None, START)), Some(61_000));
}

#[test]
fn idle_subjects_are_dropped() {
    let rules = policy(Some(5), None);
    let policies = [applied(Holder::Tier, &rules)];
    let mut rates = Rates::default();
    for key in 0..1_000 {
        let passed = rates.pass(&policies, Some(&key.to_string()), START);
        assert_eq!(passed, Ok(()));
    }
    assert_eq!(rates.len(), 1_000);
    for n in 0..600 {
        let passed = rates.pass(&policies, Some("busy"), START + 61_000 + n * 20_000);
        assert_eq!(passed, Ok(()));
    }
    assert_eq!((rates.len(), rates.places.len()), (1, 1));
    assert_eq!(rates.place(&policies[0], Some("busy")), Some(0));
}

#[test]
fn a_hundred_thousand_subjects_are_counted_apart_and_the_rest_together() {
    let rules = policy(Some(1), None);
    let policies = [applied(Holder::Tier, &rules)];
    let mut rates = Rates::default();
    let key = |n: usize| format!("{n:016x}");
    for n in 0..MAX_SUBJECTS {
        assert_eq!(rates.pass(&policies, Some(&key(n)), START), Ok(()));
    }
    assert_eq!(
        rates.pass(&policies, Some(&key(MAX_SUBJECTS)), START),
        Ok(())
    );
    for n in 1..1_000 {
        assert!(
            rates
                .pass(&policies, Some(&key(MAX_SUBJECTS + n)), START)
                .is_err(),
            "shared"
        );
    }
    for n in 0..MAX_SUBJECTS {
        assert!(
            rates.pass(&policies, Some(&key(n)), START + 1).is_err(),
            "{n} has had its one"
        );
    }
    assert_eq!(rates.len(), MAX_SUBJECTS + 1);
    let each: usize = rates
        .subjects
        .iter()
        .map(|subject| {
            let slots = subject.minute.slots.capacity() + subject.hour.slots.capacity();
            let counted = 16 + subject.name.len() + slots * size_of::<Slot>();
            // The index holds a pointer with its length, a place and a byte, up to 16/7 times.
            counted + size_of::<Subject>() + (size_of::<(Arc<str>, usize)>() + 1) * 16 / 7
        })
        .sum();
    assert!(
        each / rates.len() < 300,
        "{} bytes for each",
        each / rates.len()
    );
    assert!(
        size_of::<Slot>() * 128 + size_of::<Subject>() + 200 < 1_331,
        "as the constant says"
    );
}

#[test]
fn the_end_of_time_is_no_way_out() {
    let rules = policy(Some(1), Some(1));
    let policies = [applied(Holder::Key, &rules)];
    let mut rates = Rates::default();
    assert_eq!(rates.pass(&policies, None, u64::MAX), Ok(()));
    for now in [u64::MAX, 0, LAST_MS] {
        assert!(rates.pass(&policies, None, now).is_err());
    }
}

proptest! {
    /// Against a list of the moments at which requests passed.
    #[test]
    fn no_window_has_more_than_its_limit_and_the_promised_moment_is_exact(
        steps in prop::collection::vec((0_u64..40_000, any::<bool>()), 1..150),
        limit in 1_u64..6,
    ) {
        let rules = policy(Some(limit), None);
        let policies = [applied(Holder::Key, &rules)];
        let mut rates = Rates::default();
        let mut passed: Vec<u64> = Vec::new();
        let mut now = START;
        let within = |passed: &[u64], now: u64, length: u64| {
            passed.iter().filter(|at| **at + length > now).count() as u64
        };
        for (step, wait) in steps {
            now += step;
            match rates.pass(&policies, None, now) {
                Ok(()) => {
                    prop_assert!(within(&passed, now, MINUTE) < limit, "never early");
                    passed.push(now);
                }
                Err(found) => {
                    prop_assert!(within(&passed, now, MINUTE + MINUTE / 60) >= limit, "late by a sixtieth at most");
                    let promised = now + found.passes_in_ms.expect("some time");
                    if wait {
                        prop_assert_eq!(waits(rates.pass(&policies, None, promised - 1)), Some(1));
                        prop_assert_eq!(rates.pass(&policies, None, promised), Ok(()));
                        passed.push(promised);
                        now = promised;
                    }
                }
            }
        }
    }
}
