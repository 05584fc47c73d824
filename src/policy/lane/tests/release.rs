//! One rule of a lane at a time.

use std::time::{Duration, Instant};

use crate::policy::lane::{
    Kind, Lane, LaneRules, Learned, Limits, Need, PauseReason, Quota, Rate, RateNews, Refused,
    ReserveRule, Slot, Source, Used, Verdict, Who,
};
use crate::units::Priority;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// No deadline.
const NEVER: u64 = u64::MAX;

fn who(session: &str) -> Who<'_> {
    Who {
        priority: Priority::Normal,
        session,
        agent: "",
    }
}

fn urgent(priority: Priority) -> Who<'static> {
    Who {
        priority,
        ..who("urgent")
    }
}

const SMALL: Need = Need {
    input_tokens: 100,
    output_cap: Some(1_000),
    expected_output: 100,
};

fn lane(limits: Limits) -> Lane<u32> {
    let rules = LaneRules {
        limits,
        ..LaneRules::default()
    };
    Lane::new(rules, 0)
}

fn requests(per_minute: u64) -> Limits {
    Limits {
        requests_per_minute: Some(per_minute),
        ..Limits::default()
    }
}

fn join(lane: &mut Lane<u32>, need: Need, item: u32, now: u64) {
    lane.join(who("a"), need, NEVER, item, now).unwrap();
}

/// Who starts now.
fn items(lane: &mut Lane<u32>, now: u64) -> Vec<u32> {
    starts(lane, now)
        .into_iter()
        .map(|(item, _)| item)
        .collect()
}

fn starts(lane: &mut Lane<u32>, now: u64) -> Vec<(u32, Slot)> {
    lane.release(now).started
}

/// One starts alone.
fn start(lane: &mut Lane<u32>, need: Need, now: u64) -> Slot {
    join(lane, need, 0, now);
    let mut started = starts(lane, now);
    assert_eq!(started.len(), 1, "{:?}", lane.standing(now));
    started.pop().unwrap().1
}

fn left(lane: &Lane<u32>, kind: Kind, now: u64) -> i64 {
    let standing = lane.standing(now);
    let bucket = standing.buckets.iter().find(|bucket| bucket.kind == kind);
    bucket.unwrap().left.unwrap()
}

fn told(limit: u64, remaining: u64) -> Option<Quota> {
    Some(Quota {
        limit: Some(limit),
        remaining: Some(remaining),
        ..Quota::default()
    })
}

/// Says nothing.
fn silent() -> RateNews {
    RateNews::default()
}

#[test]
fn without_limits_everybody_starts_at_once() {
    let mut lane = lane(Limits::default());
    (0..100).for_each(|item| join(&mut lane, SMALL, item, 0));
    assert_eq!(items(&mut lane, 0), (0..100).collect::<Vec<_>>());
    assert_eq!(lane.standing(0).in_flight, 100);
}

#[test]
fn a_minutes_allowance_is_spread_over_the_minute() {
    let mut lane = lane(requests(60));
    (0..60).for_each(|item| join(&mut lane, SMALL, item, 0));
    let mut now = 0;
    let mut at = Vec::new();
    while !lane.is_empty() {
        let released = lane.release(now);
        at.extend(released.started.iter().map(|_| now));
        now = released.next_ms.unwrap_or(now);
    }
    assert_eq!((at[0], at[1]), (0, 980));
    assert_eq!(at[59], 59 * SECOND - 20);
}

#[test]
fn requests_per_second_are_evenly_spaced() {
    let mut lane = lane(Limits {
        requests_per_second: Some(Rate {
            amount: 1,
            per_ms: 2_000,
        }),
        ..Limits::default()
    });
    (0..3).for_each(|item| join(&mut lane, SMALL, item, 0));
    let released = lane.release(0);
    assert_eq!((released.started.len(), released.next_ms), (1, Some(1_980)));
    assert!(items(&mut lane, 1_979).is_empty());
    assert_eq!(items(&mut lane, 1_980), [1]);
    assert!(items(&mut lane, 3_979).is_empty());
    assert_eq!(items(&mut lane, 3_980), [2]);
}

