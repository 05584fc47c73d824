//! The scenarios of the goodput benchmark in simulated time, and what must hold in each.

use super::provider::{Bucket, Charging, Provider};
use super::traffic::{Clients, Faults, Outcome, Traffic};
use crate::policy::lane::{Lane, LaneRules, Limits, ReserveRule};
use crate::units::Priority;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

const NAMES: [&str; 20] = [
    "s00", "s01", "s02", "s03", "s04", "s05", "s06", "s07", "s08", "s09", "s10", "s11", "s12",
    "s13", "s14", "s15", "s16", "s17", "s18", "s19",
];

/// Twenty sessions, alike.
fn sessions(each: &Clients) -> Vec<Clients> {
    let named = NAMES.map(|session| Clients {
        session,
        ..each.clone()
    });
    named.to_vec()
}

fn configured(limits: Limits, reserve: ReserveRule) -> LaneRules {
    LaneRules {
        limits,
        reserve,
        ..LaneRules::default()
    }
}

/// What the caller starts with when it knows nothing.
fn learning(reserve: ReserveRule) -> LaneRules {
    LaneRules {
        start: Limits {
            requests_per_minute: Some(50),
            input_tokens_per_minute: Some(30_000),
            output_tokens_per_minute: Some(8_000),
            ..Limits::default()
        },
        reserve,
        ..LaneRules::default()
    }
}

/// Requests served in a minute on average, of a span.
fn requests_per_minute(outcome: &Outcome, from: u64, to: u64) -> f64 {
    outcome.served_between(from, to).count() as f64 * MINUTE as f64 / (to - from) as f64
}

fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[track_caller]
fn at_least(what: &str, value: f64, least: f64) {
    assert!(value >= least, "{what}: {value:.4} < {least}");
}

#[track_caller]
fn at_most(what: &str, value: f64, most: f64) {
    assert!(value <= most, "{what}: {value:.4} > {most}");
}

/// In no second more starts than the second's share, and what may come at once.
#[track_caller]
fn is_paced(outcome: &Outcome, per_minute: u64) {
    let per_second = per_minute as f64 / 60.0;
    let most = per_second + (0.75 * per_second).max(1.02);
    for (place, from) in outcome.sent.iter().enumerate() {
        let within = outcome.sent[place..]
            .iter()
            .take_while(|at| *at - from < SECOND);
        let count = within.count() as f64;
        assert!(count <= most.ceil(), "{count} in a second, {most} allowed");
    }
}

#[test]
fn steady_over_demand_uses_all_requests_and_is_never_refused() {
    for (per_minute, holds) in [(600, 60), (600, 1), (6_000, 60), (100, 60), (1_200, 2)] {
        let limits = Limits {
            requests_per_minute: Some(per_minute),
            ..Limits::default()
        };
        let provider = Provider {
            requests: Some(Bucket::new(per_minute, holds)),
            charges_refused: true,
            ..Provider::default()
        };
        let clients = sessions(&Clients {
            number: 20,
            ..Clients::default()
        });
        let rules = configured(limits, ReserveRule::CapCorrected);
        let outcome = Traffic::new(rules, provider, clients).run(5 * MINUTE);
        assert_eq!(outcome.refused.len(), 0, "{per_minute}");
        let goodput = outcome.sent_between(0, 5 * MINUTE) as f64 / (5 * per_minute) as f64;
        at_least("requests", goodput, 0.99);
        is_paced(&outcome, per_minute);
    }
}

