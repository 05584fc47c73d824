//! The budget engine: its rules one by one, and its promises for any schedule.

mod model;
mod properties;
mod samples;

use tollgate::policy::budget::{Amounts, ScopeKey, ScopeKind, Scopes};
use tollgate::policy::budgets::{Ask, Budgets, Filter, Outgrown, Undecodable, Why};
use tollgate::policy::throttle::{Level, Verdict};
use tollgate::units::{Cost, Priority};

use self::samples::{
    DAY, HOUR, MINUTE, START, ask, budget, engine, engine_for, hard, of, session, standing, tokens,
    usd,
};

const NORMAL: Priority = Priority::Normal;

fn everything() -> ScopeKey {
    ScopeKey {
        kind: ScopeKind::Global,
        name: String::new(),
    }
}

/// Uses up so many tokens of a session at once.
fn spend(engine: &mut Budgets, name: &str, count: u64, now_ms: u64) {
    engine.recall(&of(name), &tokens(count), now_ms, now_ms);
}

/// Uses other sessions until this one is put away.
fn put_away(engine: &mut Budgets, name: &str, now_ms: u64) -> Vec<u8> {
    let others = (0..10).map(|number| format!("other-{number}"));
    let mut evicted = others.flat_map(|other| {
        spend(engine, &other, 1, now_ms);
        engine.take_evicted()
    });
    let found = evicted.find(|(key, _)| *key == session(name));
    found.expect("the hand comes round").1
}

#[test]
fn a_reservation_counts_until_it_is_settled_with_what_was_used() {
    let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
    let admitted = engine
        .admit(&of("docs"), &ask(tokens(600)), NORMAL, START)
        .expect("it fits");
    assert_eq!(admitted.level, Level::None);
    assert_eq!(admitted.held.reserved().expected.fresh_tokens, 600);
    let denied = engine
        .admit(&of("docs"), &ask(tokens(401)), NORMAL, START)
        .expect_err("401 of 400");
    assert_eq!(
        (denied.settled, denied.reserved, denied.asked, denied.limit),
        (0, 600, 401, 1000)
    );
    engine.settle(admitted.held, &tokens(599), START);
    let now = standing(&mut engine, session("docs"), START);
    assert_eq!((now.settled, now.reserved), (599, 0));
    let admitted = engine.admit(&of("docs"), &ask(tokens(401)), NORMAL, START);
    assert!(admitted.is_ok(), "the last token may be reserved");
}

#[test]
fn a_request_that_one_budget_refuses_takes_nothing_of_the_others() {
    let mut engine = engine(vec![
        budget("all", "global", "hour", "1000 tokens"),
        budget("each", "session", "hour", "100 tokens"),
    ]);
    let denied = engine
        .admit(&of("docs"), &ask(tokens(101)), NORMAL, START)
        .expect_err("larger than the session's");
    assert_eq!(denied.scope, "session docs");
    let all = standing(&mut engine, everything(), START);
    assert_eq!((all.settled, all.reserved), (0, 0));
    assert_eq!(engine.live(), 1, "refusing a session does not remember it");
}

#[test]
fn ordinary_budgets_reserve_what_is_expected_and_hard_ones_the_worst() {
    let mut engine = engine(vec![
        budget("ordinary", "global", "hour", "1000 tokens"),
        hard(budget("hard", "global", "hour", "1000 tokens")),
    ]);
    let both = Ask {
        expected: tokens(10),
        worst: tokens(300),
    };
    let admitted = engine.admit(&of("a"), &both, NORMAL, START).expect("fits");
    let standings = engine.standings(START, &Filter::All);
    let reserved: Vec<_> = standings.iter().map(|standing| standing.reserved).collect();
    assert_eq!(reserved, [10, 300]);
    engine.settle(admitted.held, &tokens(20), START);
    let swapped = Ask {
        expected: tokens(300),
        worst: tokens(10),
    };
    let _admitted = engine
        .admit(&of("a"), &swapped, NORMAL, START)
        .expect("fits");
    let standings = engine.standings(START, &Filter::All);
    let reserved: Vec<_> = standings.iter().map(|standing| standing.reserved).collect();
    assert_eq!(reserved, [300, 300], "the worst is no better than expected");
}

