//! The line where it is hard: clients that leave, providers that say nothing or lie, a process that ends, those whom the
//! line does not concern.

use std::time::{Duration, Instant};

use tollgate::policy::limits::LimitRule;
use tollgate::store::record::Outcome;

use crate::lanes::{BODY, GOOD, PATH, RETRIES, by_turns, refused};
use crate::lanes_retries::together;
use crate::rig::*;

const BROKEN: &str = "500 Internal Server Error";

async fn limited(upstream: &Upstream, rule: LimitRule) -> Tollgate {
    Tollgate::changed(upstream.address, &[], |settings| {
        settings.limits = vec![rule];
    })
    .await
}

fn one_at_a_time() -> LimitRule {
    LimitRule {
        concurrency: Some(1),
        ..LimitRule::default()
    }
}

async fn lane(tollgate: &Tollgate) -> serde_json::Value {
    tollgate.get("/api/v1/providers").await.json()["lanes"][0].clone()
}

/// Sends a request of which the provider hears nothing yet.
async fn in_line(tollgate: &Tollgate, headers: &[(&str, &str)], body: &str) -> Wire {
    let before = waiting(&lane(tollgate).await);
    let mut client = tollgate.connect().await;
    client.send(request(PATH, headers, body)).await;
    eventually("one more in line", async || {
        (waiting(&lane(tollgate).await) > before).then_some(())
    })
    .await;
    client
}

fn waiting(lane: &serde_json::Value) -> u64 {
    let by_priority = lane["waiting"].as_object().into_iter().flatten();
    by_priority.filter_map(|(_, count)| count.as_u64()).sum()
}

fn named(name: &str) -> String {
    BODY.replacen("\"hi\"", &format!("\"{name}\""), 1)
}

#[tokio::test]
async fn who_stands_behind_a_large_request_goes_as_soon_as_it_leaves() {
    let upstream = Upstream::start().await;
    let tollgate = limited(
        &upstream,
        LimitRule {
            output_tokens_per_minute: Some(600_000),
            ..LimitRule::default()
        },
    )
    .await;
    let large = BODY.replacen("\"max_tokens\":10", "\"max_tokens\":590000", 1);
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], &large)).await;
    let (_held, _, _) = upstream.request().await;
    // It needs what the first one has reserved for nearly a minute.
    let second = in_line(&tollgate, &[], &large).await;
    let mut third = in_line(&tollgate, &[], BODY).await;
    let left = Instant::now();
    second.reset();
    let (mut provider, _, _) = upstream.request().await;
    assert!(
        left.elapsed() < Duration::from_secs(1),
        "{:?}",
        left.elapsed()
    );
    provider.send(json_answer(GOOD)).await;
    assert_eq!(third.message().await.0.status(), 200);
}

#[tokio::test]
async fn clients_that_leave_the_line_leave_nothing_behind() {
    let upstream = Upstream::start().await;
    let tollgate = limited(&upstream, one_at_a_time()).await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    let mut line = Vec::new();
    for _ in 0..10 {
        line.push(in_line(&tollgate, &[], BODY).await);
    }
    let mut last = in_line(&tollgate, &[], &named("last")).await;
    line.into_iter().for_each(Wire::reset);
    eventually("only the last one in line", async || {
        (waiting(&lane(&tollgate).await) == 1).then_some(())
    })
    .await;
    provider.send(json_answer(GOOD)).await;
    assert_eq!(first.message().await.0.status(), 200);
    let (_, body) = provider.message().await;
    assert!(body.text().contains("last"));
    provider.send(json_answer(GOOD)).await;
    assert_eq!(last.message().await.0.status(), 200);
    tollgate.settled().await;
    let records = tollgate.records().await;
    let gone = records
        .iter()
        .filter(|record| record.outcome == Outcome::ClientGone);
    let gone: Vec<_> = gone.collect();
    assert_eq!(gone.len(), 10);
    assert!(
        gone.iter()
            .all(|record| record.usage.fresh() == 0 && record.attempts == 0)
    );
    assert_eq!(lane(&tollgate).await["in_flight"], 0);
}

