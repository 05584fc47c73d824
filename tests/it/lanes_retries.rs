//! What is sent again and what is not, how long a retry waits, and what the client gets in the end: with a provider that the
//! test plays, by the text of the contract.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tollgate::store::record::Outcome;

use crate::lanes::{BODY, GOOD, PATH, RETRIES, by_turns, refused};
use crate::rig::*;

const LIMITED: &str = "429 Too Many Requests";
const BROKEN: &str = "500 Internal Server Error";

fn events(body: &str) -> Vec<u8> {
    answer("200 OK", &[("content-type", "text/event-stream")], body)
}

fn error(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    answer(status, &all, body)
}

/// Runs futures side by side.
pub(crate) async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut ended: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in running.iter_mut().zip(&mut ended) {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        match ended.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    ended.into_iter().flatten().collect()
}

/// The answer's head and body, and how often the provider was asked.
async fn asked(answers: Vec<Vec<u8>>, line: &str, body: &str) -> (Head, Body, usize) {
    let provider = by_turns(answers).await;
    let tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let (head, body) = tollgate.ask(request(line, &[], body)).await;
    let record = tollgate.record(&head).await;
    let sent = provider.take().len();
    assert_eq!(record.attempts as usize, sent, "every attempt is recorded");
    (head, body, sent)
}

#[tokio::test]
async fn a_retry_after_that_says_nothing_is_as_good_as_none() {
    let cases = [
        "-5",
        "soon",
        "Sat, 21 Nov 2020 12:00:17 GMT",
        "",
        "0",
        "1e3",
        "\u{663}",
    ];
    let cases = cases.map(async |wait| {
        let limited = refused(LIMITED, &[("retry-after", wait)], "rate_limit_error");
        let (head, _, sent) = asked(vec![limited, json_answer(GOOD)], PATH, BODY).await;
        assert_eq!((head.status(), sent), (200, 2), "{wait:?}");
    });
    together(cases).await;
}

#[tokio::test]
async fn a_wait_that_nobody_can_mean_is_told_to_the_client_and_shuts_nothing() {
    let far = [
        "99999999999999999999",
        "1795262417",
        "Sat, 21 Nov 2099 12:00:17 GMT",
    ];
    for wait in far {
        let limited = refused(LIMITED, &[("retry-after", wait)], "rate_limit_error");
        let provider = by_turns(vec![limited, json_answer(GOOD)]).await;
        let tollgate = Tollgate::with(provider.address, &RETRIES).await;
        let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
        assert_eq!(head.status(), 429, "{wait}");
        assert_eq!(head.value("retry-after"), Some(wait));
        assert_eq!(head.value("x-should-retry"), Some("false"), "it is useless");
        assert!(body.text().contains("rate_limit_error"));
        let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
        assert_eq!(head.status(), 200, "{wait}: the lane is open");
    }
}