#[test]
fn every_matching_budget_applies_and_no_other() {
    let mut engine = engine(vec![
        budget("model-requests", "model", "minute", "5 requests"),
        budget("research", "team:research", "day", "100 usd"),
        budget("keys", "key", "day", "7 tokens"),
        budget("provider-usd", "provider:openai", "month", "3 usd"),
    ]);
    let full = Scopes {
        session: "s",
        key: Some("k"),
        team: Some("research"),
        provider: "openai",
        model: Some("gpt"),
    };
    let elsewhere = Scopes {
        team: Some("docs"),
        provider: "local",
        key: None,
        model: None,
        ..full
    };
    for scopes in [full, elsewhere] {
        let _held = engine.charge(&scopes, &ask(tokens(1)), START);
    }
    let standings = engine.standings(START, &Filter::All);
    let scopes: Vec<_> = standings
        .iter()
        .map(|standing| standing.scope.to_string())
        .collect();
    assert_eq!(
        scopes,
        ["key k", "team research", "provider openai", "model gpt"]
    );
    assert_eq!(engine.live(), 4, "nothing is kept of what has no budget");
}

#[test]
fn what_costs_nothing_is_never_refused_for_money() {
    let mut engine = engine(vec![
        hard(budget("usd", "session", "hour", "5 usd")),
        budget("tokens", "session", "hour", "1000 tokens"),
    ]);
    engine.recall(&of("s"), &usd("5"), START, START);
    let local = engine
        .admit(&of("s"), &ask(tokens(10)), Priority::Low, START)
        .expect("it asks for no money");
    assert_eq!(local.level, Level::None);
    let denied = engine
        .admit(
            &of("s"),
            &ask(usd("0.000000000000000001")),
            Priority::Critical,
            START,
        )
        .expect_err("hard and full");
    assert_eq!(denied.level, Level::Critical);
}

#[test]
fn cache_reads_count_only_where_a_budget_says_so() {
    let fresh = budget("fresh", "global", "hour", "1000 tokens");
    let mut all = budget("all", "global", "hour", "1000 tokens");
    all.counts_cache_reads = true;
    let mut engine = engine(vec![fresh, all]);
    let used = Amounts {
        cached_tokens: 500,
        ..tokens(7)
    };
    engine.recall(&of("s"), &used, START, START);
    let standings = engine.standings(START, &Filter::All);
    let settled: Vec<_> = standings.iter().map(|standing| standing.settled).collect();
    assert_eq!(settled, [7, 507]);
}

#[test]
fn each_priority_is_treated_as_the_table_says_on_all_five_levels() {
    use Verdict::{Pass, Refuse, Wait};
    for (spent, level, verdicts) in [
        (0, Level::None, [Pass, Pass, Pass, Pass]),
        (700, Level::Warning, [Pass, Pass, Pass, Pass]),
        (800, Level::Soft, [Wait, Pass, Pass, Pass]),
        (900, Level::Hard, [Refuse, Refuse, Pass, Pass]),
        (950, Level::Critical, [Refuse, Refuse, Refuse, Pass]),
    ] {
        for (priority, verdict) in Priority::ALL.into_iter().zip(verdicts) {
            let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
            spend(&mut engine, "s", spent, START);
            let outcome = engine.admit(&of("s"), &ask(tokens(1)), priority, START);
            match &outcome {
                Ok(admitted) => assert_eq!((admitted.level, Pass), (level, verdict)),
                Err(denied) => {
                    assert_eq!((denied.level, denied.verdict), (level, verdict));
                    assert_eq!(denied.why, Why::Level);
                }
            }
        }
    }
}