#[tokio::test]
async fn a_critical_request_overtakes_the_line() {
    let upstream = Upstream::start().await;
    let tollgate = limited(&upstream, one_at_a_time()).await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    let mut line = Vec::new();
    for (priority, name) in [
        ("low", "d"),
        ("normal", "c"),
        ("high", "b"),
        ("critical", "a"),
    ] {
        let headers = [
            ("x-tollgate-priority", priority),
            ("x-tollgate-session", name),
        ];
        line.push(in_line(&tollgate, &headers, &named(name)).await);
    }
    provider.send(json_answer(GOOD)).await;
    first.message().await;
    for name in ["a", "b", "c", "d"] {
        let (_, body) = provider.message().await;
        assert_eq!(body.text(), named(name));
        provider.send(json_answer(GOOD)).await;
        let mut served = line.pop().expect("one for each");
        assert_eq!(served.message().await.0.status(), 200);
    }
}

#[tokio::test]
async fn what_asks_no_model_does_not_stand_in_line() {
    let upstream = Upstream::start().await;
    let tollgate = limited(&upstream, one_at_a_time()).await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (_held, _, _) = upstream.request().await;
    let _second = in_line(&tollgate, &[], BODY).await;
    for line in [
        "GET /anthropic/v1/models",
        "HEAD /anthropic/v1/messages",
        "POST /anthropic/v1/messages/count_tokens",
        "POST /anthropic/v1/messages/batches",
        "DELETE /anthropic/v1/files/file_1",
    ] {
        let mut client = tollgate.connect().await;
        let body = if line.starts_with("POST") { BODY } else { "" };
        client.send(request(line, &[], body)).await;
        let (mut provider, asked, _) = upstream.request().await;
        assert_eq!(asked.asks(), line.replace("/anthropic", ""));
        provider.send(answer("204 No Content", &[], "")).await;
        drop(provider);
        assert_eq!(client.head().await.status(), 204);
    }
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let mut client = tollgate.connect().await;
    client
        .send(request("GET /anthropic/v1/realtime", &upgrade, ""))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(waiting(&lane(&tollgate).await), 1);
}

#[tokio::test]
async fn a_process_that_ends_tells_those_in_line_and_finishes_what_runs() {
    let upstream = Upstream::start().await;
    let mut tollgate = limited(&upstream, one_at_a_time()).await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    let mut line = Vec::new();
    for _ in 0..20 {
        line.push(in_line(&tollgate, &[], BODY).await);
    }
    tollgate.stop();
    for mut client in line {
        let (head, body) = client.message().await;
        assert_eq!(head.status(), 429, "{}", body.text());
    }
    provider.send(json_answer(GOOD)).await;
    assert_eq!(first.message().await.0.status(), 200);
    assert_eq!(tollgate.stopped().await, 0);
}

#[tokio::test]
async fn a_provider_that_never_answers_holds_up_only_those_that_it_has() {
    let upstream = Upstream::start().await;
    let settings = [("upstream.header_timeout", "1s"), ("send.max_retries", "3")];
    let tollgate = Tollgate::with(upstream.address, &settings).await;
    let mut silent = Vec::new();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = tollgate.connect().await;
        client.send(request(PATH, &[], BODY)).await;
        held.push(upstream.request().await);
        silent.push(client);
    }
    let mut other = tollgate.connect().await;
    other.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(json_answer(GOOD)).await;
    assert_eq!(other.message().await.0.status(), 200);
    for mut client in silent {
        let (head, _) = client.message().await;
        assert_eq!(head.status(), 504);
        let record = tollgate.record(&head).await;
        // It may have been billed: it is not sent again, and booked at what was expected.
        assert_eq!((record.attempts, record.outcome), (1, Outcome::TimedOut));
        assert!(record.usage.fresh() > 0);
    }
    // The fifth silence in a row opens the breaker.
    let mut client = tollgate.connect().await;
    client.send(request(PATH, &[], BODY)).await;
    provider.message().await;
    assert_eq!(client.message().await.0.status(), 504);
    let lane = lane(&tollgate).await;
    assert_eq!(
        (lane["breaker"].as_str(), lane["in_flight"].as_u64()),
        (Some("open"), Some(0))
    );
}

