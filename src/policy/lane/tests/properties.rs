//! Random schedules of arrivals, limits, faults and hang-ups: what must hold whatever comes.

use proptest::prelude::*;

use super::provider::{Bucket, Charging, Provider};
use super::traffic::{Clients, Faults, Outcome, Traffic};
use crate::policy::lane::{Kind, Lane, LaneRules, Limits, ReserveRule};
use crate::units::Priority;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// Clients ask for so long; then all that is under way ends.
const ASKED_MS: u64 = 3 * MINUTE;

/// By then everything has ended: the longest patience, twelve attempts with a minute's pause each, an answer that hangs.
const OVER_MS: u64 = 60 * MINUTE;

fn clients() -> impl Strategy<Value = Clients> {
    let names = prop::sample::select(vec![("a", ""), ("a", "sub"), ("b", ""), ("c", "")]);
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let sizes = (1_u64..3_000, 1_u64..800, 1_u64..4);
    let times = (
        0_u64..4_000,
        0_u64..ASKED_MS / 2,
        50_u64..8_000,
        2_000_u64..90_000,
    );
    (names, priority, sizes, times, 1_u64..8, 0_u64..12).prop_map(
        |((session, agent), priority, (input, output, slack), times, number, hangs_up)| {
            let (rest, from_ms, answer, patience_ms) = times;
            Clients {
                session,
                agent,
                priority,
                number,
                rest_ms: (0, rest),
                from_ms,
                to_ms: ASKED_MS,
                input: (1, input),
                output: (1, output),
                cap: Some(output * slack),
                answer_ms: (50, answer),
                patience_ms,
                hangs_up_one_in: hangs_up,
            }
        },
    )
}

fn faults() -> impl Strategy<Value = Faults> {
    let one_in = || prop_oneof![Just(0_u64), 5_u64..200];
    let outage = prop_oneof![
        Just((0, 0)),
        (30_u64..90, 1_u64..30)
            .prop_map(|(from, length)| { (from * SECOND, (from + length) * SECOND) })
    ];
    (one_in(), one_in(), one_in(), one_in(), one_in(), outage).prop_map(
        |(overloaded, failed, hangs, cut, stray, outage_ms)| Faults {
            overloaded_one_in: overloaded,
            failed_one_in: failed,
            hangs_one_in: hangs,
            cut_one_in: cut,
            outage_ms,
            stray_429_one_in: stray,
        },
    )
}

/// Limits into which every request of [`clients`] fits.
fn limits() -> impl Strategy<Value = Limits> {
    let concurrency = prop::option::of(1_u32..20);
    let requests = prop::option::of(3_u64..1_500);
    let tokens = prop::option::of(7_000_u64..300_000);
    let input = prop::option::of(3_000_u64..300_000);
    let output = prop::option::of(2_400_u64..100_000);
    (concurrency, requests, tokens, input, output).prop_map(
        |(concurrency, requests, tokens, input, output)| Limits {
            concurrency,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            input_tokens_per_minute: input,
            output_tokens_per_minute: output,
            ..Limits::default()
        },
    )
}

fn provider(limits: &Limits, charging: Charging, tells: bool) -> Provider {
    let bucket = |limit: Option<u64>| limit.map(|limit| Bucket::new(limit, 60));
    Provider {
        requests: bucket(limits.requests_per_minute),
        input: bucket(limits.input_tokens_per_minute),
        output: bucket(limits.output_tokens_per_minute),
        tokens: bucket(limits.tokens_per_minute),
        concurrency: limits.concurrency,
        charging,
        tells,
        charges_refused: true,
        ..Provider::default()
    }
}

fn charging() -> impl Strategy<Value = (Charging, ReserveRule)> {
    prop::sample::select(vec![
        (Charging::CapCorrected, ReserveRule::CapCorrected),
        (Charging::CapKept, ReserveRule::CapKept),
        (Charging::AtTheEnd, ReserveRule::Nothing),
    ])
}