#[test]
fn a_level_lasts_until_the_fill_is_below_its_threshold_by_the_hysteresis() {
    let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
    let level = |engine: &mut Budgets, held, count| {
        engine.settle(held, &tokens(0), START);
        let held = engine.charge(&of("s"), &ask(tokens(count)), START);
        (standing(engine, session("s"), START).level, held)
    };
    spend(&mut engine, "s", 779, START);
    let held = engine.charge(&of("s"), &ask(tokens(21)), START);
    let (soft, held) = (standing(&mut engine, session("s"), START).level, held);
    assert_eq!(soft, Level::Soft, "80 %");
    // Settling with nothing leaves 77.9 %, which ends it.
    let (fallen, held) = level(&mut engine, held, 20);
    assert_eq!(fallen, Level::Warning, "79.9 % on the way up");
    let changes = engine.take_changes();
    let steps: Vec<_> = changes
        .changes
        .iter()
        .map(|change| (change.from, change.to, change.filled))
        .collect();
    assert_eq!(
        steps,
        [
            (Level::None, Level::Warning, 779),
            (Level::Warning, Level::Soft, 800),
            (Level::Soft, Level::Warning, 779),
        ]
    );
    assert_eq!(changes.changes[1].scope, session("s"));
    assert_eq!(changes.changes[1].limit, 1000);
    assert!(engine.take_changes().changes.is_empty(), "told once");
    engine.settle(held, &tokens(1), START);
}

#[test]
fn too_many_level_changes_are_counted_not_kept() {
    let mut engine = engine_for(vec![budget("b", "session", "hour", "10 tokens")], 100_000);
    for number in 0..1030 {
        spend(&mut engine, &number.to_string(), 10, START);
    }
    let changes = engine.take_changes();
    assert_eq!((changes.changes.len(), changes.dropped), (1024, 6));
    assert_eq!(changes.changes[0].scope, session("0"));
    assert_eq!(engine.take_changes().dropped, 0);
}

#[test]
fn critical_requests_pass_ordinary_budgets_even_if_they_can_never_fit() {
    let limits = |hard_too: bool| {
        let ordinary = budget("b", "session", "hour", "1000 tokens");
        engine(vec![if hard_too { hard(ordinary) } else { ordinary }])
    };
    let large = ask(tokens(1001));
    assert!(
        limits(false)
            .admit(&of("s"), &large, Priority::Critical, START)
            .is_ok()
    );
    for (hard, priority) in [(true, Priority::Critical), (false, Priority::High)] {
        let denied = limits(hard)
            .admit(&of("s"), &large, priority, START)
            .expect_err("larger than the limit");
        assert_eq!(
            (denied.why, denied.verdict),
            (Why::NeverFits, Verdict::Refuse)
        );
        assert_eq!(
            (denied.passes_in_ms, denied.may_pass_earlier),
            (None, false)
        );
    }
}

#[test]
fn the_budget_that_passes_latest_decides() {
    let mut engine = engine(vec![
        budget("minute", "global", "minute", "1000 tokens"),
        budget("day", "session", "day", "1000 tokens"),
        budget("hour", "session", "hour", "1000 tokens"),
    ]);
    spend(&mut engine, "s", 1000, START);
    let denied = engine
        .admit(&of("s"), &ask(tokens(1)), NORMAL, START)
        .expect_err("all are full");
    assert_eq!(
        (denied.budget.name.as_str(), denied.why),
        ("day", Why::Level)
    );
    assert_eq!(denied.passes_in_ms, Some(61 * DAY / 60));
    let denied = engine
        .admit(&of("s"), &ask(tokens(1001)), NORMAL, START)
        .expect_err("never fits");
    assert_eq!(
        (denied.budget.name.as_str(), denied.why),
        ("minute", Why::NeverFits)
    );
}

