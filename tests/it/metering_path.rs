//! The ledger, the sums and the metrics equal what the providers reported, to the token (promise 2).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use serde_json::Value;
use tollgate::llm::usage::Provenance;
use tollgate::store::record::{CostSource, Outcome};

use crate::rig::*;

const MESSAGE: &str = r#"{"id":"msg_1","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":1000,"output_tokens":500}}"#;

/// Which mount a sample's wire format belongs to, and a body that asks for it.
fn asking(entry: &Value) -> Option<(&'static str, Value)> {
    let model = entry["expected"]["model"].as_str().unwrap_or("some-model");
    let stream = entry["stream"].as_bool().unwrap();
    let file = entry["file"].as_str().unwrap();
    let base = serde_json::json!({"model": model, "stream": stream});
    Some(match entry["wire"].as_str().unwrap() {
        wire if wire.starts_with("anthropic") => ("/anthropic", base),
        "gemini" | "gemini-count-tokens" => ("/gemini", serde_json::json!({"contents": []})),
        "ollama" => ("/ollama", base),
        wire if wire.starts_with("openai") => {
            let mount = [
                "groq",
                "mistral",
                "deepseek",
                "xai",
                "openrouter",
                "vllm",
                "llamacpp",
            ]
            .iter()
            .find(|name| file.starts_with(**name));
            // With usage asked for, so that nothing is changed on either way.
            let mut body = base;
            if stream {
                body["stream_options"] = serde_json::json!({"include_usage": true});
            }
            let mount = mount.map_or("/openai", |name| match *name {
                "groq" => "/groq/openai",
                "mistral" => "/mistral",
                "deepseek" => "/deepseek",
                "xai" => "/xai",
                "openrouter" => "/openrouter",
                "vllm" => "/vllm",
                _ => "/llamacpp",
            });
            (mount, body)
        }
        _ => return None,
    })
}

#[tokio::test]
async fn every_recorded_answer_passes_unchanged_and_is_booked_as_its_index_says() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
    let index: Value =
        serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let mut seen_samples = 0;
    let (mut input, mut output) = (0, 0);
    for entry in index["samples"].as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let Some((mount, ask)) = asking(entry) else {
            continue;
        };
        let body = std::fs::read(folder.join(file)).unwrap();
        let method = entry["method"].as_str().unwrap();
        let path = entry["path"].as_str().unwrap();
        let query = entry["query"].as_str().map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        // The groq sample's path may state its prefix already.
        let mount = mount
            .strip_suffix("/openai")
            .filter(|_| path.starts_with("/openai"))
            .unwrap_or(mount);
        let status = entry["status"].as_u64().unwrap();
        let headers: Vec<(&str, &str)> = entry["headers"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "content-length" && *name != "transfer-encoding")
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let sent = match method {
            "GET" => String::new(),
            _ => ask.to_string(),
        };
        let seen = exchange(
            &tollgate,
            &upstream,
            request(
                &format!("{method} {mount}{path}{query}"),
                // A key of its own, because a refusal rests the whole line of a key.
                &[("content-type", "application/json"), ("x-api-key", file)],
                &sent,
            ),
            answer(&format!("{status} Sample"), &headers, &body),
        )
        .await;
        assert_eq!(u64::from(seen.head.status()), status, "{file}");
        assert!(seen.body.bytes == body, "{file} was changed");
        assert_eq!(seen.sent.text(), sent, "{file}");
        for (name, value) in &headers {
            let values = seen.head.values(&name.to_ascii_lowercase());
            assert!(values.contains(value), "{file} {name}");
        }
        let record = tollgate.record(&seen.head).await;
        let expected = &entry["expected"];
        let usage = &expected["usage"];
        let complete = expected["usage_complete"].as_bool() != Some(false);
        if usage.is_object() && complete && status < 400 && !file.contains("count-tokens") {
            for (name, value) in [
                ("input", record.usage.input),
                ("output", record.usage.output),
                ("cached_read", record.usage.cached_read),
                ("cache_write", record.usage.cache_write),
                ("reasoning", record.usage.reasoning),
            ] {
                let expected = usage[name].as_u64().unwrap_or(0);
                // Side iterations are added to the top-level figures.
                let side = &expected_side(entry)[name];
                let expected = side.as_u64().unwrap_or(expected);
                assert_eq!(value, expected, "{file} {name}");
            }
            assert_eq!(record.provenance, Provenance::Reported, "{file}");
            seen_samples += 1;
        }
        if status >= 400 {
            assert_eq!(record.usage, Default::default(), "{file}");
            assert_eq!(record.outcome, Outcome::ProviderError, "{file}");
        }
        input += record.usage.input;
        output += record.usage.output;
    }
    assert!(seen_samples > 30, "{seen_samples}");
    let total = tollgate.report().await.total;
    assert_eq!((total.input, total.output), (input, output), "sums");
    let counted: f64 = tollgate.metric("tollgate_tokens_total", &[]);
    assert_eq!(counted, (input + output) as f64, "metrics");
}