#[test]
fn bursts_are_spread() {
    let limits = Limits {
        requests_per_minute: Some(300),
        ..Limits::default()
    };
    let provider = Provider {
        requests: Some(Bucket::new(300, 5)),
        ..Provider::default()
    };
    // 20 times 6 requests at once, every 20 s: 360 a minute are wanted.
    let burst = |from_ms| Clients {
        number: 6,
        from_ms,
        rest_ms: (400 * SECOND, 400 * SECOND),
        ..Clients::default()
    };
    let clients = (0..15).flat_map(|round| {
        sessions(&burst(round * 20 * SECOND))
            .into_iter()
            .map(move |clients| Clients {
                from_ms: 0,
                rest_ms: (round * 20 * SECOND + 1, round * 20 * SECOND + 1),
                to_ms: round * 20 * SECOND + 2,
                ..clients
            })
    });
    let rules = configured(limits, ReserveRule::CapCorrected);
    let outcome = Traffic::new(rules, provider, clients.collect()).run(5 * MINUTE);
    assert_eq!(outcome.refused.len(), 0);
    at_least(
        "bursts",
        outcome.sent_between(0, 5 * MINUTE) as f64 / 1_500.0,
        0.99,
    );
    is_paced(&outcome, 300);
}

#[test]
fn a_greedy_session_takes_nothing_from_its_equals() {
    let limits = Limits {
        requests_per_minute: Some(600),
        ..Limits::default()
    };
    let provider = Provider {
        requests: Some(Bucket::new(600, 60)),
        ..Provider::default()
    };
    let each = Clients {
        number: 4,
        ..Clients::default()
    };
    let mut clients = sessions(&each);
    clients[0].number = 40;
    let rules = configured(limits, ReserveRule::CapCorrected);
    let outcome = Traffic::new(rules, provider, clients).run(10 * MINUTE);
    let tokens = |session: &str| {
        let served = outcome.served_between(MINUTE, 10 * MINUTE);
        let own = served.filter(|served| served.session == session);
        own.map(|served| (served.used.input_tokens + served.used.output_tokens) as f64)
            .sum::<f64>()
    };
    let shares: Vec<f64> = NAMES.iter().map(|name| tokens(name)).collect();
    at_least("Jain's index of the equals", jain(&shares[1..]), 0.98);
    at_least("Jain's index of all", jain(&shares), 0.98);
    assert_eq!(outcome.refused.len(), 0);
}

#[test]
fn high_priority_hardly_waits_while_low_saturates() {
    let requests = Limits {
        requests_per_minute: Some(600),
        ..Limits::default()
    };
    let output = Limits {
        output_tokens_per_minute: Some(150_000),
        ..Limits::default()
    };
    let concurrency = Limits {
        concurrency: Some(16),
        ..Limits::default()
    };
    for limits in [requests, output, concurrency] {
        let provider = Provider {
            requests: limits
                .requests_per_minute
                .map(|limit| Bucket::new(limit, 60)),
            output: limits
                .output_tokens_per_minute
                .map(|limit| Bucket::new(limit, 60)),
            concurrency: limits.concurrency,
            ..Provider::default()
        };
        let mut clients = sessions(&Clients {
            number: 4,
            priority: Priority::Low,
            ..Clients::default()
        });
        for name in ["high one", "high two"] {
            clients.push(Clients {
                session: name,
                priority: Priority::High,
                rest_ms: (2_000, 6_000),
                ..Clients::default()
            });
        }
        let rules = configured(limits, ReserveRule::CapCorrected);
        let outcome = Traffic::new(rules, provider, clients).run(10 * MINUTE);
        let served = outcome.served_between(MINUTE, 10 * MINUTE);
        let high = served.filter(|served| served.priority == Priority::High);
        let mut waits: Vec<u64> = high
            .map(|served| served.started_ms - served.asked_ms)
            .collect();
        waits.sort_unstable();
        let p99 = waits[waits.len() * 99 / 100] as f64;
        at_most("wait in service times", p99 / 2_000.0, 0.5);
        assert_eq!(outcome.refused.len(), 0);
        let served = outcome.served_between(9 * MINUTE, 10 * MINUTE);
        let low = served.filter(|served| served.priority == Priority::Low);
        assert!(low.count() > 300, "low does not starve");
    }
}

