//! Budgets on the path: requests in parallel, clients that leave, streams that outgrow their reservation, the waiting
//! line. The arithmetic has tests of its own; here it is that nothing taken is lost and nothing passes twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tollgate::store::record::Outcome;
use tollgate::units::Cost;

use crate::rig::*;

/// A budget that cannot be exceeded, and nothing else.
pub(crate) const ONLY: [(&str, &str); 7] = [
    ("budgets.session-tokens-hour.enabled", "false"),
    ("budgets.session-tokens-day.enabled", "false"),
    ("budgets.session-usd-hour.enabled", "false"),
    ("budgets.session-usd-day.enabled", "false"),
    ("budgets.global-tokens-hour.enabled", "false"),
    ("budgets.global-tokens-day.enabled", "false"),
    ("budgets.global-usd-month.enabled", "false"),
];

async fn with_only(upstream: std::net::SocketAddr, budget: &[(&str, &str)]) -> Tollgate {
    let mut settings = ONLY.to_vec();
    settings.extend_from_slice(budget);
    Tollgate::with(upstream, &settings).await
}

fn message(session: &str, priority: &str, max_tokens: u32) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"claude-sonnet-5-5","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    request(
        "POST /anthropic/v1/messages",
        &[
            ("x-tollgate-session", session),
            ("x-tollgate-priority", priority),
        ],
        body,
    )
}

fn used(input: u64, output: u64) -> Vec<u8> {
    json_answer(format!(
        r#"{{"id":"msg_1","model":"claude-sonnet-5-5","stop_reason":"end_turn","content":[],"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_spend_no_more_than_a_hard_budget_for_fifty() {
    let upstream = Upstream::start().await;
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    // 1,000 output tokens of claude-sonnet-5-5 are one cent, and the worst case of the input below half a cent.
    let answering = upstream.answering(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        used(10, 1_000)
    });
    let tollgate = with_only(
        answering.address,
        &[
            ("budgets.cap.scope", "global"),
            ("budgets.cap.window", "month"),
            ("budgets.cap.limit", "0.50 usd"),
            ("budgets.cap.hard", "true"),
        ],
    )
    .await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..200 {
        let mut wire = tollgate.connect().await;
        clients.spawn(async move {
            wire.send(message(&format!("s{}", client % 7), "critical", 1_000))
                .await;
            wire.message().await.0.status()
        });
    }
    let statuses = clients.join_all().await;
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let spent: Cost = tollgate
        .records()
        .await
        .iter()
        .filter_map(|record| record.cost)
        .sum();
    assert!(spent <= "0.50".parse().unwrap(), "spent {spent}");
    assert!(passed >= 20, "only {passed} passed");
    assert_eq!(
        passed,
        served.load(Ordering::Relaxed),
        "a refusal never reaches the provider"
    );
    assert!(
        statuses
            .iter()
            .all(|status| [200, 402, 429].contains(status)),
        "{statuses:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_leave_nothing_reserved_and_nothing_overspent() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(10, 1_000));
    let tollgate = with_only(
        answering.address,
        &[
            ("budgets.cap.scope", "global"),
            ("budgets.cap.window", "month"),
            ("budgets.cap.limit", "50000 tokens"),
            ("budgets.cap.hard", "true"),
        ],
    )
    .await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..200 {
        let mut wire = tollgate.connect().await;
        clients.spawn(async move {
            wire.send(message("s", "critical", 1_000)).await;
            if client % 2 == 0 {
                wire.reset();
            } else {
                wire.message().await;
            }
        });
    }
    clients.join_all().await;
    tollgate.settled().await;
    let records = tollgate.records().await;
    let spent: u64 = records.iter().map(|record| record.usage.fresh()).sum();
    assert!(spent <= 50_000, "spent {spent}");
    let standing = tollgate.get("/api/v1/throttle").await.json();
    let cap = &standing["budgets"][0];
    assert_eq!(cap["reserved"], 0, "{standing}");
    assert_eq!(cap["settled"], spent, "{standing}");
}

#[tokio::test]
async fn each_priority_behaves_at_each_level_as_the_table_says() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(1, 0));
    let tollgate = with_only(
        answering.address,
        &[
            ("budgets.hour.scope", "session"),
            ("budgets.hour.window", "hour"),
            ("budgets.hour.limit", "100 requests"),
            ("throttle.queue.max_waiting", "0"),
        ],
    )
    .await;
    let expected = |fill: usize| match fill {
        0..70 => ("NONE", [200, 200, 200, 200]),
        70..80 => ("WARNING", [200, 200, 200, 200]),
        80..90 => ("SOFT", [0, 200, 200, 200]),
        90..95 => ("HARD", [0, 0, 200, 200]),
        _ => ("CRITICAL", [0, 0, 0, 200]),
    };
    let mut fill = 0;
    while fill < 100 {
        let (level, statuses) = expected(fill);
        for (priority, status) in ["low", "normal", "high", "critical"]
            .into_iter()
            .zip(statuses)
        {
            if expected(fill) != (level, statuses) {
                break;
            }
            let (head, body) = tollgate.ask(message("s", priority, 1)).await;
            assert_eq!(
                head.value("x-tollgate-level"),
                Some(level),
                "{priority} at {fill}"
            );
            if status == 200 {
                assert_eq!(head.status(), 200, "{priority} at {fill}: {}", body.text());
                fill += 1;
            } else {
                assert!([402, 429].contains(&head.status()), "{priority} at {fill}");
                assert!(
                    body.text().contains("hour"),
                    "the budget is named: {}",
                    body.text()
                );
            }
        }
    }
    // Full: the next one does not fit. Only critical may exceed a budget that is not hard.
    let (head, _) = tollgate.ask(message("s", "high", 1)).await;
    assert_ne!(head.status(), 200);
    let (head, _) = tollgate.ask(message("s", "critical", 1)).await;
    assert_eq!(head.status(), 200);
    let (head, _) = tollgate.ask(message("other", "low", 1)).await;
    assert_eq!(
        head.status(),
        200,
        "another session has a budget of its own"
    );
}