#[test]
fn a_refusal_promises_the_moment_at_which_enough_has_left_and_the_level_has_fallen() {
    let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
    for minute in 0..10 {
        spend(&mut engine, "s", 85, START + minute * MINUTE);
    }
    let now = START + 10 * MINUTE;
    // 850: low waits until less than 780 are left, so one slot must leave: 61 minutes after it began.
    let low = engine
        .admit(&of("s"), &ask(tokens(1)), Priority::Low, now)
        .expect_err("SOFT");
    assert_eq!((low.why, low.verdict), (Why::Level, Verdict::Wait));
    assert_eq!(low.passes_in_ms, Some(51 * MINUTE));
    // 300 more fit when 150 have left: two slots.
    let normal = engine
        .admit(&of("s"), &ask(tokens(300)), NORMAL, now)
        .expect_err("too little left");
    assert_eq!(
        (normal.why, normal.verdict),
        (Why::DoesNotFit, Verdict::Refuse)
    );
    assert_eq!(normal.passes_in_ms, Some(52 * MINUTE));
}

#[test]
fn where_only_reservations_stand_in_the_way_no_moment_is_promised() {
    let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
    let running = engine
        .admit(&of("s"), &ask(tokens(600)), NORMAL, START)
        .expect("fits");
    let denied = |engine: &mut Budgets, count| {
        let denied = engine
            .admit(&of("s"), &ask(tokens(count)), NORMAL, START)
            .expect_err("too much is reserved");
        (denied.passes_in_ms, denied.may_pass_earlier)
    };
    assert_eq!(denied(&mut engine, 500), (None, true));
    spend(&mut engine, "s", 250, START);
    assert_eq!(denied(&mut engine, 300), (Some(61 * MINUTE), true));
    engine.settle(running.held, &tokens(600), START);
    assert_eq!(denied(&mut engine, 300), (Some(61 * MINUTE), false));
}

#[test]
fn a_month_passes_again_when_the_next_begins() {
    let mut engine = engine(vec![budget("b", "global", "month", "10 usd")]);
    engine.recall(&of("s"), &usd("10"), START, START);
    let denied = engine
        .admit(&of("s"), &ask(usd("1")), NORMAL, START)
        .expect_err("spent");
    let next = START + 17 * DAY;
    assert_eq!(denied.passes_in_ms, Some(next - START));
    assert_eq!(
        standing(&mut engine, everything(), START).resets_in_ms,
        Some(17 * DAY)
    );
    assert!(
        engine
            .admit(&of("s"), &ask(usd("1")), NORMAL, next - 1)
            .is_err()
    );
    assert!(engine.admit(&of("s"), &ask(usd("1")), NORMAL, next).is_ok());
}

#[test]
fn what_was_reserved_in_one_month_is_booked_in_the_month_in_which_it_ends() {
    let mut engine = engine(vec![budget("b", "global", "month", "10 usd")]);
    let next = START + 17 * DAY;
    let running = engine
        .admit(&of("s"), &ask(usd("4")), NORMAL, next - 1)
        .expect("fits");
    assert_eq!(
        standing(&mut engine, everything(), next).reserved,
        4 * 10_i128.pow(18)
    );
    engine.settle(running.held, &usd("3"), next);
    let now = standing(&mut engine, everything(), next);
    assert_eq!((now.settled, now.reserved), (3 * 10_i128.pow(18), 0));
}

#[test]
fn a_growing_request_takes_more_of_ordinary_budgets_whatever_is_left() {
    let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
    let mut running = engine
        .admit(&of("s"), &ask(tokens(10)), NORMAL, START)
        .expect("fits")
        .held;
    for (asked, reserved) in [(5, 10), (900, 900), (2000, 2000)] {
        assert_eq!(
            engine.grow(&mut running, &ask(tokens(asked)), START),
            Ok(())
        );
        let now = standing(&mut engine, session("s"), START);
        assert_eq!(now.reserved, reserved);
    }
    assert_eq!(
        standing(&mut engine, session("s"), START).level,
        Level::Critical
    );
    engine.settle(running, &tokens(1), START);
    assert_eq!(standing(&mut engine, session("s"), START).reserved, 0);
}