#[test]
fn tiny_limits_are_used_to_the_last_request() {
    for holds in [60, 1] {
        let limits = Limits {
            requests_per_minute: Some(5),
            ..Limits::default()
        };
        let provider = Provider {
            requests: Some(Bucket::new(5, holds)),
            ..Provider::default()
        };
        let clients = sessions(&Clients::default());
        let rules = configured(limits, ReserveRule::CapCorrected);
        let outcome = Traffic::new(rules, provider, clients).run(60 * MINUTE);
        if holds == 60 {
            assert_eq!(outcome.refused.len(), 0);
        }
        at_least("tiny", outcome.sent.len() as f64 / 300.0, 0.99);
    }
}

#[test]
fn a_provider_that_takes_no_two_at_once_refuses_none_of_those_that_are_paced() {
    for per_minute in [60, 90, 120, 150] {
        let limits = Limits {
            requests_per_minute: Some(per_minute),
            ..Limits::default()
        };
        // What is above one is for the ways, which are not all equally long.
        let provider = Provider {
            requests: Some(Bucket::holding(per_minute, 1.25)),
            ..Provider::default()
        };
        let clients = sessions(&Clients::default());
        let rules = configured(limits, ReserveRule::CapCorrected);
        let outcome = Traffic::new(rules, provider, clients).run(10 * MINUTE);
        assert_eq!(outcome.refused.len(), 0, "{per_minute}");
        let goodput = outcome.sent.len() as f64 / (10 * per_minute) as f64;
        at_least("requests", goodput, 0.99);
    }
}

#[test]
fn where_output_tokens_bind_they_are_used_and_nothing_is_refused() {
    for misjudged_percent in [0, 30] {
        let limits = Limits {
            requests_per_minute: Some(1_000),
            input_tokens_per_minute: Some(450_000),
            output_tokens_per_minute: Some(80_000),
            ..Limits::default()
        };
        let provider = Provider {
            requests: Some(Bucket::new(1_000, 60)),
            input: Some(Bucket::new(450_000, 60)),
            output: Some(Bucket::new(80_000, 60)),
            ..Provider::default()
        };
        let clients = sessions(&Clients {
            number: 4,
            cap: Some(2_000),
            output: (50, 1_500),
            ..Clients::default()
        });
        let rules = configured(limits, ReserveRule::CapCorrected);
        let mut traffic = Traffic::new(rules, provider, clients);
        traffic.misjudged_percent = misjudged_percent;
        let outcome = traffic.run(10 * MINUTE);
        assert_eq!(outcome.refused.len(), 0);
        let served = outcome.served_between(MINUTE, 10 * MINUTE);
        let output: u64 = served.map(|served| served.used.output_tokens).sum();
        at_least("output tokens", output as f64 / (9.0 * 80_000.0), 0.98);
    }
}

#[test]
fn where_most_of_a_minute_is_reserved_it_is_used_all_the_same_and_nothing_is_refused() {
    let limits = Limits {
        output_tokens_per_minute: Some(80_000),
        ..Limits::default()
    };
    let provider = Provider {
        output: Some(Bucket::new(80_000, 60)),
        ..Provider::default()
    };
    // What the rate allows reserves three times the bucket. It comes in with the refill only, over minutes: a reservation
    // takes the place of another, and what is not used of the rate makes room for one more.
    let clients = sessions(&Clients {
        number: 20,
        cap: Some(8_000),
        answer_ms: (5_000, 10_000),
        ..Clients::default()
    });
    let rules = configured(limits, ReserveRule::CapCorrected);
    let outcome = Traffic::new(rules, provider, clients).run(30 * MINUTE);
    assert_eq!(outcome.refused.len(), 0);
    let served = outcome.served_between(20 * MINUTE, 30 * MINUTE);
    let output: u64 = served.map(|served| served.used.output_tokens).sum();
    at_least("output tokens", output as f64 / (10.0 * 80_000.0), 0.98);
}