/// A session at SOFT: 8 of its 10 requests are used.
async fn at_soft(upstream: std::net::SocketAddr, extra: &[(&str, &str)]) -> Tollgate {
    let mut settings = vec![
        ("budgets.minute.scope", "session"),
        ("budgets.minute.window", "minute"),
        ("budgets.minute.limit", "10 requests"),
    ];
    settings.extend_from_slice(extra);
    let tollgate = with_only(upstream, &settings).await;
    for _ in 0..8 {
        let (head, body) = tollgate.ask(message("s", "normal", 1)).await;
        assert_eq!(head.status(), 200, "{}", body.text());
    }
    tollgate
}

async fn waiting(tollgate: &Tollgate, count: usize) {
    eventually("as many waiting requests", async || {
        (tollgate.metric("tollgate_waiting_requests", &[]) == count as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn low_priority_waits_at_soft_until_the_window_has_gone_on() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(1, 1));
    let tollgate = at_soft(answering.address, &[]).await;
    let mut client = tollgate.connect().await;
    client.send(message("s", "low", 1)).await;
    waiting(&tollgate, 1).await;
    answering.take();
    tollgate.set_clock(NOON + 62_000);
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 200, "{}", body.text());
    assert!(tollgate.record(&head).await.queued_us > 0);
    waiting(&tollgate, 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_the_line_leaves_nothing_behind() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(1, 1));
    let tollgate = at_soft(answering.address, &[]).await;
    let mut client = tollgate.connect().await;
    client.send(message("s", "low", 1)).await;
    waiting(&tollgate, 1).await;
    client.reset();
    waiting(&tollgate, 0).await;
    tollgate.settled().await;
    tollgate.set_clock(NOON + 62_000);
    answering.take();
    let (head, _) = tollgate.ask(message("s", "normal", 1)).await;
    assert_eq!(head.status(), 200);
    assert_eq!(answering.take().len(), 1, "the one that left was not sent");
}

#[tokio::test]
async fn a_full_line_and_a_hopeless_wait_are_refused_at_once() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(1, 1));
    let tollgate = at_soft(answering.address, &[("throttle.queue.max_waiting", "1")]).await;
    let mut first = tollgate.connect().await;
    first.send(message("s", "low", 1)).await;
    waiting(&tollgate, 1).await;
    let (head, _) = tollgate.ask(message("s", "low", 1)).await;
    assert_eq!(head.status(), 429);
    let pause: u64 = head.value("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&pause), "{pause}");

    let hopeless = at_soft(answering.address, &[("throttle.queue.max_wait", "1s")]).await;
    hopeless.set_clock(NOON + 5_000);
    let (head, _) = hopeless.ask(message("s", "low", 1)).await;
    assert_eq!(
        head.status(),
        429,
        "it passes within a minute, and may wait for a second"
    );
    assert_eq!(hopeless.metric("tollgate_wait_seconds_count", &[]), 1.0);
    drop(first);
}