#[tokio::test]
async fn of_two_waits_the_longer_one_counts() {
    let both: [&[(&str, &str)]; 3] = [
        &[("retry-after", "1"), ("retry-after", "0")],
        &[("retry-after-ms", "1500"), ("retry-after", "0")],
        &[("retry-after-ms", "5"), ("retry-after", "2")],
    ];
    let cases = both.map(async |headers| {
        let limited = refused(LIMITED, headers, "rate_limit_error");
        let provider = by_turns(vec![limited, json_answer(GOOD)]).await;
        let tollgate = Tollgate::with(provider.address, &RETRIES).await;
        let began = Instant::now();
        let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
        assert_eq!(head.status(), 200);
        let waited = began.elapsed();
        assert!(waited >= Duration::from_secs(1), "{headers:?}: {waited:?}");
        assert!(tollgate.record(&head).await.queued_us >= 1_000_000);
    });
    together(cases).await;
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_told_at_once_with_the_providers_own_answer() {
    let headers = [
        ("retry-after", "30"),
        ("request-id", "req_7"),
        ("anthropic-ratelimit-requests-remaining", "0"),
    ];
    let limited = refused(LIMITED, &headers, "rate_limit_error");
    let provider = by_turns(vec![limited]).await;
    let settings = [("send.max_retries", "3"), ("send.deadline_normal", "5s")];
    let tollgate = Tollgate::with(provider.address, &settings).await;
    let began = Instant::now();
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(head.status(), 429);
    for (name, value) in headers {
        assert_eq!(head.value(name), Some(value));
    }
    assert!(body.text().contains(r#""message":"no""#), "{}", body.text());
    assert_eq!(
        head.value("x-should-retry"),
        None,
        "a wait is all that it takes"
    );
    // The next one cannot be served in time either, and is told so without asking the provider.
    let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 429);
    let wait: u64 = head
        .value("retry-after")
        .expect("a wait")
        .parse()
        .expect("seconds");
    assert!((20..=40).contains(&wait), "{wait}");
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(provider.take().len(), 1);
}

#[tokio::test]
async fn a_provider_that_refuses_for_ever_is_asked_four_times_and_the_lane_stays_usable() {
    let well = Arc::new(AtomicBool::new(false));
    let now_well = Arc::clone(&well);
    let provider = Upstream::start().await.answering(move |_| {
        let headers = [("retry-after-ms", "30"), ("x-custom", "kept")];
        match now_well.load(Ordering::Relaxed) {
            true => json_answer(GOOD),
            false => refused(LIMITED, &headers, "rate_limit_error"),
        }
    });
    let tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let (head, body) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 429);
    assert_eq!(head.value("x-custom"), Some("kept"));
    assert_eq!(head.value("retry-after-ms"), Some("30"));
    assert_eq!(head.value("x-should-retry"), Some("false"));
    assert!(body.text().contains("rate_limit_error"));
    assert_eq!(provider.take().len(), 4);
    let record = tollgate.record(&head).await;
    assert_eq!(record.outcome, Outcome::ProviderError);
    assert_eq!((record.attempts, record.usage.fresh()), (4, 0));
    well.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 200);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_error_that_opens_a_stream_is_not_seen_in_any_wire_format() {
    let chat = r#"{"model":"gpt-5.5","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let responses = r#"{"model":"gpt-5.5","stream":true,"input":"hi"}"#;
    let gemini = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\"}}\n\n";
    let failed = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}}\n\n";
    let done = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"usage\":{\"input_tokens\":5,\"output_tokens\":5}}}\n\n";
    let chunk = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
    let candidate = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":5}}\r\n\r\n";
    let chat_with_usage = chat.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    let both = [created, failed].concat();
    let whole = [created, done].concat();
    let cases = [
        (
            "POST /openai/v1/chat/completions",
            chat_with_usage.as_str(),
            "data: {\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
            chunk,
        ),
        ("POST /openai/v1/responses", responses, &both, &whole),
        (
            "POST /gemini/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse",
            gemini,
            "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n",
            candidate,
        ),
        (
            "POST /gemini/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse",
            gemini,
            "{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \"overloaded\",\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n",
            candidate,
        ),
    ];
    let cases = cases.map(async |(line, ask, error, good)| {
        let (head, body, sent) = asked(vec![events(error), events(good)], line, ask).await;
        assert_eq!((head.status(), sent), (200, 2), "{line}");
        assert_eq!(body.text(), good, "{line}");
        assert!(body.whole);
    });
    together(cases).await;
}

#[tokio::test]
async fn an_answer_without_a_byte_is_none() {
    let stream = BODY.replacen('{', r#"{"stream":true,"#, 1);
    let pings = events("event: ping\ndata: {\"type\":\"ping\"}\n\n: nothing\n\n");
    for (empty, body) in [
        (json_answer(""), BODY),
        (events(""), &stream),
        (pings, &stream),
    ] {
        let (head, _, sent) = asked(vec![empty, json_answer(GOOD)], PATH, body).await;
        assert_eq!((head.status(), sent), (200, 2));
    }
}

#[tokio::test]
async fn what_waiting_does_not_cure_is_sent_once() {
    let per_day = r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}]}}"#;
    for (status, body, useless) in [
        (
            LIMITED,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            true,
        ),
        (
            LIMITED,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"cap","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            true,
        ),
        (LIMITED, per_day, true),
        (
            "400 Bad Request",
            r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            false,
        ),
        (
            "402 Payment Required",
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
            false,
        ),
    ] {
        let (head, got, sent) = asked(vec![error(status, &[], body)], PATH, BODY).await;
        assert_eq!(
            (head.status().to_string().as_str(), sent),
            (&status[..3], 1),
            "{body}"
        );
        assert_eq!(got.text(), body);
        // The SDKs would send each of these three times.
        let marker = useless.then_some("false");
        assert_eq!(head.value("x-should-retry"), marker, "{body}");
    }
}

#[tokio::test]
async fn an_overload_and_what_the_provider_says_may_be_retried_is_sent_again() {
    let overloaded = error(
        "529 Overloaded",
        &[],
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    );
    let strange = error("400 Bad Request", &[("x-should-retry", "true")], "{}");
    let compressed = error(
        "503 Service Unavailable",
        &[("content-encoding", "gzip")],
        "not gzip at all",
    );
    for first in [overloaded, strange, compressed] {
        let (head, body, sent) = asked(vec![first, json_answer(GOOD)], PATH, BODY).await;
        assert_eq!((head.status(), sent), (200, 2));
        assert_eq!(body.text(), GOOD);
    }
}