#[test]
fn where_input_tokens_bind_they_are_used_and_nothing_is_refused() {
    let limits = Limits {
        input_tokens_per_minute: Some(100_000),
        output_tokens_per_minute: Some(200_000),
        ..Limits::default()
    };
    let provider = Provider {
        input: Some(Bucket::new(100_000, 60)),
        output: Some(Bucket::new(200_000, 60)),
        ..Provider::default()
    };
    let clients = sessions(&Clients {
        number: 2,
        input: (100, 20_000),
        ..Clients::default()
    });
    let rules = configured(limits, ReserveRule::CapCorrected);
    let mut traffic = Traffic::new(rules, provider, clients);
    traffic.misjudged_percent = 20;
    let outcome = traffic.run(10 * MINUTE);
    assert_eq!(outcome.refused.len(), 0);
    let served = outcome.served_between(MINUTE, 10 * MINUTE);
    let input: u64 = served.map(|served| served.used.input_tokens).sum();
    at_least("input tokens", input as f64 / (9.0 * 100_000.0), 0.98);
}

#[test]
fn where_prompt_and_cap_are_charged_for_good_they_are_used_and_nothing_is_refused() {
    let limits = Limits {
        tokens_per_minute: Some(200_000),
        ..Limits::default()
    };
    let provider = Provider {
        tokens: Some(Bucket::new(200_000, 60)),
        charging: Charging::CapKept,
        ..Provider::default()
    };
    let clients = sessions(&Clients {
        number: 4,
        ..Clients::default()
    });
    let rules = configured(limits, ReserveRule::CapKept);
    let outcome = Traffic::new(rules, provider, clients).run(10 * MINUTE);
    assert_eq!(outcome.refused.len(), 0);
    let served = outcome.served_between(MINUTE, 10 * MINUTE);
    let charged: u64 = served.map(|served| served.charged).sum();
    at_least("tokens", charged as f64 / (9.0 * 200_000.0), 0.98);
}

#[test]
fn where_concurrency_binds_every_place_is_used_and_nothing_is_refused() {
    let limits = Limits {
        concurrency: Some(8),
        ..Limits::default()
    };
    let provider = Provider {
        concurrency: Some(8),
        ..Provider::default()
    };
    let clients = sessions(&Clients {
        number: 4,
        ..Clients::default()
    });
    let rules = configured(limits, ReserveRule::CapCorrected);
    let outcome = Traffic::new(rules, provider, clients).run(5 * MINUTE);
    assert_eq!(outcome.refused.len(), 0);
    assert_eq!(outcome.most_in_flight, 8);
    let served = outcome.served_between(MINUTE, 5 * MINUTE);
    let busy: u64 = served
        .map(|served| served.ended_ms - served.started_ms)
        .sum();
    at_least("places", busy as f64 / (8.0 * 4.0 * MINUTE as f64), 0.99);
}

#[test]
fn limits_are_learned_from_headers() {
    for (per_minute, output_per_minute) in [(600, 10_000_000), (10_000, 80_000), (20, 100_000)] {
        let provider = Provider {
            requests: Some(Bucket::new(per_minute, 60)),
            input: Some(Bucket::new(10_000_000, 60)),
            output: Some(Bucket::new(output_per_minute, 60)),
            tells: true,
            ..Provider::default()
        };
        let clients = sessions(&Clients {
            number: 4,
            ..Clients::default()
        });
        let rules = learning(ReserveRule::CapCorrected);
        let outcome = Traffic::new(rules, provider, clients).run(10 * MINUTE);
        at_most("429s per 1,000", outcome.refused_per_thousand(), 20.0);
        let served = outcome.served_between(MINUTE, 10 * MINUTE);
        let output: u64 = served.map(|served| served.used.output_tokens).sum();
        let requests = requests_per_minute(&outcome, MINUTE, 10 * MINUTE) / per_minute as f64;
        let goodput = requests.max(output as f64 / (9 * output_per_minute) as f64);
        at_least("goodput", goodput, 0.98);
    }
}