#[test]
fn no_more_are_in_flight_than_allowed_and_an_end_lets_the_next_one_go() {
    let mut lane = lane(Limits {
        concurrency: Some(2),
        ..Limits::default()
    });
    (0..4).for_each(|item| join(&mut lane, SMALL, item, 0));
    let released = lane.release(0);
    assert_eq!((released.started.len(), released.next_ms), (2, Some(NEVER)));
    for (_, slot) in released.started {
        lane.finished(slot, None, 1);
        assert_eq!(starts(&mut lane, 1).len(), 1);
    }
    assert_eq!(lane.standing(1).in_flight, 2);
}

#[test]
fn critical_overtakes_the_line() {
    let mut lane = lane(Limits {
        concurrency: Some(1),
        ..Limits::default()
    });
    let slot = start(&mut lane, SMALL, 0);
    (0..10).for_each(|item| join(&mut lane, SMALL, item, 0));
    let critical = urgent(Priority::Critical);
    lane.join(critical, SMALL, NEVER, 99, HOUR).unwrap();
    lane.finished(slot, None, HOUR);
    assert_eq!(items(&mut lane, HOUR), [99]);
}

#[test]
fn who_cannot_be_in_time_is_told_at_once_when_it_could_be() {
    let mut lane = lane(requests(60));
    (0..30).for_each(|item| join(&mut lane, SMALL, item, 0));
    assert_eq!(items(&mut lane, 0), [0]);
    let refused = lane.join(who("a"), SMALL, 20 * SECOND, 99, 0).unwrap_err();
    let Refused::TooLate { earliest_ms, item } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(item, 99);
    assert!(
        (29 * SECOND..31 * SECOND).contains(&earliest_ms),
        "{earliest_ms}"
    );
    // Another session has a turn soon, and who is urgent has the next one.
    lane.join(who("b"), SMALL, 20 * SECOND, 98, 0).unwrap();
    let critical = urgent(Priority::Critical);
    lane.join(critical, SMALL, 1_100, 97, 0).unwrap();
    lane.pause(HOUR, PauseReason::RateLimited);
    let refused = lane.join(critical, SMALL, HOUR, 96, 0).unwrap_err();
    assert_eq!(
        refused,
        Refused::TooLate {
            earliest_ms: HOUR,
            item: 96
        }
    );
}

#[test]
fn deadlines_end_the_wait_and_are_a_reason_to_wake() {
    let mut lane = lane(Limits {
        concurrency: Some(1),
        ..Limits::default()
    });
    let slot = start(&mut lane, SMALL, 0);
    lane.join(who("a"), SMALL, 5_000, 1, 0).unwrap();
    lane.join(who("a"), SMALL, 9_000, 2, 0).unwrap();
    assert_eq!(lane.release(0).next_ms, Some(5_000));
    let released = lane.release(5_000);
    assert_eq!((released.expired, released.next_ms), (vec![1], Some(9_000)));
    lane.finished(slot, None, 6_000);
    assert_eq!(items(&mut lane, 6_000), [2]);
    assert_eq!(lane.release(10_000).next_ms, None);
}

#[test]
fn who_leaves_is_gone_at_once_and_keeps_nobody_back() {
    let mut lane = lane(requests(1));
    drop(start(&mut lane, SMALL, 0));
    let huge = Need {
        input_tokens: 1_000_000,
        ..SMALL
    };
    let ticket = lane.join(who("a"), huge, NEVER, 1, 0).unwrap().ticket;
    join(&mut lane, SMALL, 2, 0);
    assert_eq!(lane.leave(ticket), Some(1));
    assert_eq!(lane.leave(ticket), None);
    assert_eq!(items(&mut lane, MINUTE + SECOND), [2]);
}

#[test]
fn a_full_line_refuses_but_makes_room_for_the_urgent() {
    let rules = LaneRules {
        limits: requests(1),
        max_waiting: 2,
        ..LaneRules::default()
    };
    let mut lane = Lane::new(rules, 0);
    join(&mut lane, SMALL, 0, 0);
    join(&mut lane, SMALL, 1, 0);
    let refused = lane.join(who("a"), SMALL, NEVER, 2, 0).unwrap_err();
    assert!(
        matches!(refused, Refused::Full { item: 2, .. }),
        "{refused:?}"
    );
    let high = urgent(Priority::High);
    let joined = lane.join(high, SMALL, NEVER, 3, 0).unwrap();
    assert_eq!((joined.displaced, lane.len()), (Some(1), 2));
    assert_eq!(items(&mut lane, 0), [3]);
}