#[tokio::test]
async fn a_provider_that_forbids_a_retry_is_obeyed() {
    for status in [LIMITED, BROKEN, "529 Overloaded"] {
        let forbids = refused(status, &[("x-should-retry", "false")], "api_error");
        let (head, _, sent) = asked(vec![forbids], PATH, BODY).await;
        assert_eq!(
            (head.status().to_string().as_str(), sent),
            (&status[..3], 1)
        );
        assert_eq!(head.values("x-should-retry"), ["false"]);
    }
}

#[tokio::test]
async fn every_attempt_is_the_same_request() {
    let provider = by_turns(vec![
        refused(BROKEN, &[], "api_error"),
        refused("529 Overloaded", &[], "overloaded_error"),
        json_answer(GOOD),
    ])
    .await;
    let tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let headers = [
        ("idempotency-key", "stainless-retry-1"),
        ("x-api-key", "sk-ant-x"),
        ("x-stainless-retry-count", "0"),
        ("content-type", "application/json"),
    ];
    // Spaces and an escape, which nobody who writes it anew would keep.
    let body = BODY.replacen("\"hi\"", " \"h\\u0069\"", 1);
    let (head, _) = tollgate.ask(request(PATH, &headers, &body)).await;
    assert_eq!(head.status(), 200);
    let arrived = provider.take();
    assert_eq!(arrived.len(), 3);
    for attempt in &arrived {
        assert_eq!(attempt.head.line, arrived[0].head.line);
        assert_eq!(attempt.head.fields, arrived[0].head.fields);
        assert_eq!(attempt.body.text(), body);
        assert_eq!(
            attempt.head.values("idempotency-key"),
            ["stainless-retry-1"]
        );
    }
    let record = tollgate.record(&head).await;
    assert_eq!((record.attempts, record.usage.fresh()), (3, 10));
    let report = tollgate.report().await;
    assert_eq!(report.total.requests, 1, "one request, whatever it took");
}

#[tokio::test]
async fn what_has_begun_is_never_sent_again() {
    let begun = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-5-5\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
    let stream = BODY.replacen('{', r#"{"stream":true,"#, 1);
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &RETRIES).await;
    for after in [
        "",
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
    ] {
        let mut client = tollgate.connect().await;
        client.send(request(PATH, &[], &stream)).await;
        let (mut provider, _, _) = upstream.request().await;
        provider.send(stream_head("text/event-stream")).await;
        provider.send_chunk(begun).await;
        if !after.is_empty() {
            provider.send_chunk(after).await;
        }
        drop(provider);
        let (head, body) = client.message().await;
        assert_eq!(head.status(), 200);
        assert_eq!(body.text(), [begun, after].concat());
        assert!(!body.whole, "a cut stays a cut");
        let record = tollgate.record_of_cut(&head).await;
        assert_eq!((record.attempts, record.usage.input), (1, 5));
    }
    assert!(upstream.is_untouched().await);
}

