//! The waiting line at SOFT: who waits, for how long, who comes first, and who is told at once that it is no use.

use std::time::{Duration, Instant};

use super::*;

/// Two of ten requests in a minute leave SOFT; eight are spent.
async fn at_soft(rules: Rules) -> (Tollgate, Answering) {
    let (tollgate, provider) = rules
        .budget("b", "global", "minute", "10 requests")
        .before_echo()
        .await;
    for _ in 0..8 {
        ask("filler", "normal").passes(&tollgate).await;
    }
    provider.take();
    (tollgate, provider)
}

async fn sent(tollgate: &Tollgate, ask: &Ask<'_>) -> Wire {
    let mut client = tollgate.connect().await;
    client.send(ask.bytes()).await;
    client
}

#[tokio::test]
async fn low_priority_goes_on_when_a_running_request_ends_smaller_than_reserved() {
    let rules = Rules::none()
        .budget("b", "session", "hour", "20,000 tokens")
        .set("throttle.hysteresis", "1%")
        .set("throttle.warning", "3%")
        .set("throttle.soft", "4%")
        .set("throttle.hard", "98%")
        .set("throttle.critical", "99%");
    let upstream = Upstream::start().await;
    let tollgate = rules.start(upstream.address).await;
    let mut running = sent(
        &tollgate,
        &Ask {
            cap: Some(64_000),
            ..ask("s", "normal")
        },
    )
    .await;
    let (mut provider, _, _) = upstream.request().await;
    assert!(amounts(&tollgate, "b", Some("s")).await.1 >= 800);
    let mut low = sent(&tollgate, &ask("s", "low")).await;
    waiting(&tollgate, 1).await;
    let reserved = amounts(&tollgate, "b", Some("s")).await;
    assert!(upstream.is_untouched().await, "it waits");
    // Other priorities and other sessions do not.
    let other = exchange(
        &tollgate,
        &upstream,
        ask("other", "low").bytes(),
        json_answer("{}"),
    )
    .await;
    assert_eq!(other.head.status(), 200);
    let normal = exchange(
        &tollgate,
        &upstream,
        ask("s", "normal").bytes(),
        json_answer(r#"{"usage":{"input_tokens":1,"output_tokens":1}}"#),
    )
    .await;
    assert_eq!(normal.head.value("x-tollgate-level"), Some("SOFT"));
    waiting(&tollgate, 1).await;
    assert_eq!(
        amounts(&tollgate, "b", Some("s")).await.1,
        reserved.1,
        "who waits has reserved nothing"
    );
    provider
        .send(json_answer(
            r#"{"usage":{"input_tokens":5,"output_tokens":2}}"#,
        ))
        .await;
    running.message().await;
    // Otherwise its connection would be used again.
    drop(provider);
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send(json_answer(
            r#"{"usage":{"input_tokens":1,"output_tokens":1}}"#,
        ))
        .await;
    let (head, _) = low.message().await;
    assert_eq!(head.status(), 200);
    assert!(head.value("x-tollgate-queued-ms").is_some(), "{head:?}");
    assert!(tollgate.record(&head).await.queued_us > 0);
    let waited = events(&tollgate, "waited", 1).await;
    assert!(
        waited.iter().any(|event| event["session"] == "s"),
        "{waited:#?}"
    );
    assert_eq!(amounts(&tollgate, "b", Some("s")).await.1, 0);
}

#[tokio::test]
async fn a_session_with_fifty_in_line_does_not_keep_anothers_single_one_back() {
    let (tollgate, provider) = at_soft(Rules::none()).await;
    let mut greedy = Vec::new();
    for number in 1..=50 {
        greedy.push(sent(&tollgate, &ask("greedy", "low")).await);
        waiting(&tollgate, number).await;
    }
    let mut modest = sent(&tollgate, &ask("modest", "low")).await;
    waiting(&tollgate, 51).await;
    assert!(provider.take().is_empty());
    // The window is empty: eight may pass until it is at SOFT again.
    tollgate.set_clock(NOON + 62 * SECOND);
    let head = modest.head().await;
    assert_eq!(head.status(), 200);
    let left = tollgate.metric("tollgate_waiting_requests", &[]);
    assert!(left >= 42.0, "only so many may pass: {left} are left");
    eventually("eight in all", async || {
        (tollgate.metric("tollgate_waiting_requests", &[]) == 43.0).then_some(())
    })
    .await;
    let (booked, reserved) = amounts(&tollgate, "b", None).await;
    assert_eq!(
        booked + reserved,
        8,
        "no more pass at once than the level allows"
    );
    drop(greedy);
    waiting(&tollgate, 0).await;
}

#[tokio::test]
async fn the_line_is_bounded_and_who_leaves_makes_room() {
    let (tollgate, provider) = at_soft(Rules::none().set("throttle.queue.max_waiting", "3")).await;
    let mut inside = Vec::new();
    for session in ["a", "b", "c"] {
        inside.push(sent(&tollgate, &ask(session, "low")).await);
    }
    waiting(&tollgate, 3).await;
    let (head, body) = ask("d", "low").send(&tollgate).await;
    assert_eq!(head.status(), 429, "{}", body.text());
    let pause: u64 = head.value("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&pause));
    assert!(body.text().contains("line is full"), "{}", body.text());
    waiting(&tollgate, 3).await;
    inside.remove(0).reset();
    waiting(&tollgate, 2).await;
    let _inside = sent(&tollgate, &ask("d", "low")).await;
    waiting(&tollgate, 3).await;
    assert!(provider.take().is_empty());
    let gone = eventually("the record of the one that left", async || {
        let records = tollgate.records().await;
        records.into_iter().find(|record| record.session == "a")
    })
    .await;
    assert_eq!(gone.outcome.as_str(), "withdrawn");
    assert_eq!((gone.usage.fresh(), gone.attempts), (0, 0), "{gone:?}");
}

#[tokio::test]
async fn a_wait_ends_at_its_deadline() {
    let rules = Rules::none()
        .budget("b", "session", "hour", "20,000 tokens")
        .set("throttle.hysteresis", "1%")
        .set("throttle.warning", "3%")
        .set("throttle.soft", "4%")
        .set("throttle.hard", "98%")
        .set("throttle.critical", "99%")
        .set("throttle.queue.max_wait", "400ms");
    let upstream = Upstream::start().await;
    let tollgate = rules.start(upstream.address).await;
    // While it runs it may end any moment, so that waiting may help.
    let _running = sent(
        &tollgate,
        &Ask {
            cap: Some(64_000),
            ..ask("s", "normal")
        },
    )
    .await;
    let _provider = upstream.request().await;
    let begun = Instant::now();
    let (head, body) = ask("s", "low").send(&tollgate).await;
    let waited = begun.elapsed();
    assert_ne!(head.status(), 200);
    assert!(waited >= Duration::from_millis(390), "{waited:?}");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    let record = tollgate.record(&head).await;
    assert!(record.queued_us >= 390_000, "{record:?}");
    assert_eq!(record.outcome.as_str(), "refused");
    assert!(body.text().contains("waited"), "{}", body.text());
    waiting(&tollgate, 0).await;
}

#[tokio::test]
async fn who_cannot_be_helped_by_waiting_is_told_at_once() {
    // The hour passes long after the longest wait, and nothing is running that could end.
    let rules = Rules::none().budget("b", "session", "hour", "10 requests");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..8 {
        ask("s", "normal").passes(&tollgate).await;
    }
    let begun = Instant::now();
    let (head, body) = ask("s", "low").send(&tollgate).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_ne!(head.status(), 200);
    assert_eq!(head.value("x-should-retry"), Some("false"), "{head:?}");
    let told = told(&body);
    assert_eq!(told["ending"], "final");
    assert!(passes_at(&told) >= NOON + HOUR);
    // The same in a budget that passes within the longest wait: it waits.
    let (tollgate, _provider) = at_soft(Rules::none().set("throttle.queue.max_wait", "5m")).await;
    let _low = sent(&tollgate, &ask("s", "low")).await;
    waiting(&tollgate, 1).await;
}

#[tokio::test]
async fn each_stream_gets_comments_of_its_own_format_while_it_waits() {
    let rules = Rules::none().set("throttle.queue.keep_alive", "25ms");
    for path in [
        "/anthropic/v1/messages",
        "/openai/v1/chat/completions",
        "/openai/v1/responses",
        "/gemini/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse",
    ] {
        let (tollgate, _provider) = at_soft(rules.clone()).await;
        let low = Ask {
            path,
            model: MODEL,
            stream: true,
            ..ask("s", "low")
        };
        let mut client = sent(&tollgate, &low).await;
        let head = client.head().await;
        assert_eq!(head.status(), 200, "{path}");
        assert!(
            head.value("content-type")
                .unwrap()
                .starts_with("text/event-stream"),
            "{path}: {head:?}"
        );
        // Several, not one.
        let text = String::from_utf8(client.body_bytes(60).await).unwrap();
        for line in text.lines() {
            assert!(line.is_empty() || line.starts_with(':'), "{path}: {line:?}");
        }
        assert!(text.matches(':').count() >= 2, "{path}: {text:?}");
        assert_eq!(
            tollgate.metric("tollgate_waiting_requests", &[]),
            1.0,
            "{path}"
        );
        tollgate.set_clock(NOON + 62 * SECOND);
        let rest = client.body().await;
        assert!(rest.whole, "{path}");
    }
}

#[tokio::test]
async fn who_does_not_stream_gets_a_clean_answer_after_its_wait() {
    let rules = Rules::none().set("throttle.queue.keep_alive", "10ms");
    let (tollgate, _provider) = at_soft(rules).await;
    let mut client = sent(
        &tollgate,
        &Ask {
            output: 7,
            ..ask("s", "low")
        },
    )
    .await;
    waiting(&tollgate, 1).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    tollgate.set_clock(NOON + 62 * SECOND);
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 200);
    assert_eq!(body.json()["usage"]["output_tokens"], 7);
    let queued: u64 = head.value("x-tollgate-queued-ms").unwrap().parse().unwrap();
    assert!(queued >= 60, "{queued}");
}

#[tokio::test]
async fn higher_priority_does_not_wait_behind_low() {
    let (tollgate, provider) = at_soft(Rules::none()).await;
    let mut low = Vec::new();
    for number in 1..=5 {
        low.push(sent(&tollgate, &ask("s", "low")).await);
        waiting(&tollgate, number).await;
    }
    ask("s", "normal").passes(&tollgate).await;
    ask("s", "high").passes(&tollgate).await;
    ask("s", "critical").passes(&tollgate).await;
    assert_eq!(provider.take().len(), 3);
    waiting(&tollgate, 5).await;
}

#[tokio::test]
async fn who_has_room_does_not_wait_because_somebody_else_has_none() {
    let rules = Rules::none().budget("b", "session", "minute", "10 requests");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..8 {
        ask("full", "normal").passes(&tollgate).await;
    }
    let _full = sent(&tollgate, &ask("full", "low")).await;
    waiting(&tollgate, 1).await;
    let head = ask("empty", "low").passes(&tollgate).await;
    assert_eq!(head.value("x-tollgate-level"), Some("NONE"));
    let record = tollgate.record(&head).await;
    assert_eq!(
        (head.value("x-tollgate-queued-ms"), record.queued_us),
        (Some("0"), 0)
    );
}

#[tokio::test]
async fn who_has_room_does_not_wait_behind_one_of_its_own_session_that_has_none() {
    // The session's budget for one model is at SOFT, and that for the other is empty.
    let rules = Rules::none().budget("b", "model", "minute", "10 requests");
    let (tollgate, _provider) = rules.before_echo().await;
    for _ in 0..8 {
        ask("s", "normal").passes(&tollgate).await;
    }
    let _full = sent(&tollgate, &ask("s", "low")).await;
    waiting(&tollgate, 1).await;
    let begun = Instant::now();
    let other = Ask {
        model: "claude-haiku-4-5",
        ..ask("s", "low")
    };
    let head = other.passes(&tollgate).await;
    assert_eq!(head.value("x-tollgate-level"), Some("NONE"));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}