#[test]
fn the_longer_of_two_pauses_wins_and_afterwards_not_everybody_starts_at_once() {
    let mut lane = lane(requests(600));
    (0..100).for_each(|item| join(&mut lane, SMALL, item, 0));
    assert!(!items(&mut lane, 0).is_empty());
    lane.pause(10 * SECOND, PauseReason::RateLimited);
    lane.pause(5 * SECOND, PauseReason::RateLimited);
    lane.pause(8 * SECOND, PauseReason::Overloaded);
    assert_eq!(lane.release(9 * SECOND).next_ms, Some(10 * SECOND));
    let standing = lane.standing(9 * SECOND);
    assert_eq!(standing.pauses, [(PauseReason::RateLimited, 10 * SECOND)]);
    assert_eq!(items(&mut lane, 10 * SECOND).len(), 1);
    assert_eq!(items(&mut lane, 10 * SECOND + 100).len(), 1);
}

#[test]
fn after_a_pause_the_places_in_flight_fill_at_the_usual_rate() {
    let mut lane = lane(Limits {
        concurrency: Some(20),
        ..Limits::default()
    });
    // Ten a second, of two seconds each.
    let mut running: Vec<(u64, Slot)> = Vec::new();
    let mut starts_in = |lane: &mut Lane<u32>, from: u64, to: u64| {
        let mut count = 0;
        for now in (from..to).step_by(10) {
            let (over, rest) = running.drain(..).partition(|(end, _)| *end <= now);
            running = rest;
            let over: Vec<(u64, Slot)> = over;
            for (_, mut slot) in over {
                lane.answered(&mut slot, &silent(), Verdict::Ok, now);
                lane.finished(slot, None, now);
            }
            while lane.len() < 50 {
                join(lane, SMALL, 0, now);
            }
            for (_, slot) in starts(lane, now) {
                // The first twenty end one after another.
                let first = if now == 0 {
                    100 * running.len() as u64
                } else {
                    2_000
                };
                running.push((now + first, slot));
                count += 1;
            }
        }
        count
    };
    starts_in(&mut lane, 0, 40 * SECOND);
    lane.pause(50 * SECOND, PauseReason::RateLimited);
    assert_eq!(starts_in(&mut lane, 40 * SECOND, 50 * SECOND), 0);
    assert!(!lane.standing(50 * SECOND).recovering);
    let first = starts_in(&mut lane, 50 * SECOND, 51 * SECOND);
    assert!((10..=11).contains(&first), "{first}");
    assert!(lane.standing(51 * SECOND).recovering);
    let next = starts_in(&mut lane, 51 * SECOND, 56 * SECOND);
    assert!((47..=55).contains(&next), "{next}");
    assert!(
        !lane.standing(56 * SECOND).recovering,
        "the limit is reached"
    );
}

#[test]
fn while_the_breaker_is_open_only_probes_pass() {
    let mut lane = lane(Limits::default());
    (0..3).for_each(|item| join(&mut lane, SMALL, item, 0));
    lane.pause(u64::MAX, PauseReason::BreakerOpen);
    let released = lane.release(SECOND);
    assert!(released.started.is_empty());
    assert!(
        lane.join(who("a"), SMALL, MINUTE, 3, 0).is_ok(),
        "it may end at any moment"
    );
    let (item, slot) = lane.probe(2 * SECOND).unwrap();
    assert_eq!(item, 0);
    lane.finished(slot, None, 2 * SECOND);
    lane.pause(3 * SECOND, PauseReason::RateLimited);
    assert!(lane.probe(2 * SECOND).is_none(), "another pause holds");
    lane.resume(PauseReason::BreakerOpen);
    assert_eq!(items(&mut lane, 3 * SECOND), [1, 2, 3]);
}

#[test]
fn what_a_cap_reserves_comes_back_when_the_answer_is_short() {
    let limits = Limits {
        output_tokens_per_minute: Some(10_000),
        ..Limits::default()
    };
    let large = Need {
        output_cap: Some(9_000),
        ..SMALL
    };
    let mut lane = lane(limits);
    let mut slot = start(&mut lane, large, 0);
    join(&mut lane, large, 1, SECOND);
    assert!(items(&mut lane, SECOND).is_empty(), "it is reserved");
    lane.answered(&mut slot, &silent(), Verdict::Ok, SECOND);
    let used = Used {
        input_tokens: 100,
        output_tokens: 50,
    };
    lane.finished(slot, Some(&used), 2 * SECOND);
    assert_eq!(items(&mut lane, 2 * SECOND), [1]);
}

