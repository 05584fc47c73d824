//! The provider's side of the path: lanes, retries and the breaker, between a client and a provider that the test plays.

use std::sync::atomic::{AtomicUsize, Ordering};

use tollgate::store::record::Outcome;

use crate::rig::*;

pub(crate) const PATH: &str = "POST /anthropic/v1/messages";
pub(crate) const BODY: &str =
    r#"{"model":"claude-sonnet-5-5","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const GOOD: &str = r#"{"id":"m","model":"claude-sonnet-5-5","stop_reason":"end_turn","content":[],"usage":{"input_tokens":5,"output_tokens":5}}"#;

/// The rig sends everything once.
pub(crate) const RETRIES: [(&str, &str); 1] = [("send.max_retries", "3")];

pub(crate) fn refused(status: &str, headers: &[(&str, &str)], kind: &str) -> Vec<u8> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    answer(
        status,
        &all,
        format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"no"}}}}"#),
    )
}

/// A provider that answers its requests by turns.
pub(crate) async fn by_turns(answers: Vec<Vec<u8>>) -> Answering {
    let turn = AtomicUsize::new(0);
    Upstream::start().await.answering(move |_| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        answers[turn.min(answers.len() - 1)].clone()
    })
}

#[tokio::test]
async fn a_429_that_a_short_wait_cures_is_not_seen_by_the_client() {
    let limited = refused(
        "429 Too Many Requests",
        &[("retry-after-ms", "20")],
        "rate_limit_error",
    );
    let provider = by_turns(vec![limited, json_answer(GOOD)]).await;
    let tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 200, "{}", body.text());
    assert_eq!(head.value("x-tollgate-attempts"), Some("2"));
    let record = tollgate.record(&head).await;
    assert_eq!((record.attempts, record.outcome), (2, Outcome::Complete));
    assert_eq!(record.usage.fresh(), 10, "what failed is not booked");
    assert_eq!(provider.take().len(), 2);
    assert_eq!(
        tollgate.metric("tollgate_retries_total", &["anthropic"]),
        1.0
    );
}