/// Opens the breaker, and sends the probe, which the provider does not answer.
async fn probing(upstream: &Upstream, tollgate: &Tollgate) -> (Wire, Wire) {
    for _ in 0..5 {
        let mut client = tollgate.connect().await;
        client.send(request(PATH, &[], BODY)).await;
        let (mut provider, _, _) = upstream.request().await;
        provider.send(refused(BROKEN, &[], "api_error")).await;
        drop(provider);
        assert_eq!(client.message().await.0.status(), 500);
    }
    assert_eq!(lane(tollgate).await["breaker"], "open");
    let mut client = tollgate.connect().await;
    client.send(request(PATH, &[], BODY)).await;
    let (provider, _, _) = upstream.request().await;
    assert_eq!(lane(tollgate).await["breaker"], "half_open");
    (client, provider)
}

#[tokio::test]
async fn a_probe_whose_client_leaves_makes_room_for_the_next() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let (probe, _silent) = probing(&upstream, &tollgate).await;
    let mut next = in_line(&tollgate, &[], BODY).await;
    let left = Instant::now();
    probe.reset();
    let (mut provider, _, _) = upstream.request().await;
    assert!(
        left.elapsed() < Duration::from_secs(1),
        "{:?}",
        left.elapsed()
    );
    provider.send(json_answer(GOOD)).await;
    assert_eq!(next.message().await.0.status(), 200);
    let mut last = tollgate.connect().await;
    last.send(request(PATH, &[], BODY)).await;
    provider.message().await;
    provider.send(json_answer(GOOD)).await;
    assert_eq!(last.message().await.0.status(), 200);
    assert_eq!(lane(&tollgate).await["breaker"], "closed");
}

#[tokio::test]
async fn who_comes_while_a_probe_runs_waits_for_what_comes_of_it() {
    let upstream = Upstream::start().await;
    // Less than a probe may take: it may end at any moment all the same.
    let settings = [("send.deadline_normal", "8s")];
    let tollgate = Tollgate::with(upstream.address, &settings).await;
    let (mut probe, mut provider) = probing(&upstream, &tollgate).await;
    let mut next = in_line(&tollgate, &[], BODY).await;
    provider.send(json_answer(GOOD)).await;
    assert_eq!(probe.message().await.0.status(), 200);
    provider.message().await;
    provider.send(json_answer(GOOD)).await;
    assert_eq!(next.message().await.0.status(), 200);
    assert_eq!(lane(&tollgate).await["breaker"], "closed");
}

#[tokio::test]
async fn a_probe_that_fails_tells_the_line_of_the_next_one_and_not_of_its_own_time() {
    let upstream = Upstream::start().await;
    let settings = [("send.deadline_normal", "9s")];
    let tollgate = Tollgate::with(upstream.address, &settings).await;
    let (mut probe, mut provider) = probing(&upstream, &tollgate).await;
    let _waits = in_line(&tollgate, &[], BODY).await;
    provider.send(refused(BROKEN, &[], "api_error")).await;
    assert_eq!(probe.message().await.0.status(), 500);
    let lane = lane(&tollgate).await;
    assert_eq!(lane["breaker"], "open");
    let rests = lane["pauses"]["breaker_open"].as_u64().expect("it rests");
    assert!(rests <= 2_400, "{lane}");
    // Somebody who comes now can still be served in time.
    let _other = in_line(&tollgate, &[], BODY).await;
}