#[tokio::test]
async fn a_streaming_client_in_line_gets_comments_and_then_its_stream() {
    let upstream = Upstream::start().await;
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let answering = upstream.answering(move |arrived| {
        if arrived.body.text().contains("\"stream\":true") {
            answer("200 OK", &[("content-type", "text/event-stream")], events)
        } else {
            used(1, 1)
        }
    });
    let tollgate = at_soft(answering.address, &[("throttle.queue.keep_alive", "20ms")]).await;
    let body = r#"{"model":"claude-sonnet-5-5","max_tokens":1,"stream":true,"messages":[]}"#;
    let headers = [("x-tollgate-session", "s"), ("x-tollgate-priority", "low")];
    let mut client = tollgate.connect().await;
    client
        .send(request("POST /anthropic/v1/messages", &headers, body))
        .await;
    let head = client.head().await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.value("x-tollgate-level"), Some("SOFT"));
    let comment = client.body_bytes(3).await;
    assert!(comment.starts_with(b": tollgate"), "{comment:?}");
    tollgate.set_clock(NOON + 62_000);
    let text = client.body().await.text();
    assert!(text.ends_with(events), "{text}");
    let rest = text.strip_suffix(events).unwrap();
    assert!(
        rest.lines()
            .all(|line| line.is_empty() || line.starts_with(':')),
        "{rest}"
    );
}

#[tokio::test]
async fn a_refusal_after_comments_comes_inside_the_stream() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(1, 1));
    // The window lasts a minute and the line only a moment, but a running request may end before: so it waits.
    let tollgate = at_soft(
        answering.address,
        &[
            ("throttle.queue.keep_alive", "20ms"),
            ("throttle.queue.max_wait", "70s"),
        ],
    )
    .await;
    let body = r#"{"model":"claude-sonnet-5-5","max_tokens":1,"stream":true,"messages":[]}"#;
    let headers = [("x-tollgate-session", "s"), ("x-tollgate-priority", "low")];
    let mut client = tollgate.connect().await;
    client
        .send(request("POST /anthropic/v1/messages", &headers, body))
        .await;
    assert_eq!(client.head().await.status(), 200);
    client.body_bytes(3).await;
    // The process is told to end: whoever waits is told at once.
    tollgate.gate.start_draining();
    let text = client.body().await.text();
    assert!(text.contains("event: error\ndata: {"), "{text}");
    assert!(text.contains("minute"), "the budget is named: {text}");
}

#[tokio::test]
async fn a_stream_that_outgrows_its_reservation_reserves_more_while_it_runs() {
    let upstream = Upstream::start().await;
    let tollgate = with_only(
        upstream.address,
        &[
            ("budgets.hour.scope", "session"),
            ("budgets.hour.window", "hour"),
            ("budgets.hour.limit", "1000000 tokens"),
        ],
    )
    .await;
    let body = r#"{"model":"claude-sonnet-5-5","max_tokens":64000,"stream":true,"messages":[]}"#;
    let mut client = tollgate.connect().await;
    client
        .send(request(
            "POST /anthropic/v1/messages",
            &[("x-tollgate-session", "s")],
            body,
        ))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    provider
        .send_chunk("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n")
        .await;
    client.head().await;
    let reserved = async || {
        let standing = tollgate.get("/api/v1/throttle?session=s").await.json();
        standing["budgets"][0]["reserved"].as_u64().unwrap()
    };
    let at_first = reserved().await;
    assert!(at_first < 2_000, "{at_first}");
    let text = "x".repeat(30_000);
    provider
        .send_chunk(format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"))
        .await;
    client.body_bytes(30_000).await;
    let grown = reserved().await;
    assert!(
        grown >= 10_000,
        "30,000 bytes are about 10,000 tokens: {grown}"
    );
    provider
        .send_chunk("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9000}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
        .await;
    provider.finish().await;
    client.body().await;
    let standing = tollgate.get("/api/v1/throttle?session=s").await.json();
    assert_eq!(standing["budgets"][0]["reserved"], 0);
    assert_eq!(standing["budgets"][0]["settled"], 9_010);
}

#[tokio::test]
async fn shadow_mode_refuses_nothing_and_says_what_it_would_have_done() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(1, 1));
    let tollgate = with_only(
        answering.address,
        &[
            ("budgets.hour.scope", "session"),
            ("budgets.hour.window", "hour"),
            ("budgets.hour.limit", "1 requests"),
            ("throttle.mode", "shadow"),
        ],
    )
    .await;
    for round in 0..3 {
        let (head, _) = tollgate.ask(message("s", "normal", 1)).await;
        assert_eq!(head.status(), 200);
        let record = tollgate.record(&head).await;
        assert_eq!(record.outcome, Outcome::Complete);
        assert_eq!(record.flags.shadow, round > 0);
    }
    assert_eq!(
        tollgate.metric("tollgate_admissions_total", &["shadow"]),
        2.0
    );
}