#[test]
fn a_provider_that_keeps_what_it_charged_gives_nothing_back() {
    let rules = LaneRules {
        limits: Limits {
            tokens_per_minute: Some(60_000),
            ..Limits::default()
        },
        reserve: ReserveRule::CapKept,
        ..LaneRules::default()
    };
    let mut lane = Lane::new(rules, 0);
    let mut slot = start(&mut lane, SMALL, 0);
    assert_eq!(
        left(&lane, Kind::Tokens, 0),
        57_900,
        "1,100, and what runs over on its way"
    );
    lane.answered(&mut slot, &silent(), Verdict::Ok, 0);
    lane.finished(slot, Some(&Used::default()), 0);
    assert_eq!(left(&lane, Kind::Tokens, 0), 57_900);
}

#[test]
fn a_refused_request_gives_its_tokens_back_but_counts_as_a_request() {
    for (verdict, input, output) in [
        (Verdict::RateLimited, 0, 0),
        (Verdict::Overloaded, 0, 0),
        (Verdict::Failed, 100, 0),
        (Verdict::Ok, 100, 100),
    ] {
        let mut lane = lane(Limits {
            requests_per_minute: Some(600),
            input_tokens_per_minute: Some(60_000),
            output_tokens_per_minute: Some(60_000),
            ..Limits::default()
        });
        let mut slot = start(&mut lane, SMALL, 0);
        lane.answered(&mut slot, &silent(), verdict, 0);
        lane.finished(slot, None, 0);
        let charged: Vec<u64> = lane
            .gauges
            .iter()
            .map(|gauge| gauge.charged_in_all())
            .collect();
        assert_eq!(
            charged,
            [1, 1, input + output, input, output],
            "{verdict:?}"
        );
    }
}

#[test]
fn what_was_not_sent_was_not_used() {
    let mut lane = lane(Limits {
        requests_per_day: Some(1),
        concurrency: Some(1),
        ..requests(5)
    });
    let slot = start(&mut lane, SMALL, 0);
    lane.unsent(slot, 0);
    assert!(lane.gauges.iter().all(|gauge| gauge.charged_in_all() == 0));
    drop(start(&mut lane, SMALL, 0));
}

#[test]
fn a_request_larger_than_a_minute_starts_when_the_bucket_is_full_and_jams_nothing() {
    let mut lane = lane(Limits {
        input_tokens_per_minute: Some(10_000),
        ..Limits::default()
    });
    let huge = Need {
        input_tokens: 50_000,
        ..SMALL
    };
    drop(start(&mut lane, SMALL, 0));
    join(&mut lane, huge, 1, 0);
    join(&mut lane, SMALL, 2, 0);
    let released = lane.release(0);
    assert!(released.started.is_empty());
    let full_ms = released.next_ms.unwrap();
    assert!(full_ms <= 2 * SECOND, "{full_ms}");
    assert_eq!(items(&mut lane, full_ms), [1]);
    let next_ms = lane.release(full_ms).next_ms.unwrap();
    assert!(next_ms <= full_ms + MINUTE + SECOND, "{next_ms}");
    assert_eq!(items(&mut lane, next_ms), [2]);
}

#[test]
fn limits_in_headers_replace_guesses_but_never_what_is_configured() {
    let rules = LaneRules {
        limits: requests(100),
        start: Limits {
            input_tokens_per_minute: Some(30_000),
            output_tokens_per_minute: Some(8_000),
            tokens_per_minute: Some(1),
            ..Limits::default()
        },
        ..LaneRules::default()
    };
    let mut lane = Lane::new(rules, 0);
    let mut slot = start(&mut lane, SMALL, 0);
    let news = RateNews {
        requests: told(1_000, 999),
        input_tokens: told(500_000, 500_000),
        output_tokens: told(80_000, 80_000),
        tokens: told(580_000, 580_000),
        ..silent()
    };
    lane.answered(&mut slot, &news, Verdict::Ok, 500);
    let limits: Vec<_> = lane
        .standing(500)
        .buckets
        .iter()
        .map(|bucket| (bucket.kind, bucket.limit, bucket.source))
        .collect();
    assert_eq!(
        limits,
        [
            (Kind::Requests, 100, Source::Configured),
            (Kind::InputTokens, 500_000, Source::Told),
            (Kind::OutputTokens, 80_000, Source::Told),
        ]
    );
    let lower = RateNews {
        requests: told(50, 40),
        ..silent()
    };
    let mut slot = start(&mut lane, SMALL, 2_000);
    lane.answered(&mut slot, &lower, Verdict::Ok, 2_000);
    assert_eq!(lane.standing(2_000).buckets[0].limit, 50);
}