fn expected_side(entry: &Value) -> &Value {
    &entry["expected"]["usage"]["with_side_iterations"]
}

#[tokio::test]
async fn costs_are_exact_and_an_unknown_model_costs_unknown_not_nothing() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let ask = |model: &str| {
        request(
            "POST /anthropic/v1/messages",
            &[],
            format!(r#"{{"model":"{model}"}}"#),
        )
    };
    let known = exchange(
        &tollgate,
        &upstream,
        ask("claude-sonnet-5-5"),
        json_answer(MESSAGE),
    )
    .await;
    let record = tollgate.record(&known.head).await;
    assert_eq!(record.cost_source, CostSource::Table);
    assert!(record.cost.is_some_and(|cost| cost.attos() > 0));
    let unknown = exchange(
        &tollgate,
        &upstream,
        ask("no-such-model-9"),
        json_answer(MESSAGE.replace("claude-sonnet-5-5", "no-such-model-9")),
    )
    .await;
    let record = tollgate.record(&unknown.head).await;
    assert_eq!(record.cost_source, CostSource::Unknown);
    assert_eq!(record.cost, None);
    assert_eq!(record.usage.input, 1000);
    let id = id_of(&unknown.head);
    let shown = tollgate.get(&format!("/api/v1/requests/{id}")).await.json();
    assert!(shown["cost_usd"].is_null(), "{shown}");
    assert_eq!(shown["usage"]["input"], 1000);
    assert_eq!(
        tollgate.metric("tollgate_cost_unknown_requests_total", &[]),
        1.0
    );
    let total = tollgate.report().await.total;
    assert_eq!((total.requests, total.unknown_cost_requests), (2, 1));
}

#[tokio::test]
async fn a_cost_that_the_provider_states_beats_the_table_and_both_are_kept() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request(
            "POST /openrouter/v1/chat/completions",
            &[],
            r#"{"model":"anthropic/claude-sonnet-5-5"}"#,
        ),
        json_answer(
            r#"{"id":"gen-1","model":"anthropic/claude-sonnet-5-5","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"cost":0.00123456789}}"#,
        ),
    )
    .await;
    let record = tollgate.record(&seen.head).await;
    assert_eq!(record.cost_source, CostSource::Stated);
    assert_eq!(record.cost.unwrap().to_string(), "0.00123456789");
    assert_ne!(record.table_cost, record.cost);
}

#[tokio::test]
async fn background_work_is_booked_once_when_its_result_is_fetched() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let response = |status: &str, usage: &str| {
        json_answer(format!(
            r#"{{"id":"resp_bg1","object":"response","status":"{status}","background":true,"model":"gpt-5","output":[],"usage":{usage}}}"#
        ))
    };
    let started = exchange(
        &tollgate,
        &upstream,
        request(
            "POST /openai/v1/responses",
            &[],
            r#"{"model":"gpt-5","background":true,"input":"hi"}"#,
        ),
        response("queued", "null"),
    )
    .await;
    let record = tollgate.record(&started.head).await;
    assert_eq!(record.outcome, Outcome::Pending);
    let usage = r#"{"input_tokens":100,"output_tokens":50,"total_tokens":150}"#;
    for (status, figures) in [
        ("in_progress", "null"),
        ("completed", usage),
        ("completed", usage),
        ("completed", usage),
    ] {
        let polled = exchange(
            &tollgate,
            &upstream,
            request("GET /openai/v1/responses/resp_bg1", &[], ""),
            response(status, figures),
        )
        .await;
        assert_eq!(polled.head.status(), 200);
        tollgate.record(&polled.head).await;
    }
    let records = tollgate.records().await;
    let reported: Vec<_> = records
        .iter()
        .filter(|record| record.provenance == Provenance::Reported && record.usage.input > 0)
        .collect();
    assert_eq!(reported.len(), 1, "booked once");
    assert_eq!(
        (reported[0].usage.input, reported[0].usage.output),
        (100, 50)
    );
    let total = tollgate.report().await.total;
    assert_eq!(
        (total.input, total.output),
        (100, 50),
        "and nothing besides"
    );
}