#[tokio::test]
async fn headers_that_lie_stop_nothing() {
    let lies: [&[(&str, &str)]; 7] = [
        &[
            ("anthropic-ratelimit-requests-limit", "0"),
            ("anthropic-ratelimit-requests-remaining", "0"),
        ],
        &[
            ("anthropic-ratelimit-requests-limit", "6000"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2099-01-01T00:00:00Z"),
        ],
        &[
            ("anthropic-ratelimit-requests-limit", "6000"),
            ("anthropic-ratelimit-requests-remaining", "99999999999"),
        ],
        &[
            ("anthropic-ratelimit-requests-limit", "-1"),
            ("anthropic-ratelimit-requests-remaining", "-1"),
            ("anthropic-ratelimit-requests-reset", "never"),
        ],
        &[
            ("x-ratelimit-limit-requests", "6000"),
            ("anthropic-ratelimit-requests-limit", "1000000"),
            ("x-ratelimit-remaining-requests", "0"),
            ("anthropic-ratelimit-requests-remaining", "1000000"),
        ],
        &[
            ("anthropic-ratelimit-tokens-limit", "600000"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-limit", "0"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
        ],
        &[("retry-after", "3600"), ("x-should-retry", "false")],
    ];
    let lies = lies.map(async |headers| {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let provider = by_turns(vec![answer("200 OK", &all, GOOD)]).await;
        let tollgate = Tollgate::with(provider.address, &RETRIES).await;
        let began = Instant::now();
        for _ in 0..10 {
            let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
            assert_eq!(head.status(), 200, "{headers:?}: {}", body.text());
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(8), "{headers:?}: {took:?}");
    });
    together(lies).await;
}

#[tokio::test]
async fn a_line_that_nobody_can_join_in_time_says_so_at_once() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::changed(upstream.address, &[("send.max_waiting", "2")], |settings| {
        settings.limits = vec![one_at_a_time()];
    })
    .await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (_held, _, _) = upstream.request().await;
    let _second = in_line(&tollgate, &[], BODY).await;
    let _third = in_line(&tollgate, &[], BODY).await;
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 429, "{}", body.text());
    assert!(head.value("retry-after").is_some());
    // Who is more urgent takes the place of the last to come.
    let headers = [("x-tollgate-priority", "high")];
    let mut urgent = tollgate.connect().await;
    urgent.send(request(PATH, &headers, BODY)).await;
    eventually("the urgent one in line", async || {
        (lane(&tollgate).await["waiting"]["high"] == 1).then_some(())
    })
    .await;
    assert_eq!(waiting(&lane(&tollgate).await), 2);
}

#[tokio::test]
async fn a_deadline_that_passes_in_line_is_told() {
    let upstream = Upstream::start().await;
    let settings = [("send.deadline_normal", "300ms")];
    let tollgate = Tollgate::changed(upstream.address, &settings, |settings| {
        settings.limits = vec![one_at_a_time()];
    })
    .await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (_held, _, _) = upstream.request().await;
    let began = Instant::now();
    let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 429);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(290) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert_eq!(waiting(&lane(&tollgate).await), 0);
    let record = tollgate.record(&head).await;
    assert_eq!((record.attempts, record.usage.fresh()), (0, 0));
}

/// The provider takes one at a time, and refuses what comes beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_hundred_in_one_line_are_all_served_one_at_a_time() {
    const CROWD: usize = 500;
    let upstream = Upstream::start().await;
    // Guesses beside the limit that is stated would pace them.
    let tollgate = Tollgate::changed(upstream.address, &[("send.learn", "false")], |settings| {
        settings.limits = vec![one_at_a_time()];
    })
    .await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    let address = tollgate.address;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        clients.spawn(async move {
            let mut client = Wire::connect(address).await;
            client.send(request(PATH, &[], BODY)).await;
            client.message().await.0.status()
        });
    }
    eventually("all in line", async || {
        (waiting(&lane(&tollgate).await) == CROWD as u64).then_some(())
    })
    .await;
    let began = Instant::now();
    provider.send(json_answer(GOOD)).await;
    first.message().await;
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    for _ in 0..CROWD {
        provider.message().await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
        provider.send(json_answer(GOOD)).await;
    }
    while let Some(status) = clients.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
    }
    assert!(longest < Duration::from_secs(1), "a stall of {longest:?}");
    assert!(began.elapsed() < Duration::from_secs(8));
}