#[test]
fn limits_are_learned_from_headers_that_charge_for_good() {
    let provider = Provider {
        requests: Some(Bucket::new(500, 60)),
        tokens: Some(Bucket::new(200_000, 60)),
        charging: Charging::CapKept,
        tells: true,
        ..Provider::default()
    };
    let clients = sessions(&Clients {
        number: 4,
        ..Clients::default()
    });
    let rules = learning(ReserveRule::CapKept);
    let outcome = Traffic::new(rules, provider, clients).run(10 * MINUTE);
    at_most("429s per 1,000", outcome.refused_per_thousand(), 20.0);
    let served = outcome.served_between(2 * MINUTE, 10 * MINUTE);
    let charged: u64 = served.map(|served| served.charged).sum();
    at_least("tokens", charged as f64 / (8.0 * 200_000.0), 0.98);
}

#[test]
fn limits_are_learned_from_refusals_alone() {
    let start = |requests_per_minute| LaneRules {
        start: Limits {
            requests_per_minute: Some(requests_per_minute),
            ..Limits::default()
        },
        ..LaneRules::default()
    };
    for (begins, holds, charges_refused) in [
        (50, 60, false),
        (300, 60, true),
        (3_000, 60, true),
        (50, 5, false),
        (600, 1, false),
    ] {
        let provider = Provider {
            requests: Some(Bucket::new(300, holds)),
            charges_refused,
            ..Provider::default()
        };
        let clients = sessions(&Clients {
            number: 4,
            ..Clients::default()
        });
        let outcome = Traffic::new(start(begins), provider, clients).run(40 * MINUTE);
        at_most("429s per 1,000", outcome.refused_per_thousand(), 20.0);
        let goodput = requests_per_minute(&outcome, 25 * MINUTE, 40 * MINUTE) / 300.0;
        // A bucket of five lets no rate through evenly that is close to its own: requests come a little early or late.
        let least = if holds == 1 { 0.8 } else { 0.98 };
        at_least("goodput in the end", goodput, least);
    }
}

#[test]
fn a_limit_far_above_the_first_guess_is_found_within_seconds() {
    // The provider holds a second's requests, or a minute's, and tells its limit, or nothing.
    for (holds, tells) in [(1, true), (60, true), (1, false), (60, false)] {
        let provider = Provider {
            requests: Some(Bucket::new(1_200, holds)),
            tells,
            ..Provider::default()
        };
        let clients = sessions(&Clients {
            number: 4,
            answer_ms: (250, 950),
            ..Clients::default()
        });
        for seed in 1..=5 {
            let lane = Lane::new(learning(ReserveRule::CapCorrected), 0);
            let (provider, clients) = (provider.clone(), clients.clone());
            let traffic = Traffic::with(lane, provider, clients, Faults::default(), seed);
            let outcome = traffic.run(2 * MINUTE);
            at_most("429s per 1,000", outcome.refused_per_thousand(), 20.0);
            let soon = requests_per_minute(&outcome, 6 * SECOND, 12 * SECOND) / 1_200.0;
            at_least("goodput soon", soon, if tells { 0.95 } else { 0.8 });
            let later = requests_per_minute(&outcome, 15 * SECOND, 2 * MINUTE) / 1_200.0;
            at_least("goodput later", later, if tells { 0.99 } else { 0.95 });
        }
    }
}

#[test]
fn a_token_limit_is_learned_from_refusals_alone() {
    let rules = LaneRules {
        start: Limits {
            requests_per_minute: Some(50),
            input_tokens_per_minute: Some(30_000),
            output_tokens_per_minute: Some(8_000),
            ..Limits::default()
        },
        ..LaneRules::default()
    };
    let provider = Provider {
        output: Some(Bucket::new(60_000, 60)),
        ..Provider::default()
    };
    let clients = sessions(&Clients {
        number: 4,
        ..Clients::default()
    });
    let outcome = Traffic::new(rules, provider, clients).run(60 * MINUTE);
    at_most("429s per 1,000", outcome.refused_per_thousand(), 20.0);
    let served = outcome.served_between(45 * MINUTE, 60 * MINUTE);
    let output: u64 = served.map(|served| served.used.output_tokens).sum();
    at_least(
        "output tokens in the end",
        output as f64 / (15.0 * 60_000.0),
        0.85,
    );
}

