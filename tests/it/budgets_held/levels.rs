//! The table of levels and priorities, in each unit; thresholds; hysteresis.

use super::*;

/// Fills in per mille, and the level that the contract gives them.
const FILLS: [(u64, &str); 9] = [
    (0, "NONE"),
    (650, "NONE"),
    (700, "WARNING"),
    (750, "WARNING"),
    (800, "SOFT"),
    (850, "SOFT"),
    (900, "HARD"),
    (950, "CRITICAL"),
    (1_000, "CRITICAL"),
];

/// What the contract's table says: pass, wait or refuse.
fn by_the_table(level: &str, priority: &str) -> &'static str {
    match (level, priority) {
        ("NONE" | "WARNING", _) | (_, "critical") => "pass",
        ("SOFT", "low") => "wait",
        ("SOFT", _) | ("HARD", "high") => "pass",
        _ => "refuse",
    }
}

/// What happened to a request: passed, waits in line, or was refused.
async fn outcome(tollgate: &Tollgate, ask: &Ask<'_>) -> (&'static str, Option<Head>) {
    let mut client = tollgate.connect().await;
    client.send(ask.bytes()).await;
    tokio::select! {
        head = client.head() => match head.status() {
            200 => ("pass", Some(head)),
            _ => ("refuse", Some(head)),
        },
        () = waiting(tollgate, 1) => {
            client.reset();
            waiting(tollgate, 0).await;
            ("wait", None)
        }
    }
}

async fn fill_a_session(tollgate: &Tollgate, unit: &str, session: &str, per_mille: u64) {
    let spend = Ask {
        output: match unit {
            "requests" => 0,
            _ => per_mille * 1_000,
        },
        ..ask(session, "critical")
    };
    let times = match unit {
        "requests" => per_mille / 50,
        _ => u64::from(per_mille > 0),
    };
    for _ in 0..times {
        spend.passes(tollgate).await;
    }
}

