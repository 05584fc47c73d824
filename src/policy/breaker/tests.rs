use proptest::prelude::*;

use super::*;

/// No chance: waits are four fifths of their middle.
const LOW: f64 = 0.0;
/// The middle.
const MID: f64 = 0.5;

fn end(breaker: &mut Breaker, sign: Sign, now_ms: u64) {
    let pass = breaker.ask(now_ms).expect("leave");
    breaker.answered(pass, sign, now_ms, MID);
}

/// A breaker that opened at `now_ms`.
fn open(now_ms: u64) -> Breaker {
    let mut breaker = Breaker::new(0);
    for _ in 0..FAILURES {
        end(&mut breaker, Sign::Failing, now_ms);
    }
    assert_eq!(breaker.standing().as_str(), "open");
    breaker
}

#[test]
fn five_failures_in_a_row_open_it() {
    let mut breaker = Breaker::new(0);
    for sign in [
        Sign::Failing,
        Sign::Overloaded,
        Sign::Failing,
        Sign::Failing,
    ] {
        end(&mut breaker, sign, 10);
    }
    assert_eq!(breaker.standing(), BreakerStanding::Closed { failures: 4 });
    end(&mut breaker, Sign::Well, 10);
    assert_eq!(breaker.standing(), BreakerStanding::Closed { failures: 0 });
    for _ in 0..5 {
        end(&mut breaker, Sign::Failing, 20);
    }
    let expected = BreakerStanding::Open {
        next_probe_ms: 1020,
        since_ms: 20,
    };
    assert_eq!(breaker.standing(), expected);
    assert_eq!(breaker.ask(1019).map(|_| ()), Err(1020));
    assert_eq!(breaker.next_ms(), 1020);
}

#[test]
fn refusals_for_the_rate_neither_open_it_nor_end_a_row() {
    let mut breaker = Breaker::new(0);
    for _ in 0..100 {
        end(&mut breaker, Sign::RateLimited, 0);
        end(&mut breaker, Sign::Untold, 0);
    }
    assert_eq!(breaker.standing(), BreakerStanding::Closed { failures: 0 });
    for _ in 0..5 {
        end(&mut breaker, Sign::RateLimited, 0);
        end(&mut breaker, Sign::Failing, 0);
    }
    assert_eq!(breaker.standing().as_str(), "open");
}

#[test]
fn one_probe_at_a_time_and_two_successes_close_it() {
    let mut breaker = open(0);
    let probe = breaker.ask(1000).expect("the probe");
    assert!(probe.is_probe());
    assert_eq!(breaker.ask(1001).map(|_| ()), Err(31_000));
    breaker.answered(probe, Sign::Well, 2000, MID);
    let expected = BreakerStanding::HalfOpen {
        successes: 1,
        probing: false,
        since_ms: 1000,
    };
    assert_eq!(breaker.standing(), expected);
    let probe = breaker.ask(2000).expect("the second probe");
    assert!(breaker.ask(2000).is_err());
    breaker.answered(probe, Sign::Well, 2500, MID);
    assert_eq!(breaker.standing(), BreakerStanding::Closed { failures: 0 });
    assert!(!breaker.ask(2500).expect("leave").is_probe());
}

#[test]
fn probes_that_fail_come_ever_later_up_to_a_minute() {
    let mut breaker = open(0);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..13 {
        let next = breaker.next_ms();
        waits.push((next - now) / 100);
        now = next;
        let probe = breaker.ask(now).expect("the probe");
        breaker.answered(probe, Sign::Failing, now, MID);
    }
    assert_eq!(
        waits,
        [10, 15, 22, 33, 50, 75, 113, 170, 256, 384, 576, 600, 600]
    );
    // Once it was closed they begin anew.
    now = breaker.next_ms();
    for _ in 0..SUCCESSES {
        end(&mut breaker, Sign::Well, now);
    }
    for _ in 0..FAILURES {
        end(&mut breaker, Sign::Failing, now);
    }
    assert_eq!(breaker.next_ms(), now + 1000);
}

#[test]
fn a_failure_after_one_success_opens_it_again_for_longer() {
    let mut breaker = open(0);
    end(&mut breaker, Sign::Well, 1000);
    end(&mut breaker, Sign::Overloaded, 1000);
    assert_eq!(breaker.next_ms(), 2500);
}

#[test]
fn a_probe_that_tells_nothing_frees_its_place() {
    let mut breaker = open(0);
    let probe = breaker.ask(1000).expect("the probe");
    breaker.unanswered(probe);
    let probe = breaker.ask(1001).expect("the next probe");
    // A 429 proves neither that it is back nor that it is down.
    breaker.answered(probe, Sign::RateLimited, 1002, MID);
    assert!(breaker.ask(1003).expect("the next probe").is_probe());
    let expected = BreakerStanding::HalfOpen {
        successes: 0,
        probing: true,
        since_ms: 1000,
    };
    assert_eq!(breaker.standing(), expected);
}