#[tokio::test]
async fn a_plain_response_that_is_fetched_again_is_not_booked_again() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let body = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-5","output":[],"usage":{"input_tokens":100,"output_tokens":50,"total_tokens":150}}"#;
    for line in [
        "POST /openai/v1/responses",
        "GET /openai/v1/responses/resp_1",
    ] {
        let sent = if line.starts_with("POST") {
            r#"{"model":"gpt-5"}"#
        } else {
            ""
        };
        let seen = exchange(
            &tollgate,
            &upstream,
            request(line, &[], sent),
            json_answer(body),
        )
        .await;
        tollgate.record(&seen.head).await;
    }
    let total = tollgate.report().await.total;
    assert_eq!((total.input, total.output), (100, 50));
}

#[tokio::test]
async fn batch_results_are_booked_once_however_often_they_are_fetched() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let results = std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/wire/anthropic-batch-results.jsonl"),
    )
    .unwrap();
    let mut totals = Vec::new();
    for _ in 0..3 {
        let seen = exchange(
            &tollgate,
            &upstream,
            request(
                "GET /anthropic/v1/messages/batches/msgbatch_1/results",
                &[],
                "",
            ),
            answer(
                "200 OK",
                &[("content-type", "application/x-jsonl")],
                &results,
            ),
        )
        .await;
        assert!(seen.body.bytes == results);
        tollgate.record(&seen.head).await;
        let total = tollgate.report().await.total;
        totals.push((total.input, total.output));
    }
    assert!(totals[0].0 > 0 && totals[0].1 > 0, "{totals:?}");
    assert_eq!(totals[0], totals[1]);
    assert_eq!(totals[0], totals[2]);
}

#[tokio::test]
async fn counting_tokens_and_listing_models_cost_nothing() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    for (line, body, reply) in [
        (
            "POST /anthropic/v1/messages/count_tokens",
            r#"{"model":"claude-sonnet-5-5"}"#,
            r#"{"input_tokens":2095}"#,
        ),
        (
            "POST /gemini/v1beta/models/gemini-3-flash:countTokens",
            "{}",
            r#"{"totalTokens":2095}"#,
        ),
        (
            "GET /openai/v1/models",
            "",
            r#"{"data":[],"usage":{"input_tokens":7,"output_tokens":7}}"#,
        ),
    ] {
        let seen = exchange(
            &tollgate,
            &upstream,
            request(line, &[], body),
            json_answer(reply),
        )
        .await;
        let record = tollgate.record(&seen.head).await;
        assert_eq!(record.usage, Default::default(), "{line}");
        assert_eq!(record.provenance, Provenance::None, "{line}");
        assert_eq!(record.outcome, Outcome::Complete, "{line}");
    }
    assert_eq!(tollgate.report().await.total.input, 0);
}