#[tokio::test]
async fn each_level_treats_each_priority_as_the_table_says_in_every_unit() {
    // A million output tokens cost ten dollars.
    for (unit, limit) in [
        ("tokens", "1,000,000 tokens"),
        ("usd", "10 usd"),
        ("requests", "20 requests"),
    ] {
        // A wait that helps within its deadline, so that low priority is not refused at once.
        let rules = Rules::none()
            .budget("b", "session", "minute", limit)
            .set("throttle.queue.max_wait", "10m");
        let (tollgate, provider) = rules.before_echo().await;
        for (per_mille, level) in FILLS {
            for priority in LOW_TO_CRITICAL {
                let session = format!("{unit}-{per_mille}-{priority}");
                fill_a_session(&tollgate, unit, &session, per_mille).await;
                provider.take();
                let (got, head) = outcome(&tollgate, &ask(&session, priority)).await;
                let what = format!("{unit} {per_mille} {priority}");
                assert_eq!(got, by_the_table(level, priority), "{what}");
                assert_eq!(provider.take().len(), usize::from(got == "pass"), "{what}");
                if let Some(head) = head {
                    assert_eq!(head.value("x-tollgate-level"), Some(level), "{what}");
                    let record = tollgate.record(&head).await;
                    assert_eq!(record.level.as_str(), level, "{what}");
                }
                let standing = standing(&tollgate, "b", Some(&session)).await;
                if let Some(standing) = standing.filter(|_| got != "pass") {
                    assert_eq!(standing["level"], level, "{what}");
                    assert!(
                        ["0", "0.00", "0.0"]
                            .contains(&standing["reserved"].to_string().trim_matches('"')),
                        "{standing}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn the_thresholds_are_those_of_the_config() {
    let rules = Rules::none()
        .budget("b", "session", "hour", "100,000 tokens")
        .set("throttle.warning", "10%")
        .set("throttle.soft", "0.2")
        .set("throttle.hard", "30%")
        .set("throttle.critical", "40.5%")
        .set("throttle.queue.max_waiting", "0");
    let (tollgate, _provider) = rules.before_echo().await;
    for (tokens, level) in [
        (9_900, "NONE"),
        (10_000, "WARNING"),
        (19_900, "WARNING"),
        (20_000, "SOFT"),
        (29_900, "SOFT"),
        (30_000, "HARD"),
        (40_400, "HARD"),
        (40_500, "CRITICAL"),
    ] {
        let session = tokens.to_string();
        let spend = Ask {
            output: tokens,
            ..ask(&session, "critical")
        };
        spend.passes(&tollgate).await;
        for priority in LOW_TO_CRITICAL {
            let (head, _) = ask(&session, priority).send(&tollgate).await;
            assert_eq!(head.value("x-tollgate-level"), Some(level), "{tokens}");
            let passes = by_the_table(level, priority) == "pass";
            assert_eq!(head.status() == 200, passes, "{tokens} {priority}");
        }
    }
    let thresholds = &tollgate.get("/api/v1/throttle").await.json()["thresholds"];
    assert_eq!(thresholds["critical"], 0.405, "{thresholds}");
}

#[tokio::test]
async fn a_level_does_not_flutter_when_the_fill_moves_within_the_band() {
    let rules = Rules::none().budget("b", "session", "minute", "10,000 tokens");
    let (tollgate, _provider) = rules.before_echo().await;
    let level = async || {
        let head = ask("s", "critical").passes(&tollgate).await;
        head.value("x-tollgate-level").unwrap().to_owned()
    };
    let spend = async |tokens| {
        Ask {
            output: tokens,
            ..ask("s", "critical")
        }
        .passes(&tollgate)
        .await;
    };
    // Each five seconds a little leaves the window and a little is spent anew: 7,000 → 6,900 → 7,000 → …
    for step in 0..8 {
        tollgate.set_clock(NOON + step * 5 * SECOND);
        spend(100).await;
    }
    tollgate.set_clock(NOON + 40 * SECOND);
    assert_eq!(level().await, "NONE");
    spend(6_180).await;
    assert_eq!(
        level().await,
        "NONE",
        "698 of a thousand, coming from below"
    );
    spend(20).await;
    assert_eq!(level().await, "WARNING");
    let mut seen = Vec::new();
    for step in 0..8 {
        tollgate.set_clock(NOON + 61 * SECOND + 1 + step * 5 * SECOND);
        let (settled, _) = amounts(&tollgate, "b", Some("s")).await;
        seen.push(settled);
        assert_eq!(level().await, "WARNING", "{settled} of 10,000");
        spend(100).await;
    }
    assert!(seen.iter().all(|settled| *settled == 6_900), "{seen:?}");
    // The big one leaves.
    tollgate.set_clock(NOON + 102 * SECOND);
    assert_eq!(level().await, "NONE");
    let changes = events(&tollgate, "level_changed", 2).await;
    assert_eq!(changes.len(), 2, "up once and down once: {changes:#?}");
}

#[tokio::test]
async fn a_level_falls_once_the_fill_is_below_the_band() {
    let rules = Rules::none()
        .budget("b", "session", "minute", "10,000 tokens")
        .set("throttle.hysteresis", "5%");
    let (tollgate, _provider) = rules.before_echo().await;
    // First 400 or 600 tokens that leave, then those that stay: at 90.x %, one token below and above the band's lower end.
    for (session, leaves, level) in [("within", 499, "HARD"), ("below", 501, "SOFT")] {
        tollgate.set_clock(NOON + if session == "below" { HOUR } else { 0 });
        let now = if session == "below" {
            NOON + HOUR
        } else {
            NOON
        };
        Ask {
            output: leaves,
            ..ask(session, "critical")
        }
        .passes(&tollgate)
        .await;
        tollgate.set_clock(now + 30 * SECOND);
        Ask {
            output: 9_000 - leaves,
            ..ask(session, "critical")
        }
        .passes(&tollgate)
        .await;
        let head = ask(session, "critical").passes(&tollgate).await;
        assert_eq!(head.value("x-tollgate-level"), Some("HARD"));
        tollgate.set_clock(now + 62 * SECOND);
        let head = ask(session, "critical").passes(&tollgate).await;
        assert_eq!(head.value("x-tollgate-level"), Some(level), "{session}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_below_every_threshold_and_passes_only_as_critical() {
    for hard in ["false", "true"] {
        let rules = Rules::none()
            .budget("b", "session", "hour", "20,000 tokens")
            .set("budgets.b.hard", hard);
        let (tollgate, provider) = rules.before_echo().await;
        // Another model, so that nothing is learned of the one that is asked for below.
        let spend = Ask {
            model: "claude-haiku-4-5",
            output: 10_000,
            ..ask("s", "critical")
        };
        spend.passes(&tollgate).await;
        provider.take();
        // More than 10,000 tokens and less than 20,000: about three letters each, or in the worst case one.
        let words = "word ".repeat(if hard == "true" { 2_400 } else { 8_000 });
        for priority in LOW_TO_CRITICAL {
            let large = Ask {
                prompt: &words,
                input: 12_000,
                ..ask("s", priority)
            };
            let (head, body) = large.send(&tollgate).await;
            let passes = priority == "critical" && hard == "false";
            assert_eq!(
                head.status() == 200,
                passes,
                "hard {hard} {priority}: {}",
                body.text()
            );
            assert_eq!(provider.take().len(), usize::from(passes));
            if !passes {
                let told = told(&body);
                assert_eq!(told["budget"], "b");
                assert_eq!(told["settled"], 10_000);
                assert!(
                    (10_001..20_000).contains(&told["asked"].as_u64().unwrap()),
                    "{told}"
                );
            }
        }
        let small = ask("s", "low").send(&tollgate).await.0;
        let fits = hard == "true";
        assert_eq!(
            small.status() == 200,
            fits,
            "what is small still passes at half full"
        );
    }
}

#[tokio::test]
async fn warned_requests_are_told_their_level() {
    let rules = Rules::none().budget("b", "session", "hour", "100,000 tokens");
    let (tollgate, _provider) = rules.before_echo().await;
    Ask {
        output: 75_000,
        ..ask("s", "low")
    }
    .passes(&tollgate)
    .await;
    for priority in LOW_TO_CRITICAL {
        let head = ask("s", priority).passes(&tollgate).await;
        assert_eq!(head.value("x-tollgate-level"), Some("WARNING"));
    }
    let warned = tollgate.metric("tollgate_admissions_total", &["WARNING", "pass"]);
    assert_eq!(warned, 4.0);
}

#[tokio::test]
async fn why_a_request_passed_can_be_seen_in_its_record() {
    let rules = Rules::none()
        .budget("fuller", "session", "hour", "100,000 tokens")
        .budget("emptier", "global", "hour", "1,000,000 tokens");
    let (tollgate, _provider) = rules.before_echo().await;
    Ask {
        output: 75_000,
        ..ask("s", "low")
    }
    .passes(&tollgate)
    .await;
    let head = ask("s", "normal").passes(&tollgate).await;
    let record = tollgate.record(&head).await;
    assert_eq!(record.level.as_str(), "WARNING");
    assert_eq!(
        record.decided_by.as_deref(),
        Some("fuller"),
        "the budget that was fullest"
    );
}