#[tokio::test]
async fn expected_outputs_are_learned_from_what_was_used() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(20, 16));
    let tollgate = with_only(answering.address, &[]).await;
    let first = tollgate.ask(message("s", "normal", 64_000)).await.0;
    let first = tollgate.record(&first).await.reserved_tokens;
    for _ in 0..10 {
        tollgate.ask(message("s", "normal", 64_000)).await;
    }
    let later = tollgate.ask(message("s", "normal", 64_000)).await.0;
    let later = tollgate.record(&later).await.reserved_tokens;
    assert!(first >= 1_024 && later < 100, "{first} then {later}");
}

#[tokio::test]
async fn everybody_in_line_is_served_when_there_is_room_for_all() {
    let upstream = Upstream::start().await;
    let answering = upstream.answering(|_| used(1, 1));
    let tollgate = with_only(
        answering.address,
        &[
            ("budgets.minute.scope", "global"),
            ("budgets.minute.window", "minute"),
            ("budgets.minute.limit", "200 requests"),
        ],
    )
    .await;
    for _ in 0..160 {
        assert_eq!(
            tollgate.ask(message("first", "normal", 1)).await.0.status(),
            200
        );
    }
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut client = tollgate.connect().await;
        let session = format!("s{}", number % 8);
        client.send(message(&session, "low", 1)).await;
        clients.push(client);
    }
    waiting(&tollgate, 40).await;
    tollgate.set_clock(NOON + 62_000);
    for mut client in clients {
        assert_eq!(client.message().await.0.status(), 200);
    }
    waiting(&tollgate, 0).await;
}

/// A streaming request of low priority at SOFT, and its client's connection.
async fn in_line(tollgate: &Tollgate) -> Wire {
    let body = r#"{"model":"claude-sonnet-5-5","max_tokens":1,"stream":true,"messages":[]}"#;
    let headers = [("x-tollgate-session", "s"), ("x-tollgate-priority", "low")];
    let mut client = tollgate.connect().await;
    client
        .send(request("POST /anthropic/v1/messages", &headers, body))
        .await;
    waiting(tollgate, 1).await;
    client
}

#[tokio::test]
async fn a_compressed_stream_is_plain_behind_comments() {
    let upstream = Upstream::start().await;
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let answering = upstream.answering(move |arrived| {
        if !arrived.body.text().contains("\"stream\":true") {
            return used(1, 1);
        }
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(events.as_bytes()).unwrap();
        let coding = [
            ("content-type", "text/event-stream"),
            ("content-encoding", "gzip"),
        ];
        answer("200 OK", &coding, gzip.finish().unwrap())
    });
    let tollgate = at_soft(answering.address, &[("throttle.queue.keep_alive", "20ms")]).await;
    let mut client = in_line(&tollgate).await;
    let head = client.head().await;
    assert_eq!(head.value("content-encoding"), None);
    client.body_bytes(3).await;
    tollgate.set_clock(NOON + 62_000);
    let text = client.body().await.text();
    assert!(text.ends_with(events), "{text:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_waited_but_a_moment_gets_the_providers_answer_as_it_is() {
    let upstream = Upstream::start().await;
    let busy =
        "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}";
    let answering = upstream.answering(move |arrived| {
        if !arrived.body.text().contains("\"stream\":true") {
            return used(1, 1);
        }
        // Longer than it takes until comments are sent to those who wait in line.
        std::thread::sleep(std::time::Duration::from_millis(900));
        answer(
            "529 Overloaded",
            &[("content-type", "application/json")],
            busy,
        )
    });
    let tollgate = at_soft(answering.address, &[("throttle.queue.keep_alive", "600ms")]).await;
    let mut client = in_line(&tollgate).await;
    tollgate.set_clock(NOON + 62_000);
    // The usher looks at the clock anew when a request ends.
    tollgate.ask(message("other", "normal", 1)).await;
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 529, "{}", body.text());
    assert!(tollgate.record(&head).await.queued_us > 0);
}