#[test]
fn a_request_that_outgrows_a_hard_budget_must_end_and_changes_nothing() {
    let mut engine = engine(vec![
        budget("ordinary", "session", "hour", "1000 tokens"),
        hard(budget("hard", "global", "hour", "1000 tokens")),
    ]);
    let mut running = engine
        .admit(&of("s"), &ask(tokens(600)), NORMAL, START)
        .expect("fits")
        .held;
    spend(&mut engine, "other", 300, START);
    assert_eq!(
        engine.grow(&mut running, &ask(tokens(701)), START),
        Err(Outgrown)
    );
    assert_eq!(running.reserved().expected.fresh_tokens, 600);
    let standings = engine.standings(START, &Filter::Scope(session("s")));
    assert_eq!(standings[0].reserved, 600);
    assert_eq!(engine.grow(&mut running, &ask(tokens(700)), START), Ok(()));
    assert_eq!(standing(&mut engine, everything(), START).reserved, 700);
}

#[test]
fn a_clock_that_is_set_back_frees_nothing() {
    let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
    let running = engine
        .admit(&of("s"), &ask(tokens(500)), NORMAL, START)
        .expect("fits")
        .held;
    engine.settle(running, &tokens(1000), START - DAY);
    for now in [START - DAY, START - 1, START, START + HOUR] {
        let denied = engine
            .admit(&of("s"), &ask(tokens(1)), NORMAL, now)
            .expect_err("spent");
        let passes = now + denied.passes_in_ms.expect("it will have left");
        assert_eq!(
            passes,
            START + 61 * MINUTE,
            "counted from the latest time seen"
        );
    }
}

#[test]
fn what_is_recalled_counts_at_its_own_time_and_never_later_than_now() {
    let mut engine = engine(vec![budget("b", "session", "hour", "1000 tokens")]);
    for (at, count) in [
        (START - 62 * MINUTE, 1),
        (START - 30 * MINUTE, 10),
        (START + DAY, 100),
    ] {
        engine.recall(&of("s"), &tokens(count), at, START);
    }
    let settled = |engine: &mut Budgets, now| standing(engine, session("s"), now).settled;
    assert_eq!(settled(&mut engine, START), 110);
    assert_eq!(settled(&mut engine, START + 31 * MINUTE), 100);
    assert_eq!(
        standing(&mut engine, session("s"), START + 31 * MINUTE).resets_in_ms,
        Some(30 * MINUTE)
    );
}

#[test]
fn absurd_amounts_stay_at_the_largest_and_are_given_back_exactly() {
    let most = Amounts {
        requests: u64::MAX,
        fresh_tokens: u64::MAX,
        cached_tokens: u64::MAX,
        cost: Cost::from_attos(i128::MAX),
    };
    let mut all = budget("tokens", "session", "hour", "18446744073709551615 tokens");
    all.counts_cache_reads = true;
    let mut engine = engine(vec![
        all,
        hard(budget(
            "usd",
            "session",
            "hour",
            "170000000000000000000 usd",
        )),
    ]);
    let running: Vec<_> = (0..100)
        .map(|_| engine.charge(&of("s"), &ask(most), START))
        .collect();
    let denied = engine
        .admit(&of("s"), &ask(usd("1")), Priority::Critical, START)
        .expect_err("full");
    assert!(denied.reserved > 0);
    for held in running {
        engine.settle(held, &Amounts::default(), START);
    }
    for standing in engine.standings(START, &Filter::All) {
        assert_eq!((standing.settled, standing.reserved), (0, 0));
        assert_eq!(standing.level, Level::None);
    }
    let denied = engine
        .admit(&of("s"), &ask(most), Priority::Critical, START)
        .expect_err("more than a hard budget can hold");
    assert_eq!(denied.why, Why::NeverFits);
    let refund = Amounts {
        cost: Cost::from_attos(-5),
        ..Amounts::default()
    };
    engine.recall(&of("s"), &refund, START, START);
    engine.recall(&of("s"), &usd("1"), START, START);
    let standings = engine.standings(START, &Filter::All);
    assert_eq!(
        standings[1].settled,
        10_i128.pow(18),
        "no usage frees a budget"
    );
    for now in [u64::MAX, 0] {
        assert!(engine.admit(&of("s"), &ask(usd("1")), NORMAL, now).is_ok());
    }
}

