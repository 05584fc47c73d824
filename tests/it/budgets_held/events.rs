//! Events, the overview, and shadow mode: what people can read afterwards.

use tempfile::TempDir;

use super::*;
use crate::binary;

#[tokio::test]
async fn a_session_that_climbs_through_all_levels_leaves_its_level_changes() {
    let rules = Rules::none().budget("climb", "session", "hour", "100,000 tokens");
    let (tollgate, _provider) = rules.before_echo().await;
    for tokens in [70_000, 10_000, 10_000, 5_000] {
        Ask {
            output: tokens,
            ..ask("docs", "critical")
        }
        .passes(&tollgate)
        .await;
        ask("docs", "critical").passes(&tollgate).await;
    }
    let mut changes = events(&tollgate, "level_changed", 4).await;
    changes.reverse();
    let seen: Vec<(&str, &str, u64)> = changes
        .iter()
        .map(|event| {
            assert_eq!(
                (&event["budget"], &event["scope"], &event["session"]),
                (&json!("climb"), &json!("session docs"), &json!("docs"))
            );
            assert_eq!(
                (&event["limit"], &event["unit"]),
                (&json!(100_000), &json!("tokens"))
            );
            assert_eq!(event["at_unix_ms"], NOON);
            let text = |field: &str| event[field].as_str().unwrap();
            (
                text("from_level"),
                text("level"),
                event["settled"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("NONE", "WARNING", 70_000),
        ("WARNING", "SOFT", 80_000),
        ("SOFT", "HARD", 90_000),
        ("HARD", "CRITICAL", 95_000),
    ];
    assert_eq!(seen, expected);
    tollgate.set_clock(NOON + 2 * HOUR);
    ask("docs", "critical").passes(&tollgate).await;
    let changes = events(&tollgate, "level_changed", 5).await;
    assert_eq!(
        (&changes[0]["from_level"], &changes[0]["level"]),
        (&json!("CRITICAL"), &json!("NONE"))
    );
    let counted = tollgate.metric("tollgate_budget_level_changes_total", &["climb"]);
    assert_eq!(counted, 5.0);
}

#[tokio::test]
async fn a_refusal_and_a_wait_are_told_with_their_numbers() {
    let rules = Rules::none().budget("b", "session", "minute", "10 requests");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..8 {
        ask("s", "normal").passes(&tollgate).await;
    }
    let mut low = tollgate.connect().await;
    low.send(ask("s", "low").bytes()).await;
    waiting(&tollgate, 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    tollgate.set_clock(NOON + 70 * SECOND);
    let passed = low.head().await;
    let waited = &events(&tollgate, "waited", 1).await[0];
    assert!(waited["waited_ms"].as_u64().unwrap() >= 30, "{waited}");
    assert_eq!(
        waited["request"],
        passed.value("x-tollgate-request-id").unwrap()
    );

    for _ in 0..8 {
        ask("s", "critical").passes(&tollgate).await;
    }
    let (head, body) = ask("s", "normal").send(&tollgate).await;
    let refused = events(&tollgate, "refused", 1).await;
    assert_eq!(refused.len(), 1);
    let refused = &refused[0];
    let told = told(&body);
    for field in [
        "settled", "reserved", "asked", "limit", "unit", "budget", "scope", "level", "priority",
    ] {
        assert_eq!(refused[field], told[field], "{field}: {refused}");
    }
    assert_eq!(refused["passes_at_unix_ms"], passes_at(&told));
    assert_eq!(
        refused["request"],
        head.value("x-tollgate-request-id").unwrap()
    );
    assert_eq!(refused["model"], MODEL);
}

#[tokio::test]
async fn a_wait_is_told_with_the_budget_that_it_was_for() {
    let rules = Rules::none().budget("b", "session", "minute", "10 requests");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..8 {
        ask("s", "normal").passes(&tollgate).await;
    }
    let mut low = tollgate.connect().await;
    low.send(ask("s", "low").bytes()).await;
    waiting(&tollgate, 1).await;
    tollgate.set_clock(NOON + 70 * SECOND);
    low.head().await;
    let waited = &events(&tollgate, "waited", 1).await[0];
    for (field, value) in [
        ("budget", json!("b")),
        ("scope", json!("session s")),
        ("limit", json!(10)),
        ("unit", json!("requests")),
        ("level", json!("SOFT")),
    ] {
        assert_eq!(waited[field], value, "{field}: {waited}");
    }
}

#[tokio::test]
async fn a_reservation_that_was_far_off_is_told() {
    let (tollgate, _provider) = Rules::none()
        .budget("b", "session", "hour", "10,000,000 tokens")
        .before_echo()
        .await;
    let head = Ask {
        cap: Some(64_000),
        input: 20,
        output: 60_000,
        ..ask("s", "normal")
    }
    .passes(&tollgate)
    .await;
    let reserved = tollgate.record(&head).await.reserved_tokens;
    let event = &events(&tollgate, "estimate_off", 1).await[0];
    assert_eq!(event["expected_tokens"], reserved);
    assert_eq!(event["actual_tokens"], 60_020);
    assert_eq!(event["actual_cost_usd"], "0.60004");
    assert_eq!(event["session"], "s");
    // One that was right is none.
    for _ in 0..3 {
        Ask {
            cap: Some(100),
            output: 100,
            model: "claude-haiku-4-5",
            ..ask("t", "normal")
        }
        .passes(&tollgate)
        .await;
    }
    ask("s", "normal").passes(&tollgate).await;
    let answer = tollgate
        .get("/api/v1/events?kind=estimate_off&session=t")
        .await
        .json();
    assert_eq!(answer["events"], json!([]));
}

#[tokio::test]
async fn the_overview_tells_level_and_usage_of_every_session() {
    let rules = Rules::none()
        .budget("tokens", "session", "hour", "100,000 tokens")
        .budget("money", "session", "day", "10 usd")
        .budget("all", "global", "month", "1,000,000 tokens");
    let (tollgate, _provider) = rules.before_echo().await;
    Ask {
        output: 91_000,
        ..ask("docs", "normal")
    }
    .passes(&tollgate)
    .await;
    Ask {
        output: 10,
        ..ask("code", "normal")
    }
    .passes(&tollgate)
    .await;
    ask("docs", "critical").passes(&tollgate).await;
    let stats = tollgate.get("/api/throttle/stats").await.json();
    assert_eq!(stats["sessions"]["docs"]["level"], "HARD");
    assert_eq!(stats["sessions"]["code"]["level"], "NONE");
    assert_eq!(stats["sessions"]["docs"]["used"]["hour"]["tokens"], 91_000);
    assert_eq!(stats["sessions"]["docs"]["used"]["day"]["usd"], "0.91");
    assert_eq!(stats["global"]["used"]["month"]["tokens"], 91_010);
    let filtered = tollgate.get("/api/v1/throttle?session=docs").await.json();
    let names: Vec<&Value> = filtered["budgets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|budget| &budget["name"])
        .collect();
    assert_eq!(names, [&json!("docs"), &json!("docs")]);
    for bad in [
        "/api/v1/throttle?apples=5",
        "/api/v1/throttle?session",
        "/api/v1/events?kind=apples",
        "/api/v1/events?limit=-1",
        "/api/v1/events?since=now",
    ] {
        let (head, _) = tollgate.ask(request(&format!("GET {bad}"), &[], "")).await;
        assert_eq!(head.status(), 400, "{bad}");
    }
}

#[tokio::test]
async fn shadow_mode_decides_and_records_and_lets_everybody_pass() {
    let rules = Rules::none()
        .hard("b", "session", "hour", "10 requests")
        .set("throttle.mode", "shadow");
    let (tollgate, provider) = rules.before_echo().await;
    for _ in 0..10 {
        ask("s", "critical").passes(&tollgate).await;
    }
    for priority in LOW_TO_CRITICAL {
        let begun = std::time::Instant::now();
        let head = ask("s", priority).passes(&tollgate).await;
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(3),
            "nobody waits"
        );
        let record = tollgate.record(&head).await;
        assert!(record.flags.shadow, "{priority}");
        assert_eq!(record.level.as_str(), "CRITICAL");
    }
    assert_eq!(provider.take().len(), 14);
    assert_eq!(
        amounts(&tollgate, "b", Some("s")).await,
        (14, 0),
        "what passes is charged all the same"
    );
    let refused = events(&tollgate, "refused", 4).await;
    assert!(
        refused.iter().all(|event| event["shadow"] == true),
        "{refused:#?}"
    );
    assert_eq!(
        tollgate.metric("tollgate_refusals_total", &["budget_exceeded"]),
        0.0
    );
}

#[tokio::test]
async fn off_checks_nothing_and_still_counts() {
    let rules = Rules::none()
        .hard("b", "session", "hour", "2 requests")
        .set("throttle.mode", "off");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..5 {
        ask("s", "low").passes(&tollgate).await;
    }
    let refused = tollgate.get("/api/v1/events?kind=refused").await.json();
    assert_eq!(refused["events"], json!([]));
    assert_eq!(tollgate.get("/api/v1/throttle").await.json()["mode"], "off");
}

/// A proxy of the real binary with one budget of ten requests in a day, which is spent by session docs.
async fn spent_proxy(home: &std::path::Path, upstream: SocketAddr) -> binary::Proxy {
    let mut command = binary::tollgate(home);
    command.args(binary::before(upstream));
    for (key, value) in Rules::none()
        .budget("daily", "session", "day", "10 requests")
        .pairs()
    {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let proxy = binary::Proxy::start(command).await;
    for _ in 0..10 {
        assert_eq!(
            proxy.ask(ask("docs", "critical").bytes()).await.0.status(),
            200
        );
    }
    assert_ne!(
        proxy.ask(ask("docs", "normal").bytes()).await.0.status(),
        200
    );
    proxy
}

#[tokio::test]
async fn the_command_events_tells_the_same_from_a_running_proxy_and_from_its_ledger() {
    let upstream = Upstream::start().await.answering(echo);
    let home = TempDir::new().unwrap();
    let mut proxy = spent_proxy(home.path(), upstream.address).await;
    let from_api = eventually("the refusal", async || {
        let answer = proxy.get("/api/v1/events").await.json();
        let events = answer["events"].as_array().unwrap().clone();
        (events.len() >= 5).then_some(events)
    })
    .await;
    assert_eq!(
        from_api.len(),
        5,
        "four changes of level and a refusal: {from_api:#?}"
    );
    let tell = async |arguments: &[&str]| {
        let mut command = binary::tollgate(home.path());
        command.arg("events").args(arguments);
        let (code, out, log) = binary::run(command).await;
        assert_eq!(code, Some(0), "{log}");
        out
    };
    let running: Value = serde_json::from_str(&tell(&["--json"]).await).unwrap();
    assert_eq!(running["events"], json!(from_api));
    let table = tell(&[]).await;
    for part in ["docs", "daily", "refused", "CRITICAL", "10"] {
        assert!(table.contains(part), "no {part} in {table}");
    }
    let csv = tell(&["--csv", "--kind", "refused"]).await;
    assert_eq!(csv.lines().count(), 2, "{csv}");
    proxy.process.terminate();
    assert_eq!(proxy.process.ended().await.code(), Some(0));
    let at_rest: Value = serde_json::from_str(&tell(&["--json"]).await).unwrap();
    assert_eq!(
        at_rest["events"],
        json!(from_api),
        "nothing is lost at the end"
    );
}

#[tokio::test]
async fn the_command_status_shows_every_budget_and_session_with_its_level() {
    let upstream = Upstream::start().await.answering(echo);
    let home = TempDir::new().unwrap();
    let _proxy = spent_proxy(home.path(), upstream.address).await;
    let mut command = binary::tollgate(home.path());
    command.arg("status");
    let (code, out, log) = binary::run(command).await;
    assert_eq!(code, Some(0), "{log}");
    for part in ["docs", "daily", "CRITICAL"] {
        assert!(out.contains(part), "no {part} in {out}");
    }
}