#[test]
fn guesses_give_way_to_whoever_tells_limits_of_the_kind() {
    let start_values = Limits {
        requests_per_minute: Some(50),
        input_tokens_per_minute: Some(30_000),
        output_tokens_per_minute: Some(8_000),
        ..Limits::default()
    };
    let limits = |news: RateNews, verdict: Verdict| {
        let rules = LaneRules {
            start: start_values,
            ..LaneRules::default()
        };
        let mut lane = Lane::new(rules, 0);
        let mut slot = start(&mut lane, SMALL, 0);
        lane.answered(&mut slot, &news, verdict, 500);
        let buckets = lane.standing(500).buckets.into_iter();
        buckets
            .map(|bucket| (bucket.kind, bucket.source))
            .collect::<Vec<_>>()
    };
    let guesses = [
        (Kind::Requests, Source::Learned),
        (Kind::InputTokens, Source::Learned),
        (Kind::OutputTokens, Source::Learned),
    ];
    assert_eq!(limits(silent(), Verdict::Ok), guesses);
    let of_requests = RateNews {
        requests: told(1_200, 1_199),
        ..silent()
    };
    let told_requests = (Kind::Requests, Source::Told);
    assert_eq!(limits(of_requests, Verdict::Ok), [told_requests]);
    assert_eq!(
        limits(of_requests, Verdict::RateLimited),
        [told_requests, guesses[1], guesses[2]],
        "a refusal may name only what it is for"
    );
    // Groq tells requests per day and tokens per minute, and limits requests per minute as well.
    let like_groq = RateNews {
        requests_day: told(14_400, 14_399),
        tokens: told(6_000, 5_900),
        ..silent()
    };
    assert_eq!(
        limits(like_groq, Verdict::Ok),
        [guesses[0], (Kind::Tokens, Source::Told)]
    );
    let only_days = RateNews {
        requests_day: told(1_000, 999),
        ..silent()
    };
    assert_eq!(limits(only_days, Verdict::Ok), guesses);
}

#[test]
fn what_others_use_of_the_account_is_seen_in_the_headers() {
    let mut lane = lane(requests(60));
    let mut slot = start(&mut lane, SMALL, 0);
    let news = RateNews {
        requests: told(60, 0),
        ..silent()
    };
    lane.answered(&mut slot, &news, Verdict::Ok, 0);
    assert_eq!(left(&lane, Kind::Requests, 0), 0);
    join(&mut lane, SMALL, 1, 0);
    assert!(items(&mut lane, 999).is_empty());
    assert_eq!(items(&mut lane, 1_000), [1]);
}

#[test]
fn what_is_in_flight_and_not_yet_in_the_number_is_known() {
    let mut lane = lane(requests(60_000));
    let mut first = start(&mut lane, SMALL, 0);
    let later: Vec<_> = (0..100).map(|_| start(&mut lane, SMALL, 0)).collect();
    let news = |remaining| RateNews {
        requests: told(60_000, remaining),
        ..silent()
    };
    // 20,000 were left at some moment: with all of the hundred, or without any of them.
    lane.answered(&mut first, &news(20_000), Verdict::Ok, 0);
    assert_eq!(left(&lane, Kind::Requests, 0), 20_000);
    drop(lane);
    let mut lane = super::release::lane(requests(60_000));
    let mut first = start(&mut lane, SMALL, 0);
    (0..100).for_each(|_| drop(start(&mut lane, SMALL, 0)));
    let believed = left(&lane, Kind::Requests, 0);
    lane.answered(&mut first, &news(believed as u64 + 50), Verdict::Ok, 0);
    assert_eq!(
        left(&lane, Kind::Requests, 0),
        believed,
        "in the range: not moved"
    );
    lane.answered(&mut first, &news(believed as u64 + 150), Verdict::Ok, 0);
    assert_eq!(
        left(&lane, Kind::Requests, 0),
        believed + 50,
        "to the edge of the range"
    );
    drop(later);
}