#[test]
fn idle_scopes_are_dropped_as_the_hand_passes() {
    let mut engine = engine(vec![
        budget("b", "session", "hour", "1000 tokens"),
        budget("all", "global", "day", "1000 tokens"),
    ]);
    for number in 0..100 {
        spend(&mut engine, &number.to_string(), 1, START);
    }
    assert_eq!(engine.live(), 101);
    let later = START + 2 * HOUR;
    let running = engine.charge(&of("held"), &ask(tokens(1)), later);
    for _ in 0..200 {
        let held = engine.charge(&of("busy"), &ask(tokens(1)), later);
        engine.settle(held, &tokens(1), later);
    }
    let standings = engine.standings(later, &Filter::All);
    let scopes: Vec<_> = standings
        .iter()
        .map(|standing| standing.scope.to_string())
        .collect();
    assert_eq!(scopes, ["global", "session busy", "session held"]);
    assert_eq!(engine.evicted(), 0, "nothing was lost with them");
    assert!(engine.missing(&of("17")).is_empty());
    engine.settle(running, &tokens(1), later);
}

#[test]
fn no_number_of_session_names_makes_more_live_than_may_be() {
    let mut engine = engine_for(
        vec![
            budget("b", "session", "hour", "1000 tokens"),
            budget("all", "global", "hour", "1000000000 tokens"),
        ],
        500,
    );
    let mut ledger = std::collections::HashMap::new();
    for number in 0..100_000_u64 {
        let name = format!("session-{number}");
        for key in engine.missing(&of(&name)) {
            let bytes: Option<&Vec<u8>> = ledger.get(&key);
            engine
                .restore(&key, bytes.map(Vec::as_slice), START)
                .expect("undamaged");
        }
        let admitted = engine
            .admit(&of(&name), &ask(tokens(number % 7)), NORMAL, START)
            .expect("fits");
        engine.settle(admitted.held, &tokens(number % 7), START);
        ledger.extend(engine.take_evicted());
        assert!(engine.live() <= 500);
    }
    assert_eq!(engine.evicted(), 99_501);
    let key = session("session-6");
    assert_eq!(engine.missing(&of("session-6")).first(), Some(&key));
    engine
        .restore(&key, ledger.get(&key).map(Vec::as_slice), START)
        .expect("undamaged");
    assert_eq!(standing(&mut engine, key, START).settled, 6);
    assert!(
        engine.memory_bytes() < 1_000_000,
        "{}",
        engine.memory_bytes()
    );
}

#[test]
fn often_used_scopes_and_those_with_reservations_stay() {
    let mut engine = engine_for(vec![budget("b", "session", "hour", "1000000 tokens")], 10);
    let running = engine.charge(&of("running"), &ask(tokens(1)), START);
    for number in 0..1000 {
        spend(&mut engine, "favourite", 1, START);
        spend(&mut engine, &number.to_string(), 1, START);
        let evicted = engine.take_evicted();
        assert!(
            evicted
                .iter()
                .all(|(key, _)| key.name != "favourite" && key.name != "running")
        );
        assert!(engine.live() <= 10);
    }
    engine.settle(running, &tokens(1), START);
}

#[test]
fn reservations_may_exceed_the_bound_which_holds_again_when_they_end() {
    let mut engine = engine_for(vec![budget("b", "session", "hour", "1000 tokens")], 3);
    let running: Vec<_> = (0..20)
        .map(|number| engine.charge(&of(&number.to_string()), &ask(tokens(1)), START))
        .collect();
    assert_eq!((engine.live(), engine.evicted()), (20, 0));
    for held in running {
        engine.settle(held, &tokens(1), START);
    }
    spend(&mut engine, "0", 1, START);
    assert_eq!((engine.live(), engine.evicted()), (3, 17));
}