#[tokio::test]
async fn an_error_as_the_first_event_of_a_stream_is_tried_again() {
    let overloaded = answer(
        "200 OK",
        &[("content-type", "text/event-stream")],
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
    );
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let good = answer("200 OK", &[("content-type", "text/event-stream")], events);
    let provider = by_turns(vec![overloaded, good]).await;
    let tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let stream = BODY.replacen('{', r#"{"stream":true,"#, 1);
    let (head, body) = tollgate.ask(request(PATH, &[], stream)).await;
    assert_eq!((head.status(), body.text().as_str()), (200, events));
    assert_eq!(tollgate.record(&head).await.attempts, 2);
}

#[tokio::test]
async fn what_stays_wrong_is_sent_once_and_passed_on_as_it_came() {
    for (status, kind) in [
        ("400 Bad Request", "invalid_request_error"),
        ("401 Unauthorized", "authentication_error"),
        ("404 Not Found", "not_found_error"),
    ] {
        let wrong = refused(status, &[("x-custom", "kept")], kind);
        let provider = by_turns(vec![wrong]).await;
        let tollgate = Tollgate::with(provider.address, &RETRIES).await;
        let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
        assert_eq!(head.status().to_string(), status[..3]);
        assert!(body.text().contains(kind));
        assert_eq!(head.value("x-custom"), Some("kept"));
        assert_eq!(provider.take().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn when_the_retries_are_spent_the_client_gets_the_providers_own_answer_and_is_told_to_stop() {
    let broken = refused("500 Internal Server Error", &[], "api_error");
    let provider = by_turns(vec![broken]).await;
    let settings = [("send.max_retries", "1")];
    let tollgate = Tollgate::with(provider.address, &settings).await;
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 500);
    assert!(body.text().contains("api_error"));
    assert_eq!(head.value("x-should-retry"), Some("false"));
    assert_eq!(provider.take().len(), 2);
    let record = tollgate.record(&head).await;
    assert_eq!(
        (record.outcome, record.usage.fresh()),
        (Outcome::ProviderError, 0)
    );
}

#[tokio::test]
async fn a_stated_concurrency_is_kept_and_every_turn_comes_back() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::changed(upstream.address, &[], |settings| {
        settings.limits = vec![tollgate::policy::limits::LimitRule {
            concurrency: Some(1),
            ..Default::default()
        }];
    })
    .await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    let mut second = tollgate.connect().await;
    second.send(request(PATH, &[], BODY)).await;
    let lanes = async || tollgate.get("/api/v1/providers").await.json()["lanes"][0].clone();
    let waits = eventually("the second one in line", async || {
        let lane = lanes().await;
        (lane["waiting"]["normal"] == 1).then_some(lane)
    })
    .await;
    assert_eq!(
        (waits["in_flight"].as_u64(), waits["concurrency"].as_u64()),
        (Some(1), Some(1))
    );
    provider.send(json_answer(GOOD)).await;
    assert_eq!(first.message().await.0.status(), 200);
    let (head, _) = provider.message().await;
    assert!(head.asks().contains("/v1/messages"));
    provider.send(json_answer(GOOD)).await;
    assert_eq!(second.message().await.0.status(), 200);
    tollgate.settled().await;
    assert_eq!(lanes().await["in_flight"], 0);
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_turn_to_the_next() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::changed(upstream.address, &[], |settings| {
        settings.limits = vec![tollgate::policy::limits::LimitRule {
            concurrency: Some(1),
            ..Default::default()
        }];
    })
    .await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (_held, _, _) = upstream.request().await;
    let mut second = tollgate.connect().await;
    second.send(request(PATH, &[], BODY)).await;
    first.reset();
    let (mut provider, _, _) = upstream.request().await;
    provider.send(json_answer(GOOD)).await;
    assert_eq!(second.message().await.0.status(), 200);
}

#[tokio::test]
async fn after_five_failures_the_breaker_opens_and_single_requests_try_the_provider() {
    let failures = vec![refused("500 Internal Server Error", &[], "api_error"); 5];
    let answers = [failures, vec![json_answer(GOOD)]].concat();
    let provider = by_turns(answers).await;
    let settings = [("send.max_retries", "0")];
    let tollgate = Tollgate::with(provider.address, &settings).await;
    for _ in 0..5 {
        let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
        assert_eq!(head.status(), 500);
    }
    let lane = tollgate.get("/api/v1/providers").await.json()["lanes"][0].clone();
    assert_eq!(lane["breaker"], "open", "{lane}");
    // About a second later one request tries it.
    let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 200);
    assert!(tollgate.record(&head).await.queued_us > 100_000);
}

#[tokio::test]
async fn a_crowd_that_is_refused_together_rests_the_line_as_one_refusal_would() {
    const CROWD: usize = 30;
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let mut clients = Vec::new();
    let mut held = Vec::new();
    for _ in 0..CROWD {
        let mut client = tollgate.connect().await;
        client.send(request(PATH, &[], BODY)).await;
        held.push(upstream.request().await.0);
        clients.push(client);
    }
    for mut provider in held {
        provider
            .send(refused("429 Too Many Requests", &[], "rate_limit_error"))
            .await;
    }
    for mut client in clients {
        assert_eq!(client.message().await.0.status(), 429);
    }
    let lane = tollgate.get("/api/v1/providers").await.json()["lanes"][0].clone();
    let rests = lane["pauses"]["rate_limited"].as_u64().expect("it rests");
    assert!(rests <= 4_000, "as after one refusal: {lane}");
}

/// A tollgate whose only turn somebody has, until the connection that is given back answers.
async fn occupied(upstream: &Upstream, extra: &[(&str, &str)]) -> (Tollgate, Wire, Wire) {
    let tollgate = Tollgate::changed(upstream.address, extra, |settings| {
        settings.limits = vec![tollgate::policy::limits::LimitRule {
            concurrency: Some(1),
            ..Default::default()
        }];
    })
    .await;
    let mut first = tollgate.connect().await;
    first.send(request(PATH, &[], BODY)).await;
    let (provider, _, _) = upstream.request().await;
    (tollgate, first, provider)
}

#[tokio::test]
async fn who_says_how_long_it_waits_is_told_in_time_that_its_turn_does_not_come() {
    let upstream = Upstream::start().await;
    let (tollgate, _first, _provider) = occupied(&upstream, &[]).await;
    let mut second = tollgate.connect().await;
    let patience = [("x-stainless-timeout", "0.3")];
    second.send(request(PATH, &patience, BODY)).await;
    let (head, body) = second.message().await;
    assert_eq!(head.status(), 429, "{}", body.text());
    let record = tollgate.record(&head).await;
    let waited = record.queued_us;
    assert!((200_000..300_000).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_streaming_client_hears_comments_while_it_waits_for_its_turn() {
    let upstream = Upstream::start().await;
    let keep_alive = [("throttle.queue.keep_alive", "20ms")];
    let (tollgate, mut first, mut provider) = occupied(&upstream, &keep_alive).await;
    let mut second = tollgate.connect().await;
    let stream = BODY.replacen('{', r#"{"stream":true,"#, 1);
    // Who hears comments is not held to a timeout for its answer's beginning.
    let patience = [("x-stainless-timeout", "0.05")];
    second.send(request(PATH, &patience, &stream)).await;
    let head = second.head().await;
    assert_eq!(head.status(), 200);
    provider.send(json_answer(GOOD)).await;
    assert_eq!(first.message().await.0.status(), 200);
    let (head, _) = provider.message().await;
    assert!(head.asks().contains("/v1/messages"));
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    provider
        .send(answer(
            "200 OK",
            &[("content-type", "text/event-stream")],
            events,
        ))
        .await;
    let text = second.body().await.text();
    assert!(text.starts_with(": tollgate: waiting"), "{text}");
    assert!(text.ends_with(events), "{text}");
}

#[tokio::test]
async fn an_outage_costs_even_a_lone_client_waiting_and_no_failure_once_it_shows() {
    let down = refused("529 Overloaded", &[], "overloaded_error");
    let answers = [vec![down; 5], vec![json_answer(GOOD)]].concat();
    let provider = by_turns(answers).await;
    let settings = [("send.max_retries", "1")];
    let tollgate = Tollgate::with(provider.address, &settings).await;
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 529, "two failures are no outage yet");
    assert!(body.text().contains("overloaded_error"));
    // The third failure, its retry, the one that opens the breaker, and the probe that finds the provider well.
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(
        (head.status(), body.text().as_str()),
        (200, GOOD),
        "it waited"
    );
    let record = tollgate.record(&head).await;
    assert_eq!((record.attempts, record.outcome), (4, Outcome::Complete));
    assert_eq!(record.usage.fresh(), 10);
    assert_eq!(provider.take().len(), 6);
}