#[test]
fn a_number_that_is_rounded_to_thousands_is_not_taken_to_the_letter() {
    let limits = Limits {
        output_tokens_per_minute: Some(8_000),
        ..Limits::default()
    };
    let mut lane = lane(limits);
    let mut slot = start(&mut lane, SMALL, 0);
    let before = left(&lane, Kind::OutputTokens, 0);
    for remaining in [6_000, 7_000] {
        let news = RateNews {
            output_tokens: told(8_000, remaining),
            ..silent()
        };
        lane.answered(&mut slot, &news, Verdict::Ok, 0);
        assert_eq!(left(&lane, Kind::OutputTokens, 0), before);
    }
}

#[test]
fn headers_that_lie_or_contradict_each_other_break_nothing() {
    let lies = [
        told(0, 0),
        told(u64::MAX, u64::MAX),
        told(10, u64::MAX),
        told(1, 0),
        told(u64::MAX, 0),
        Some(Quota {
            remaining: Some(5),
            ..Quota::default()
        }),
        Some(Quota {
            limit: Some(u64::MAX),
            remaining: Some(7),
            resets_in: Some(Duration::MAX),
            window: Some(Duration::ZERO),
        }),
        Some(Quota {
            limit: Some(3),
            remaining: Some(7),
            resets_in: Some(Duration::ZERO),
            window: Some(Duration::MAX),
        }),
    ];
    for first in lies {
        for second in lies {
            let mut lane = Lane::new(LaneRules::default(), 0);
            let mut now = 0;
            for (round, verdict) in [Verdict::Ok, Verdict::RateLimited, Verdict::Ok]
                .into_iter()
                .enumerate()
            {
                join(&mut lane, SMALL, round as u32, now);
                let mut started = Vec::new();
                for _ in 0..1_000 {
                    let released = lane.release(now);
                    started.extend(released.started);
                    match released.next_ms {
                        Some(next) if started.is_empty() && next < NEVER => now = next,
                        _ => break,
                    }
                }
                let (_, mut slot) = started.pop().unwrap_or_else(|| {
                    panic!("jammed by {first:?}, {second:?}: {:?}", lane.standing(now))
                });
                let news = RateNews {
                    requests: first,
                    requests_day: second,
                    tokens: second,
                    input_tokens: first,
                    output_tokens: second,
                    ..silent()
                };
                lane.answered(&mut slot, &news, verdict, now);
                lane.finished(slot, None, now);
            }
        }
    }
}

#[test]
fn a_provider_that_does_not_reserve_the_cap_is_found_out() {
    // As Claude Code asks: far more than a minute's output, of which it uses little.
    let coder = Need {
        input_tokens: 1_000,
        output_cap: Some(128_000),
        expected_output: 500,
    };
    let news = |remaining| RateNews {
        input_tokens: told(500_000, 499_000),
        output_tokens: told(80_000, remaining),
        ..silent()
    };
    let mut lane = lane(Limits::default());
    let mut slot = start(&mut lane, coder, 0);
    lane.answered(&mut slot, &news(0), Verdict::Ok, SECOND);
    let mut slots = vec![slot];
    join(&mut lane, coder, 1, SECOND);
    assert!(
        items(&mut lane, SECOND).is_empty(),
        "it seems to reserve it"
    );
    let mut started = starts(&mut lane, 2 * MINUTE);
    let (_, mut slot) = started.pop().unwrap();
    lane.answered(&mut slot, &news(79_000), Verdict::Ok, 2 * MINUTE + SECOND);
    slots.push(slot);
    for round in 1..20 {
        slots.push(start(&mut lane, coder, 2 * MINUTE + (1 + round) * SECOND));
    }
    let mut last = slots.pop().unwrap();
    lane.answered(&mut last, &news(400), Verdict::RateLimited, 3 * MINUTE);
    join(&mut lane, coder, 1, 3 * MINUTE);
    assert!(
        items(&mut lane, 3 * MINUTE).is_empty(),
        "after a refusal, caution again"
    );
}