#[test]
fn what_was_put_away_comes_back_by_itself_until_it_is_taken() {
    let mut engine = engine_for(vec![budget("b", "session", "hour", "1000 tokens")], 1);
    spend(&mut engine, "a", 7, START);
    spend(&mut engine, "b", 5, START);
    assert_eq!(engine.evicted(), 1);
    for name in ["a", "b"] {
        assert!(engine.missing(&of(name)).is_empty());
    }
    spend(&mut engine, "a", 1, START);
    spend(&mut engine, "b", 1, START);
    for (name, settled) in [("a", 8), ("b", 6)] {
        assert_eq!(standing(&mut engine, session(name), START).settled, settled);
    }
}

#[test]
fn a_level_survives_being_put_away() {
    let mut engine = engine_for(vec![budget("b", "session", "hour", "1000 tokens")], 1);
    for (minute, count) in [(0, 15), (1, 785)] {
        spend(&mut engine, "a", count, START + minute * MINUTE);
    }
    let bytes = put_away(&mut engine, "a", START + 2 * MINUTE);
    // By then 785 are left: within the hysteresis.
    let later = START + 61 * MINUTE;
    engine
        .restore(&session("a"), Some(&bytes), later)
        .expect("undamaged");
    let now = standing(&mut engine, session("a"), later);
    assert_eq!((now.settled, now.level), (785, Level::Soft));
}

#[test]
fn a_scope_that_is_live_is_not_overwritten_by_what_was_put_away_before() {
    let mut engine = engine_for(vec![budget("b", "session", "hour", "1000 tokens")], 1);
    spend(&mut engine, "a", 7, START);
    let bytes = put_away(&mut engine, "a", START);
    for _ in 0..2 {
        engine
            .restore(&session("a"), Some(&bytes), START)
            .expect("undamaged");
        spend(&mut engine, "a", 1, START);
    }
    engine
        .restore(&session("a"), None, START)
        .expect("nothing to read");
    assert_eq!(standing(&mut engine, session("a"), START).settled, 9);
}

#[test]
fn damaged_bytes_are_an_error_and_count_as_nothing_never() {
    let mut engine = engine_for(
        vec![
            budget("hour", "session", "hour", "1000 tokens"),
            budget("month", "session", "month", "1000 usd"),
        ],
        1,
    );
    for minute in 0..5 {
        spend(&mut engine, "a", 7, START + minute * MINUTE);
    }
    let now = START + 5 * MINUTE;
    let key = session("a");
    let bytes = put_away(&mut engine, "a", now);
    let mut refused = |key: &ScopeKey, bytes: &[u8]| {
        assert_eq!(engine.restore(key, Some(bytes), now), Err(Undecodable));
        assert_eq!(engine.missing(&of("a")), [session("a")]);
    };
    for length in 0..bytes.len() {
        refused(&key, &bytes[..length]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        refused(&key, &damaged);
    }
    refused(&session("c"), &bytes);
    engine.restore(&key, Some(&bytes), now).expect("undamaged");
    assert_eq!(engine.standings(now, &Filter::Scope(key))[0].settled, 35);
}

#[test]
fn two_hundred_requests_in_parallel_spend_at_most_a_hard_limit_of_fifty() {
    for hang_up in [false, true] {
        let mut engine = engine(vec![hard(budget("b", "global", "day", "50 usd"))]);
        let mut spent = Cost::ZERO;
        let mut running = Vec::new();
        for number in 0..200 {
            let one = Ask {
                expected: usd("0.5"),
                worst: usd("1"),
            };
            if let Ok(admitted) = engine.admit(&of("s"), &one, Priority::Critical, START) {
                running.push((number, admitted.held));
            }
            if number % 3 == 0 && !running.is_empty() {
                let (number, held) = running.swap_remove(0);
                let used = if hang_up && number % 2 == 0 {
                    usd("0")
                } else {
                    usd("1")
                };
                spent += used.cost;
                engine.settle(held, &used, START);
            }
        }
        for (_, held) in running {
            spent += usd("1").cost;
            engine.settle(held, &usd("1"), START);
        }
        assert_eq!(spent, usd("50").cost, "all of it, and nothing more");
    }
}