#[tokio::test]
async fn a_cut_before_the_first_event_stays_a_cut() {
    let stream = BODY.replacen('{', r#"{"stream":true,"#, 1);
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &RETRIES).await;
    for begun in [
        ": keep-alive\n\n",
        "event: message_start\ndata: {\"type\":\"mess",
    ] {
        let mut client = tollgate.connect().await;
        client.send(request(PATH, &[], &stream)).await;
        let (mut provider, _, _) = upstream.request().await;
        provider.send(stream_head("text/event-stream")).await;
        provider.send_chunk(begun).await;
        drop(provider);
        let (head, body) = client.message().await;
        assert_eq!((head.status(), body.text().as_str()), (200, begun));
        assert!(!body.whole, "{begun:?}: a clean end would hide the loss");
        let record = tollgate.record_of_cut(&head).await;
        assert_eq!(record.outcome, Outcome::UpstreamCut);
    }
    // An error's body as well.
    let mut client = tollgate.connect().await;
    client.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send("HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    provider.send_chunk("{\"type\":\"err").await;
    drop(provider);
    let (head, body) = client.message().await;
    assert_eq!(
        (head.status(), body.text().as_str()),
        (404, "{\"type\":\"err")
    );
    assert!(!body.whole);
}

#[tokio::test]
async fn trailers_behind_an_error_reach_the_client() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &RETRIES).await;
    let mut client = tollgate.connect().await;
    client
        .send(request(PATH, &[("te", "trailers")], BODY))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send("HTTP/1.1 404 Not Found\r\ntrailer: x-checksum\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    provider.send_chunk("{}").await;
    provider.send("0\r\nx-checksum: 7\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert_eq!((head.status(), body.text().as_str()), (404, "{}"));
    assert!(body.whole);
    assert_eq!(client.trailers, b"x-checksum: 7\n");
}

#[tokio::test]
async fn retries_in_all_are_a_share_of_the_requests() {
    const CROWD: usize = 40;
    // Two in each other's way: nothing that would open the breaker or rest the line.
    let provider = by_turns(vec![refused("409 Conflict", &[], "conflict_error")]).await;
    let settings = [("send.max_retries", "3"), ("send.deadline_normal", "6s")];
    let tollgate = Tollgate::with(provider.address, &settings).await;
    let asks = (0..CROWD).map(|_| tollgate.ask(request(PATH, &[], BODY)));
    for (head, _) in together(asks).await {
        assert_eq!(head.status(), 409);
        assert_eq!(head.value("x-should-retry"), Some("false"));
    }
    let retries = provider.take().len() - CROWD;
    // Ten, and a fifth of the requests.
    assert!((10..=18).contains(&retries), "{retries}");
}

#[tokio::test]
async fn a_client_that_leaves_during_the_pause_is_not_sent_for_again() {
    let limited = refused(LIMITED, &[("retry-after", "1")], "rate_limit_error");
    let provider = by_turns(vec![limited, json_answer(GOOD)]).await;
    let tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let mut client = tollgate.connect().await;
    client.send(request(PATH, &[], BODY)).await;
    eventually("the pause", async || {
        let lane = tollgate.get("/api/v1/providers").await.json()["lanes"][0].clone();
        lane["pauses"]["rate_limited"].is_u64().then_some(())
    })
    .await;
    client.reset();
    tollgate.settled().await;
    let record = tollgate.only_record().await;
    assert_eq!(record.outcome, Outcome::ClientGone);
    assert_eq!((record.attempts, record.usage.fresh()), (1, 0));
    let lane = tollgate.get("/api/v1/providers").await.json()["lanes"][0].clone();
    assert_eq!(lane["in_flight"], 0);
    // The next one waits for the pause to end, and is the second that the provider sees.
    let (head, _) = tollgate.ask(request(PATH, &[], BODY)).await;
    assert_eq!(head.status(), 200);
    assert_eq!(provider.take().len(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_while_an_error_comes_in_is_not_charged() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::with(upstream.address, &RETRIES).await;
    let mut client = tollgate.connect().await;
    client.send(request(PATH, &[], BODY)).await;
    let (mut provider, _, _) = upstream.request().await;
    provider
        .send("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 100\r\n\r\n{")
        .await;
    // Nothing tells when the head has been read; it takes far less.
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.reset();
    tollgate.settled().await;
    let record = tollgate.only_record().await;
    assert_eq!(record.usage.fresh(), 0, "{record:#?}");
}

#[tokio::test]
async fn a_process_that_ends_during_the_pause_gives_the_providers_own_answer() {
    let headers = [("retry-after", "20"), ("x-custom", "kept")];
    let busy = refused("503 Service Unavailable", &headers, "api_error");
    let provider = by_turns(vec![busy, json_answer(GOOD)]).await;
    let mut tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let mut client = tollgate.connect().await;
    client.send(request(PATH, &[], BODY)).await;
    eventually("the pause", async || {
        (tollgate.metric("tollgate_retries_total", &["anthropic"]) == 1.0).then_some(())
    })
    .await;
    tollgate.stop();
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 503);
    assert_eq!(head.value("x-custom"), Some("kept"));
    assert!(body.text().contains("api_error"));
    assert_eq!(tollgate.stopped().await, 0);
    assert_eq!(provider.take().len(), 1, "nobody asked for a retry so soon");
}

#[tokio::test]
async fn an_upload_that_passed_through_is_not_sent_again() {
    let turn = AtomicUsize::new(0);
    let provider =
        Upstream::start()
            .await
            .answering(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
                0 => refused(BROKEN, &[], "api_error"),
                _ => json_answer("{}"),
            });
    let tollgate = Tollgate::with(provider.address, &RETRIES).await;
    let (head, _) = tollgate
        .ask(request("POST /openai/v1/files", &[], "some bytes"))
        .await;
    assert_eq!(head.status(), 500);
    assert_eq!(provider.take().len(), 1);
}