#[test]
fn the_day_is_counted_in_any_24_hours() {
    let mut lane = lane(Limits {
        requests_per_day: Some(2),
        ..Limits::default()
    });
    (0..3).for_each(|item| join(&mut lane, SMALL, item, 0));
    let released = lane.release(0);
    assert_eq!(released.started.len(), 2);
    let back_ms = 24 * HOUR + 24 * MINUTE;
    assert_eq!(released.next_ms, Some(back_ms));
    let refused = lane.join(who("a"), SMALL, HOUR, 9, 0).unwrap_err();
    assert!(matches!(refused, Refused::TooLate { earliest_ms, .. } if earliest_ms >= back_ms));
    assert_eq!(lane.standing(0).day, Some((2, 2)));
    assert_eq!(items(&mut lane, back_ms), [2]);
}

#[test]
fn what_was_learned_survives_a_restart() {
    let mut lane = lane(Limits::default());
    let mut slot = start(&mut lane, SMALL, 0);
    let news = RateNews {
        requests: told(60, 10),
        output_tokens: told(80_000, 80_000),
        input_tokens: told(80_000, 80_000),
        ..silent()
    };
    lane.answered(&mut slot, &news, Verdict::Ok, 0);
    let bytes = minicbor::to_vec(lane.learned()).unwrap();
    let learned: Learned = minicbor::decode(&bytes).unwrap();
    let rules = LaneRules::default();
    let again = Lane::<u32>::with_learned(rules, &learned, 5 * SECOND);
    assert_eq!(
        left(&again, Kind::Requests, 5 * SECOND),
        15,
        "and five came in meanwhile"
    );
    assert_eq!(again.standing(5 * SECOND).buckets.len(), 3);
    let stubborn = LaneRules {
        limits: requests(30),
        learn: false,
        ..rules
    };
    let again = Lane::<u32>::with_learned(stubborn, &learned, 5 * SECOND);
    let standing = again.standing(5 * SECOND);
    assert_eq!(standing.buckets.len(), 1);
    assert_eq!(
        (standing.buckets[0].limit, standing.buckets[0].left),
        (30, Some(13))
    );
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut lane = lane(requests(60));
    drop(start(&mut lane, SMALL, HOUR));
    join(&mut lane, SMALL, 1, 0);
    assert!(items(&mut lane, 0).is_empty());
    assert_eq!(lane.release(0).next_ms, Some(HOUR + 980));
}

#[test]
fn an_hour_of_refusals_leaves_the_lane_as_it_was() {
    let mut lane = lane(requests(600));
    let mut sent = 0;
    for now in (0..HOUR).step_by(100) {
        if lane.is_empty() {
            join(&mut lane, SMALL, 0, now);
        }
        for (_, mut slot) in starts(&mut lane, now) {
            sent += 1;
            lane.answered(&mut slot, &silent(), Verdict::RateLimited, now);
            lane.finished(slot, None, now);
            lane.pause(now + 30 * SECOND, PauseReason::RateLimited);
        }
    }
    assert_eq!(sent, 120, "one after each pause");
    let standing = lane.standing(HOUR);
    assert_eq!((standing.concurrency, standing.in_flight), (None, 0));
    assert!(standing.buckets[0].limit >= 500);
}

#[test]
fn ten_thousand_are_released_in_order_without_a_stall() {
    let mut lane = lane(Limits {
        concurrency: Some(1),
        ..Limits::default()
    });
    let slot = start(&mut lane, SMALL, 0);
    let names: Vec<String> = (0..100).map(|number| format!("session {number}")).collect();
    for item in 0..10_000_u32 {
        let session = &names[item as usize % 100];
        lane.join(who(session), SMALL, NEVER, item, 0).unwrap();
    }
    lane.finished(slot, None, 1);
    let began = Instant::now();
    let mut order = Vec::new();
    while let Some((item, slot)) = starts(&mut lane, 1).pop() {
        order.push(item);
        lane.finished(slot, None, 1);
    }
    let took = began.elapsed();
    assert_eq!(
        order,
        (0..10_000).collect::<Vec<_>>(),
        "in turn, for all weigh the same"
    );
    // A tenth of a second without optimisation; the bound only tells a stall.
    assert!(took < Duration::from_secs(3), "{took:?}");
}