#[test]
fn a_probe_that_hangs_is_replaced_and_its_late_success_counts() {
    let mut breaker = open(0);
    let hanging = breaker.ask(1000).expect("the probe");
    assert!(breaker.ask(30_999).is_err());
    let second = breaker.ask(31_000).expect("the one in its place");
    assert!(breaker.ask(31_001).is_err());
    breaker.answered(hanging, Sign::Well, 32_000, MID);
    assert!(breaker.ask(32_000).is_err());
    breaker.answered(second, Sign::Well, 33_000, MID);
    assert_eq!(breaker.standing().as_str(), "closed");

    let mut breaker = open(0);
    let hanging = breaker.ask(1000).expect("the probe");
    let second = breaker.ask(31_000).expect("the one in its place");
    // Left by its client, the first does not free the place of the second.
    breaker.unanswered(hanging);
    assert!(breaker.ask(31_001).is_err());
    breaker.unanswered(second);
    assert!(breaker.ask(31_001).is_ok());
}

#[test]
fn those_who_passed_before_a_change_of_state_say_nothing_after_it() {
    let mut breaker = Breaker::new(0);
    let mut under_way: Vec<Pass> = (0..30).map(|_| breaker.ask(0).expect("leave")).collect();
    for pass in under_way.drain(..10) {
        breaker.answered(pass, Sign::Failing, 100, MID);
    }
    // The sixth to tenth did not open it again.
    assert_eq!(breaker.next_ms(), 1100);
    let probe = breaker.ask(1100).expect("the probe");
    for pass in under_way.drain(..10) {
        breaker.answered(pass, Sign::Failing, 1200, MID);
    }
    breaker.answered(probe, Sign::Well, 1300, MID);
    end(&mut breaker, Sign::Well, 1300);
    assert_eq!(breaker.standing().as_str(), "closed");
    for pass in under_way {
        breaker.answered(pass, Sign::Failing, 1400, MID);
    }
    assert_eq!(breaker.standing(), BreakerStanding::Closed { failures: 0 });
}

#[test]
fn chance_moves_a_probe_by_a_fifth() {
    for (chance, expected) in [
        (LOW, 800),
        (MID, 1000),
        (1.0, 1200),
        (f64::NAN, 800),
        (9.0, 1200),
    ] {
        let mut breaker = Breaker::new(0);
        for _ in 0..FAILURES {
            let pass = breaker.ask(0).expect("leave");
            breaker.answered(pass, Sign::Failing, 0, chance);
        }
        assert_eq!(breaker.next_ms(), expected, "{chance}");
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_it_shut() {
    let mut breaker = open(10_000_000);
    let hanging = breaker.ask(0).expect("the probe");
    assert!(breaker.ask(1).is_err());
    breaker.unanswered(hanging);

    let mut breaker = open(10_000_000);
    let _hanging = breaker.ask(10_001_000).expect("the probe");
    assert!(breaker.ask(5).is_ok());
}

proptest! {
    /// Whatever happens in whichever order: while it is not closed no two probes hold their places at once, nothing but
    /// probes passes, and it is never shut for good.
    #[test]
    fn never_two_probes_at_once_and_never_shut_for_good(
        steps in proptest::collection::vec((0..8_u8, 0..40_u8, 0..20_000_u64, 0.0..1.0), 1..300),
    ) {
        let mut breaker = Breaker::new(0);
        let mut now = 0;
        // Every pass that is out, with the time at which its place is free for another.
        let mut out: Vec<(Pass, u64)> = Vec::new();
        for (step, which, time, chance) in steps {
            now += time;
            let sign = match step {
                0..=2 => {
                    let closed = breaker.standing().as_str() == "closed";
                    match breaker.ask(now) {
                        Ok(pass) => {
                            prop_assert_eq!(closed, !pass.is_probe());
                            if pass.is_probe() {
                                let era = pass.era;
                                let held = out.iter().any(|(other, until)| other.era == era && other.is_probe() && *until > now);
                                prop_assert!(!held);
                            }
                            out.push((pass, now + millis(PROBE_TIME)));
                        }
                        Err(again_ms) => {
                            prop_assert!(again_ms > now && again_ms <= now + 60_000);
                            prop_assert_eq!(again_ms, breaker.next_ms());
                        }
                    }
                    continue;
                }
                3 => Sign::Well,
                4 | 5 => Sign::Failing,
                6 => Sign::RateLimited,
                _ => Sign::Untold,
            };
            if !out.is_empty() {
                let (pass, _) = out.swap_remove(usize::from(which) % out.len());
                if sign == Sign::Untold {
                    breaker.unanswered(pass);
                } else {
                    breaker.answered(pass, sign, now, chance);
                }
            }
        }
        // The provider is back: two that succeed close it, however many are still hanging.
        for _ in 0..SUCCESSES {
            now = now.max(breaker.next_ms());
            let pass = breaker.ask(now).expect("leave");
            breaker.answered(pass, Sign::Well, now, 0.5);
        }
        prop_assert_eq!(breaker.standing().as_str(), "closed");
    }

    #[test]
    fn no_time_panics(times in proptest::collection::vec((any::<u64>(), any::<bool>()), 1..60)) {
        let mut breaker = Breaker::new(0);
        for (now, well) in times {
            if let Ok(pass) = breaker.ask(now) {
                let sign = if well { Sign::Well } else { Sign::Failing };
                breaker.answered(pass, sign, now, 0.9);
            }
        }
    }
}