#[test]
fn a_number_in_flight_is_learned_from_refusals_alone() {
    for start in [None, Some(2), Some(100)] {
        let rules = LaneRules {
            start: Limits {
                concurrency: start,
                ..Limits::default()
            },
            ..LaneRules::default()
        };
        let provider = Provider {
            concurrency: Some(10),
            ..Provider::default()
        };
        let clients = sessions(&Clients {
            number: 2,
            ..Clients::default()
        });
        let outcome = Traffic::new(rules, provider, clients).run(20 * MINUTE);
        at_most("429s per 1,000", outcome.refused_per_thousand(), 20.0);
        let served = outcome.served_between(5 * MINUTE, 20 * MINUTE);
        let busy: u64 = served
            .map(|served| served.ended_ms - served.started_ms)
            .sum();
        at_least("places", busy as f64 / (10.0 * 15.0 * MINUTE as f64), 0.97);
    }
}

#[test]
fn after_an_outage_the_line_goes_on_as_before() {
    let requests = Limits {
        requests_per_minute: Some(600),
        ..Limits::default()
    };
    let concurrency = Limits {
        concurrency: Some(20),
        ..Limits::default()
    };
    for limits in [requests, concurrency] {
        let provider = Provider {
            requests: limits
                .requests_per_minute
                .map(|limit| Bucket::new(limit, 60)),
            concurrency: limits.concurrency,
            ..Provider::default()
        };
        let clients = sessions(&Clients {
            number: 4,
            ..Clients::default()
        });
        let (down, up) = (3 * MINUTE, 3 * MINUTE + 20 * SECOND);
        let faults = Faults {
            outage_ms: (down, up),
            ..Faults::default()
        };
        let lane = Lane::new(configured(limits, ReserveRule::CapCorrected), 0);
        let outcome = Traffic::with(lane, provider, clients, faults, 7).run(6 * MINUTE);
        let normal = outcome.sent_between(MINUTE, 3 * MINUTE) as f64 / 120.0;
        let during = outcome.sent_between(down, up) as f64 / 20.0;
        at_most("sent during it", during / normal, 0.3);
        // In spans of five seconds, for answers of random length vary by themselves.
        let spans = |from: u64, to: u64| {
            let starts = (from..to).step_by(SECOND as usize);
            starts
                .map(|from| outcome.sent_between(from, from + 5 * SECOND) as f64 / 5.0)
                .fold(0.0, f64::max)
        };
        let usual_peak = spans(MINUTE, 3 * MINUTE - 5 * SECOND);
        let peak = spans(up, up + MINUTE);
        at_most("peak", peak / usual_peak.max(normal), 1.1);
        let back = outcome.sent_between(up + 10 * SECOND, up + 70 * SECOND) as f64 / 60.0;
        at_least("recovered", back / normal, 0.95);
        assert_eq!(outcome.given_up + outcome.expired, 0);
    }
}

#[test]
fn a_stray_overload_does_not_slow_the_lane_down() {
    let limits = Limits {
        requests_per_minute: Some(600),
        concurrency: Some(40),
        ..Limits::default()
    };
    let provider = Provider {
        requests: Some(Bucket::new(600, 60)),
        concurrency: Some(40),
        ..Provider::default()
    };
    let clients = sessions(&Clients {
        number: 4,
        ..Clients::default()
    });
    let faults = Faults {
        overloaded_one_in: 300,
        ..Faults::default()
    };
    let lane = Lane::new(configured(limits, ReserveRule::CapCorrected), 0);
    let outcome = Traffic::with(lane, provider, clients, faults, 7).run(10 * MINUTE);
    let sent = outcome.sent_between(0, 10 * MINUTE) as f64;
    at_least("requests", sent / 6_000.0, 0.99);
}