/// Every request that was asked has come to exactly one end.
fn nobody_is_forgotten(outcome: &Outcome) {
    let served = outcome.served.len() as u64;
    let ended = served + outcome.expired + outcome.not_taken + outcome.left + outcome.given_up;
    assert_eq!(outcome.asked, ended + outcome.still_there);
    assert_eq!(outcome.still_there, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the provider does and whoever leaves: nobody is forgotten or started twice, everybody starts in turn, no
    /// slot is lost, and never more are in flight than allowed.
    #[test]
    fn nothing_is_lost_and_nobody_forgotten(
        all in prop::collection::vec(clients(), 1..6), faults in faults(), limits in limits(), real in limits(),
        (charging, reserve) in charging(), tells in any::<bool>(), learn in any::<bool>(), seed in any::<u64>(),
    ) {
        let rules = LaneRules { limits, reserve, learn, max_waiting: 20, ..LaneRules::default() };
        let provider = provider(&real, charging, tells);
        let mut traffic = Traffic::with(Lane::new(rules, 0), provider, all, faults, seed);
        traffic.misjudged_percent = 30;
        traffic.watch = Box::new(move |lane| {
            let standing = lane.standing(0);
            assert!(limits.concurrency.is_none_or(|most| standing.in_flight <= most));
            assert!(lane.len() <= 20);
        });
        traffic.run_until(OVER_MS);
        prop_assert!(traffic.lane.is_idle(), "{:?}", traffic.lane.standing(OVER_MS));
        nobody_is_forgotten(&traffic.run(OVER_MS));
    }

    /// With the provider's limits configured, it never refuses, and no second carries more than its share and what may
    /// come at once; whatever else goes wrong.
    #[test]
    fn what_is_configured_is_never_refused(
        all in prop::collection::vec(clients(), 1..6), faults in faults(), limits in limits(),
        (charging, reserve) in prop::sample::select(vec![
            (Charging::CapCorrected, ReserveRule::CapCorrected),
            (Charging::CapKept, ReserveRule::CapKept),
        ]),
        learn in any::<bool>(), tells in any::<bool>(), seed in any::<u64>(),
    ) {
        let all = all.into_iter().map(|clients| Clients { hangs_up_one_in: 0, ..clients }).collect();
        let faults = Faults { stray_429_one_in: 0, ..faults };
        let rules = LaneRules { limits, reserve, learn, ..LaneRules::default() };
        let provider = provider(&limits, charging, tells);
        let outcome = Traffic::with(Lane::new(rules, 0), provider, all, faults, seed).run(OVER_MS);
        prop_assert_eq!(outcome.refused.len(), 0);
        if let Some(limit) = limits.requests_per_minute {
            let share = limit as f64 / 60.0;
            let most = (share + (0.75 * share).max(1.0 + 0.02 * share)).ceil() as usize;
            for from in &outcome.sent {
                let within = outcome.sent_between(*from, from + SECOND);
                prop_assert!(within <= most, "{within} at {from}, {most} allowed");
            }
        }
    }

    /// Where nothing goes wrong, the sum of all charges is the sum of what was used, to the token.
    #[test]
    fn what_was_charged_is_what_was_used(
        all in prop::collection::vec(clients(), 1..4), limits in limits(), seed in any::<u64>(),
    ) {
        let all = all.into_iter().map(|clients| Clients { hangs_up_one_in: 0, ..clients }).collect();
        let limits = Limits { requests_per_minute: Some(1_000), tokens_per_minute: None, ..limits };
        let rules = LaneRules { limits, learn: false, ..LaneRules::default() };
        let provider = provider(&limits, Charging::CapCorrected, false);
        let mut traffic = Traffic::with(Lane::new(rules, 0), provider, all, Faults::default(), seed);
        traffic.misjudged_percent = 30;
        traffic.run_until(OVER_MS);
        let served = &traffic.outcome.served;
        let input: u64 = served.iter().map(|served| served.used.input_tokens).sum();
        let output: u64 = served.iter().map(|served| served.used.output_tokens).sum();
        for gauge in &traffic.lane.gauges {
            let used = match gauge.kind {
                Kind::RequestsPerSecond | Kind::Requests => traffic.outcome.sent.len() as u64,
                Kind::Tokens => input + output,
                Kind::InputTokens => input,
                Kind::OutputTokens => output,
            };
            prop_assert_eq!(gauge.charged_in_all(), used, "{:?}", gauge.kind);
        }
    }
}