#[tokio::test]
async fn an_answer_without_usage_is_estimated_and_says_so_everywhere() {
    let upstream = Upstream::start().await;
    let tollgate = Tollgate::before(upstream.address).await;
    let seen = exchange(
        &tollgate,
        &upstream,
        request(
            "POST /llamacpp/v1/chat/completions",
            &[],
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(400)),
        ),
        json_answer(format!(
            r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}}}}]}}"#,
            "text ".repeat(200)
        )),
    )
    .await;
    let record = tollgate.record(&seen.head).await;
    assert_eq!(record.provenance, Provenance::Estimated);
    assert!(
        (200..1_000).contains(&record.usage.input),
        "{}",
        record.usage.input
    );
    assert!(
        (100..500).contains(&record.usage.output),
        "{}",
        record.usage.output
    );
    let total = tollgate.report().await.total;
    assert_eq!(total.estimated_requests, 1);
    assert_eq!(
        total.estimated_tokens,
        record.usage.input + record.usage.output
    );
    assert!(tollgate.metric("tollgate_tokens_total", &[r#"provenance="estimated""#]) > 0.0);
    assert_eq!(
        tollgate.metric("tollgate_tokens_total", &[r#"provenance="reported""#]),
        0.0
    );
}

#[tokio::test]
async fn requests_in_parallel_are_each_booked_once_with_their_own_figures() {
    const CLIENTS: u64 = 16;
    const EACH: u64 = 10;
    let upstream = Upstream::start().await.answering(|arrived| {
        let number = arrived.body.json()["number"].as_u64().unwrap();
        json_answer(format!(
            r#"{{"id":"msg","model":"claude-sonnet-5-5","content":[],"usage":{{"input_tokens":{},"output_tokens":{}}}}}"#,
            1_000 + number,
            number + 1
        ))
    });
    // More than the budgets of the built-in configuration allow: counted, not refused.
    let shadow = [("throttle.mode", "shadow")];
    let tollgate = std::sync::Arc::new(Tollgate::with(upstream.address, &shadow).await);
    let clients = (0..CLIENTS).map(|client| {
        let tollgate = std::sync::Arc::clone(&tollgate);
        tokio::spawn(async move {
            let mut wire = tollgate.connect().await;
            for turn in 0..EACH {
                let number = client * EACH + turn;
                let body = format!(r#"{{"model":"claude-sonnet-5-5","number":{number}}}"#);
                wire.send(request("POST /anthropic/v1/messages", &[], body))
                    .await;
                let (head, _) = wire.message().await;
                let record = tollgate.record(&head).await;
                assert_eq!(record.usage.input, 1_000 + number);
                assert_eq!(record.usage.output, number + 1);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let n = CLIENTS * EACH;
    let total = tollgate.report().await.total;
    assert_eq!(total.requests, n);
    assert_eq!(total.input, 1_000 * n + n * (n - 1) / 2);
    assert_eq!(total.output, n + n * (n - 1) / 2);
    assert_eq!(
        tollgate.metric("tollgate_requests_total", &[r#"outcome="complete""#]),
        n as f64
    );
    assert_eq!(tollgate.metric("tollgate_requests_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn records_carry_the_calendar_and_the_sums_their_days() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let tollgate = Tollgate::before(upstream.address).await;
    const DAY: u64 = 86_400_000;
    let ask = request(
        "POST /anthropic/v1/messages",
        &[],
        r#"{"model":"claude-sonnet-5-5"}"#,
    );
    let (first, _) = tollgate.ask(&ask).await;
    tollgate.set_clock(NOON + DAY);
    tollgate.ask(&ask).await;
    tollgate.ask(&ask).await;
    assert_eq!(id_of(&first).unix_ms(), NOON);
    assert_eq!(tollgate.record(&first).await.finished_unix_ms, NOON);
    let usage = tollgate.get("/api/v1/usage?by=day").await.json();
    let rows = usage["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{usage}");
    let days: Vec<u64> = rows
        .iter()
        .map(|row| {
            row["input"]
                .as_u64()
                .or(row["figures"]["input"].as_u64())
                .unwrap()
        })
        .collect();
    assert_eq!(days, [1_000, 2_000], "{usage}");
}

#[tokio::test]
async fn stopping_lets_a_stream_finish_and_books_it() {
    let upstream = Upstream::start().await;
    let mut tollgate = Tollgate::before(upstream.address).await;
    let mut client = tollgate.connect().await;
    client
        .send(request(
            "POST /anthropic/v1/messages",
            &[],
            r#"{"model":"claude-sonnet-5-5","stream":true}"#,
        ))
        .await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    let head = client.head().await;
    tollgate.stop();
    eventually("the listener's end", async || {
        tokio::net::TcpStream::connect(tollgate.address).await.err()
    })
    .await;
    provider
        .send_chunk("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
        .await;
    provider.send(LAST_CHUNK).await;
    assert!(client.body().await.whole);
    assert_eq!(tollgate.stopped().await, 0, "nothing was cut");
    assert_eq!(tollgate.record(&head).await.outcome, Outcome::Complete);
}
